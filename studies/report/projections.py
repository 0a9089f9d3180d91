"""What a report shows of projections: one figure of all datasets and features, and one for each dataset."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

from featurestore.store.features import FeatureSet
from featurestore.store.layout.names import escape
from probes.plotting import CaptionedFigure
from probes.projection import Projection
from studies.figures.latent import LatentSpace, Points, umap_grid, umap_panels

_SHOWN = "Labels were not used to make it. Of an unbalanced set a random class-balanced sample is shown."


def latent_figure(
    features: Sequence[FeatureSet], projections: Sequence[Projection], scheme: str | None = None
) -> CaptionedFigure:
    """Figure 2: UMAP, datasets by features."""
    panels: dict[tuple[str, str], dict[str, Points]] = {}
    classes: dict[tuple[str, str], tuple[str, ...]] = {}
    several = len({matrix.variant for matrix in features}) > 1
    for matrix, made in zip(features, projections, strict=True):
        table, wanted = matrix.table, matrix.table.scheme(scheme)
        classes[table.name, wanted] = table.classes[wanted]
        row = panels.setdefault((table.name, wanted), {})
        name = f"{matrix.backbone}, {matrix.variant}" if several else matrix.backbone
        row[f"{name}, {matrix.key.short}" if name in row else name] = made.xy, table.labels[wanted]
    spaces = [LatentSpace(f"{name} ({wanted})", classes[name, wanted], row) for (name, wanted), row in panels.items()]
    return CaptionedFigure(
        "figure-2-umap",
        umap_grid(spaces),
        f"{_describe_method(projections)} Rows are datasets, columns backbones; colours are classes. {_SHOWN}",
        "Scatter plots coloured by class: "
        + "; ".join(f"{space.title}, {', '.join(space.panels)}" for space in spaces)
        + ".",
    )


def projection_figures(
    features: Sequence[FeatureSet], projections: Sequence[Projection], scheme: str | None = None
) -> list[CaptionedFigure]:
    """UMAP coloured by class, a figure for each dataset and a panel for each of its feature matrices."""
    pairs = sorted(zip(features, projections, strict=bool(projections)), key=lambda pair: pair[0].table.name)
    return [
        _projection_figure(name, list(part), scheme)
        for name, part in groupby(pairs, key=lambda pair: pair[0].table.name)
    ]


def name_features(matrix: FeatureSet) -> str:
    """Backbone and variant."""
    return f"{matrix.backbone}, {matrix.variant}"


def _projection_figure(
    name: str, pairs: Sequence[tuple[FeatureSet, Projection]], scheme: str | None
) -> CaptionedFigure:
    table = pairs[0][0].table
    scheme = table.scheme(scheme)
    panels = {_title(pairs, matrix): (made.xy, matrix.table.labels[scheme]) for matrix, made in pairs}
    return CaptionedFigure(
        escape(f"{name}-umap"),
        umap_panels(panels, table.classes[scheme], dataset=name),
        f"{_describe_method([made for _, made in pairs])} {name}, coloured by class ({scheme}). {_SHOWN}",
        f"Scatter plots of {name} in two dimensions, coloured by class: {'; '.join(panels)}.",
    )


def _title(pairs: Sequence[tuple[FeatureSet, Projection]], matrix: FeatureSet) -> str:
    """Backbone and variant; with pooling and key where these alone would name two panels."""
    name = name_features(matrix)
    alike = [other for other, _ in pairs if name_features(other) == name]
    return name if len(alike) == 1 else f"{name}, {matrix.pooling}, {matrix.key.short}"


def _describe_method(projections: Sequence[Projection]) -> str:
    """How projections were made, and how much of the variance their principal components explain."""
    parameters = projections[0].parameters
    shares = [made.explained.sum() for made in projections]
    explained = " to ".join(dict.fromkeys(f"{share:.0%}" for share in (min(shares), max(shares))))
    return (
        f"UMAP (n_neighbors {parameters['n_neighbors']}, min_dist {parameters['min_dist']}, seed {parameters['seed']}) "
        f"of the first {max(made.pca.shape[1] for made in projections)} principal components, which explain "
        f"{explained} of the variance."
    )
