from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from huggingface_hub import constants

from featurestore.backbones import network
from featurestore.backbones.loading import load_backbone
from featurestore.backbones.network import answers, is_offline, is_offline_by_choice
from featurestore.errors import WeightsUnavailableError


class Refusing(BaseHTTPRequestHandler):
    def do_HEAD(self) -> None:
        self.send_error(403)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(autouse=True)
def online(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """As if the user had said nothing, no proxy was set, and nothing had been asked yet."""
    for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    monkeypatch.delenv("SKYPROBE_HUB_IS_SILENT", raising=False)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    answers.cache_clear()
    yield
    answers.cache_clear()
    os.environ.pop("SKYPROBE_HUB_IS_SILENT", None)


@pytest.fixture
def silent(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A server that takes connections and never says a word, as in a network that swallows packets."""
    monkeypatch.setattr(network, "LIMIT", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


def test_any_answer_is_one() -> None:
    with HTTPServer(("127.0.0.1", 0), Refusing) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}"
        assert answers(url)
        assert not is_offline(url)
        server.shutdown()
    assert answers(url), "it is asked once"


def test_no_server_no_answer() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    assert not answers(f"http://127.0.0.1:{port}")
    assert not answers("no address at all")


def test_a_server_that_says_nothing_is_not_waited_for(silent: str) -> None:
    assert not answers(silent)


def test_a_name_that_nobody_looks_up_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """The search for a name knows no time limit."""
    release = threading.Event()
    monkeypatch.setattr(network, "LIMIT", 0.05)
    monkeypatch.setattr(network, "_ask", lambda _: release.wait())
    assert not answers("https://hub")
    release.set()


def test_the_users_choice_is_not_questioned(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(network, "answers", lambda url: pytest.fail("a hub was asked"))
    assert is_offline()
    assert is_offline("https://download.pytorch.org")
    assert is_offline_by_choice()


def test_libraries_stay_offline_where_the_hub_is_silent(silent: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert is_offline(silent)
    assert not constants.HF_HUB_OFFLINE, "another hub says nothing of this one"
    monkeypatch.setattr(constants, "ENDPOINT", silent)
    assert is_offline()
    assert constants.HF_HUB_OFFLINE
    assert os.environ["HF_HUB_OFFLINE"] == "1"
    assert not is_offline_by_choice()


@pytest.mark.parametrize(
    "name", ["timm:resnet18.tv_in1k", "transformers:facebook/ijepa_vith14_1k", "msn-s", "clip-b32-openai",
             "torchvision:resnet18"]
)  # fmt: skip
def test_every_library_says_that_the_hub_does_not_answer(
    name: str, silent: str, tmp_path: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constants, "ENDPOINT", silent)
    monkeypatch.setattr("featurestore.backbones.adapters.torchvision._HUB", silent)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with pytest.raises(WeightsUnavailableError, match=r"cannot be downloaded: the hub does not answer \[.*--weights"):
        load_backbone(name, weights="hub")
