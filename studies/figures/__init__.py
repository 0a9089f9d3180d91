"""Figures of the study: each function returns a matplotlib Figure; none touches pyplot or a display."""
