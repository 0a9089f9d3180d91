"""Preprocessing: one frozen, serialisable value that turns a decoded image into what a backbone sees.

The order is fixed: stretch -> crop -> resize -> channel rule -> orientation; the backbone's own normalisation follows
inside its graph. A spec is written as ``resize=480,crop=box:0.2,stretch=percentile:1:99+asinh:0.1``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featurestore.errors import PreprocessingError, UsageError
from featurestore.registry import unknown_name
from featurestore.resizing import INTERPOLATIONS, ON_DEVICE, RESIZERS, resize
from featurestore.stretching import Stretch

ORIENTATIONS = 8
_THREE = 3


@dataclass(frozen=True)
class Preprocessing:
    """What happens to an image between decoding and the backbone.

    Attributes:
        stretch: How pixel values map to [0, 1]; see `featurestore.stretching.Stretch`. ``none`` divides integers by
            the largest value of their type and maps floats linearly from their minimum and maximum. Each band is
            stretched by itself. NaN and infinite pixels become 0.
        crop: ``none``; ``center:F``, the central fraction F of each side; ``box:M``, a square around the largest
            annotated box with a margin of M times its longer side on each side.
        resize: Side of the square output in pixels. The aspect ratio is not kept.
        interpolation: ``bicubic``, ``bilinear`` or ``nearest``.
        antialias: Whether shrinking averages over source pixels; ``nearest`` never does, ``pillow`` always does.
        channels: ``auto``: one band is repeated to three, three are kept, any other number is refused; ``mean``:
            the mean of all bands, repeated; ``I-J-K`` or ``I``: bands by number, from 0; ``I+J`` in place of a number:
            the mean of these bands. Two, four or more, such as ``0-1-2-3-4``, stay as many channels, and the input
            layer of the backbone is inflated to them (see `featurestore.backbones.channels`).
        resizer: ``torch`` (on the CPU; 8-bit images are resized as 8-bit), ``pillow``, or the device class of a GPU,
            ``cuda`` or ``xpu``: by torch there, where the backbone runs too.
        orientation: One of the eight ways to lay a square: quarter turns against the clock, 0 to 3; from 4 on, the
            same after the left and the right have changed places.
    """

    stretch: str = "none"
    crop: str = "none"
    resize: int = 224
    interpolation: str = "bicubic"
    antialias: bool = True
    channels: str = "auto"
    resizer: str = "torch"
    orientation: int = 0

    def __post_init__(self) -> None:
        Stretch.parse(self.stretch)
        parse_crop(self.crop)
        _parse_channels(self.channels)
        if self.resize < 1:
            raise UsageError("resize must be positive", where=f"resize={self.resize}", hint="Give a side in pixels.")
        if not 0 <= self.orientation < ORIENTATIONS:
            raise UsageError(
                f"there are {ORIENTATIONS} orientations",
                where=f"orientation={self.orientation}",
                hint=f"Give a number from 0 to {ORIENTATIONS - 1}.",
            )
        if self.interpolation not in INTERPOLATIONS:
            raise unknown_name("interpolation", self.interpolation, INTERPOLATIONS)
        if self.resizer not in RESIZERS:
            raise unknown_name("resizer", self.resizer, RESIZERS)
        if self.resizer == "pillow" and not self.antialias and self.interpolation != "nearest":
            raise UsageError(
                "Pillow cannot resize without antialiasing", where="resizer=pillow", hint="Use resizer=torch."
            )

    @classmethod
    def parse(cls, text: str) -> Preprocessing:
        """The value of a spec such as ``resize=480,crop=box:0.2``; what is not named keeps its default.

        Raises:
            UsageError: The spec cannot be understood.
            UnknownNameError: A field or a choice does not exist.
        """
        types = {field.name: type(field.default) for field in fields(cls)}
        given: dict[str, Any] = {}
        for part in filter(None, (piece.strip() for piece in text.split(","))):
            name, equals, value = part.partition("=")
            if not equals:
                raise UsageError(f"{part!r} is not FIELD=VALUE", where=text, hint="Write for example resize=224.")
            if name not in types:
                raise unknown_name("preprocessing field", name, types)
            if name in given:
                raise UsageError(f"{name} is given twice", where=text, hint="Give each field once.")
            given[name] = _convert(types[name], value, text)
        return cls(**given)

    def __str__(self) -> str:
        """The shortest spec that parses to this value."""
        changed = [
            f"{field.name}={_text(getattr(self, field.name))}"
            for field in fields(self)
            if field.name == "resize" or getattr(self, field.name) != field.default
        ]
        return ",".join(changed)

    def resolve(self, *, decoder: str, mean: tuple[float, ...], std: tuple[float, ...]) -> dict[str, Any]:
        """All that decides the pixels a backbone receives, for the FeatureKey."""
        own = {field.name: getattr(self, field.name) for field in fields(self)}
        if not self.orientation:  # keys are older than this field
            del own["orientation"]
        if self.n_channels != _THREE:
            own["input_layer"] = f"weights repeated to {self.n_channels} channels, times {_THREE}/{self.n_channels}"
        return own | {"decoder": decoder, "mean": list(mean), "std": list(std)}

    @property
    def n_channels(self) -> int:
        """Channels of the pixels; three, unless the channel rule names another number of them, but not one alone."""
        n_named = len(_parse_channels(self.channels))
        return n_named if n_named > 1 else _THREE

    @property
    def channel_sizes(self) -> list[int]:
        """How many bands are averaged for each channel; none for a rule that names no bands."""
        return [len(bands) for bands in _parse_channels(self.channels)]

    @property
    def resizes_on_device(self) -> bool:
        """Whether a GPU resizes, which it does in its pass."""
        return self.resizer in ON_DEVICE

    @property
    def uses_boxes(self) -> bool:
        """Whether the pixels depend on annotated boxes."""
        return self.crop.startswith("box")

    @property
    def keeps_bytes(self) -> bool:
        """Whether 8-bit images come out as 8-bit: nothing stretches them, and no bands are averaged."""
        averages = self.channels == "mean" or any(size > 1 for size in self.channel_sizes)
        return Stretch.parse(self.stretch) == Stretch() and not averages

    def apply(self, image: NDArray[Any], boxes: NDArray[np.float32]) -> NDArray[np.float32]:
        """Preprocess one image, as `render`, to float32 (n_channels, resize, resize), values in [0, 1]."""
        return to_unit(self.render(image, boxes))

    def render(self, image: NDArray[Any], boxes: NDArray[np.float32]) -> NDArray[np.float32] | NDArray[np.uint8]:
        """Preprocess one image, and leave 8-bit pixels as they are where that is exact.

        Args:
            image: (H, W) or (H, W, C); uint8, uint16 or float32.
            boxes: float32 (k, 4), ``x0, y0, x1, y1`` in pixels of `image`; only ``crop=box`` looks at them.

        Returns:
            (n_channels, resize, resize), float32 with values in [0, 1]; uint8 of a uint8 image where `keeps_bytes`.

        Raises:
            PreprocessingError: The image has no contrast to stretch, no box to crop to, or bands without a rule.
        """
        cut = self.cut(image, boxes)
        resized = resize(cut, self.resize, self.interpolation, self.antialias, self.resizer)
        pixels = resized if self.keeps_bytes and resized.dtype == np.uint8 else to_unit(resized)
        return orient(_combine(pixels, self.channels), self.orientation)

    def cut(self, image: NDArray[Any], boxes: NDArray[np.float32]) -> NDArray[Any]:
        """What `render` does before it resizes: the chosen bands, stretched and cropped, (h, w, C)."""
        bands = image[..., None] if image.ndim == 2 else image
        bands = _choose(bands, self.channels)
        bands = Stretch.parse(self.stretch).apply(bands)
        x0, y0, x1, y1 = self._window(bands.shape[1], bands.shape[0], boxes)
        return bands[y0:y1, x0:x1]

    def _window(self, width: int, height: int, boxes: NDArray[np.float32]) -> tuple[int, int, int, int]:
        kind, amount = parse_crop(self.crop)
        if kind == "none":
            return 0, 0, width, height
        if kind == "center":
            return _centred(width, height, amount)
        if not len(boxes):
            raise PreprocessingError(
                "the image has no box to crop to", where=f"crop={self.crop}", hint="Annotate a box, or use crop=none."
            )
        return _around(boxes, amount, width, height)


@dataclass(frozen=True)
class Unresized:
    """Images of a batch before they are resized: a GPU does the rest in its pass.

    Attributes:
        images: What `Preprocessing.cut` made of the image in each slot; None where there is none.
        preprocessing: What is left to do.
    """

    images: Sequence[NDArray[Any] | None]
    preprocessing: Preprocessing

    def __getitem__(self, part: slice) -> Unresized:
        return Unresized(self.images[part], self.preprocessing)


def orient(images: NDArray[Any], orientation: int) -> NDArray[Any]:
    """A view of square images (..., S, S) in another orientation; see `Preprocessing`."""
    mirrored = images[..., ::-1] if orientation >= ORIENTATIONS // 2 else images
    return np.rot90(mirrored, orientation, axes=(-2, -1))


def _convert(kind: type, value: str, text: str) -> Any:
    if kind is bool:
        if value not in ("true", "false"):
            raise UsageError(f"{value!r} is neither true nor false", where=text, hint="Write antialias=false.")
        return value == "true"
    if kind is int:
        if not (value.isdecimal() and len(value) < 10):
            raise UsageError(f"{value!r} is not a whole number", where=text, hint="Write for example resize=224.")
        return int(value)
    return value


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def parse_crop(crop: str) -> tuple[str, float]:
    """Kind of a crop, ``none``, ``center`` or ``box``, and its fraction or margin; 0 for none.

    Raises:
        UsageError: There is no such crop.
    """
    if crop == "none":
        return crop, 0.0
    kind, _, amount = crop.partition(":")
    try:
        number = float(amount)
    except ValueError:
        number = -1.0
    if (kind == "center" and 0 < number <= 1) or (kind == "box" and 0 <= number < float("inf")):
        return kind, number
    raise UsageError(
        f"unknown crop {crop!r}",
        where=f"crop={crop}",
        hint="Use none, center:F with a fraction F in (0, 1], or box:M with a margin M >= 0.",
    )


def _parse_channels(channels: str) -> list[list[int]]:
    """The bands whose mean is each channel; none for a rule that names no bands."""
    if channels in ("auto", "mean"):
        return []
    named = [channel.split("+") for channel in channels.split("-")]
    if all(band.isdecimal() for bands in named for band in bands):
        return [[int(band) for band in bands] for bands in named]
    raise UsageError(
        f"unknown channel rule {channels!r}",
        where=f"channels={channels}",
        hint="Use auto, mean, one band such as 2, or several such as 3-2-1 or, with means of bands, 4+3-2-1.",
    )


def _choose(bands: NDArray[Any], channels: str) -> NDArray[Any]:
    """The bands that the rule wants; choosing before the per-band stretch gives the same pixels for less work."""
    chosen, n_bands = [band for named in _parse_channels(channels) for band in named], bands.shape[2]
    if channels == "auto" and n_bands not in (1, 3):
        raise PreprocessingError(
            f"the image has {n_bands} bands, and no rule says how they become three channels",
            where="channels=auto",
            hint="Choose bands, for example channels=3-2-1 or 0-1-2-3-4, or channels=mean.",
        )
    if chosen and max(chosen) >= n_bands:
        raise PreprocessingError(
            f"band {max(chosen)} is wanted of an image with {n_bands}",
            where=f"channels={channels}",
            hint="Bands are counted from 0.",
        )
    return bands[..., chosen] if chosen else bands


def _combine(bands: NDArray[Any], channels: str) -> NDArray[Any]:
    """Channels of the chosen bands, in their order; one alone is repeated to three."""
    sizes = [len(chosen) for chosen in _parse_channels(channels)]
    if channels == "mean":
        bands = bands.mean(axis=0, keepdims=True)
    elif len(sizes) < len(bands) and sizes:
        bands = np.stack([part.mean(axis=0) for part in np.split(bands, np.cumsum(sizes)[:-1])])
    return np.broadcast_to(bands, (_THREE, *bands.shape[1:])) if len(bands) == 1 else bands


def _centred(width: int, height: int, fraction: float) -> tuple[int, int, int, int]:
    w, h = max(1, round(width * fraction)), max(1, round(height * fraction))
    x0, y0 = (width - w) // 2, (height - h) // 2
    return x0, y0, x0 + w, y0 + h


def _around(boxes: NDArray[np.float32], margin: float, width: int, height: int) -> tuple[int, int, int, int]:
    """A square around the largest box, moved into the image where it sticks out and cut where it is larger."""
    areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    box = boxes[int(areas.argmax())].astype(float)
    # The whole pixels that the box touches: rounding its edges to the nearest pixel could cut it.
    (x0, y0), (x1, y1) = np.floor(box[:2]), np.ceil(box[2:])
    side = max(1, round(max(x1 - x0, y1 - y0) * (1 + 2 * margin)))
    left, right = _span((x0 + x1) / 2, side, width)
    top, bottom = _span((y0 + y1) / 2, side, height)
    return left, top, right, bottom


def _span(centre: float, side: int, limit: int) -> tuple[int, int]:
    side = min(side, limit)
    start = min(max(0, round(centre - side / 2)), limit - side)
    return start, start + side


def to_unit(values: NDArray[Any]) -> NDArray[np.float32]:
    """float32: 8-bit values over 255; float values back into [0, 1], which bicubic interpolation can leave."""
    if values.dtype == np.uint8:
        return values.astype(np.float32) / np.float32(255)
    return values.clip(0, 1).astype(np.float32, copy=False)


VARIANTS: Mapping[str, Preprocessing] = {
    "full-224": Preprocessing(),
    "full-320": Preprocessing(resize=320),
    "full-480": Preprocessing(resize=480, interpolation="bilinear"),
    "full-512": Preprocessing(resize=512),
    "center-224": Preprocessing(crop="center:0.5"),
    "box-224": Preprocessing(crop="box:0.2"),
    "asinh-224": Preprocessing(stretch="asinh:0.1"),
    "zscale-224": Preprocessing(stretch="zscale"),
    "sigmaclip-224": Preprocessing(stretch="sigmaclip:3"),
}
"""Named variants: the whole frame at the study's sizes, crops, and stretches for FITS data."""


def parse_variant(text: str) -> tuple[str, Preprocessing]:
    """Name and value of a variant: a name of `VARIANTS`, or a spec, whose shortest form is then its name.

    Raises:
        UnknownNameError: No such variant.
    """
    if text in VARIANTS:
        return text, VARIANTS[text]
    if "=" not in text:
        raise unknown_name("variant", text, VARIANTS)
    preprocessing = Preprocessing.parse(text)
    return str(preprocessing), preprocessing
