"""The study's best practice (Lastufka et al. 2025, Section 5), computed from what a store holds of one's own data."""
