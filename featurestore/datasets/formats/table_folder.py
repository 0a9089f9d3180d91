"""A folder of images with a catalogue of their labels."""

from __future__ import annotations

from collections.abc import Sequence

from featurestore.datasets.columns import ColumnChoice, sample_fields
from featurestore.datasets.files import FileDataset, find_images
from featurestore.datasets.naming import identity
from featurestore.datasets.remote import Place, place_at
from featurestore.datasets.table import TABLE_SUFFIXES, Catalogue, find_catalogue, require_catalogue
from featurestore.samples import SampleTable


class CatalogueFolder(FileDataset):
    """Images below a folder, in the order of a catalogue: CSV, ECSV, Parquet, or a FITS table.

    See `sample_fields` for its columns.

    Args:
        path: The folder, which holds one catalogue; or the catalogue, beside the images.
        name: Name of the dataset; by default made from the path.
        catalogue: The catalogue, if it lies elsewhere or is one of several.
        file: Column with file names, relative to the folder or to its folder ``images``.
        labels: Label columns, one scheme each; by default ``label``, ``class``, and those that begin with ``label_``.
        split: Column with splits; by default ``split``.
        keep: Texts that are labels although they look like missing values, such as NA.

    Raises:
        EmptyDatasetError: No image below the folder.
        LabelMismatchError: Rows without an image, or images without a row.
        DatasetError: No catalogue, several, or one that cannot be read.
    """

    def __init__(
        self,
        path: str,
        *,
        name: str | None = None,
        catalogue: str | None = None,
        file: str | None = None,
        labels: str | Sequence[str] = (),
        split: str | None = None,
        keep: str | Sequence[str] = (),
    ) -> None:
        place = place_at(path)
        root = place.parent if place.is_file() else place
        chosen = place_at(catalogue) if catalogue else place if place.is_file() else require_catalogue(root)
        found = find_images(root, catalogue=chosen)
        fields, paths = sample_fields(Catalogue(chosen), found, ColumnChoice(file, labels, split, keep))
        super().__init__(SampleTable(**identity("table", place, name), **fields), root, paths, notice=found.notice)

    @staticmethod
    def detects(path: Place) -> bool:
        """Whether it is a catalogue, or a folder with one."""
        return path.suffix.lower() in TABLE_SUFFIXES if path.is_file() else find_catalogue(path) is not None
