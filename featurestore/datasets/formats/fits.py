"""FITS images in a folder, labelled by class folders or by a catalogue."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from featurestore.datasets.columns import ColumnChoice, sample_fields
from featurestore.datasets.files import FileDataset, find_images, fingerprints_of, image_kinds, is_fits
from featurestore.datasets.folder_layout import read_layout
from featurestore.datasets.naming import identity
from featurestore.datasets.remote import Place, place_at
from featurestore.datasets.table import Catalogue, find_catalogue, require_catalogue
from featurestore.samples import SampleTable


class FitsFolder(FileDataset):
    """FITS images below a folder; see `decode_fits` for how they are read. Pictures beside them are left out.

    With a catalogue (CSV, ECSV or Parquet in the folder, or a FITS table called ``catalogue.fits``) labels come from
    its columns, see `sample_fields`; without one they come from class folders, see `read_layout`.

    Args:
        path: The folder.
        name: Name of the dataset; by default made from the path.
        extension: Name or number of the HDU to read; None: the first that holds an image.
        channels: Where cubes have their bands, ``first`` or ``last``; see `decode_fits`.
        catalogue: The catalogue, if it lies elsewhere or is one of several.
        file: Column with file names, relative to the folder or to its folder ``images``.
        labels: Label columns of the catalogue, one scheme each.
        split: Column of the catalogue with splits.
        keep: Texts that are labels although they look like missing values, such as NA.

    Raises:
        UnknownNameError: An unknown place of the channels.
        EmptyDatasetError: No FITS file below the folder.
        LabelMismatchError: Labels that do not fit the images.
        DatasetError: The folder or the catalogue cannot be read.
    """

    def __init__(
        self,
        path: str,
        *,
        name: str | None = None,
        extension: str | int | None = None,
        channels: str | None = None,
        catalogue: str | None = None,
        file: str | None = None,
        labels: str | Sequence[str] = (),
        split: str | None = None,
        keep: str | Sequence[str] = (),
    ) -> None:
        root = place_at(path)
        choice = ColumnChoice(file, labels, split, keep)
        find = require_catalogue if labels or file or split else find_catalogue
        chosen = place_at(catalogue) if catalogue else find(root)
        found = find_images(root, is_fits, (extension, channels) if channels else extension, chosen)
        fields: dict[str, Any]
        if chosen:
            fields, paths = sample_fields(Catalogue(chosen), found, choice)
        else:
            paths = tuple(found)
            fields = {
                "sample_ids": paths,
                "fingerprints": fingerprints_of(paths, found),
                **read_layout(paths, root, keep),
            }
        table = SampleTable(**identity("fits", root, name), **fields)
        super().__init__(table, root, paths, extension, found.notice, channels)

    @staticmethod
    def detects(path: Place) -> bool:
        """Whether there are FITS files below the folder, and no pictures."""
        return path.is_dir() and image_kinds(path) == {"fits"}
