"""Where transformers look: attention over a few images of a dataset.

The store keeps it, so that its figures can be drawn again where neither the images nor the models are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from featurestore.errors import SkyprobeError, UsageError
from featurestore.preprocessing import parse_variant
from featurestore.samples import UNLABELLED
from featurestore.store.key import digest
from studies.images.sampling import Draw, draw_balanced, draw_named, identify_samples, to_picture

if TYPE_CHECKING:
    from featurestore.backbones.base import Backbone, BackboneSpec
    from featurestore.reporter import Reporter
    from featurestore.store import FeatureStore

KIND = "attention"
"""Kind of these in a store."""


@dataclass(frozen=True)
class Attention:
    """What one backbone looks at in k images of a dataset; patches form a grid of h x w.

    Attributes:
        dataset: Name of the dataset.
        variant: Name of the preprocessing variant.
        backbone: Name of the backbone.
        weights_hash: SHA-256 of its weights.
        scheme: Label scheme; empty where the dataset has no labels.
        classes: Class names.
        sample_ids: k ids.
        labels: int64 (k,); `UNLABELLED` where the dataset has no labels.
        pictures: uint8 (k, S, S, 3), what the backbone sees.
        blocks: float32 (k, blocks, heads, h, w), as in `featurestore.backbones.attention.AttentionMaps`.
        pooled: float32 (k, heads, h, w), likewise; no heads where there is no latent query.
        rollout: float32 (k, h, w), likewise.
        query: ``cls`` or ``patches``, likewise.
        unreadable: Sample id -> why it was passed over.
    """

    dataset: str
    variant: str
    backbone: str
    weights_hash: str
    scheme: str
    classes: tuple[str, ...]
    sample_ids: tuple[str, ...]
    labels: NDArray[np.int64]
    pictures: NDArray[np.uint8]
    blocks: NDArray[np.float32]
    pooled: NDArray[np.float32]
    rollout: NDArray[np.float32]
    query: str
    unreadable: Mapping[str, str]

    @property
    def has_latent(self) -> bool:
        """Whether the model pools by the attention of a latent query."""
        return bool(self.pooled.shape[1])

    @property
    def last(self) -> NDArray[np.float32]:
        """float32 (k, h, w): mean over heads of the latent query, or of the last block where there is none."""
        final = self.pooled if self.has_latent else self.blocks[:, -1]
        return np.asarray(final.mean(axis=1), dtype=np.float32)

    def name(self, row: int) -> str:
        """Class of an image, or its id where it has none."""
        label = int(self.labels[row])
        return self.sample_ids[row] if label == UNLABELLED else self.classes[label]


def gather_attention(
    store: FeatureStore,
    names: Sequence[str],
    backbones: Sequence[str],
    variant: str,
    reporter: Reporter,
    **options: Any,
) -> list[Attention]:
    """What can be shown of these datasets and backbones; of the rest, such as CNNs, the user is told.

    Arguments and options as in `cached_attention`.
    """
    found = []
    for name in names:
        for backbone in backbones:
            try:
                found.append(cached_attention(store, name, backbone, variant, **options))
            except SkyprobeError as error:
                reporter.notice(f"No attention of {backbone} in {name} is shown: {error}")
    return found


def cached_attention(
    store: FeatureStore,
    name: str,
    backbone: str,
    variant: str = "full-224",
    *,
    weights: str | None = None,
    scheme: str | None = None,
    n_samples: int = 6,
    sample_ids: Sequence[str] = (),
    seed: int = 0,
    trust_remote_code: bool = False,
) -> Attention:
    """The stored attention of exactly this model over these images, or a new one that is stored.

    To find a stored one, no model library is imported for a name of the catalogue.

    Args:
        store: A store that knows the dataset, opened for writing.
        name: Name of the dataset there; it is opened at its source when nothing is stored yet.
        backbone: A transformer, as in `featurestore.backbones.loading.load_backbone`.
        variant: Name or spec of a preprocessing variant.
        weights: Source of the weights; the catalogue's for None.
        scheme: Label scheme that the images are balanced by; None: the default one, or none without labels. Images
            without a label are drawn only where there are no labels at all.
        n_samples: Images to draw.
        sample_ids: Images to show instead of drawing any.
        seed: Seed of the draw.
        trust_remote_code: Whether code that comes with the weights may run.

    Raises:
        MissingFeaturesError: The store does not know the dataset.
        UsageError: No images are asked for.
        UnknownNameError: No such backbone, variant, scheme or sample.
        BackboneError: It has no attention to show, or does not take images of that size.
        DatasetError: The images are wanted, and are not at their source.
    """
    from featurestore.backbones.catalogue import find_spec

    if n_samples < 1:
        raise UsageError("no images are asked for", where=f"samples={n_samples}", hint="Ask for at least one.")
    table, spec = store.dataset(name), find_spec(backbone)
    chosen = table.scheme(scheme) if table.labels or scheme else ""
    wanted = {"sample_ids": list(sample_ids)} if sample_ids else {"n_samples": n_samples, "seed": seed}
    identity = identify_samples(table, chosen) | _identify_model(spec, weights) | wanted
    identity["variant"] = str(parse_variant(variant)[1])
    if (found := store.get_cached(KIND, digest(identity))) is not None:
        return _from_entry(found.arrays, found.attributes)
    from featurestore.backbones.loading import load_backbone
    from featurestore.datasets import open_dataset

    preprocessing = parse_variant(variant)[1]
    drawn = draw_named(table, sample_ids) if sample_ids else draw_balanced(table, chosen, n_samples, seed)
    draw = Draw(open_dataset(table.source), table, preprocessing, drawn)
    size, n_channels = preprocessing.resize, preprocessing.n_channels
    model = load_backbone(backbone, weights, size, trust_remote_code, n_channels)
    made = make_attention(model, draw, variant, chosen)
    store.put_cached(KIND, digest(identity), *_to_entry(made))
    return made


def make_attention(backbone: Backbone, draw: Draw, variant: str, scheme: str = "") -> Attention:
    """What a loaded backbone looks at in images that were drawn.

    Args:
        backbone: A transformer.
        draw: The images, which went through the preprocessing of `variant`.
        variant: Name or spec of the variant.
        scheme: Label scheme; empty: labels play no part.

    Raises:
        BackboneError: It has no attention to show.
    """
    from featurestore.backbones.attention import attend

    table, rows = draw.table, draw.rows
    maps = attend(backbone, np.stack(draw.pixels))
    return Attention(
        dataset=table.name,
        variant=parse_variant(variant)[0],
        backbone=backbone.spec.name,
        weights_hash=backbone.weights_hash,
        scheme=scheme,
        classes=table.classes[scheme] if scheme else (),
        sample_ids=tuple(table.sample_ids[row] for row in rows),
        labels=table.labels[scheme][rows] if scheme else np.full(len(rows), UNLABELLED, dtype=np.int64),
        pictures=np.stack([to_picture(pixels) for pixels in draw.pixels]),
        blocks=maps.blocks,
        pooled=maps.pooled,
        rollout=maps.rollout,
        query=maps.query,
        unreadable=draw.unreadable,
    )


def _identify_model(spec: BackboneSpec, weights: str | None) -> dict[str, Any]:
    from featurestore.backbones.weights import fingerprint, parse_weights

    return {"backbone": spec.to_dict(), "weights": fingerprint(parse_weights(weights or spec.weights))}


_ARRAYS = ("labels", "pictures", "blocks", "pooled", "rollout")


def _to_entry(attention: Attention) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    given = {field.name: getattr(attention, field.name) for field in fields(attention)}
    arrays = {name: given.pop(name) for name in _ARRAYS}
    return arrays, {name: list(value) if isinstance(value, tuple) else value for name, value in given.items()}


def _from_entry(arrays: Mapping[str, NDArray[Any]], attributes: Mapping[str, Any]) -> Attention:
    given: dict[str, Any] = {name: arrays[name] for name in _ARRAYS}
    given |= {name: tuple(value) if isinstance(value, list) else value for name, value in attributes.items()}
    return Attention(**given)
