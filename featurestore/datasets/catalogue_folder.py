"""A folder of images with a catalogue of their labels."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from featurestore.datasets.catalogue import TABLE_SUFFIXES, Catalogue
from featurestore.datasets.files import FileDataset, find_images
from featurestore.datasets.naming import identity
from featurestore.errors import DatasetError
from featurestore.samples import SampleTable


class CatalogueFolder(FileDataset):
    """Images below a folder, in the order of a CSV or Parquet catalogue; see `Catalogue.fields` for its columns.

    Args:
        path: The folder, which holds one catalogue; or the catalogue, beside the images.
        name: Name of the dataset; by default made from the path.
        catalogue: The catalogue, if it lies elsewhere or is one of several.
        file: Column with file names, relative to the folder or to its folder ``images``.
        labels: Label columns, one scheme each.

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
    ) -> None:
        place = Path(path)
        root = place.parent if place.is_file() else place
        found = find_images(root)
        chosen = Path(catalogue) if catalogue else place if place.is_file() else _only_catalogue(root)
        columns = [labels] if isinstance(labels, str) else labels
        fields, paths = Catalogue(chosen).fields(found, file, columns)
        super().__init__(SampleTable(**identity("table", place, name), **fields), root, paths)

    @staticmethod
    def detects(path: Path) -> bool:
        """Whether it is a catalogue, or a folder with one."""
        return path.suffix.lower() in TABLE_SUFFIXES if path.is_file() else bool(catalogues_in(path))


def catalogues_in(folder: Path) -> list[Path]:
    """CSV and Parquet files directly in the folder, sorted."""
    return sorted(p for p in folder.glob("[!.]*") if p.suffix.lower() in TABLE_SUFFIXES and p.is_file())


def _only_catalogue(root: Path) -> Path:
    match catalogues_in(root):
        case [only]:
            return only
        case []:
            raise DatasetError(
                "no catalogue in the folder", where=root, hint=f"Add one ({' or '.join(TABLE_SUFFIXES)}), or name it."
            )
        case several:
            names = ", ".join(path.name for path in several)
            raise DatasetError(f"several catalogues: {names}", where=root, hint="Give the path of the one to use.")
