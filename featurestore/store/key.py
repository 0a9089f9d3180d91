"""FeatureKey: everything that can change a number in a feature array, as one hashable value."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

from featurestore.errors import StoreFormatError

DENSE = "patches"
"""Name of dense features: the grid of patch tokens, nothing pooled. It is stored only when it is asked for."""

KEY_VERSION = 1
"""Version of what a feature is; part of every key. It stays when the layout of the store changes."""

DTYPES = ("float16", "float32")
"""Types that values may be stored in."""


def canonical_json(value: object) -> str:
    """JSON with sorted keys and no spaces: equal values give equal text."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def digest(value: object) -> str:
    """SHA-256 of the canonical JSON of `value`, as 64 hexadecimal digits."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()


@dataclass(frozen=True)
class FeatureKey:
    """Identity of stored features.

    Two extractions share features exactly when their keys are equal. Dataset, labels and splits do not belong to it:
    content is identified row by row. Library versions are provenance.

    Attributes:
        preprocessing: The resolved preprocessing, with decoder, resizer, channel rule, mean and standard deviation.
        backbone: Name of the backbone.
        model_id: ``adapter:id`` of the architecture.
        revision: Revision of the weights at their source; ``random:SEED`` of random ones.
        weights_hash: SHA-256 over the weights (see `featurestore.backbones.weights`).
        layer: The layer that was read, by number from 1; ``last`` is the model's own output.
        engine: ``torch`` or ``openvino``.
        precision: ``fp32``, ``bf16`` or ``fp16``: arithmetic of the forward pass.
        device: ``cpu``, ``cuda``, ``xpu`` or ``mps``: device class of the forward pass.
        dtype: ``float16`` or ``float32``: storage type of the values.
        format_version: Version of what a feature is.
    """

    preprocessing: Mapping[str, Any]
    backbone: str
    model_id: str
    revision: str
    weights_hash: str
    layer: str
    engine: str
    precision: str
    device: str
    dtype: str
    format_version: int = KEY_VERSION

    def __post_init__(self) -> None:
        # A tuple would come back from the store as a list, and the key would not equal itself.
        object.__setattr__(self, "preprocessing", json.loads(canonical_json(dict(self.preprocessing))))

    def to_dict(self) -> dict[str, Any]:
        """A JSON-ready copy."""
        return asdict(self)

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> FeatureKey:
        """The key that `to_dict` described.

        Raises:
            StoreFormatError: The fields are those of another format version.
        """
        try:
            return cls(**fields)
        except TypeError as error:
            raise StoreFormatError(
                f"not the fields of a feature key: {error}", where="FeatureKey", hint="Use the skyprobe that wrote it."
            ) from error

    @cached_property
    def sha256(self) -> str:
        """SHA-256 of the canonical JSON, 64 hexadecimal digits."""
        return digest(self.to_dict())

    @property
    def short(self) -> str:
        """The first 12 digits of the hash: KEY12, the folder name in a store."""
        return self.sha256[:12]

    def __hash__(self) -> int:
        return hash(self.sha256)

    @property
    def fields(self) -> dict[str, Any]:
        """All fields, those of nested values by dotted names: ``preprocessing.decoder``."""
        return _flat(self.to_dict())

    def differences(self, other: FeatureKey) -> dict[str, tuple[Any, Any]]:
        """Fields whose values differ, as ``field -> (mine, theirs)``; preprocessing is compared field by field."""
        mine, theirs = self.fields, other.fields
        names = sorted(mine.keys() | theirs.keys())
        return {name: (mine.get(name), theirs.get(name)) for name in names if mine.get(name) != theirs.get(name)}


def _flat(fields: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in fields.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{name}.")
        else:
            flat[prefix + name] = value
    return flat
