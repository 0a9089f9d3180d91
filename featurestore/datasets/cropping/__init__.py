"""From large FITS images and a sky catalogue to crops with boxes."""
