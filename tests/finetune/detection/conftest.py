"""A small set of FITS images with boxes."""

from __future__ import annotations

import json

import numpy as np
import pytest
from astropy.io import fits

SIDE = 64
HEADER = {
    "CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CRVAL1": 150.0, "CRVAL2": 2.0, "CRPIX1": 32.0, "CRPIX2": 32.0,
    "CDELT1": -0.0005, "CDELT2": 0.0005,
}  # fmt: skip


def _write_set(root, n_train=6, n_test=3, **changes):
    """FITS images of one bright square each, its box in COCO; one box leaves its image, one lies outside."""
    rng = np.random.default_rng(0)
    images, annotations = [], []
    for number in range(n_train + n_test):
        values = rng.normal(0, 1, (SIDE, SIDE)).astype(np.float32)
        x, y = (int(corner) for corner in rng.integers(4, 40, 2))
        values[y : y + 16, x : x + 16] += 20
        fits.PrimaryHDU(values, fits.Header(HEADER)).writeto(root / f"{number}.fits")
        split = "train" if number < n_train else "test"
        images.append({"id": number, "file_name": f"{number}.fits", "height": SIDE, "width": SIDE, "split": split})
        annotations.append([number, [x, y, 16, 16], 0])
    annotations += [[0, [-5, 50, 10, 10], 0], [1, [200, 200, 10, 10], 0], [2, [0, 0, 9, 9], 1]]
    content = {
        "info": {"box_origin": "lower"},
        "images": images,
        "annotations": [
            {"id": n, "image_id": image, "category_id": n % 2, "bbox": box, "iscrowd": crowd}
            for n, (image, box, crowd) in enumerate(annotations)
        ],
        "categories": [{"id": 0, "name": "point"}, {"id": 1, "name": "double"}],
    } | changes
    (root / "annotations.json").write_text(json.dumps(content))
    return root


@pytest.fixture(scope="session")
def write_set():
    """``write_set(folder, n_train=6, n_test=3)``."""
    return _write_set


@pytest.fixture(scope="session")
def root(tmp_path_factory):
    return _write_set(tmp_path_factory.mktemp("set"))
