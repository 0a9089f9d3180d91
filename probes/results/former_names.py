"""Names of earlier versions: users may still write them, and cached runs and saved heads still say them."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

from featurestore.errors import FormerNameWarning

PROTOCOLS = {"convex": "cv"}
"""Former -> present name of a protocol. The rule changed with the name: a run of ``convex`` is not one of ``cv``."""

PARAMETERS = {"strengths": "Cs", "default_strength": "default_C", "kind": "whitening"}
"""Former -> present name of a parameter of heads."""

ARRAYS = {"columns_": "targets_"}
"""Former -> present name of an array of a saved head."""

_CHOSEN = PARAMETERS | {"strength": "C"}


def present_protocol(name: str) -> str:
    """The present name of a protocol that a user named.

    Warns:
        FormerNameWarning: It is a former one.
    """
    return _replace("protocol", name, PROTOCOLS)


def present_parameters(given: Mapping[str, Any]) -> dict[str, Any]:
    """Parameters of a head that a user gave, by their present names.

    Warns:
        FormerNameWarning: One has its former name.
    """
    return {_replace("parameter", name, PARAMETERS): value for name, value in given.items()}


def read_params(stored: Mapping[str, Any]) -> dict[str, Any]:
    """What a cached run or a saved head was fitted with and chose, by present names."""
    present = {_CHOSEN.get(name, name): value for name, value in stored.items()}
    if "options" in present:
        present["options"] = {PARAMETERS.get(name, name): value for name, value in present["options"].items()}
    return present


def read_arrays(stored: Mapping[str, Any]) -> dict[str, Any]:
    """Arrays of a saved head by present names."""
    return {ARRAYS.get(name, name): values for name, values in stored.items()}


def _replace(noun: str, name: str, present: Mapping[str, str]) -> str:
    if name in present:
        text = f"the {noun} {name!r} is called {present[name]!r} now; please use that name"
        warnings.warn(text, FormerNameWarning, stacklevel=3)
    return present.get(name, name)
