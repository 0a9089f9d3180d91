"""Stores, features and results in a notebook: what the module `skyprobe` names. Imports wait for their first use."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import pandas as pd

    from featurestore.datasets.base import ImageDataset
    from featurestore.extraction.extract import ExtractionReport
    from featurestore.preprocessing import Preprocessing
    from featurestore.reporter import Reporter
    from featurestore.store import FeatureStore
    from featurestore.store.features import FeatureSet
    from probes.results.run import Run
    from studies.study_file.spec import Study

Part = Literal["train", "valid", "test"]


@dataclass(frozen=True, repr=False)
class Store:
    """A feature store, opened by `open_store`.

    Attributes:
        store: The store below.
    """

    store: FeatureStore

    def load(
        self,
        dataset: str | Path,
        backbone: str,
        variant: str | Preprocessing = "full-224",
        *,
        pooling: str | None = None,
        weights: str | None = None,
        precision: str = "auto",
    ) -> Features:
        """The stored features of a dataset.

        Args:
            dataset: Its name in the store, or its path or shortcut as on the command line.
            backbone: Name of the backbone; several side by side are joined by ``+``.
            variant: Preprocessing, by name, as a spec or as a value.
            pooling: Name of the pooling; the backbone's own for None.
            weights: Source of the weights, where features of several are stored.
            precision: Arithmetic, where features of several are stored.

        Raises:
            MissingFeaturesError: They were not extracted; the message gives the command that does it.
            AmbiguousFeaturesError: Several match; the message lists them.
        """
        from studies.stages import load_features

        study = _study(dataset, backbone, variant, weights=weights, precision=precision, pooling=pooling)
        (matrix,) = load_features(study, self.store, _terminal())
        return Features(matrix, self.store)

    def frame(self) -> pd.DataFrame:
        """One row for each stored feature matrix: names, poolings, rows by state, size in MB (10^6 bytes)."""
        import pandas as pd

        from featurestore.store.inventory import list_store

        return pd.DataFrame(list_store(self.store))

    def __repr__(self) -> str:
        return f"Store({self.store.path!r}: {len(self.store.find())} feature matrices)"

    def _repr_html_(self) -> str:
        return _to_html(self.frame(), repr(self))


@dataclass(frozen=True, repr=False)
class Features:
    """One feature matrix with the ids, labels and splits of its rows.

    Attributes:
        matrix: The features below.
        store: Where they come from, and where projections of them are cached.
    """

    matrix: FeatureSet
    store: FeatureStore

    @property
    def X(self) -> NDArray[np.float32]:  # noqa: N802 (the name of the field)
        """float32 (n, d), or (n, h, w, d) of dense features."""
        return self.matrix.values  # noqa: PD011 (no pandas)

    @property
    def ids(self) -> tuple[str, ...]:
        """Sample ids of the n rows."""
        return tuple(self.matrix.table.sample_ids)

    @property
    def schemes(self) -> tuple[str, ...]:
        """Names of the label schemes; the first is the default."""
        return self.matrix.table.schemes

    def y(self, scheme: str | None = None) -> NDArray[np.str_]:
        """Class names (n,) in a label scheme, the default one for None; the empty text marks rows without a label.

        Raises:
            UnknownNameError: There is no such label scheme.
            LabelMismatchError: The dataset has no labels.
        """
        table = self.matrix.table
        name = table.scheme(scheme)
        names = np.array([*table.classes[name], ""], dtype=np.str_)
        return np.asarray(names[table.labels[name]])  # the label -1 is the last of the names

    def split(self, part: Part, scheme: str | None = None, *, seed: int = 0) -> Features:
        """The labelled rows that train, validate or test: the dataset's own, or those that every probe draws.

        Args:
            part: ``train``, ``valid`` or ``test``.
            scheme: Label scheme; the default one for None.
            seed: Seed of the split, where the dataset has none; probes use 0.

        Raises:
            UnknownNameError: There is no such part or label scheme.
            SkyprobeError: See `probes.sweep.splits.split_rows`.
        """
        from featurestore.registry import unknown_name
        from probes.sweep.splits import split_rows

        parts = split_rows(self.matrix.table, scheme, seed=seed)
        if not hasattr(parts, part):
            raise unknown_name("part of a split", part, ("train", "valid", "test"))
        return self.take(getattr(parts, part))

    def take(self, rows: NDArray[Any]) -> Features:
        """These rows alone, by their numbers or by a mask (n,)."""
        numbers = np.arange(len(self.X))[np.asarray(rows)]
        matrix = replace(self.matrix, values=self.X[numbers], table=self.matrix.table.take(numbers))
        return replace(self, matrix=matrix)

    def frame(self) -> pd.DataFrame:
        """One row a sample: ``sample_id``, ``split``, ``group``, ``ra`` and ``dec`` (degrees), and each label scheme.

        Columns that the dataset does not have are left out.
        """
        import pandas as pd

        table = self.matrix.table
        columns: dict[str, Any] = {"sample_id": self.ids, "split": table.splits}
        columns |= {} if table.groups is None else {"group": table.groups}
        columns |= {} if table.sky is None else {"ra": table.sky[:, 0], "dec": table.sky[:, 1]}
        return pd.DataFrame(columns | {scheme: self.y(scheme) for scheme in self.schemes})

    def neighbours(self, sample_id: str, k: int = 10) -> pd.DataFrame:
        """The k nearest other samples in feature space, the nearest first: `frame` with their ``distance``.

        Args:
            sample_id: Whose neighbours.
            k: How many; fewer where there are fewer.

        Raises:
            UnknownNameError: There is no such sample.
        """
        from featurestore.registry import unknown_name

        if sample_id not in self.ids:
            raise unknown_name("sample", sample_id, self.ids)
        row, flat = self.ids.index(sample_id), self.X.reshape(len(self.X), -1)
        distances = np.linalg.norm(flat - flat[row].astype(np.float64), axis=1)
        distances[row] = np.inf
        nearest = np.argsort(distances, kind="stable")[: min(k, len(flat) - 1)]
        return self.take(nearest).frame().assign(distance=distances[nearest])

    def umap(self, **options: Any) -> pd.DataFrame:
        """PCA and UMAP of these rows: `frame` with ``x`` and ``y``, which have no unit; the store keeps them.

        Args:
            options: See `probes.projection.project`: ``n_components``, ``n_neighbors``, ``min_dist``, ``seed``.
        """
        from probes.projection import cached_projection, project

        made = (
            project(self.matrix, **options)
            if self.store.storage.read_only
            else cached_projection(self.store, self.matrix, **options)
        )
        return self.frame().assign(x=made.xy[:, 0], y=made.xy[:, 1])

    def __len__(self) -> int:
        return len(self.X)

    def __repr__(self) -> str:
        one = self.matrix
        size = " x ".join(f"{length:,}" for length in self.X.shape)
        return f"Features({one.table.name}, {one.backbone}, {one.variant}, {one.pooling}: {size})"

    def _repr_html_(self) -> str:
        return _to_html(self.frame().head(), f"{self!r}, the first rows")


@dataclass(frozen=True, repr=False)
class ProbeResult:
    """What heads came to on the test rows.

    Attributes:
        runs: One for each head, label fraction, seed, variant and backbone.
    """

    runs: tuple[Run, ...]

    def frame(self) -> pd.DataFrame:
        """Tidy rows, one a run x metric x class; see `probes.results.run.to_frame`."""
        from probes.results.run import to_frame

        return to_frame(self.runs)

    def summary(self) -> pd.DataFrame:
        """One row for each head, fraction, variant and backbone: macro-F1 over the seeds, and accuracy."""
        from probes.results.run import summarise

        return summarise(self.runs)

    def predictions(self) -> pd.DataFrame:
        """One row a run x test sample: id, true and predicted class, probabilities."""
        from probes.results.run import prediction_frame

        return prediction_frame(self.runs)

    def __repr__(self) -> str:
        best = self.summary().sort_values("mean").iloc[-1]
        return (
            f"ProbeResult({len(self.runs)} runs; best macro-F1 {best['mean']:.3f}: {best['head']} on "
            f"{best['backbone']}, {best['variant']}, {best['fraction']} % of the labels)"
        )

    def _repr_html_(self) -> str:
        from probes.results.run import describe, wide_table

        summary = self.summary()
        return _to_html(wide_table(summary), " ".join(describe(summary)))


def open_store(path: str | Path | None = None) -> Store:
    """Open a store that is there, to read features from and keep results in.

    Args:
        path: A folder or URL; ``$SKYPROBE_STORE``, else ``./skyprobe.zarr``, for None.

    Raises:
        StoreError: There is no store; the message says how to make one.
    """
    return Store(_reopen(path))


def extract(
    data: str | Path | ImageDataset,
    backbones: str | Sequence[str],
    variants: str | Preprocessing | Sequence[str | Preprocessing] = "full-224",
    *,
    store: str | Path | None = None,
    reporter: Reporter | None = None,
    **options: Any,
) -> ExtractionReport:
    """Embed every image by every backbone at every variant; what the store holds already is not computed again.

    Args:
        data: Path or shortcut as on the command line, or an opened dataset.
        backbones: One name, or several.
        variants: Preprocessing by name, as a spec or as a value; one, or several.
        store: Folder or URL of the store, made if need be; see `open_store`.
        reporter: Shows progress; by default bars on stderr.
        options: See `featurestore.extraction.requests.ExtractionOptions`: ``weights``, ``precision``, ``batch_size``...

    Raises:
        SkyprobeError: See `featurestore.extraction.extract.extract_features`.
    """
    from featurestore.datasets import open_dataset
    from featurestore.extraction.extract import extract_features
    from featurestore.extraction.requests import ExtractionOptions
    from featurestore.store.opening import open_store as open_below

    shown = reporter or _terminal()
    dataset = open_dataset(str(data)) if isinstance(data, str | Path) else data
    shown.notice(dataset.table.notice)
    opened = open_below(None if store is None else str(store), mode="a")
    progress = shown.progress(f"extract {dataset.table.name}")
    return extract_features(
        dataset, _listed(backbones), _listed(variants), opened, ExtractionOptions(**options), progress
    )


def probe(
    data: str | Path,
    backbones: str | Sequence[str],
    variants: str | Preprocessing | Sequence[str | Preprocessing] = "full-224",
    *,
    heads: str | Sequence[str] = "linear",
    fractions: Sequence[int] = (10, 30, 50, 100),
    store: str | Path | None = None,
    reporter: Reporter | None = None,
    **options: Any,
) -> ProbeResult:
    """Fit heads on stored features over label fractions and seeds; no image is read, and the store keeps the runs.

    Args:
        data: Name in the store, path or shortcut.
        backbones: One name, or several.
        variants: Preprocessing by name, as a spec or as a value; one, or several.
        heads: Names of heads.
        fractions: Whole percents of the training labels.
        store: Folder or URL of the store; see `open_store`.
        reporter: Shows progress; by default bars on stderr.
        options: Others of `studies.study_file.spec.make_study`: ``seeds``, ``labels``, ``protocol``, ``pooling``,
            ``weights``...

    Raises:
        SkyprobeError: Features that were not extracted, labels that are missing, an unknown name.
    """
    from studies.stages import open_features
    from studies.stages import probe as probe_features

    given = {"heads": ",".join(_listed(heads)), "fractions": ",".join(map(str, fractions))} | options
    study = _study(data, backbones, variants, **given)
    opened, shown = _reopen(store), reporter or _terminal()
    return ProbeResult(tuple(probe_features(study, open_features(study, opened, shown), opened, shown)))


def _study(
    data: str | Path,
    backbones: str | Sequence[str],
    variants: str | Preprocessing | Sequence[str | Preprocessing],
    **options: Any,
) -> Study:
    from studies.study_file.spec import make_study

    return make_study(str(data), tuple(_listed(backbones)), tuple(_listed(variants)), **options)


def _reopen(path: str | Path | None) -> FeatureStore:
    """A store that is there, for writing where that is possible; a mistyped path must not become an empty store."""
    from featurestore.errors import StoreWriteError
    from featurestore.store.opening import open_store as open_below

    text = None if path is None else str(path)
    found = open_below(text, mode="r", volatile=True)
    try:
        return open_below(text, mode="a")
    except StoreWriteError:
        return found


def _listed(names: str | Preprocessing | Sequence[str | Preprocessing]) -> list[str]:
    """One name or several as a list of text."""
    several = names if isinstance(names, Sequence) and not isinstance(names, str) else [names]
    return [str(name) for name in several]


def _terminal() -> Reporter:
    from studies.terminal import Terminal

    return Terminal()


def _to_html(frame: pd.DataFrame, caption: str) -> str:
    """A table for a notebook; names of classes and files are escaped."""
    from html import escape

    return f"<p>{escape(caption)}</p>{frame.to_html(index=False, border=0, max_rows=20)}"
