"""Images of a study beside its features: samples, galleries, attention, histograms."""
