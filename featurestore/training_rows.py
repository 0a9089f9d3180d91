"""Rows that a backbone was trained on, as hashes of their sample ids: it is never tested on them without a word.

The card of a tuned model names them, the provenance of its features carries those of the dataset, and whatever scores
test rows asks `check_test_rows`.
"""

from __future__ import annotations

from base64 import b64decode, b64encode
from collections.abc import Iterable, Mapping, Sequence
from hashlib import blake2b
from itertools import chain
from typing import Any

from featurestore.errors import SeenRowsError

TRAINING_ROWS = "training_rows"
"""Field of cards and of provenance: text of `pack_rows`, or None where nobody wrote down which rows they were."""

SEEN = "seen_test_rows"
"""What a result says that was let pass: how many of its test rows, or ``unknown``."""

_BYTES = 6
"""Of a hash: one of 10^5 test rows is taken for one of 10^6 training rows once in 3,000 datasets."""


def pack_rows(sample_ids: Iterable[str], packed: str = "") -> str:
    """Hashes of these ids, and those of an earlier text, as text: sorted, each once; empty for none."""
    return b64encode(b"".join(sorted({*_hashes(packed), *map(_hash, sample_ids)}))).decode()


def count_seen(sample_ids: Iterable[str], packed: str) -> int:
    """How many of these ids are among those of `pack_rows`."""
    known = set(_hashes(packed))
    return sum(_hash(name) in known for name in sample_ids)


def recorded_rows(provenance: Mapping[str, Any]) -> dict[str, str | None]:
    """Backbone -> its training rows in this dataset, by the provenance of features; one of several for combined ones.

    A backbone that was not trained here has none; one that was, and whose features were extracted before rows were
    written down, has None.
    """
    if "parts" in provenance:
        parts = [recorded_rows(part) for part in provenance["parts"]]
        return {name: _join(part[name] for part in parts if name in part) for name in dict.fromkeys(chain(*parts))}
    spec = provenance.get("spec", {})
    if TRAINING_ROWS in provenance or spec.get("adapter") == "tuned":
        return {spec["name"]: provenance.get(TRAINING_ROWS)}
    return {}


def check_test_rows(
    records: Mapping[str, str | None], sample_ids: Sequence[str], dataset: str, *, allow: bool = False
) -> dict[str, Any]:
    """Refuse to test a backbone on rows that it was trained on.

    Args:
        records: Backbone -> its training rows in the dataset, as `pack_rows` made them; None where they are not known.
        sample_ids: Ids of the test rows.
        dataset: Name of the dataset.
        allow: Whether to go on all the same.

    Returns:
        What the result has to state: nothing, or `SEEN`, the test rows that any of them has seen.

    Raises:
        SeenRowsError: Some rows were seen, or nobody knows; and that is not allowed.
    """
    for name, packed in records.items():
        seen = None if packed is None else count_seen(sample_ids, packed)
        if seen != 0 and not allow:
            what = (
                f"nobody wrote down which rows {name} was trained on"
                if seen is None
                else f"{name} was trained on {seen} of the {len(sample_ids)} test rows"
            )
            raise SeenRowsError(
                what,
                where=dataset,
                hint="Test on rows that it has not seen; or add --allow-seen-rows (allow_seen_rows = true in a study "
                "file), and every result will state it.",
            )
    known = _join(records.values())
    seen = None if known is None else count_seen(sample_ids, known)
    return {} if seen == 0 else {SEEN: "unknown" if seen is None else seen}


def leave_out_rows(provenance: Mapping[str, Any]) -> dict[str, Any]:
    """Provenance for people: without the hashes."""
    shown = {name: one for name, one in provenance.items() if name != TRAINING_ROWS}
    return shown | ({"parts": [leave_out_rows(part) for part in shown["parts"]]} if "parts" in shown else {})


def _join(packs: Iterable[str | None]) -> str | None:
    """The rows of several texts as one; None where one of them is not known."""
    rows = set[bytes]()
    for packed in packs:
        if packed is None:
            return None
        rows.update(_hashes(packed))
    return b64encode(b"".join(sorted(rows))).decode()


def _hash(name: str) -> bytes:
    return blake2b(name.encode(), digest_size=_BYTES).digest()


def _hashes(packed: str) -> list[bytes]:
    raw = b64decode(packed)
    return [raw[start : start + _BYTES] for start in range(0, len(raw), _BYTES)]
