"""A look at stored features: what they say of themselves, of the images and of each other, without fitting a probe."""
