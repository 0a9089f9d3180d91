"""From large FITS images and a sky catalogue to crops with boxes: a COCO dataset."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featurestore.datasets.cropping.crop_folder import (
    RECORD,
    check_request,
    folder_of,
    read_record,
    read_records,
    write_annotations,
    write_folder,
)
from featurestore.datasets.cropping.parent_image import ParentImage
from featurestore.datasets.cropping.sky_catalogue import Sources, place_sources, read_sources
from featurestore.datasets.files import fingerprint_of, some_of, stem_of
from featurestore.datasets.remote import Place, on_disk
from featurestore.errors import DatasetError, UsageError

ANNOTATIONS = "annotations.json"


@dataclass(frozen=True)
class CropOptions:
    """How to cut.

    Attributes:
        size: Side of a crop, pixels.
        stride: Pixels from one crop to the next; None: `size`, so that crops do not overlap.
        plane: Number of the plane of a cube; 0 is the first: Stokes I.
        extension: Name or number of the HDU; None: the first with an image.
        percentiles: Percentiles of the whole image that become 0 and 1 in its crops, what lies outside is clipped;
            None: crops keep the image's own values.
        min_sources: Crops with fewer sources are left out.
        axis_unit: Unit of the catalogue's axes where it states none; see `read_sources`.
    """

    size: int = 256
    stride: int | None = None
    plane: int = 0
    extension: str | int | None = None
    percentiles: tuple[float, float] | None = (2.0, 98.0)
    min_sources: int = 1
    axis_unit: str | None = None

    def __post_init__(self) -> None:
        if self.size < 1 or (self.stride is not None and self.stride < 1) or self.plane < 0 or self.min_sources < 0:
            raise UsageError(
                "size and stride must be positive, plane and min_sources not negative",
                where=f"size={self.size}, stride={self.stride}, plane={self.plane}, min_sources={self.min_sources}",
                hint="Give pixels, and count planes from 0.",
            )
        if self.percentiles and not 0 <= self.percentiles[0] < self.percentiles[1] <= 100:
            raise UsageError(
                "percentiles must ascend within 0 and 100", where=self.percentiles, hint="Give for example 2 98."
            )


@dataclass(frozen=True)
class CropReport:
    """What became of the images.

    Attributes:
        dataset: What to give to other commands as DATA.
        annotations: The COCO file.
        images: Images that were cut, now or before.
        images_cut_now: Those that this call cut.
        crops: Crops that are kept.
        boxes: Boxes in them.
        median_box_side: Median of the boxes' widths and heights, pixels; far from the size of a source, it tells of
            axes in another unit.
        dropped_with_nan: Crops left out because a pixel has no finite value.
        dropped_without_sources: Crops left out because they hold fewer sources than asked for.
        sources: Sources in the catalogue.
        sources_in_no_crop: Sources whose centre lies in no kept crop.
        sources_without_class: Sources whose class is missing beside others that have one; they count as compact.
    """

    dataset: str
    annotations: Path
    images: int
    images_cut_now: int
    crops: int
    boxes: int
    median_box_side: float
    dropped_with_nan: int
    dropped_without_sources: int
    sources: int
    sources_in_no_crop: int
    sources_without_class: int


def crop_images(
    images: Sequence[Place],
    catalogue: Place,
    output: Path,
    options: CropOptions | None = None,
    progress: Callable[[int, int], None] = lambda *_: None,
) -> CropReport:
    """Cut images into crops on a regular grid, with a box around each source of a catalogue.

    Crops are FITS files, float32, with the coordinate system of their place, in ``OUTPUT/images/IMAGE/``; boxes are
    in ``OUTPUT/annotations.json``, in the order of rows of FITS. Crops of one image are one group, so that they never
    straddle splits. A source belongs to a crop that its centre lies in, and its box is clipped there. Grids start at
    the first pixel; what is left at the far edges, narrower than a crop, is not covered. Images that were cut before
    by the same options are left as they are.

    Args:
        images: FITS images or cubes; their names must differ. Of those in an object store, only the plane is read.
        catalogue: The sources; see `read_sources`.
        output: Folder for the crops.
        options: How to cut.
        progress: Called with images done and images in all.

    Raises:
        DatasetError: An image or the catalogue cannot be read, the folder holds crops of other options, or no crop is
            left.
        StoreWriteError: The folder cannot be written.
    """
    chosen = options or CropOptions()
    table = on_disk(catalogue)
    sources = read_sources(table, chosen.axis_unit)
    stems = _check_names(images, sources)
    request = asdict(chosen) | {"catalogue": hashlib.sha256(table.read_bytes()).hexdigest()}
    request = json.loads(json.dumps(request))
    check_request(output, request)
    n_cut = 0
    for done, (path, stem) in enumerate(zip(images, stems, strict=True), 1):
        parent = {"request": request, "stamp": _stamp(path)}
        folder = folder_of(output, stem)
        if not parent.items() <= read_record(folder / RECORD).items():
            write_folder(folder, partial(_cut, path, sources, chosen, parent))
            n_cut += 1
        progress(done, len(images))
    return _finish(output, chosen.size, sources, n_cut)


def _check_names(images: Sequence[Place], sources: Sources) -> list[str]:
    stems = [stem_of(path.name) for path in images]
    twice = sorted({stem for stem in stems if stems.count(stem) > 1})
    if twice:
        raise DatasetError(
            f"several images are called {some_of(twice)}", where=images[0].parent, hint="Rename them, or cut one."
        )
    if len(images) > 1 and not sources.on_sky and sources.image is None:
        raise DatasetError(
            "sources in pixels do not tell which image they are in",
            where=f"{len(images)} images",
            hint="Add a column image to the catalogue, or give one image.",
        )
    return stems


def _stamp(path: Place) -> int:
    try:
        return fingerprint_of(path.stat()) if isinstance(path, Path) else path.stamp(None)
    except OSError as error:
        raise DatasetError(f"the image cannot be read: {error.strerror}", where=path, hint="Check the path.") from error


def _cut(path: Place, sources: Sources, options: CropOptions, parent: dict[str, Any], folder: Path) -> None:
    """Write the crops of one image, and the record of them."""
    image = ParentImage.read(path, options.plane, options.extension)
    rows, boxes = _boxes_in(image, sources)
    stretched = image.stretched(options.percentiles) if options.percentiles else image
    record: dict[str, Any] = parent | {"with_nan": 0, "without_sources": 0, "crops": []}
    for x, y in _grid(image.values.shape, options.size, options.stride or options.size):
        inside = _inside(boxes, x, y, options.size)
        if not np.isfinite(image.values[y : y + options.size, x : x + options.size]).all():
            record["with_nan"] += 1
        elif len(inside) < options.min_sources:
            record["without_sources"] += 1
        else:
            name = f"x{x:05d}_y{y:05d}.fits"
            stretched.write_crop(folder / name, x, y, options.size)
            clipped = np.clip(boxes[inside] - (x, y, x, y), 0, options.size)
            record["crops"].append({"file": name, "objects": _objects(rows[inside], clipped, sources)})
    (folder / RECORD).write_text(json.dumps(record), encoding="utf-8")


def _objects(rows: NDArray[np.int64], boxes: NDArray[np.float64], sources: Sources) -> list[dict[str, Any]]:
    pairs = zip(rows.tolist(), boxes.tolist(), strict=True)
    return [{"source": row, "class": str(sources.classes[row]), "xyxy": box} for row, box in pairs]


def _boxes_in(image: ParentImage, sources: Sources) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Sources whose centre lies in the image, and their boxes in its pixels, rows as in the FITS file."""
    if sources.on_sky and image.wcs is None:
        raise DatasetError(
            "the image has no celestial coordinates, and the catalogue has no pixels",
            where=image.path,
            hint="Give x, y and axes in pixels in the catalogue, or an image with a WCS.",
        )
    boxes = place_sources(sources, image.wcs)
    height, width = image.values.shape
    here = (_centres(boxes) >= 0).all(axis=1) & (_centres(boxes) < (width, height)).all(axis=1)
    if sources.image is not None:
        here &= np.isin(sources.image, [image.path.name, stem_of(image.path.name)])
    rows = np.flatnonzero(here)
    return rows, boxes[rows]


def _centres(boxes: NDArray[np.float64]) -> NDArray[np.float64]:
    return (boxes[:, :2] + boxes[:, 2:]) / 2


def _inside(boxes: NDArray[np.float64], x: int, y: int, size: int) -> NDArray[np.int64]:
    offset = _centres(boxes) - (x, y)
    return np.flatnonzero(((offset >= 0) & (offset < size)).all(axis=1))


def _grid(shape: tuple[int, ...], size: int, stride: int) -> Iterator[tuple[int, int]]:
    for y in range(0, shape[0] - size + 1, stride):
        for x in range(0, shape[1] - size + 1, stride):
            yield x, y


def _finish(output: Path, size: int, all_sources: Sources, n_cut: int) -> CropReport:
    """Join the records of all images in the folder."""
    records = read_records(output)
    crops = [crop for record in records.values() for crop in record["crops"]]
    objects = [one for crop in crops for one in crop["objects"]]
    xyxy = np.array([one["xyxy"] for one in objects]).reshape(-1, 4)
    report = CropReport(
        dataset=f"coco:{output.resolve()}",
        annotations=output / ANNOTATIONS,
        images=len(records),
        images_cut_now=n_cut,
        crops=len(crops),
        boxes=len(objects),
        median_box_side=round(float(np.median(xyxy[:, 2:] - xyxy[:, :2])), 3) if objects else 0.0,
        dropped_with_nan=sum(record["with_nan"] for record in records.values()),
        dropped_without_sources=sum(record["without_sources"] for record in records.values()),
        sources=len(all_sources),
        sources_in_no_crop=len(all_sources) - len({one["source"] for one in objects}),
        sources_without_class=all_sources.without_class,
    )
    if not crops:
        raise DatasetError(
            f"no crop is left: {report.dropped_with_nan} with NaN pixels, {report.dropped_without_sources} without "
            "enough sources",
            where=output,
            hint="Give smaller crops, or check that the catalogue belongs to the images.",
        )
    write_annotations(report.annotations, records, size)
    return report
