"""Pictures in folders: one folder a class, with or without splits, or one flat folder without labels."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from featurestore.datasets.files import FileDataset, find_images, fingerprints_of, image_kinds, is_picture
from featurestore.datasets.folder_layout import read_layout
from featurestore.datasets.naming import identity
from featurestore.samples import SampleTable


class ImageFolder(FileDataset):
    """Pictures below a folder; see `read_layout` for how folders become labels and splits.

    Sample ids are relative POSIX paths, in sorted order.

    Args:
        path: The folder.
        name: Name of the dataset; by default made from the path.
        keep: Names of class folders that are labels although they look like missing values, such as NA.

    Raises:
        EmptyDatasetError: No picture below the folder.
        LabelMismatchError: Pictures lie beside class folders.
        DatasetError: The folder cannot be listed, or its layout is ambiguous.
    """

    def __init__(self, path: str, *, name: str | None = None, keep: str | Sequence[str] = ()) -> None:
        root = Path(path)
        found = find_images(root, is_picture)
        paths = tuple(found)
        table = SampleTable(
            **identity("image_folder", root, name),
            sample_ids=paths,
            fingerprints=fingerprints_of(paths, found),
            **read_layout(paths, root, keep),
        )
        super().__init__(table, root, paths)

    @staticmethod
    def detects(path: Path) -> bool:
        """Whether there are pictures below the folder, and no FITS files."""
        return path.is_dir() and image_kinds(path) == {"picture"}
