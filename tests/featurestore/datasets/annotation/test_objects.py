from __future__ import annotations

import pytest

from featurestore.datasets.annotation.objects import drop_objects, drop_unusable
from featurestore.datasets.annotation.records import AnnotatedImage, AnnotatedObject, Annotations, Edges

BOX = (0.0, 0.0, 2.0, 3.0)


def image_of(*objects: tuple[Edges, str], path: str = "a.png") -> AnnotatedImage:
    return AnnotatedImage(path, "", None, tuple(AnnotatedObject(xyxy, name, crowd=False) for xyxy, name in objects))


@pytest.mark.parametrize(
    "xyxy", [(0, 0, 0, 1), (0, 0, 1, -1), (float("nan"), 0, 1, 1), (0, 0, float("inf"), 1), (0, 0, 1e300, 1)]
)
def test_a_box_without_an_area_is_dropped_and_counted(xyxy: Edges) -> None:
    found = drop_unusable(Annotations([image_of((xyxy, "x"), (BOX, "x"))], ("x",), "Before."))
    assert [one.xyxy for one in found.images[0].objects] == [BOX]
    assert found.notice == "Before.\n1 boxes are left out, since they have no area: in a.png."


def test_classes_follow_the_rule_for_labels() -> None:
    names = ("1.0", "nan", "1", "-1")
    found = drop_unusable(Annotations([image_of(*((BOX, name) for name in names))], names))
    assert [one.category for one in found.images[0].objects] == ["1", "1"]
    assert found.classes == ("1",)
    assert found.notice.startswith("2 boxes are left out, since they have no class: in a.png. Where nan+-1 is the name")
    assert drop_unusable(Annotations([image_of((BOX, "nan"))], ("nan",)), keep="nan").classes == ("nan",)


def test_nothing_is_said_where_nothing_is_dropped() -> None:
    images = [image_of((BOX, "x")), image_of(path="b.png")]
    assert drop_unusable(Annotations(images, ("x",))) == Annotations(images, ("x",))


def test_many_images_are_counted() -> None:
    images = [image_of((BOX, "x"), (BOX, "x"), path=f"{number}.png") for number in range(7)]
    cleaned, notice = drop_objects(images, lambda image, _: image.path != "0.png", "are odd")
    assert [len(one.objects) for one in cleaned] == [2, 0, 0, 0, 0, 0, 0]
    assert notice == "12 boxes are left out, since they are odd: in 1.png, 2.png, 3.png, 4.png, 5.png and 1 more."
