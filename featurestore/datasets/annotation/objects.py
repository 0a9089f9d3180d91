"""Which boxes of an annotation can be used: those with an area, a class, and a place in their image."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from math import isfinite

from featurestore.datasets.annotation.records import LARGEST, AnnotatedImage, AnnotatedObject, Annotations
from featurestore.datasets.files import some_of
from featurestore.datasets.labels import is_missing, unify
from featurestore.samples import join_notices


def drop_unusable(annotations: Annotations, keep: str | Sequence[str] = ()) -> Annotations:
    """The annotations without boxes that have no area or no class; the notice counts those.

    Classes are named by the one rule for labels: see `featurestore.datasets.labels.unify`, also for `keep`.
    """
    names = dict(zip(annotations.classes, unify(annotations.classes, keep), strict=True))
    images, no_area = drop_objects(annotations.images, lambda _, one: not _has_area(one), "have no area")
    images, no_class = drop_objects(images, lambda _, one: names[one.category] is None, "have no class")
    written = "+".join(name for name in annotations.classes if is_missing(name, keep))
    if no_class:
        no_class += f" Where {written} is the name of a class, end DATA by ,keep={written}"
    images = [replace(image, objects=tuple(map(_renamer(names), image.objects))) for image in images]
    classes = tuple(dict.fromkeys(name for name in names.values() if name is not None))
    return annotations._replace(
        images=images, classes=classes, notice=join_notices(annotations.notice, no_area, no_class)
    )


def drop_objects(
    images: Sequence[AnnotatedImage], unusable: Callable[[AnnotatedImage, AnnotatedObject], bool], reason: str
) -> tuple[list[AnnotatedImage], str]:
    """The images without objects that cannot be used, and a notice that counts those."""
    cleaned = [replace(one, objects=tuple(each for each in one.objects if not unusable(one, each))) for one in images]
    lost = [(old.path, len(old.objects) - len(new.objects)) for old, new in zip(images, cleaned, strict=True)]
    places = [path for path, count in lost if count]
    count = sum(count for _, count in lost)
    return cleaned, f"{count:,} boxes are left out, since they {reason}: in {some_of(places)}." if count else ""


def _has_area(one: AnnotatedObject) -> bool:
    x0, y0, x1, y1 = one.xyxy
    return all(isfinite(edge) and abs(edge) <= LARGEST for edge in one.xyxy) and x1 > x0 and y1 > y0


def _renamer(names: dict[str, str | None]) -> Callable[[AnnotatedObject], AnnotatedObject]:
    return lambda one: replace(one, category=names[one.category] or one.category)
