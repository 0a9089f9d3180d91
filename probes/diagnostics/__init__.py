"""Diagnostics of stored features: what they say of themselves, of images and of each other, without a probe."""
