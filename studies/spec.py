"""Study: datasets x variants x backbones x probes as one value, written as a TOML file."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any, get_args

from featurestore.errors import UnknownNameError, UsageError
from featurestore.extraction.requests import ExtractionOptions
from featurestore.label_mapping import scheme_name
from featurestore.registry import unknown_name
from probes.heads.base import PROTOCOLS
from probes.heads.registry import HEADS
from probes.sweep.splits import check_fractions, parse_fractions
from probes.sweep.sweep import Validation


@dataclass(frozen=True)
class ProbeOptions:
    """Which heads to fit, and on what.

    Attributes:
        heads: Names of heads.
        protocol: ``convex`` (the optimum, strength by cross-validation) or ``paper`` (the study's optimiser).
        fractions: Percent of the training labels, each in (0, 100].
        seeds: Number of runs for each fraction.
        pooling: Pooling of the features; None: the backbone's default.
        labels: Label schemes or mapping files; none: each dataset's default. A dataset is probed under those of several
            that it has.
        epochs: Epochs of heads that have them: all of them under ``paper`` (100 in the study, 200 for RGZ), the most
            of them under ``convex``; None: the head's default.
        validation: Labelled rows outside the fraction to choose by: ``none``, ``split`` or ``rest``; see
            `probes.sweep.sweep.plan`.
        allow_seen_rows: Whether a tuned backbone may be tested on rows that it was trained on; its rows state it.
        options: Other parameters by head: ``{"linear": {"class_weight": "none"}}``.
    """

    heads: tuple[str, ...] = ("linear",)
    protocol: str = "convex"
    fractions: tuple[int, ...] = (10, 30, 50, 100)
    seeds: int = 3
    pooling: str | None = None
    labels: tuple[str, ...] = ()
    epochs: int | None = None
    validation: Validation = "none"
    allow_seen_rows: bool = False
    options: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        # All that can be known now is checked now: an extraction may take hours before the first head is fitted.
        if not self.heads:
            raise UsageError("no heads are named", where="heads", hint=f"Choose from {', '.join(HEADS.names())}.")
        for head in self.heads:
            HEADS.get(head)
        check_fractions(self.fractions)
        for text in self.labels:
            scheme_name(text)
        if self.protocol not in PROTOCOLS:
            raise unknown_name("protocol", self.protocol, PROTOCOLS)
        if self.validation not in get_args(Validation):
            raise unknown_name("validation rows", self.validation, get_args(Validation))
        if strange := sorted(set(self.options) - set(self.heads)):
            raise UsageError(
                f"options for heads that are not named: {', '.join(strange)}",
                where="options",
                hint=f"Heads: {', '.join(self.heads)}.",
            )
        if self.seeds < 1:
            raise UsageError("seeds must be positive", where=f"seeds={self.seeds}", hint="Give the number of runs.")
        if self.epochs is not None and self.epochs < 1:
            raise UsageError("epochs must be positive", where=f"epochs={self.epochs}", hint="Leave it to the head.")

    @property
    def scheme(self) -> str | None:
        """The first of the label schemes; None: each dataset's default."""
        return scheme_name(self.labels[0]) if self.labels else None

    @property
    def head_options(self) -> dict[str, dict[str, Any]]:
        """Parameters by head, for `probes.sweep.sweep.plan`."""
        given = {head: dict(options) for head, options in self.options.items()}
        for head in self.heads if self.epochs is not None else ():
            if "epochs" in HEADS.get(head)().get_params():
                given[head] = {"epochs": self.epochs} | given.get(head, {})
        return given


@dataclass(frozen=True)
class FigureOptions:
    """Which figures to draw besides those of the probes.

    Attributes:
        projection: Whether to draw the PCA + UMAP projection.
        samples: Whether to show random images and the histogram of their raw values.
        attention: Whether to show where transformers look; their models are loaded for it, once.
        look: Whether to look at the features without labels: rank, dimension, covariates, duplicates, leaks, outliers.
    """

    projection: bool = True
    samples: bool = True
    attention: bool = False
    look: bool = False


@dataclass(frozen=True)
class Study:
    """Everything a report is made from.

    Attributes:
        title: Title of the report.
        datasets: Paths or shortcuts, as on the command line.
        backbones: Names of backbones.
        variants: Names or specs of preprocessing variants.
        extract: How to extract.
        probe: What to fit.
        figures: What to draw.
        finetune: Trainings of classifiers, checked and carried out by `studies.trainings`.
        detect: Trainings of detectors, likewise.
    """

    datasets: tuple[str, ...]
    backbones: tuple[str, ...]
    variants: tuple[str, ...] = ("full-224",)
    title: str = "skyprobe"
    extract: ExtractionOptions = field(default_factory=ExtractionOptions)
    probe: ProbeOptions = field(default_factory=ProbeOptions)
    figures: FigureOptions = field(default_factory=FigureOptions)
    finetune: tuple[Mapping[str, Any], ...] = ()
    detect: tuple[Mapping[str, Any], ...] = ()

    def __post_init__(self) -> None:
        for name in ("datasets", "backbones", "variants"):
            if not getattr(self, name):
                raise UsageError(f"the study names no {name}", where=name, hint=f"Give at least one of {name}.")


def read_study(path: Path) -> Study:
    """The study that a TOML file describes.

    Args:
        path: The file; or the name of a shipped study, see `shipped_studies`.

    Raises:
        UsageError: The file cannot be read, is no TOML, or a value has the wrong type.
        UnknownNameError: A key that does not exist.
    """
    if (shipped := shipped_studies().get(str(path))) and not path.is_file():
        return parse_study(shipped.read_text(encoding="utf-8"), where=str(shipped))
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise UsageError(f"cannot read the study: {error.strerror}", where=path, hint="Give a TOML file.") from error
    except UnicodeDecodeError as error:
        raise UsageError("the study is no UTF-8 text", where=path, hint="Save it as UTF-8.") from error
    return parse_study(text, where=str(path))


def shipped_studies() -> dict[str, Traversable]:
    """The studies that come with skyprobe, by name."""
    found = (files("studies") / "shipped").iterdir()
    return {one.name.removesuffix(".toml"): one for one in sorted(found, key=lambda one: one.name)}


def parse_study(text: str, *, where: str) -> Study:
    """The study that TOML text describes; see `read_study`."""
    try:
        given = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"the study is no TOML: {error}", where=where, hint="Correct that line.") from error
    extract = given.get("extract")
    if isinstance(extract, dict) and "lanes" in extract:  # the old name of `workers`
        extract["workers"] = extract.pop("lanes")
    tables = {"extract": ExtractionOptions, "probe": ProbeOptions, "figures": FigureOptions}
    values = {name: value for name, value in given.items() if name not in tables}
    options = {name: _build(kind, given[name], f"{where} [{name}]") for name, kind in tables.items() if name in given}
    if missing := {"datasets", "backbones"} - values.keys():
        raise UsageError(f"the study lacks {' and '.join(sorted(missing))}", where=where, hint="Add a list of names.")
    study: Study = _build(Study, values | options, where)
    return study


def make_study(
    data: str,
    backbones: tuple[str, ...],
    variants: tuple[str, ...],
    weights: str | None = None,
    precision: str = "auto",
    *,
    heads: str = ",".join(ProbeOptions.heads),
    fractions: str = ",".join(map(str, ProbeOptions.fractions)),
    labels: str | None = None,
    **probing: Any,
) -> Study:
    """The study of one dataset that a command line describes; `heads`, `fractions`, `labels` are lists with commas.

    Raises:
        UsageError: A fraction is no whole number.
        SkyprobeError: See `ProbeOptions`.
    """
    schemes = _split(labels) if labels else ()
    options = ProbeOptions(_split(heads), fractions=parse_fractions(fractions), labels=schemes, **probing)
    extraction = ExtractionOptions(weights=weights, precision=precision)
    return Study((data,), backbones, variants, title=data, extract=extraction, probe=options)


def _split(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(","))


def _build(kind: type, given: object, where: str) -> Any:
    return kind(**convert_values(kind, given, where))


def convert_values(kind: type, given: object, where: str) -> dict[str, Any]:
    """The values of a TOML table as the fields of a dataclass want them.

    Args:
        kind: The dataclass.
        given: The table.
        where: Where it stands, for messages.

    Raises:
        UsageError: It is no table, or a value has the wrong type.
        UnknownNameError: A key that is no field.
    """
    if not isinstance(given, Mapping):
        raise UsageError("a table is expected", where=where, hint="Write its name in square brackets.")
    types = {field.name: str(field.type) for field in fields(kind)}
    for name in given:
        if name not in types:
            error = unknown_name("key", name, types)
            raise UnknownNameError(error.what, where=where, hint=error.hint)
    return {name: _convert(value, types[name], f"{where}: {name}") for name, value in given.items()}


def _convert(value: Any, wanted: str, where: str) -> Any:
    """A TOML value as the type that a field is annotated with; the annotations are text, and few."""
    checks = {
        "tuple[str, ...]": lambda: isinstance(value, list) and all(isinstance(item, str) for item in value),
        "tuple[int, ...]": lambda: isinstance(value, list) and all(type(item) is int for item in value),
        "tuple[Mapping[str, Any], ...]": lambda: (
            isinstance(value, list) and all(isinstance(one, dict) for one in value)
        ),
        "float": lambda: type(value) in (int, float),
        "Validation": lambda: isinstance(value, str),
        "str": lambda: isinstance(value, str),
        "str | None": lambda: isinstance(value, str),
        "int": lambda: type(value) is int,
        "int | None": lambda: type(value) is int,
        "bool": lambda: isinstance(value, bool),
        "Mapping[str, Mapping[str, Any]]": lambda: (
            isinstance(value, dict) and all(isinstance(item, dict) for item in value.values())
        ),
    }
    if wanted in checks and not checks[wanted]():
        raise UsageError(f"{value!r} is not of type {wanted}", where=where, hint="Correct the value.")
    return tuple(value) if isinstance(value, list) else value
