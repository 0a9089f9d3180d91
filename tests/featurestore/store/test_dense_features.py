"""Dense features: from the backbone's patch grid into the store and back, beside the pooled ones of the same key."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import zarr

import featurestore.store.layout.key_arrays
from featurestore.errors import MissingFeaturesError, ProbeError, UsageError
from featurestore.extraction.audit import audit
from featurestore.extraction.extract import extract_features
from featurestore.extraction.requests import ExtractionOptions
from featurestore.store import open_store
from featurestore.store.export import export
from featurestore.store.inventory import list_store
from featurestore.store.verify import verify
from probes.sweep.plan import plan

NET, SIDE = "timm:test_vit", 64
SHAPE = (4, 4, 64)


@pytest.fixture
def extract(make_dataset, tmp_path, monkeypatch):
    """Extract pooled and dense features of eleven images, in chunks of two rows, one of the images unreadable."""
    monkeypatch.setattr(featurestore.store.layout.key_arrays, "CHUNK_BYTES", 2 * 4 * np.prod(SHAPE))
    store = open_store(str(tmp_path / "store.zarr"), mode="a", block_rows=8)
    rng = np.random.default_rng(0)
    pictures = [rng.integers(0, 255, (SIDE, SIDE, 3), dtype=np.uint8) for _ in range(11)]
    dataset = make_dataset(pictures, broken=[3])

    def run(*poolings, **options):
        chosen = ExtractionOptions(
            weights="random:0", engine="torch", dtype="float32", poolings=poolings, workers=1, batch_size=4, **options
        )
        extract_features(dataset, [NET], [f"resize={SIDE}"], store, chosen)
        return store

    run.dataset, run.pictures = dataset, pictures
    return run


def expected_grid(pictures):
    """Patch tokens by timm itself."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
    from featurestore.backbones.loading import load_backbone

    backbone = load_backbone(NET, "random:0", SIDE)
    pixels = torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2) / 255
    mean, std = (torch.tensor(values).reshape(3, 1, 1) for values in (backbone.spec.mean, backbone.spec.std))
    model = backbone.tokens.model
    with torch.no_grad():
        tokens = model.forward_features((pixels - mean) / std)[:, model.num_prefix_tokens :]
    return tokens.reshape(len(pictures), *SHAPE).numpy()


def test_the_grid_of_timm_is_stored_and_read(extract):
    store = extract("cls", "patches")
    arrays = store.select()
    assert dict(arrays.shapes) == {"cls": (64,), "patches": SHAPE}
    features = arrays.read("patches")
    readable = [picture for number, picture in enumerate(extract.pictures) if number != 3]
    np.testing.assert_allclose(features.values, expected_grid(readable), atol=1e-4)
    assert features.shape == (10, 1024)
    array = zarr.open_array(f"{store.path}/{arrays.path}/patches/values", mode="r")
    assert (array.shape, array.chunks) == ((11, *SHAPE), (2, *SHAPE))
    assert array.metadata.dimension_names == ("sample", "y", "x", "feature")
    assert verify(store) == []
    assert list_store(store)[0]["poolings"] == "cls(64),patches(4x4x64)"


def test_dense_features_are_made_only_when_they_are_named(extract):
    store = extract()
    assert "patches" not in store.select().shapes
    with pytest.raises(MissingFeaturesError, match="--pooling patches"):
        store.select(pooling="patches")
    assert set(extract("patches").select().shapes) > {"patches"}


def test_what_is_missing_of_them_is_extracted_by_the_command_that_the_error_gives(extract):
    store = extract("patches")
    store.select().discard_block(1)
    with pytest.raises(MissingFeaturesError, match=r"3 of 11 rows are not extracted.*--pooling patches"):
        store.select().read("patches")
    extract("patches")
    assert len(store.select().read("patches").values) == 10


@pytest.mark.parametrize("chunk", [0, 3])
def test_a_damaged_chunk_is_found_and_its_block_made_again(extract, chunk, tmp_path):
    store = extract("patches")
    before = store.select().read("patches").values
    file = tmp_path / "store.zarr" / store.select().path / "patches" / "values" / "c" / str(chunk) / "0" / "0" / "0"
    raw = file.read_bytes()
    file.write_bytes(bytes([raw[0] ^ 1]) + raw[1:])
    (problem,) = verify(store, repair=True)
    assert problem.where.endswith("block 0")
    extract("patches")
    np.testing.assert_array_equal(store.select().read("patches").values, before)


def test_they_can_be_audited(extract):
    (found,) = audit(extract("patches").select(), extract.dataset, 4)
    assert found.wrong == ()


def test_what_wants_vectors_refuses_them(extract, tmp_path):
    features = extract("patches").select().read("patches")
    with pytest.raises(ProbeError, match=r"dense features are not one vector a sample.*--pooling"):
        plan(features, ["linear"])
    with pytest.raises(UsageError, match=r"dense features are not a table.*npz"):
        export(features, tmp_path / "x.parquet")
    with np.load(export(features, tmp_path / "x.npz")) as kept:
        np.testing.assert_array_equal(kept["values"], features.values)
