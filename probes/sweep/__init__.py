"""The grid of probes: heads x label fractions x seeds. The only place that knows splits."""
