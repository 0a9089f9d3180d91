"""The only choice between scikit-learn and cuML.

cuML solves the same problem on a CUDA device. That path has not been tested on a GPU: results say which library ran.
"""

from __future__ import annotations

from functools import cache
from importlib import import_module
from typing import Any, Literal

from sklearn.linear_model import LogisticRegression

MAX_ITERATIONS = 10_000


@cache
def active_backend() -> Literal["cuml", "scikit-learn"]:
    """The library that really runs: cuML if it is installed and a CUDA device answers, else scikit-learn."""
    try:
        import_module("cuml")
        has_device = import_module("cupy").cuda.is_available()
    except (ImportError, RuntimeError, OSError):  # an installed CUDA library without its driver fails in any of these
        return "scikit-learn"
    return "cuml" if has_device else "scikit-learn"


def logistic_regression(*, tol: float, class_weight: Any) -> Any:
    """An unfitted multinomial logistic regression with an L2 penalty, as a scikit-learn style estimator.

    It minimises ``C * sum(weight * cross_entropy) + ||W||^2 / 2``; the intercept is not penalised.
    scikit-learn's starts from its last solution when it is fitted again, which makes a path of strengths cheap.

    Args:
        tol: Largest component of the gradient at which it stops.
        class_weight: ``balanced``, None, or label -> weight.
    """
    if active_backend() == "cuml":
        solver = import_module("cuml").LogisticRegression
        return solver(tol=tol, class_weight=class_weight, max_iter=MAX_ITERATIONS, output_type="numpy")
    return LogisticRegression(tol=tol, class_weight=class_weight, max_iter=MAX_ITERATIONS, warm_start=True)
