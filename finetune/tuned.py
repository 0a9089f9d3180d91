"""Tuned models on disk, and the adapter that makes each of them a backbone: ``tuned:FOLDER``.

A folder holds ``model.safetensors`` (backbone without adapters, head, scaling in front of it), ``card.json``, and the
same as text for people in ``README.md``. The card is written last: a folder without one is not a model.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors.torch import save_file

from featurestore.backbones.base import Adapter, BackboneSpec
from featurestore.backbones.catalogue import ADAPTERS
from featurestore.backbones.weights import WeightsSource, hash_weights, load_strictly, parse_weights, read_state_dict
from featurestore.errors import BackboneError, UsageError, WeightsMismatchError, WeightsUnavailableError
from featurestore.files import write_atomically
from featurestore.training_rows import TRAINING_ROWS, pack_rows
from featurestore.versions import library_versions
from finetune.freezing import count_parameters
from finetune.learners.classification import Fit, Tuned
from probes.results.json_values import json_ready

if TYPE_CHECKING:
    from torch import nn

    from featurestore.backbones.base import TokenModule

FORMAT = "skyprobe tuned model"
FORMAT_VERSION = 1
WEIGHTS, CARD, README = "model.safetensors", "card.json", "README.md"
_NEEDED = ("identity", "architecture", "image_size", "pooling", "weights_hash", "params", "date")
"""Fields of a card without which a model cannot be used."""

_TOKENS = "tokens."


def save_tuned(tuned: Tuned, folder: Path) -> dict[str, Path]:
    """Write model, README and card; each file is either whole or absent.

    Returns:
        Path by file name.

    Raises:
        StoreWriteError: The folder cannot be written.
    """
    state = {name: tensor.detach().cpu().clone().contiguous() for name, tensor in tuned.classifier.state_dict().items()}
    card = describe(tuned)
    return {
        WEIGHTS: write_atomically(folder / WEIGHTS, lambda part: save_file(state, part)),
        README: write_atomically(folder / README, lambda part: part.write_text(to_text(card), encoding="utf-8")),
        CARD: write_atomically(
            folder / CARD, lambda part: part.write_text(json.dumps(card, indent=2), encoding="utf-8")
        ),
    }


def describe(tuned: Tuned) -> dict[str, Any]:
    """The card: all that is known of a tuned model, as JSON values."""
    fit, run = tuned.fit, tuned.run
    spec, table = fit.backbone.spec, fit.images.table
    root = read_card(Path(spec.model_id))["architecture"] if spec.adapter == "tuned" else spec.to_dict()
    return {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "identity": fit.identity,
        "architecture": root,
        "image_size": fit.images.preprocessing.resize,
        "pooling": run.pooling,
        "weights_hash": hash_weights(tuned.classifier.tokens),
        "params": round(count_parameters(tuned.classifier.tokens) / 1e6, 1),
        "base": {"backbone": spec.name, "weights": fit.backbone.weights_source, "hash": fit.backbone.weights_hash},
        "dataset": {
            "name": table.name,
            "source": table.source,
            "images": table.fingerprint,
            "labels": table.label_digest(run.scheme),
            "notice": table.notice,
        },
        "scheme": run.scheme,
        "classes": [run.classes[label] for label in tuned.labels],
        "variant": run.variant,
        "preprocessing": asdict(fit.images.preprocessing),
        "head": run.head,
        "protocol": run.protocol,
        "fraction": run.fraction,
        "seed": run.seed,
        TRAINING_ROWS: _training_rows(fit),
        "rows": {"train": run.n_train, "valid": run.n_valid, "test": len(run.truth)},
        "options": json_ready(run.params),
        "scores": json_ready({**run.scores.macro, **run.scores.overall}),
        "licence": spec.licence,
        "versions": library_versions("training"),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _training_rows(fit: Fit) -> dict[str, str] | None:
    """Dataset -> rows that decided the weights of the backbone, also those to stop on and those without their label.

    None where the backbone was tuned from one whose card does not name its own.
    """
    spec, table, rows = fit.backbone.spec, fit.images.table, fit.rows
    tuned_before = spec.adapter == "tuned" and not fit.backbone.weights_source.startswith("random:")
    before = read_card(Path(spec.model_id)).get(TRAINING_ROWS) if tuned_before else {}
    if before is None or fit.task.options.mode == "head":
        return before
    seen = [table.sample_ids[row] for part in (rows.train, rows.valid, rows.unlabelled) for row in part]
    return {**before, table.name: pack_rows(seen, before.get(table.name, ""))}


def to_text(card: Mapping[str, Any]) -> str:
    """The card for people, in Markdown."""
    scores = "\n".join(f"| {name} | {value} |" for name, value in card["scores"].items())
    rows, base, data = card["rows"], card["base"], card["dataset"]
    return (
        f"# {base['backbone']}, tuned on {data['name']}\n\n"
        f"{card['head']} ({card['protocol']}) on {card['fraction']} % of the training labels of {data['name']} "
        f"({card['scheme']}), seed {card['seed']}: {rows['train']} images to learn from, {rows['valid']} to stop on, "
        f"{rows['test']} to test.\n\n"
        f"| score on the test images | |\n|---|---|\n{scores}\n\n"
        f"- Classes: {', '.join(card['classes'])}\n"
        f"- Preprocessing: {card['variant']}, {card['image_size']} px; pooling: {card['pooling']}\n"
        f"- Base weights: {base['weights']}, SHA-256 {base['hash']}\n"
        f"- Tuned weights: SHA-256 {card['weights_hash']}\n"
        f"- Labels: SHA-256 {data['labels']}\n"
        f"- Licence of the base weights: {card['licence']}\n"
        f"- Images: {data['notice'] or data['source'] or data['name']}\n"
        f"- Made: {card['date']}, with {', '.join(f'{name} {text}' for name, text in card['versions'].items())}\n\n"
        "Use it as a backbone: `skyprobe extract DATA -b tuned:FOLDER -p 'VARIANT'`. "
        "All options are in `card.json`.\n"
    )


def read_card(folder: Path) -> dict[str, Any]:
    """The card of a tuned model.

    Raises:
        WeightsUnavailableError: The folder holds no tuned model, one of another format version, or a damaged card.
    """
    try:
        card: dict[str, Any] = json.loads((folder / CARD).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise WeightsUnavailableError(
            "the folder holds no tuned model",
            where=folder,
            hint=f"Name a folder with {CARD}, made by skyprobe finetune.",
        ) from error
    if not isinstance(card, dict) or (card.get("format"), card.get("format_version")) != (FORMAT, FORMAT_VERSION):
        raise WeightsUnavailableError(
            f"the card is not of format version {FORMAT_VERSION}", where=folder, hint="Use the skyprobe that wrote it."
        )
    if missing := [name for name in _NEEDED if name not in card]:
        raise WeightsUnavailableError(
            f"the card lacks {', '.join(missing)}", where=folder, hint="Copy it again, or tune the model again."
        )
    return card


def _read_architecture(folder: Path, card: Mapping[str, Any]) -> BackboneSpec:
    """The spec of the backbone that was tuned; cards of other versions may have fields that this one does not know."""
    try:
        return BackboneSpec.from_dict(card["architecture"])
    except (TypeError, AttributeError) as error:
        raise WeightsUnavailableError(
            f"the card describes no backbone of this version: {error}",
            where=folder,
            hint="Use the skyprobe that wrote it.",
        ) from error


class TunedAdapter:
    """Builds a tuned model from its folder; see `featurestore.backbones.base.Adapter`."""

    def training_rows(self, model_id: str, dataset: str) -> str | None:
        """Rows of a dataset that its weights were trained on; see `featurestore.backbones.catalogue.training_rows`."""
        rows = read_card(Path(model_id)).get(TRAINING_ROWS)
        return None if rows is None else rows.get(dataset, "")

    def spec(self, model_id: str) -> BackboneSpec:
        """The spec of the model in the folder `model_id`; its default pooling is the one it was tuned with.

        Raises:
            WeightsUnavailableError: The folder holds no tuned model.
        """
        card = read_card(Path(model_id))
        root = _read_architecture(Path(model_id), card)
        pooling = card["pooling"]
        return replace(
            root,
            name=f"tuned:{model_id}",
            adapter="tuned",
            model_id=model_id,
            poolings=(pooling, *(other for other in root.poolings if other != pooling)),
            image_size=card["image_size"],
            revision=card["date"],
            weights=str(Path(model_id) / WEIGHTS),
            params=card["params"],
        )

    def build(
        self, spec: BackboneSpec, weights: WeightsSource, image_size: int, trust_remote_code: bool
    ) -> TokenModule:
        """The architecture that the card names, with the tuned weights; or with random ones, if these are asked for.

        Raises:
            BackboneError: A transformer at another input size than it was tuned at.
            UsageError: Weights of another kind.
            WeightsMismatchError: The weights are not those that the card was written for.
        """
        card = read_card(Path(spec.model_id))
        root = _read_architecture(Path(spec.model_id), card)
        if root.patch_size and image_size != card["image_size"]:
            raise BackboneError(
                f"the model was tuned at {card['image_size']} px, and its positions fit no other size",
                where=f"resize={image_size}",
                hint=f"Use resize={card['image_size']}.",
            )
        adapter: Adapter = ADAPTERS.get(root.adapter)
        if weights.kind == "random":
            return adapter.build(root, weights, image_size, trust_remote_code)
        if weights.kind != "file":
            raise UsageError(
                "a tuned model has its own weights", where=f"weights={weights}", hint="Leave out --weights."
            )
        tokens = adapter.build(root, parse_weights("random:0"), image_size, trust_remote_code)
        _fill(tokens, Path(weights.value), card["weights_hash"])
        return tokens


def _fill(tokens: nn.Module, path: Path, expected: str) -> None:
    state = {name.removeprefix(_TOKENS): one for name, one in read_state_dict(path).items() if name.startswith(_TOKENS)}
    load_strictly(tokens, state, path)
    if hash_weights(tokens) != expected:
        raise WeightsMismatchError(
            "the weights are not those that the card was written for", where=path, hint="Tune the model again."
        )


ADAPTER = TunedAdapter()
