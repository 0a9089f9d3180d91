"""Images in folders: one folder a class, with or without splits, or one flat folder without labels."""

from __future__ import annotations

from collections.abc import Sequence

from featurestore.datasets.files import FileDataset, find_images, fingerprints_of, image_kinds, is_fits
from featurestore.datasets.folder_layout import read_layout
from featurestore.datasets.naming import identity
from featurestore.datasets.remote import Place, place_at
from featurestore.samples import SampleTable, join_notices


class ImageFolder(FileDataset):
    """Pictures and FITS images below a folder; see `read_layout` for how folders become labels and splits.

    Sample ids are relative POSIX paths, in sorted order.

    Args:
        path: The folder.
        name: Name of the dataset; by default made from the path.
        extension: Name or number of the HDU to read of FITS files; None: the first that holds an image.
        channels: Where FITS cubes have their bands, ``first`` or ``last``; see `decode_fits`.
        keep: Names of class folders that are labels although they look like missing values, such as NA.

    Raises:
        UnknownNameError: An unknown place of the channels.
        EmptyDatasetError: No image below the folder.
        LabelMismatchError: Images lie beside class folders.
        DatasetError: The folder cannot be listed, or its layout is ambiguous.
    """

    def __init__(
        self,
        path: str,
        *,
        name: str | None = None,
        extension: str | int | None = None,
        channels: str | None = None,
        keep: str | Sequence[str] = (),
    ) -> None:
        root = place_at(path)
        found = find_images(root, salt=(extension, channels) if channels else extension)
        paths = tuple(found)
        table = SampleTable(
            **identity("image_folder", root, name),
            sample_ids=paths,
            fingerprints=fingerprints_of(paths, found),
            **read_layout(paths, root, keep),
        )
        notice = join_notices(_tell_kinds(paths, root), found.notice)
        super().__init__(table, root, paths, extension, notice, channels)

    @staticmethod
    def detects(path: Place) -> bool:
        """Whether there are pictures below the folder, alone or beside FITS files."""
        return path.is_dir() and "picture" in image_kinds(path)


def _tell_kinds(paths: Sequence[str], root: Place) -> str:
    """What to do where FITS files and pictures may be the same images twice."""
    n_fits = sum(is_fits(path) for path in paths)
    if n_fits in (0, len(paths)):
        return ""
    return (
        f"{len(paths) - n_fits:,} pictures and {n_fits:,} FITS images are samples alike; where pictures only show what "
        f"the FITS files hold, open fits:{root}."
    )
