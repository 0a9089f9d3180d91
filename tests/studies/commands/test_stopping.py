from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from cli import main
from studies.commands.stopping import stop_on_signals

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_a_signal_stops_once_and_handlers_are_put_back(number):
    before = signal.getsignal(number)

    def work():
        with stop_on_signals():
            try:
                os.kill(os.getpid(), number)
            finally:
                os.kill(os.getpid(), number)  # ignored: what is left is completed

    with pytest.raises(KeyboardInterrupt) as stopped:
        work()
    assert stopped.value.args == (number,)
    assert signal.getsignal(number) == before


@pytest.fixture
def foreground():
    """Ctrl-C works, also where the tests themselves run in the background of a shell."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGUSR1, 138)])
def test_a_stopped_command_says_how_to_go_on(number, code, foreground, monkeypatch):
    monkeypatch.setattr("studies.commands.listing.make_terminal", lambda: os.kill(os.getpid(), number))
    monkeypatch.setattr(sys, "argv", ["skyprobe", "datasets", "fetch", "my data"])
    done = CliRunner().invoke(main, ["datasets", "fetch", "rgz", "-o", "nowhere"])
    assert done.exit_code == code
    assert f"stopped by {number.name}; what is done is stored." in done.stderr
    assert done.stderr.rstrip().endswith("run: skyprobe datasets fetch 'my data'")


_CHILD = """
import os, signal, sys
import cli
from featurestore.store.layout.claims import Claims
from featurestore.extraction import processing
collect = processing._Run._collect
def fatal(self, block, jobs, futures, *, last):
    if block == 1:
        os.kill(os.getpid(), signal.SIGTERM)
    collect(self, block, jobs, futures, last=last)
processing._Run._collect = fatal
sys.argv = ["skyprobe", *sys.argv[1:]]
cli.main()
"""


def test_sigterm_in_mid_extraction_leaves_whole_blocks_and_no_claims(tmp_path):
    import numpy as np
    from PIL import Image

    from featurestore.store import open_store

    for number in range(24):
        (tmp_path / "sky").mkdir(exist_ok=True)
        Image.fromarray(np.full((32, 32), number * 10, np.uint8)).save(tmp_path / "sky" / f"{number:02d}.png")
    store = open_store(str(tmp_path / "s"), mode="a", block_rows=8)
    words = ["extract", "sky", "-b", "timm:test_efficientnet", "-p", "resize=32", "--weights", "random:0"]
    words += ["--engine", "torch", "--store", "s"]
    child = subprocess.run(
        [sys.executable, "-c", _CHILD, *words],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert child.returncode == 143, child.stderr
    assert child.stderr.rstrip().endswith(f"run: skyprobe {' '.join(words)}") and "Traceback" not in child.stderr
    (entry,) = store.find()
    assert entry.counts().done % 8 == 0
    assert store.storage.children("claims") == []
