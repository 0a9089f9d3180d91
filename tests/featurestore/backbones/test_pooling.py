from __future__ import annotations

import pytest
import torch

from featurestore.backbones.pooling import DENSE, POOLINGS, TokenFeatures, check_offered, pool
from featurestore.errors import PoolingError

PATCHES = torch.arange(24, dtype=torch.float32).reshape(1, 2, 3, 4)
CLS = torch.full((1, 4), 100.0)
OWN = torch.full((1, 4), -1.0)
MEAN = torch.tensor([[10.0, 11.0, 12.0, 13.0]])


@pytest.mark.parametrize(
    ("kind", "expected"),
    [("cls", CLS), ("avg_patch", MEAN), ("avgpool", MEAN), ("cls_avg_patch", torch.cat([CLS, MEAN], dim=1))],
)
def test_poolings_of_tokens(kind: str, expected: torch.Tensor) -> None:
    assert torch.equal(pool(TokenFeatures(PATCHES, CLS), kind), expected)


def test_registers_are_in_no_pooling() -> None:
    features = TokenFeatures(PATCHES, CLS, registers=torch.full((1, 4, 4), torch.nan))
    for kind in ("cls", "avg_patch", "cls_avg_patch", "avgpool"):
        assert torch.isfinite(pool(features, kind)).all()


@pytest.mark.parametrize("kind", [kind for kind in POOLINGS if kind not in ("cls_avg_patch", DENSE)])
def test_the_models_own_pooling_goes_first(kind: str) -> None:
    assert pool(TokenFeatures(PATCHES, CLS, pooled={kind: OWN}), kind) is OWN


def test_both_is_made_of_the_two() -> None:
    features = TokenFeatures(PATCHES, CLS, pooled={"avg_patch": OWN})
    assert torch.equal(pool(features, "cls_avg_patch"), torch.cat([CLS, OWN], dim=1))


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("cls", "no class token.*Use avg_patch"),
        ("cls_avg_patch", "no class token"),
        ("map", "no pooling 'map' of its own"),
        ("summary", "no pooling 'summary' of its own"),
        ("max", "unknown pooling 'max'.*Use one of cls, avg_patch"),
    ],
)
def test_what_is_not_offered(kind: str, message: str) -> None:
    with pytest.raises(PoolingError, match=message):
        pool(TokenFeatures(PATCHES), kind)


def test_dense_features_are_the_grid() -> None:
    assert pool(TokenFeatures(PATCHES, CLS, pooled={"avg_patch": OWN}), DENSE) is PATCHES


def test_a_backbone_without_a_grid_says_so() -> None:
    features = TokenFeatures(None, pooled={"avgpool": OWN})
    assert pool(features, "avgpool") is OWN
    for kind in ("avg_patch", DENSE):
        with pytest.raises(PoolingError, match=r"the backbone has no grid of patches .*Use its pooled features"):
            pool(features, kind)


def test_what_a_backbone_does_not_offer_is_refused() -> None:
    check_offered(DENSE, "net", ("cls",), dense=True)
    check_offered("cls", "net", ("cls",), dense=False)
    with pytest.raises(PoolingError, match=r"net does not offer the pooling 'map'.*It offers cls; and patches, for"):
        check_offered("map", "net", ("cls",), dense=True)
    with pytest.raises(PoolingError, match=r"net does not offer the pooling 'patches'.*offers cls, and no dense feat"):
        check_offered(DENSE, "net", ("cls",), dense=False)
