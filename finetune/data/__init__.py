"""Images, rows and augmentations that trainings of classifiers learn from."""
