"""How much memory there is: against what Linux says, and control groups in a folder of our own."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from probes.sweep import memory
from probes.sweep.memory import available_memory, fits_memory


@pytest.fixture
def groups(tmp_path, monkeypatch):
    """``groups(listing, limits)``: control groups that /proc/self/cgroup lists, and files with limits."""
    read = Path.read_text

    def make(listing, limits):
        for name, text in limits.items():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text(text, encoding="ascii")
        monkeypatch.setattr(memory, "_CONTROL_GROUPS", tmp_path)

        def faked(path, **options):
            return listing if str(path) == "/proc/self/cgroup" else read(path, **options)

        monkeypatch.setattr(Path, "read_text", faked)

    return make


def test_available_memory_is_below_that_of_the_machine(groups):
    groups("", {})
    lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    total = 1024 * next(int(line.split()[1]) for line in lines if line.startswith("MemTotal:"))
    assert 0 < available_memory() <= total


@pytest.mark.parametrize(
    ("listing", "limits"),
    [
        ("0::/job_7/step_0\n", {"job_7/memory.max": "4096\n", "job_7/step_0/memory.max": "max\n"}),
        ("0::/elsewhere\n", {"memory.max": "4096\n"}),
        ("4:cpu,memory:/job_7\n0::/\n", {"memory/job_7/memory.limit_in_bytes": "4096\n"}),
    ],
    ids=["version 2", "version 2, in a container", "version 1"],
)
def test_the_limit_of_a_job_or_container_counts(groups, listing, limits):
    groups(listing, limits)
    assert available_memory() == 4096


def test_without_a_limit_the_machine_counts(groups):
    groups("0::/job\n1:cpu:/\n", {"job/memory.max": "max\n"})
    assert available_memory() > 4096


def test_a_matrix_may_take_an_eighth():
    features = SimpleNamespace(shape=(1000, 100))
    assert fits_memory([features], 8 * 400_000)
    assert not fits_memory([features], 8 * 400_000 - 1)
    assert fits_memory([features, features], 16 * 400_000)
    assert not fits_memory([features, features], 16 * 400_000 - 1)
