"""What is lost or damaged in a store, found again: metadata, and tables of samples."""
