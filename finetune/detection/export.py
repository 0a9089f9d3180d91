"""Detections as files: COCO JSON, and sky catalogues where the image has a world coordinate system."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from astropy.coordinates import SkyCoord
from astropy.table import Table, vstack
from astropy.wcs import WCS
from numpy.typing import NDArray

from featurestore.datasets.base import ImageDataset
from featurestore.datasets.decoding.quiet import ignored_warnings
from featurestore.files import write_atomically
from finetune.detection.targets import AnnotatedImage, Detections


def coco_dataset(annotated: Sequence[AnnotatedImage], classes: Sequence[str]) -> dict[str, Any]:
    """The truth as a COCO dataset: images by their place from 1, categories from 1, crowd regions as ``iscrowd``.

    Boxes are x, y, width, height in pixels of the image in display order; the file says so by ``info.box_origin``. A
    crowd region is one of its own category, as COCO has it.
    """
    annotations = [
        _box_entry(box) | {"image_id": image, "category_id": int(label) + 1, "iscrowd": int(crowd)}
        for image, truth in enumerate(annotated, start=1)
        for box, label, crowd in zip(truth.boxes, truth.labels, truth.crowd, strict=True)
    ]
    return {
        "info": {"box_origin": "upper"},
        "images": [
            {"id": image, "file_name": truth.sample_id, "height": truth.size[0], "width": truth.size[1]}
            for image, truth in enumerate(annotated, start=1)
        ],
        "categories": [{"id": number, "name": name} for number, name in enumerate(classes, start=1)],
        "annotations": [{"id": number} | entry for number, entry in enumerate(annotations, start=1)],
    }


def coco_results(annotated: Sequence[AnnotatedImage], detections: Sequence[Detections]) -> list[dict[str, Any]]:
    """Detections in COCO's results format, with the ids of `coco_dataset`."""
    return [
        _box_entry(box) | {"image_id": image, "category_id": int(label) + 1, "score": float(score)}
        for image, (_, found) in enumerate(zip(annotated, detections, strict=True), start=1)
        for box, label, score in zip(found.boxes, found.labels, found.scores, strict=True)
    ]


def write_json(path: Path, value: object) -> Path:
    """Write JSON; the file is either whole or absent.

    Raises:
        StoreWriteError: The folder cannot be written.
    """
    return write_atomically(path, lambda part: part.write_text(json.dumps(value, allow_nan=False), encoding="utf-8"))


def sky_catalogue(
    dataset: ImageDataset, annotated: Sequence[AnnotatedImage], detections: Sequence[Detections], classes: Sequence[str]
) -> Table | None:
    """Detections on the sky, one row each; None if no image has celestial coordinates.

    Columns: ``sample_id``; ``ra``, ``dec`` of the middle of the box (ICRS, degrees); ``width``, ``height`` (arcsec);
    ``angle``, position angle of the image's upward axis (degrees from north to east); ``class``; ``score``; ``x0``,
    ``y0``, ``x1``, ``y1`` (pixels of the image in display order). A source on two overlapping images is there
    twice. Detections in images without celestial coordinates are left out; `tell_without_sky` says how many images.

    Args:
        dataset: Where the headers are read; its readers of FITS files have them.
        annotated: The images.
        detections: What was found, for each image.
        classes: Names of the classes.
    """
    parts = []
    for truth, found in zip(annotated, detections, strict=True):
        wcs = _celestial(dataset, truth.row)
        if wcs is not None:
            parts.append(_catalogue_part(wcs, truth, found, classes))
    return vstack(parts, metadata_conflicts="silent") if parts else None


def tell_without_sky(dataset: ImageDataset, annotated: Sequence[AnnotatedImage]) -> str:
    """How many images have no celestial coordinates, where others do; empty where all or none have them."""
    without = sum(_celestial(dataset, truth.row) is None for truth in annotated)
    if without in (0, len(annotated)):
        return ""
    return (
        f"{dataset.table.name}: {without:,} of {len(annotated):,} test images have no celestial coordinates, and their "
        "detections are in detections.json, not in catalogue.fits"
    )


def ds9_regions(catalogue: Table) -> str:
    """The catalogue as a DS9 region file: a box in ICRS for each detection, with class and score as its text."""
    lines = [
        f'box({row["ra"]:.7f},{row["dec"]:.7f},{row["width"]:.3f}",{row["height"]:.3f}",{row["angle"]:.3f})'
        f" # text={{{row['class']} {row['score']:.2f}}} tag={{{row['sample_id']}}}"
        for row in catalogue
    ]
    return "\n".join(["# Region file format: DS9 version 4.1", "icrs", *lines]) + "\n"


def write_sky(catalogue: Table, folder: Path) -> dict[str, Path]:
    """Write a sky catalogue as FITS table and DS9 regions.

    Returns:
        File name -> path: ``catalogue.fits`` and ``catalogue.reg``.

    Raises:
        StoreWriteError: The folder cannot be written.
    """
    fits, regions = folder / "catalogue.fits", folder / "catalogue.reg"
    write_atomically(fits, lambda part: catalogue.write(part, format="fits", overwrite=True))
    write_atomically(regions, lambda part: part.write_text(ds9_regions(catalogue), encoding="utf-8"))
    return {fits.name: fits, regions.name: regions}


def _box_entry(box: NDArray[np.float32]) -> dict[str, Any]:
    x0, y0, x1, y1 = (float(edge) for edge in box)
    return {"bbox": [x0, y0, x1 - x0, y1 - y0], "area": (x1 - x0) * (y1 - y0)}


def _celestial(dataset: ImageDataset, row: int) -> WCS | None:
    read_header = getattr(dataset, "header", None)
    header = read_header(row) if read_header else None
    if header is None:
        return None
    with ignored_warnings():
        wcs = WCS(header)
        return wcs.celestial if wcs.has_celestial else None


def _catalogue_part(wcs: WCS, truth: AnnotatedImage, found: Detections, classes: Sequence[str]) -> Table:
    x0, y0, x1, y1 = found.boxes.astype(np.float64).T
    x, y = (x0 + x1) / 2, (y0 + y1) / 2
    centre = _to_sky(wcs, x, y, truth)
    left, right = _to_sky(wcs, x0, y, truth), _to_sky(wcs, x1, y, truth)
    top, bottom = _to_sky(wcs, x, y0, truth), _to_sky(wcs, x, y1, truth)
    columns = {
        "sample_id": np.full(len(x), truth.sample_id),
        "ra": centre.ra.deg,
        "dec": centre.dec.deg,
        "width": left.separation(right).arcsec,
        "height": bottom.separation(top).arcsec,
        "angle": bottom.position_angle(top).wrap_at("180d").deg,
        "class": np.array(classes, dtype=str)[found.labels],
        "score": found.scores,
        **dict(zip(("x0", "y0", "x1", "y1"), found.boxes.T, strict=True)),
    }
    units = {"ra": "deg", "dec": "deg", "width": "arcsec", "height": "arcsec", "angle": "deg"}
    return Table(columns, units=units)


def _to_sky(wcs: WCS, x: NDArray[np.float64], y: NDArray[np.float64], truth: AnnotatedImage) -> SkyCoord:
    """Points in display order -> sky.

    In display order the outer corner of the top left pixel is (0, 0); in FITS the middle of the bottom left one is.
    """
    return SkyCoord(wcs.pixel_to_world(x - 0.5, truth.size[0] - y - 0.5)).icrs
