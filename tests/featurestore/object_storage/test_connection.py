from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

import pytest

from featurestore.errors import StoreError, UsageError
from featurestore.object_storage.connection import connect

VARIABLES = ["ACCESS_KEY_ID", "SECRET_ACCESS_KEY", "PROFILE", "ENDPOINT_URL", "SKIP_SIGNATURE", "REGION"]


@pytest.fixture
def nothing_set(monkeypatch, tmp_path: Path) -> Path:
    """No credentials anywhere, and no server of a cloud machine to ask for some."""
    for name in VARIABLES:
        monkeypatch.delenv(f"AWS_{name}", raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    return tmp_path


@pytest.mark.parametrize(
    ("url", "what"),
    [
        ("ftp://host/s.zarr", "this is no URL of an object store"),
        ("https://host/s.zarr", "this is no URL of an object store"),
        ("s3:///s.zarr", "this is no URL of an object store"),
        ("s3://bucket/s.zarr?endpoint=x", r"no option 'endpoint'.*There are: endpoint_url, region, anonymous"),
        ("gs://bucket/s.zarr?region=x", "only the URL of S3 has options"),
    ],
)
def test_urls_that_cannot_be_understood(url: str, what: str) -> None:
    with pytest.raises(UsageError, match=what):
        connect(url)


def test_no_credentials(nothing_set: Path) -> None:
    with pytest.raises(StoreError, match=r"there are no credentials for s3://b/s.zarr \[.*Set AWS_ACCESS_KEY_ID"):
        connect("s3://b/s.zarr")


def test_a_profile_that_is_not_there(nothing_set: Path, monkeypatch) -> None:
    monkeypatch.setenv("AWS_PROFILE", "survey")
    with pytest.raises(StoreError, match=r"no credentials.*The config profile \(survey\) could not be found"):
        connect("s3://b/s.zarr")


def test_credentials_of_a_profile(nothing_set: Path, monkeypatch, object_server, bucket: str) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    (nothing_set / "credentials").write_text("[survey]\naws_access_key_id = a\naws_secret_access_key = b\n")
    monkeypatch.setenv("AWS_PROFILE", "survey")
    connect(f"s3://{bucket}/s.zarr").objects.put("x", b"1")
    assert object_server.contents(bucket, "s.zarr") == {"x": b"1"}


def test_the_endpoint_may_stand_in_the_url(nothing_set: Path, object_server, bucket: str, monkeypatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    connection = connect(f"s3://{bucket}/s.zarr?endpoint_url={object_server.url}&region=us-east-1&anonymous=true")
    assert connection.place == f"s3://{bucket}/s.zarr"
    assert connection.objects.list_with_delimiter()["objects"] == []


def test_a_bucket_that_is_not_there(object_server) -> None:
    with pytest.raises(StoreError, match=r"there is no bucket of s3://nowhere-at-all/s.zarr.*Make the bucket first"):
        connect("s3://nowhere-at-all/s.zarr")


def test_an_endpoint_that_refuses(object_server, monkeypatch) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and does not listen
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{taken.getsockname()[1]}")
        with pytest.raises(StoreError, match=r"the server of s3://b/s.zarr does not answer.*AWS_ENDPOINT_URL"):
            connect("s3://b/s.zarr")


def test_an_endpoint_without_encryption_elsewhere(object_server, monkeypatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://minio.invalid:9000")
    with pytest.raises(StoreError, match=r"without encryption.*AWS_ALLOW_HTTP=true"):
        connect("s3://b/s.zarr")


@pytest.mark.torture
def test_an_endpoint_that_is_silent(object_server, monkeypatch) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{silent.getsockname()[1]}")
        with pytest.raises(StoreError, match="does not answer"):
            connect("s3://b/s.zarr")


def test_memory_lasts_as_long_as_the_process() -> None:
    connect("memory://test_connection/a").objects.put("x", b"1")
    assert connect("memory://test_connection/a").objects.get("x").bytes() == b"1"
    assert not list(connect("memory://test_connection/b").objects.list())


def test_a_store_on_a_disk_needs_no_library_for_object_stores(tmp_path: Path) -> None:
    code = """
import sys
from featurestore.store import open_store
open_store(sys.argv[1], mode="a")
print([name for name in ("obstore", "boto3") if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "s")], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
