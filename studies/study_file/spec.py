"""Study: datasets x variants x backbones x probes as one value."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from typing import Annotated, Any

from pydantic import Field

from featurestore.errors import UsageError
from featurestore.extraction.requests import ExtractionOptions
from featurestore.label_mapping import scheme_name
from featurestore.options import Count, Names, Numbers, options
from featurestore.registry import unknown_name
from probes.heads.base import PROTOCOLS
from probes.heads.registry import HEADS
from probes.results.former_names import present_protocol
from probes.sweep.plan import Validation
from probes.sweep.splits import check_fractions, parse_fractions
from studies.study_file.toml_text import TomlText

Tables = Annotated[tuple[Mapping[str, Any], ...], Field(strict=False)]
"""Tables of a file, whose values are checked where they are used."""


@options
class ProbeOptions:
    """Which heads to fit, and on what.

    Attributes:
        heads: Names of heads.
        protocol: ``cv`` (the optimum, `C` by cross-validation) or ``paper`` (the study's optimiser).
        fractions: Percent of the training labels, each in (0, 100].
        seeds: Number of runs for each fraction.
        pooling: Pooling of the features; None: the backbone's default.
        labels: Label schemes or mapping files; none: each dataset's default. A dataset is probed under those of several
            that it has.
        epochs: Epochs of heads that have them: all of them under ``paper`` (100 in the study, 200 for RGZ), the most
            of them under ``cv``; None: the head's default.
        validation: Labelled rows outside the fraction to choose by: ``none``, ``split`` or ``rest``; see
            `probes.sweep.plan.plan`.
        allow_seen_rows: Whether a tuned backbone may be tested on rows that it was trained on; its rows state it.
        options: Other parameters by head: ``{"linear": {"class_weight": "none"}}``.
    """

    heads: Names = ("linear",)
    protocol: str = "cv"
    fractions: Numbers = (10, 30, 50, 100)
    seeds: Count = 3
    pooling: str | None = None
    labels: Names = ()
    epochs: Count | None = None
    validation: Validation = "none"
    allow_seen_rows: bool = False
    options: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "protocol", present_protocol(self.protocol))
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
        if strange := sorted(set(self.options) - set(self.heads)):
            raise UsageError(
                f"options for heads that are not named: {', '.join(strange)}",
                where="options",
                hint=f"Heads: {', '.join(self.heads)}.",
            )

    @property
    def scheme(self) -> str | None:
        """The first of the label schemes; None: each dataset's default."""
        return scheme_name(self.labels[0]) if self.labels else None

    @property
    def head_options(self) -> dict[str, dict[str, Any]]:
        """Parameters by head, for `probes.sweep.plan.plan`."""
        given = {head: dict(options) for head, options in self.options.items()}
        for head in self.heads if self.epochs is not None else ():
            if "epochs" in HEADS.get(head)().get_params():
                given[head] = {"epochs": self.epochs} | given.get(head, {})
        return given


@options
class FigureOptions:
    """Which figures to draw besides those of the probes.

    Attributes:
        projection: Whether to draw the PCA + UMAP projection.
        samples: Whether to show random images and the histogram of their raw values.
        attention: Whether to show where transformers look; their models are loaded for it, once.
        diagnostics: Whether to show what the features tell by themselves: rank, dimension, covariates, duplicates,
            leaks, outliers.
    """

    projection: bool = True
    samples: bool = True
    attention: bool = False
    diagnostics: bool = False


@options
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
        file: The study file, to say where in it a mistake is.
    """

    datasets: Names
    backbones: Names
    variants: Names = ("full-224",)
    title: str = "skyprobe"
    extract: ExtractionOptions = field(default_factory=ExtractionOptions)
    probe: ProbeOptions = field(default_factory=ProbeOptions)
    figures: FigureOptions = field(default_factory=FigureOptions)
    finetune: Tables = ()
    detect: Tables = ()
    file: TomlText | None = field(default=None, compare=False, repr=False)

    def __post_init__(self) -> None:
        for name in ("datasets", "backbones", "variants"):
            if not getattr(self, name):
                raise UsageError(f"the study names no {name}", where=name, hint=f"Give at least one of {name}.")


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
        UsageError: A fraction is not a whole number.
        SkyprobeError: See `ProbeOptions`.
    """
    schemes = _split(labels) if labels else ()
    options = ProbeOptions(_split(heads), fractions=parse_fractions(fractions), labels=schemes, **probing)
    extraction = ExtractionOptions(weights=weights, precision=precision)
    return Study((data,), backbones, variants, title=data, extract=extraction, probe=options)


def _split(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(","))
