"""Images with boxes, whatever file format describes them."""
