"""``python -m benchmarks.gpu_check``: every step in its turn, a JSON file, a table; 1 if a demand is not met."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter

import torch

from benchmarks.gpu_check.correctness import check_fidelity, check_memory, check_resizing
from benchmarks.gpu_check.learning import check_solver, check_training
from benchmarks.gpu_check.outcome import Figure, StepResult, format_results
from benchmarks.gpu_check.recovery import check_recovery
from benchmarks.gpu_check.setting import FULL, SHORT, Setting, Skipped, prepare
from benchmarks.gpu_check.speed import measure_extraction, measure_forwards, measure_machine
from featurestore.backbones.engines.base import find_gpu
from featurestore.errors import SkyprobeError
from featurestore.versions import library_versions

DEADLINE = 450.0

Step = Callable[[Setting], Iterable[Figure]]


def check_runtime(setting: Setting) -> Iterator[Figure]:
    """What an extraction would use."""
    ask = getattr(torch.get_device_module(setting.device), "is_bf16_supported", None)
    best = "fp32" if setting.device == "cpu" else "bf16" if ask and ask(including_emulation=False) else "fp16"
    yield Figure("precision", setting.runtime.precision)
    if setting.precision == "auto":
        yield Figure("precision is bf16 where the device has it", setting.runtime.precision == best, limit=True)


STEPS: dict[str, Step] = {
    "runtime": check_runtime,
    "machine": measure_machine,
    "fidelity": check_fidelity,
    "resizing": check_resizing,
    "forwards": measure_forwards,
    "extraction": measure_extraction,
    "memory": check_memory,
    "recovery": check_recovery,
    "solver": check_solver,
    "training": check_training,
}


def run_steps(setting: Setting, skip: Sequence[str], deadline: float) -> list[StepResult]:
    """Every step, one after the other; none starts after the deadline, in seconds from now."""
    started, results = perf_counter(), list[StepResult]()
    for name, step in STEPS.items():
        begun = perf_counter()
        if name in skip:
            result = StepResult(name, 0.0, skipped="by --skip")
        elif begun - started > deadline:
            result = StepResult(name, 0.0, skipped=f"the deadline of {deadline:.0f} s has passed")
        else:
            result = _run(name, step, setting, begun)
        print(format_results([result]), file=sys.stderr, flush=True)
        results.append(result)
    return results


def _run(name: str, step: Step, setting: Setting, begun: float) -> StepResult:
    figures: list[Figure] = []
    skipped = error = ""
    try:
        for figure in step(setting):
            figures.append(figure)  # noqa: PERF402  # those before an error are kept
    except Skipped as reason:
        skipped = str(reason)
    except (SkyprobeError, RuntimeError, OSError, ValueError, NotImplementedError) as failure:
        error = f"{type(failure).__name__}: {failure}".splitlines()[0]
    return StepResult(name, perf_counter() - begun, figures, skipped, error)


def main(words: Sequence[str] | None = None) -> int:
    """Run what the command line asks for; 1 if a step failed."""
    parser = argparse.ArgumentParser("python -m benchmarks.gpu_check", description=__doc__)
    parser.add_argument("--device", help="device class; default: the GPU that torch finds, else the CPU")
    parser.add_argument("--skip", nargs="*", default=[], choices=list(STEPS), metavar="STEP", help=", ".join(STEPS))
    parser.add_argument("--short", action="store_true", help="a rehearsal: tiny networks, no demands on speed")
    parser.add_argument("--precision", default="auto", help="of a rehearsal; default: the best of the device")
    parser.add_argument("--deadline", type=float, default=DEADLINE, help="seconds after which no step starts")
    parser.add_argument("--json", type=Path, default=Path("gpu-check.json"), help="where the figures go")
    options = parser.parse_args(words)
    prepare()
    device = options.device or find_gpu() or "cpu"
    with TemporaryDirectory(prefix="gpu-check-") as folder:
        setting = Setting(device, SHORT if options.short else FULL, Path(folder), options.precision)
        results = run_steps(setting, options.skip, options.deadline)
    passed = all(result.passed for result in results)
    document = {
        "device": setting.gpu_name,
        "device_class": device,
        "short": options.short,
        "versions": {"python": sys.version.split()[0]} | library_versions("extraction"),
        "steps": [result.to_dict() for result in results],
        "passed": passed,
    }
    options.json.write_text(json.dumps(document, indent=2) + "\n")
    print(f"{setting.gpu_name} ({device}): {'passed' if passed else 'FAILED'}; {options.json}")
    print(format_results(results))
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
