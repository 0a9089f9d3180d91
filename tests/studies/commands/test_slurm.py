from __future__ import annotations

import subprocess

import pytest
from click.testing import CliRunner

from cli import main

WORDS = ["sky images", "-b", "dinov2-s", "-p", "resize=64,crop=center:0.5", "--store", "big.zarr"]


@pytest.fixture
def write(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def run(*words):
        done = CliRunner().invoke(main, ["slurm", *WORDS, *words])
        return done, (tmp_path / "job.sbatch").read_text() if (tmp_path / "job.sbatch").exists() else ""

    return run


def test_the_script_is_one_that_bash_and_sbatch_understand(write, tmp_path):
    done, script = write("--tasks", "8", "--time", "02:30:00", "--cpus", "6", "--gpus", "1", "--partition", "long")
    assert done.exit_code == 0 and "sbatch job.sbatch" in done.stdout
    assert subprocess.run(["bash", "-n", "job.sbatch"], cwd=tmp_path, check=False).returncode == 0
    options = [line.removeprefix("#SBATCH ") for line in script.splitlines() if line.startswith("#SBATCH ")]
    wanted = ["--array=0-7", "--time=02:30:00", "--cpus-per-task=6", "--gpus-per-task=1", "--partition=long"]
    assert {*wanted, "--signal=USR1@120", "--requeue"} <= set(options)
    assert f"cd {tmp_path} || exit 1" in script
    assert "extract 'sky images' -b dinov2-s -p resize=64,crop=center:0.5 --store big.zarr" in script
    assert '--workers 6 --slice "$SLURM_ARRAY_TASK_ID/8"' in script


@pytest.mark.parametrize(
    ("code", "shown"), [(0, "exit 0"), (3, "exit 0"), (1, "exit 1"), (138, "requeue 7_2 exit 138")]
)
def test_a_task_that_was_stopped_is_requeued(write, tmp_path, code, shown):
    _, script = write()
    fake = f'srun() {{ return {code}; }}\nscontrol() {{ echo -n "$1 $2 "; }}\nexit() {{ echo -n "exit $1"; }}\n'
    environment = {"SLURM_ARRAY_JOB_ID": "7", "SLURM_ARRAY_TASK_ID": "2", "PATH": "/usr/bin:/bin"}
    done = subprocess.run(
        ["bash", "-c", fake + script], capture_output=True, text=True, env=environment, check=False, cwd=tmp_path
    )
    assert done.stdout == shown, done.stderr


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--slice", "0/2"], "--slice is set by the script: leave it out"),
        (["--workers=3"], "--workers is set by the script: leave it out"),
        (["--no-such"], "No such option"),
        (["--time", "soon"], "'soon' is no time limit [--time]. Give HH:MM:SS"),
        (["--partition", "a\n#b"], "is not one word [--partition]"),
        (["--tasks", "0"], "0 is not in the range"),
    ],
)
def test_what_would_fail_later_is_refused_now(write, words, message):
    done, script = write(*words)
    assert done.exit_code == 2 and message in done.stderr and not script
