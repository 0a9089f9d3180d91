"""SLURM on this machine: Debian's packages, a configuration in a folder of its own, started and stopped by a test."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PACKAGES = ("slurmctld", "slurmd", "slurm-client", "munge")

_CONFIGURATION = """\
ClusterName=skyprobe
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
AuthType=auth/munge
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
ReturnToService=2
SchedulerParameters=batch_sched_delay=1,sched_interval=1
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
NodeName={host} NodeAddr=127.0.0.1 CPUs=2 RealMemory=8000 State=UNKNOWN
PartitionName=main Nodes={host} Default=YES MaxTime=INFINITE State=UP
"""


class Slurm:
    """A running cluster of one node."""

    def __init__(self, environment: dict[str, str]) -> None:
        self.environment = environment

    def run(self, *words: str, folder: Path | None = None) -> str:
        done = subprocess.run(words, capture_output=True, text=True, check=False, env=self.environment, cwd=folder)
        assert done.returncode == 0 or words == ("sinfo",), f"{words}: {done.stdout}{done.stderr}"
        return done.stdout

    def submit(self, script: Path) -> str:
        return self.run("sbatch", "--parsable", str(script), folder=script.parent).strip()

    def states(self, job: str) -> dict[int, str]:
        """Number of a task of an array -> its state."""
        shown = self.run("scontrol", "--oneliner", "show", "job", job)
        found = re.findall(r"ArrayTaskId=(\d+) .*?JobState=(\w+)", shown)
        return {int(number): state for number, state in found}

    def wait(self, job: str, tasks: int) -> dict[int, str]:
        """States of all tasks, once none is running or waiting."""
        return until(lambda: self._ended(job, tasks))

    def _ended(self, job: str, tasks: int) -> dict[int, str] | None:
        states = self.states(job)
        return states if len(states) == tasks and set(states.values()) <= {"COMPLETED", "FAILED"} else None


def until(look, seconds: float = 300.0):
    """What `look` gives as soon as it gives something."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if found := look():
            return found
        time.sleep(0.2)
    raise TimeoutError("nothing happened")


def install() -> None:
    if not all(map(shutil.which, ("slurmctld", "slurmd", "sbatch", "munged"))):
        subprocess.run(["apt-get", "update", "-qq"], check=True)
        subprocess.run(["apt-get", "install", "-y", "-qq", *PACKAGES], check=True, stdout=subprocess.DEVNULL)


@contextmanager
def running(folder: Path) -> Iterator[Slurm]:
    """Install what is lacking, start three daemons, and stop them by their process ids."""
    install()
    for name in ("state", "spool"):
        (folder / name).mkdir()
    configuration = folder / "slurm.conf"
    configuration.write_text(_CONFIGURATION.format(host=socket.gethostname().split(".")[0], folder=folder))
    environment = {**os.environ, "SLURM_CONF": str(configuration)}
    Path("/run/munge").mkdir(exist_ok=True)
    shutil.chown("/run/munge", "munge", "munge")
    commands = {
        "munged": ["setpriv", "--reuid=munge", "--regid=munge", "--clear-groups", "munged", "--foreground", "--force"],
        "slurmctld": ["slurmctld", "-D", "-f", str(configuration)],
        "slurmd": ["slurmd", "-D", "-f", str(configuration)],
    }
    daemons = []
    try:
        for name, words in commands.items():
            with (folder / f"{name}.out").open("wb") as log:
                daemons.append(subprocess.Popen(words, env=environment, stdout=log, stderr=log))
        slurm = Slurm(environment)
        until(lambda: "idle" in slurm.run("sinfo"), 60)
        yield slurm
    finally:
        for daemon in reversed(daemons):
            daemon.terminate()
        for daemon in daemons:
            daemon.wait(30)
