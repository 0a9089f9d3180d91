"""Every error that skyprobe raises on purpose.

Each one says what went wrong, where, and what to do next; the base class asks for all three, so that no message
can leave one out.
"""

from __future__ import annotations


class SkyprobeError(Exception):
    """Base of all skyprobe errors.

    Args:
        what: What went wrong, as a clause without a full stop.
        where: The path, name or row it went wrong at.
        hint: What the user can do next, as a sentence.
    """

    def __init__(self, what: str, *, where: object, hint: str) -> None:
        self.what = what
        self.where = str(where)
        self.hint = hint
        super().__init__(f"{what} [{self.where}]. {hint}")

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild, (type(self), self.what, self.where, self.hint)


def _rebuild(kind: type[SkyprobeError], what: str, where: str, hint: str) -> SkyprobeError:
    """Unpickle: errors cross process boundaries when extraction is scheduled on several workers."""
    return kind(what, where=where, hint=hint)


class UnknownNameError(SkyprobeError):
    """A name that no registry entry has."""


class MissingDependencyError(SkyprobeError):
    """An optional library that is not installed."""


class UsageError(SkyprobeError):
    """An option, spec or study file that cannot be understood."""


class DatasetError(SkyprobeError):
    """A dataset that cannot be opened as it is."""


class EmptyDatasetError(DatasetError):
    """A dataset without a single image."""


class LabelMismatchError(DatasetError):
    """Labels that do not fit the images."""


class UnreadableImageError(SkyprobeError):
    """One image that cannot be decoded; extraction marks its row and goes on."""


class PreprocessingError(SkyprobeError):
    """A preprocessing that cannot be applied to this image."""


class BackboneError(SkyprobeError):
    """A backbone that cannot be built or run."""


class WeightsUnavailableError(BackboneError):
    """Weights that are neither on this machine nor to be had from the hub."""


class WeightsMismatchError(BackboneError):
    """Weights that do not fit the architecture."""


class PoolingError(BackboneError):
    """A pooling that the backbone does not offer."""


class ExtractionError(SkyprobeError):
    """An extraction that cannot go on."""


class StoreError(SkyprobeError):
    """A store that cannot be used."""


class StoreFormatError(StoreError):
    """A folder that is not a skyprobe store, or one of another format version."""


class StoreWriteError(StoreError):
    """A store that cannot be written: permission, space, or input and output errors."""


class CorruptStoreError(StoreError):
    """Stored bytes that are damaged: a checksum, a size or a row identity is wrong."""


class MissingFeaturesError(StoreError):
    """Features that have not been extracted, or not completely."""


class AmbiguousFeaturesError(StoreError):
    """Several stored features match one request."""


class StorageOverflowError(StoreError):
    """Features that the storage dtype cannot hold."""


class StorageUnderflowError(StoreError):
    """Features that are too small for the storage dtype."""


class UnreachableError(StoreError, DatasetError):
    """An object store, of a store or of images, that does not answer, or refuses."""


class ProbeError(SkyprobeError):
    """Features and labels that a probe cannot be fitted on."""


class SeenRowsError(SkyprobeError):
    """A backbone that would be tested on rows that it was trained on."""


class FinetuneError(SkyprobeError):
    """A model that cannot be trained, resumed or scored as asked."""


class FormerNameWarning(FutureWarning):
    """A name of an earlier version was given; the present one is used."""
