"""write_script: an extraction as a SLURM job array, whose tasks go on where they were when they are started again."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from featurestore.errors import UsageError
from featurestore.files import write_atomically

_TIME = re.compile(r"\d+(:\d\d){0,2}|\d+-\d+(:\d\d){0,2}")

STOPPED = 138
"""Exit code of a command that SIGUSR1 stopped: 128 + 10."""

_SCRIPT = """\
#!/bin/bash
# Written by skyprobe slurm. Submit it by: sbatch THIS_FILE. Submitted again, it does what is left.
#SBATCH --job-name=skyprobe
#SBATCH --array=0-{last}
#SBATCH --ntasks=1
#SBATCH --cpus-per-task={cpus}
#SBATCH --mem={memory}
#SBATCH --time={limit}
#SBATCH --signal=USR1@120
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=skyprobe-%A_%a.log
{others}
cd {folder} || exit 1
srun --cpus-per-task={cpus} {command} --workers {cpus} --slice "$SLURM_ARRAY_TASK_ID/{tasks}"
code=$?
if [ "$code" -eq {stopped} ]; then  # two minutes before the time limit
    scontrol requeue "${{SLURM_ARRAY_JOB_ID}}_${{SLURM_ARRAY_TASK_ID}}"
elif [ "$code" -eq 3 ]; then  # done; unreadable images are listed above
    code=0
fi
exit "$code"
"""


@dataclass(frozen=True)
class Resources:
    """What a task of the array takes.

    Attributes:
        tasks: Tasks of the array.
        limit: Time limit, as SLURM writes it.
        cpus: Processors.
        gpus: GPUs.
        memory: Memory, as SLURM writes it.
        partition: Partition; None: the cluster's.
    """

    tasks: int
    limit: str
    cpus: int
    gpus: int
    memory: str
    partition: str | None = None

    def __post_init__(self) -> None:
        if not _TIME.fullmatch(self.limit):
            raise UsageError(
                f"{self.limit!r} is no time limit", where="--time", hint="Give HH:MM:SS, or D-HH:MM:SS for days."
            )
        for name, text in (("--memory", self.memory), ("--partition", self.partition or "")):
            if text.split() != [text][: bool(text)]:
                raise UsageError(f"{text!r} is not one word", where=name, hint="Give it as sbatch takes it.")


def write_script(path: Path, command: Sequence[str], folder: Path, resources: Resources) -> Path:
    """Write a job script.

    Args:
        path: Where to.
        command: ``skyprobe extract`` with all its words but those that the script adds.
        folder: Folder that it runs in.
        resources: What each task takes.
    """
    devices = ["--devices", "all"] if resources.gpus > 1 and "--devices" not in command else []
    lines = [f"#SBATCH --gpus-per-task={resources.gpus}"] if resources.gpus else []
    lines += [f"#SBATCH --partition={resources.partition}"] if resources.partition else []
    text = _SCRIPT.format(
        last=resources.tasks - 1,
        tasks=resources.tasks,
        cpus=resources.cpus,
        memory=resources.memory,
        limit=resources.limit,
        others="\n".join(lines),
        folder=shlex.quote(str(folder)),
        command=shlex.join([*command, *devices]),
        stopped=STOPPED,
    )
    return write_atomically(path, lambda part: part.write_text(text))
