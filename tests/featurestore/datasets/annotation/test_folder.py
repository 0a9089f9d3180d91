from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from featurestore.datasets.formats.coco import Coco
from featurestore.datasets.formats.voc import Voc

X, Y = st.integers(1, 8), st.integers(1, 6)
OBJECTS = st.lists(st.tuples(st.sampled_from(["bent", "compact"]), X, Y, X, Y), max_size=4)


# Each example writes over the files of the one before.
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(OBJECTS, min_size=2, max_size=2), st.sampled_from(["upper", "lower"]))
def test_coco_and_voc_say_the_same(
    write_images: Callable[..., Path],
    write_json: Callable[[Path, Any], None],
    write_voc: Callable[..., None],
    drawn: list[list[tuple[str, int, int, int, int]]],
    origin: str,
) -> None:
    """The same boxes in both formats give the same labels and edges."""
    root = write_images("a.png", "b.png")
    objects = [[(n, min(a, c), min(b, d), max(a, c), max(b, d)) for n, a, b, c, d in image] for image in drawn]
    names = sorted({one[0] for image in objects for one in image})
    annotations = [
        {"image_id": row, "category_id": names.index(name), "bbox": [x0 - 1, y0 - 1, x1 - x0 + 1, y1 - y0 + 1]}
        for row, image in enumerate(objects)
        for name, x0, y0, x1, y1 in image
    ]
    images = [{"id": row, "file_name": f"{name}.png", "height": 6} for row, name in enumerate("ab")]
    categories = [{"id": number, "name": name} for number, name in enumerate(names)]
    write_json(root / "train.json", {"images": images, "annotations": annotations, "categories": categories})
    for name, image in zip("ab", objects, strict=True):
        write_voc(root / f"{name}.xml", *image)
    coco, voc = (kind(str(root), box_origin=origin).table for kind in (Coco, Voc))
    assert coco.box_classes == voc.box_classes
    for scheme in ("single_object", "largest_object"):
        assert coco.labels[scheme].tolist() == voc.labels[scheme].tolist()
    assert coco.boxes is not None and voc.boxes is not None
    np.testing.assert_array_equal(coco.boxes.xyxy, voc.boxes.xyxy)
    np.testing.assert_array_equal(coco.boxes.row, voc.boxes.row)
