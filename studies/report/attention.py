"""Figures 6 and A of the study with their captions, and the files of `skyprobe attention`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from featurestore.datasets import open_dataset
from featurestore.reporter import Reporter
from featurestore.sky_groups import split_groups
from featurestore.store.layout.names import escape
from probes.plotting import CaptionedFigure, save_figure
from studies.figures.attention import PERCENTILE, QUERIES, backbone_grid, head_grid
from studies.images.attention import Attention, cached_attention
from studies.result import Clock, StudyResult
from studies.sources import refresh

if TYPE_CHECKING:
    from featurestore.store import FeatureStore

_METHOD = (
    "Contours enclose the {top:g} % of the image that is attended to most (percentile {percentile:g} of the map, "
    "bilinearly brought to the pixels of the image); attention to class tokens and registers is left out"
)


_LATENT = "the latent query in the attention pool {}"


def attention_figures(found: Sequence[Attention], percentile: float = PERCENTILE) -> list[CaptionedFigure]:
    """Figure 6 of each dataset and variant, then Figure A of each backbone on the first image of each.

    Args:
        found: Of any datasets, variants and backbones; those of one dataset and variant over the same images.
        percentile: Percentile of a map at which its contour is drawn.

    Raises:
        ProbeError: Backbones show different images of a dataset.
        UsageError: A percentile that is not between 0 and 100.
    """
    groups: dict[tuple[str, str], list[Attention]] = {}
    for one in found:
        groups.setdefault((one.dataset, one.variant), []).append(one)
    captioned_figures = [backbone_figure(group, percentile) for group in groups.values()]
    return captioned_figures + [head_figure(one, percentile) for one in found]


def backbone_figure(found: Sequence[Attention], percentile: float = PERCENTILE) -> CaptionedFigure:
    """Figure 6: one dataset, images by backbones."""
    first = found[0]
    shown: dict[str, list[str]] = {}
    for one in found:
        whose = f"the {QUERIES[one.query]} {{}} in the last block"
        shown.setdefault(_LATENT if one.has_latent else whose, []).append(one.backbone)
    whose = " and of ".join(text.format(f"({', '.join(names)})") for text, names in shown.items())
    lost = {sample: reason for one in found for sample, reason in one.unreadable.items()}
    passed = f" Passed over: {'; '.join(f'{sample} ({reason})' for sample, reason in lost.items())}." if lost else ""
    return CaptionedFigure(
        escape(f"figure-6-attention-{first.dataset}-{first.variant}"),
        backbone_grid(found, percentile),
        f"Attention over {len(first.sample_ids)} images of {first.dataset} on {first.variant}, mean over heads, of "
        f"{whose}. {_describe_method(percentile)}.{passed}",
        f"Images with contours of attention, of {', '.join(one.backbone for one in found)}.",
    )


def head_figure(attention: Attention, percentile: float = PERCENTILE) -> CaptionedFigure:
    """Figure A: one image, blocks by heads, and attention rollout."""
    n_blocks, n_heads = attention.blocks.shape[1:3]
    pool = " The row below the blocks: the latent query of the attention pool." if attention.has_latent else ""
    rolled = "latent query" if attention.has_latent else QUERIES[attention.query]
    return CaptionedFigure(
        escape(f"figure-a-attention-{attention.dataset}-{attention.variant}-{attention.backbone}"),
        head_grid(attention, 0, percentile),
        f"Attention of the {QUERIES[attention.query]} of {attention.backbone} in each block and head, over the image "
        f"{attention.sample_ids[0]} of {attention.dataset} on {attention.variant}.{pool} Last row: attention rollout "
        f"of the {rolled} (Abnar & Zuidema 2020: the product over blocks of 0.5 A + 0.5 I, heads averaged). "
        f"{_describe_method(percentile)}.",
        f"One image with contours of attention: {n_blocks} blocks, {n_heads} heads.",
    )


def show_attention(
    data: str,
    backbones: Sequence[str],
    variant: str,
    store: FeatureStore,
    output: Path,
    reporter: Reporter,
    *,
    percentile: float = PERCENTILE,
    **options: Any,
) -> StudyResult:
    """Write Figures 6 and A of a dataset.

    Args:
        data: Name of a dataset in the store, else a path or shortcut, which is opened.
        backbones: Transformers.
        variant: Name or spec of a preprocessing variant.
        store: A store opened for writing; it keeps the attention.
        output: Folder to write to.
        reporter: Shows the dataset's notice.
        percentile: See `attention_figures`.
        options: See `studies.images.attention.cached_attention`.

    Raises:
        SkyprobeError: See `studies.images.attention.cached_attention`. Images passed over raise nothing;
            the result lists them.
    """
    clock, name = Clock(), _know(data, store, reporter)
    reporter.notice(store.dataset(name).notice)
    with clock("attend"):
        found = [cached_attention(store, name, backbone, variant, **options) for backbone in dict.fromkeys(backbones)]
    files: dict[str, Path] = {}
    with clock("draw"):
        for drawn in attention_figures(found, percentile):
            files |= {path.name: path for path in save_figure(drawn.figure, output, drawn.name).values()}
    unreadable = {sample: reason for one in found for sample, reason in one.unreadable.items()}
    return StudyResult(files=files, seconds=clock.seconds, unreadable=unreadable)


def _know(data: str, store: FeatureStore, reporter: Reporter) -> str:
    """Name of a dataset, which the store gets to know if need be."""
    name = refresh(store, data, reporter)
    if name not in store.datasets():
        store.put_dataset(open_dataset(split_groups(data)[0]).table)
    return name


def _describe_method(percentile: float) -> str:
    return _METHOD.format(top=100 - percentile, percentile=percentile)
