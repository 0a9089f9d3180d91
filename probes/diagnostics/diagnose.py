"""All diagnostics together: every measure of every feature matrix of one dataset."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd

from featurestore.errors import ProbeError
from featurestore.samples import UNLABELLED
from featurestore.store.features import FeatureMatrix
from probes.diagnostics.dimension import intrinsic_dimensions
from probes.diagnostics.duplicates import find_duplicates
from probes.diagnostics.explanation import explain
from probes.diagnostics.findings import FEWEST_ROWS, IDENTITY, Diagnostics, DiagnosticsOptions
from probes.diagnostics.flagged import COLUMNS, list_flagged
from probes.diagnostics.leaks import find_leaks
from probes.diagnostics.outliers import find_outliers
from probes.diagnostics.sampling import FeatureSample, draw_sample
from probes.diagnostics.separability import separability
from probes.diagnostics.similarity import align_samples
from probes.diagnostics.spectrum import effective_rank, singular_values
from probes.sweep.splits import describe_parts, name_parts


def diagnose_features(
    features: Sequence[FeatureMatrix],
    covariates: pd.DataFrame | None = None,
    *,
    scheme: str | None = None,
    options: DiagnosticsOptions | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Diagnostics:
    """Diagnose the feature matrices of one dataset.

    Labels enter the separability alone, and there those of training rows; nothing that is found steers a probe.

    Args:
        features: At least one, all of one dataset; (n, d) each.
        covariates: A line an image: ``sample_id`` and quantities; None: not explained.
        scheme: Label scheme; the dataset's default for None.
        options: See `DiagnosticsOptions`.
        progress: Called with feature matrices done and all.

    Raises:
        ProbeError: None, several datasets, fewer than 3 images, or values that are not finite.
        UnknownNameError: No such label scheme.
        LabelMismatchError: A scheme is named for a dataset without labels, or a group straddles its splits.
    """
    options = options or DiagnosticsOptions()
    table = _check(features).table
    chosen = table.scheme(scheme) if table.labels or scheme else None
    parts, samples = [], []
    for matrix in features:
        sample = draw_sample(matrix, options.rows, options.seed)
        frames = _diagnose_matrix(matrix, sample, chosen, covariates, options)
        parts.append({name: _identify(frame, matrix) for name, frame in frames.items()})
        samples.append(sample)
        if progress:
            progress(len(samples), len(features))
    return Diagnostics(
        table.name,
        chosen,
        options,
        alignments=_align(features, samples),
        unreadable={sample: reason for matrix in features for sample, reason in matrix.unreadable.items()},
        split=describe_parts(table, chosen),
        **{name: pd.concat([part[name] for part in parts], ignore_index=True) for name in parts[0]},
    )


def name_matrices(identities: Sequence[Mapping[str, Any]]) -> list[str]:
    """A short name for each feature matrix of one dataset: its backbone, and what else tells them apart."""
    telling = ["backbone"]
    for name in IDENTITY[1:]:
        if len({tuple(one[other] for other in telling) for one in identities}) == len(identities):
            break
        if len({one[name] for one in identities}) > 1:
            telling.append(name)
    return [", ".join(str(one[name]) for name in telling) for one in identities]


def _diagnose_matrix(
    features: FeatureMatrix,
    sample: FeatureSample,
    scheme: str | None,
    covariates: pd.DataFrame | None,
    options: DiagnosticsOptions,
) -> dict[str, pd.DataFrame]:
    """The tables of one feature matrix, by name."""
    parts = name_parts(features.table, scheme)
    values = singular_values(sample.values)
    duplicates = find_duplicates(features, sample, parts, options.threshold)
    leaks = find_leaks(duplicates, parts)
    outliers = find_outliers(features, sample, options.outliers)
    whole = {
        "equal images": int((duplicates.kind != np.arange(len(parts))).sum()),
        "close pairs": duplicates.n_pairs,
        "duplicate from cosine": duplicates.threshold,
        "leaks": len(leaks),
    }
    described = {"width": features.shape[1], "effective rank": effective_rank(values)}
    described |= {f"dimension ({name})": value for name, value in intrinsic_dimensions(sample.values).items()}
    measures = [(name, value, len(sample.rows), "sample") for name, value in described.items()]
    measures += _separate(features, sample, scheme, parts)
    measures += [(name, value, len(parts), "all") for name, value in whole.items()]
    share = values / (values.sum() or 1.0)
    none = pd.DataFrame({"sample_id": list(sample.sample_ids)})
    return {
        "measures": pd.DataFrame(measures, columns=["measure", "value", "rows", "of"]).astype({"value": np.float64}),
        "spectra": pd.DataFrame({"component": np.arange(1, len(share) + 1), "share": share}),
        "covariates": explain(sample, features.table, none if covariates is None else covariates, options.seed),
        "flagged": list_flagged(features.table, scheme, parts, leaks, duplicates, outliers)[list(COLUMNS)],
    }


def _separate(
    features: FeatureMatrix, sample: FeatureSample, scheme: str | None, parts: np.ndarray[Any, np.dtype[np.str_]]
) -> list[tuple[str, float, int, str]]:
    """Separability of the training rows of the sample; nothing without labels."""
    if scheme is None:
        return []
    labels = features.table.labels[scheme][sample.rows]
    chosen = (parts[sample.rows] == "train") & (labels != UNLABELLED)
    found = separability(sample.values[chosen], labels[chosen])  # noqa: PD011  (no data frame)
    return [(name, value, int(chosen.sum()), "training rows") for name, value in found.items()]


def _identify(frame: pd.DataFrame, features: FeatureMatrix) -> pd.DataFrame:
    return pd.concat([pd.DataFrame(_identity(features), index=frame.index), frame], axis=1)


def _identity(features: FeatureMatrix) -> dict[str, str]:
    names = (features.backbone, features.variant, features.pooling, features.key.short)
    return dict(zip(IDENTITY, names, strict=True))


def _align(features: Sequence[FeatureMatrix], samples: Sequence[FeatureSample]) -> pd.DataFrame:
    names = name_matrices([_identity(matrix) for matrix in features])
    pairs = combinations(range(len(names)), 2)
    lines = [(names[i], names[j], *align_samples(samples[i], samples[j])) for i, j in pairs]
    return pd.DataFrame(lines, columns=["first", "second", "cka", "debiased", "rows"])


def _check(features: Sequence[FeatureMatrix]) -> FeatureMatrix:
    """The first, once it is certain that all of them can be diagnosed."""
    if not features:
        raise ProbeError("there are no features to diagnose", where="features", hint="Give at least one matrix.")
    if len(names := {matrix.table.name for matrix in features}) > 1:
        raise ProbeError(
            "diagnostics are of one dataset", where=", ".join(sorted(names)), hint="Diagnose each by itself."
        )
    for matrix in features:
        if matrix.shape[0] < FEWEST_ROWS:
            raise ProbeError(
                f"{matrix.shape[0]} images are too few to diagnose",
                where=f"{matrix.table.name}, {matrix.backbone}",
                hint=f"Extract at least {FEWEST_ROWS}.",
            )
    return features[0]
