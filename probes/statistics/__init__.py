"""Is the difference real? Bootstrap, significance, ablations, learning curves."""
