"""Export of stored features with the split that probes would use; nothing here loads a probe."""

from __future__ import annotations

from pathlib import Path

from featurestore.errors import LabelMismatchError
from featurestore.store.export import export
from featurestore.store.features import FeatureSet
from probes.sweep.splits import describe_parts, name_parts


def export_features(features: FeatureSet, file: Path) -> Path:
    """Write a feature matrix with what each row is used for under the default label scheme, and why.

    Raises:
        SkyprobeError: See `featurestore.store.export.export`.
    """
    table = features.table
    try:
        return export(features, file, columns={"part": name_parts(table)}, notes={"split": describe_parts(table)})
    except LabelMismatchError as error:  # groups that straddle the splits; probes refuse them, a table need not
        return export(features, file, columns={"part": table.splits}, notes={"split": error.what})
