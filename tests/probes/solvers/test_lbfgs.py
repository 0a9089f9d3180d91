"""The batched minimiser against closed forms and scipy."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize
from sklearn.exceptions import ConvergenceWarning

import probes.solvers.lbfgs
from probes.solvers.lbfgs import Evaluation, minimise


class Quadratics:
    """``x'A x / 2 - b'x`` for each of some (A, b)."""

    xp = np

    def __init__(self, matrices, targets):
        self.matrices, self.targets = matrices.astype(np.float32), targets.astype(np.float32)
        self.seen = []

    def evaluate(self, points, active):
        self.seen.append(active.tolist())
        products = np.einsum("pij,pj->pi", self.matrices[active], points)
        loss = (points * (products / 2 - self.targets[active])).sum(axis=1, dtype=np.float64)
        return Evaluation(loss, products - self.targets[active], np.ones(len(points), np.float32))

    def precondition(self, vectors, curvature, active):
        return vectors / np.einsum("pii->pi", self.matrices[active])


class Valleys(Quadratics):
    """Sums of ``cosh(x - target) - 1`` seen through a preconditioner whose full step is far too long."""

    def evaluate(self, points, active):
        shifts = (points - self.targets[active]).astype(np.float64)
        gradient = np.sinh(shifts).astype(np.float32)
        return Evaluation((np.cosh(shifts) - 1).sum(axis=1), gradient, np.ones(len(points), np.float32))

    def precondition(self, vectors, curvature, active):
        return vectors * np.float32(3)


def make_quadratics(n_problems, d, seed):
    rng = np.random.default_rng(seed)
    roots = rng.normal(size=(n_problems, d, d))
    return Quadratics(roots @ roots.swapaxes(1, 2) + np.eye(d), rng.normal(size=(n_problems, d)))


@given(st.integers(1, 12), st.integers(1, 8), st.integers(0, 2**32 - 1))
@settings(max_examples=30)
def test_quadratics_end_at_the_solution_of_their_normal_equations(n_problems, d, seed):
    problem = make_quadratics(n_problems, d, seed)
    found = minimise(problem, np.zeros((n_problems, d), np.float32), tol=1e-3)
    exact = np.linalg.solve(problem.matrices.astype(float), problem.targets[..., None])[..., 0]
    np.testing.assert_allclose(found, exact, atol=2e-3)


def test_steps_that_are_too_long_are_cut():
    targets = np.linspace(-4, 4, 15).reshape(5, 3)
    found = minimise(Valleys(np.zeros((5, 3, 3)), targets), np.zeros((5, 3), np.float32), tol=1e-4)
    np.testing.assert_allclose(found, targets, atol=1e-4)


def test_a_problem_takes_the_steps_that_it_would_take_alone():
    together, alone = make_quadratics(6, 5, seed=1), make_quadratics(6, 5, seed=1)
    all_at_once = minimise(together, np.zeros((6, 5), np.float32), tol=1e-5)
    alone.matrices, alone.targets = alone.matrices[3:4], alone.targets[3:4]
    np.testing.assert_allclose(minimise(alone, np.zeros((1, 5), np.float32), tol=1e-5)[0], all_at_once[3], atol=1e-5)


def test_it_needs_about_as_many_evaluations_as_scipy():
    problem = make_quadratics(1, 40, seed=2)
    A, b = problem.matrices[0].astype(float), problem.targets[0].astype(float)
    start = np.zeros((1, 40), np.float32)
    found = minimise(problem, start, tol=1e-3)
    theirs = minimize(lambda x: (x @ A @ x / 2 - b @ x, A @ x - b), start[0], jac=True, method="L-BFGS-B", tol=1e-8)
    np.testing.assert_allclose(found[0], theirs.x, atol=1e-3)
    assert len(problem.seen) < 1.5 * theirs.nfev


def test_converged_problems_are_dropped():
    problem = make_quadratics(4, 6, seed=3)
    problem.targets[:2] = 0
    minimise(problem, np.zeros((4, 6), np.float32), tol=1e-4)
    assert problem.seen[0] == [0, 1, 2, 3]
    assert problem.seen[1] == [2, 3]


def test_a_problem_that_begins_at_its_minimum_stays_there():
    problem = make_quadratics(20, 6, seed=5)
    problem.targets[7] = 0
    found = minimise(problem, np.zeros((20, 6), np.float32), tol=1e-4)
    assert 7 in problem.seen[1]
    assert not found[7].any()


def test_what_does_not_converge_is_told(monkeypatch):
    monkeypatch.setattr(probes.solvers.lbfgs, "MAX_ROUNDS", 3)
    problem = make_quadratics(2, 30, seed=4)
    problem.targets[0] = 0
    with pytest.warns(ConvergenceWarning, match="1 of 2 fits did not converge"):
        minimise(problem, np.zeros((2, 30), np.float32), tol=1e-6)
