"""From the frame that boxes were drawn in to the image as it is shown: upside down, turned by EXIF, of another size."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from featurestore.datasets.annotation.objects import drop_objects
from featurestore.datasets.annotation.records import AnnotatedImage, AnnotatedObject, Edges
from featurestore.datasets.decoding.frames import Frame, read_frame
from featurestore.datasets.files import is_fits, is_picture, some_of
from featurestore.errors import DatasetError
from featurestore.samples import join_notices

BOX_ORIGINS = ("upper", "lower")
"""Whether a box's y counts rows from the top, or from the bottom: the order of a FITS array."""

Size = tuple[int, int]


class Fitted(NamedTuple):
    """Images whose boxes count pixels of the image as it is shown.

    Attributes:
        images: The images; `width` and `height` are those of the image as it is shown, where they are known.
        notice: How many boxes were turned or scaled, and what could not be told.
    """

    images: list[AnnotatedImage]
    notice: str


def fit_boxes(images: Sequence[AnnotatedImage], root: Path, box_origin: str | None = None) -> Fitted:
    """Bring boxes into the image as it is shown.

    Boxes that count from the bottom are turned upside down. Pictures may be turned by EXIF: the size that the
    annotation states tells whether its boxes count in the picture as it is stored (then they are turned) or as it is
    shown. Where it tells neither, since both have the same size or none is stated, boxes are taken to count in the
    frame that other pictures of the dataset tell, else in the picture as it is shown, and the notice says so. Where it
    states another size of the same shape, boxes are scaled. Boxes wholly outside of their image are left out.

    Pictures of another shape than is stated keep their boxes, and are counted: reading will refuse them. Headers are
    read of pictures with boxes alone; FITS images are taken to have the size that is stated.

    Args:
        images: Images with boxes.
        root: Folder that their paths start from.
        box_origin: Wins over that of the images; see `BOX_ORIGINS`.

    Raises:
        DatasetError: An unknown origin, or boxes that count from the bottom of an image of unknown height.
    """
    upright = [_upright(image, box_origin) for image in images]
    frames = [read_frame(root / one.path) if one.objects and is_picture(one.path) else None for one in upright]
    frames, misshapen = _leave_misshapen(upright, frames)
    told = {_frame_of(one, frame) for one, frame in zip(upright, frames, strict=True) if frame}
    default = "stored" if "stored" in told and "shown" not in told else "shown"
    done = Counter[str]()
    fitted = [_fit(one, frame, default, done) if frame else one for one, frame in zip(upright, frames, strict=True)]
    fitted, outside = drop_objects(fitted, _is_outside, "lie outside of their image")
    return Fitted(fitted, join_notices(_describe(done, default), misshapen, outside))


def _upright(image: AnnotatedImage, box_origin: str | None) -> AnnotatedImage:
    origin = box_origin or image.box_origin or ("lower" if is_fits(image.path) else "upper")
    if origin not in BOX_ORIGINS:
        raise DatasetError(f"unknown box origin {origin!r}", where=image.path, hint=f"Use {' or '.join(BOX_ORIGINS)}.")
    if origin == "upper" or not image.objects:
        return image
    height = image.height
    if height is None:
        raise DatasetError(
            "boxes count from the bottom, but the height of the image is not given",
            where=image.path,
            hint="Add the field height to the image in the annotation file.",
        )
    return _move(image, lambda xyxy: (xyxy[0], height - xyxy[3], xyxy[2], height - xyxy[1]))


def _frame_of(image: AnnotatedImage, frame: Frame) -> str:
    """Whether boxes count in the picture as it is ``stored`` or ``shown``; empty where the annotation does not tell."""
    if frame.orientation == 1:
        return ""
    sizes = {"stored": frame.stored, "shown": frame.shown}
    fits = [name for name, size in sizes.items() if size == image.size]
    fits = fits or [name for name, size in sizes.items() if image.size and _same_shape(image.size, size)]
    return fits[0] if len(fits) == 1 else ""


def _same_shape(size: Size, other: Size) -> bool:
    """Whether one size is the other one scaled, to a pixel."""
    (width, height), (other_width, other_height) = size, other
    difference = abs(width * other_height - height * other_width)
    return difference <= max(*size, *other) and difference <= 0.05 * width * other_height


def _leave_misshapen(
    images: Sequence[AnnotatedImage], frames: Sequence[Frame | None]
) -> tuple[list[Frame | None], str]:
    """The frames without those of pictures that have another shape than is stated, and a notice of these."""
    kept = [frame if frame and _fits(image, frame) else None for image, frame in zip(images, frames, strict=True)]
    wrong = [
        f"{image.path} is {_text(frame.shown)}, not {_text(image.size)}"
        for image, frame, one in zip(images, frames, kept, strict=True)
        if frame and not one
    ]
    text = f"{len(wrong):,} pictures have another shape than their annotation states, and will count as unreadable: "
    return kept, f"{text}{some_of(wrong, 3)}." if wrong else ""


def _fits(image: AnnotatedImage, frame: Frame) -> bool:
    return image.size is None or any(_same_shape(image.size, one) for one in (frame.stored, frame.shown))


def _fit(image: AnnotatedImage, frame: Frame, default: str, done: Counter[str]) -> AnnotatedImage:
    told = _frame_of(image, frame)
    counted = told or default
    drawn_in = getattr(frame, counted)
    size = image.size or drawn_in
    across, along = drawn_in[0] / size[0], drawn_in[1] / size[1]
    turned = frame.orientation != 1 and counted == "stored"
    done.update({"scaled": size != drawn_in, "turned": turned, "untold": frame.orientation != 1 and not told})

    def fit(xyxy: Edges) -> Edges:
        x0, y0, x1, y1 = xyxy
        scaled = (x0 * across, y0 * along, x1 * across, y1 * along)
        return frame.turn(scaled) if turned else scaled

    return replace(_move(image, fit), width=frame.shown[0], height=frame.shown[1])


def _move(image: AnnotatedImage, place: Callable[[Edges], Edges]) -> AnnotatedImage:
    return replace(image, objects=tuple(replace(one, xyxy=place(one.xyxy)) for one in image.objects))


def _is_outside(image: AnnotatedImage, one: AnnotatedObject) -> bool:
    x0, y0, x1, y1 = one.xyxy
    return image.size is not None and not (x0 < image.size[0] and y0 < image.size[1] and x1 > 0 and y1 > 0)


def _describe(done: Counter[str], default: str) -> str:
    texts = {
        "turned": "boxes of {n} pictures are turned with them, as EXIF says",
        "scaled": "boxes of {n} pictures are scaled, since they were drawn on another size",
        "untold": f"{{n}} pictures are turned by EXIF, and their annotation does not tell before or after: their boxes "
        f"are taken to count in the picture as it is {default}",
    }
    told = [text.format(n=f"{done[name]:,}") for name, text in texts.items() if done[name]]
    return f"Boxes: {'; '.join(told)}." if told else ""


def _text(size: Size | None) -> str:
    return " x ".join(map(str, size or ()))
