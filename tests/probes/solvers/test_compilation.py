"""Compilation: what is kept, and what happens where nothing can be kept."""

import subprocess
import sys

from probes.solvers.compilation import compiled


def test_a_function_whose_code_can_be_kept_nowhere_is_compiled_all_the_same():
    scope = {}
    exec(compile("def double(x):\n    return 2 * x", "<nowhere>", "exec"), scope)  # numba keeps no code without a file
    double = compiled(scope["double"])
    assert double(21) == 42
    assert len(double.signatures) == 1


def test_kernels_are_kept_on_disk():
    from probes.solvers.linear_kernel import run_epoch

    assert run_epoch.stats.cache_path


def test_heads_are_imported_without_numba():
    code = (
        "import sys, probes, probes.heads.linear, probes.heads.mlp; assert not {'numba', 'torch'} & sys.modules.keys()"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
