"""Heads: scikit-learn classifiers on features. They see `X` and `y` only, never a split."""
