"""The command line on URLs: images in a bucket, a store in a bucket."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from cli import main

MODEL = ["-b", "timm:test_efficientnet", "-p", "resize=64"]
EXTRACT = [*MODEL, "--weights", "random:0", "--engine", "torch"]


@pytest.fixture(scope="module")
def pictures() -> dict[str, bytes]:
    rng, files = np.random.default_rng(0), {}
    for number, name in enumerate(("bar", "ring")):
        for index in range(8):
            pixels = rng.integers(0, 30, (64, 64), dtype=np.uint8)
            pixels[:, number * 30 : number * 30 + 28] += np.uint8(150)
            file = io.BytesIO()
            Image.fromarray(pixels).save(file, "PNG")
            files[f"{name}/{index}.png"] = file.getvalue()
    return files


def run(*words):
    return CliRunner().invoke(main, [str(word) for word in words], catch_exceptions=False)


def run_json(*words):
    result = run(*words, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def test_every_command_takes_urls(pictures, object_server, bucket: str, tmp_path: Path) -> None:
    for name, raw in pictures.items():
        object_server.put(f"/{bucket}/galaxies/{name}", raw)
    data, store = f"s3://{bucket}/galaxies", ["--store", f"s3://{bucket}/s.zarr"]
    assert run_json("extract", data, *EXTRACT, *store, "--dry-run")["images"] == 16
    assert object_server.contents(bucket, "s.zarr") == {}, "a dry run stores nothing"
    assert run_json("extract", data, *EXTRACT, *store)["costs"]["images"] == 16
    assert run_json("extract", data, *EXTRACT, *store, "--dry-run")["images"] == 0
    assert [row["done"] for row in run_json("ls", *store)] == [16]
    assert run("info", data, *MODEL, *store).exit_code == 0
    assert run("verify", *store).exit_code == 0
    grid = ["--head", "centroid", "--fractions", "100", "--seeds", "1"]
    assert run("probe", data, *MODEL, *store, *grid).exit_code == 0
    assert run("rm", data, *MODEL, *store, "--yes").exit_code == 0
    assert run_json("ls", *store) == []


def test_an_extraction_has_the_same_bytes_in_a_bucket(pictures, object_server, bucket: str, tmp_path: Path) -> None:
    for name, raw in pictures.items():
        (tmp_path / "galaxies" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "galaxies" / name).write_bytes(raw)
    for store in (f"s3://{bucket}/s.zarr", tmp_path / "s.zarr"):
        assert run("extract", tmp_path / "galaxies", *EXTRACT, "--store", store).exit_code == 0
    local = {
        file.relative_to(tmp_path / "s.zarr").as_posix(): file.read_bytes()
        for file in (tmp_path / "s.zarr").rglob("*")
        if file.is_file()
    }
    remote = object_server.contents(bucket, "s.zarr")
    assert {name: raw for name, raw in remote.items() if not name.startswith(("writers/", "claims/"))} == {
        name: raw for name, raw in local.items() if not name.startswith(("writers/", "claims/"))
    }


def test_a_bucket_that_is_not_there_is_one_line(object_server, bucket: str) -> None:
    for words in (["ls"], ["verify"], ["extract", f"s3://{bucket}/x", *EXTRACT]):
        result = run(*words, "--store", "s3://no-such-bucket-here/s.zarr")
        assert result.exit_code == 1
        assert len(result.stderr.strip().splitlines()) == 1, result.stderr
        assert "no bucket of s3://no-such-bucket-here" in result.stderr or "no such file or folder" in result.stderr
