from __future__ import annotations

import hashlib
import json

import pytest

from featurestore.errors import StoreFormatError
from featurestore.store.key import FeatureKey, canonical_json, digest


def test_canonical_json_does_not_depend_on_order() -> None:
    assert canonical_json({"b": 1, "a": {"d": [1, 2], "c": "é"}}) == canonical_json(
        {"a": {"c": "é", "d": [1, 2]}, "b": 1}
    )
    assert canonical_json({"b": 1, "a": (2.5, None)}) == '{"a":[2.5,null],"b":1}'


def test_digest_is_the_sha256_of_the_text() -> None:
    assert digest({"b": 1, "a": 2}) == hashlib.sha256(b'{"a":2,"b":1}').hexdigest()


def test_nan_has_no_place_in_a_key(make_key) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        make_key(preprocessing={"stretch": float("nan")})


def test_key_survives_json(make_key) -> None:
    key = make_key(preprocessing={"mean": (0.5, 0.5), "crop": {"box": (1, 2)}})
    back = FeatureKey.from_dict(json.loads(json.dumps(key.to_dict())))
    assert back == key
    assert hash(back) == hash(key)
    assert back.sha256 == key.sha256
    assert key.short == key.sha256[:12]


@pytest.mark.parametrize("field", [name for name in FeatureKey.__dataclass_fields__ if name != "preprocessing"])
def test_every_field_changes_the_hash(make_key, field: str) -> None:
    other = make_key(**{field: 99 if field == "format_version" else "other"})
    assert other.sha256 != make_key().sha256
    assert list(make_key().differences(other)) == [field]


def test_differences_name_nested_fields(make_key) -> None:
    other = make_key(preprocessing={"resize": 320, "crop": {"kind": "box", "margin": 0.2}, "stretch": "asinh"})
    assert make_key().differences(other) == {
        "preprocessing.resize": (224, 320),
        "preprocessing.stretch": (None, "asinh"),
    }
    assert make_key().differences(make_key()) == {}


def test_fields_of_another_version_are_refused(make_key) -> None:
    with pytest.raises(StoreFormatError, match=r"not the fields of a feature key: .*shutter"):
        FeatureKey.from_dict(make_key().to_dict() | {"shutter": 1})
