"""From images to stored features: what is asked for, what is missing, one pass that makes it."""
