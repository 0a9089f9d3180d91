"""The linear probe against scikit-learn (convex) and PyTorch (paper)."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score
from sklearn.model_selection import GridSearchCV, StratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import probes.heads.linear
from probes.heads.linear import STRENGTHS, LinearProbe
from probes.solvers.factorisation import factorise
from probes.solvers.network import initialise


@pytest.fixture
def data():
    return make_data(160, 12)


def make_data(n, d, n_classes=4, seed=0):
    """Unequal classes, columns of different scale and offset, decaying spectrum."""
    rng = np.random.default_rng(seed)
    y = rng.choice(n_classes, n, p=np.arange(1, n_classes + 1) / np.arange(1, n_classes + 1).sum())
    y[: 4 * n_classes] = np.tile(np.arange(n_classes), 4)
    latent = rng.normal(size=(n, d)) + rng.normal(size=(n_classes, d))[y] * 0.6
    X = (latent * np.arange(1, d + 1) ** -0.5) @ rng.normal(size=(d, d)) * rng.uniform(0.1, 10, d) + rng.normal(size=d)
    return X.astype(np.float32), y


@pytest.mark.parametrize("shape", [(160, 12), (60, 90)], ids=["tall", "wide"])
@pytest.mark.parametrize("n_classes", [2, 4])
@pytest.mark.parametrize("strength", [1e-3, 1.0])
def test_a_fixed_strength_gives_scikit_learns_optimum(shape, n_classes, strength):
    X, y = make_data(*shape, n_classes)
    probe = LinearProbe(strengths=(strength,)).fit(X, y)
    scaler = StandardScaler().fit(X.astype(np.float64))
    oracle = LogisticRegression(C=strength, class_weight="balanced", tol=1e-8, max_iter=10_000)
    oracle.fit(scaler.transform(X.astype(np.float64)), y)
    coef = probe.coef_ * scaler.scale_
    if n_classes == 2:
        coef = coef[1:] - coef[:1]
    np.testing.assert_allclose(coef, oracle.coef_, atol=2e-2 * np.abs(oracle.coef_).max())
    np.testing.assert_allclose(
        probe.predict_proba(X), oracle.predict_proba(scaler.transform(X.astype(np.float64))), atol=5e-3
    )
    assert probe.chosen_ == {"strength": strength, "folds": 0, "solver": "numpy"}


def grid_search(X, y, seed, n_folds, scoring="f1_macro", **solver):
    folds = StratifiedKFold(n_folds, shuffle=True, random_state=int(np.random.default_rng(seed).integers(2**31)))
    logistic = LogisticRegression(class_weight="balanced", max_iter=10_000, **solver)
    search = GridSearchCV(logistic, {"C": STRENGTHS}, cv=folds, scoring=scoring)
    return make_pipeline(StandardScaler(), search).fit(X.astype(np.float64), y)


@pytest.mark.parametrize(
    ("shape", "seed", "scoring"), [((160, 12), 0, "accuracy"), ((90, 120), 1, "f1_macro"), ((200, 30), 2, "f1_macro")]
)
def test_the_strength_is_the_choice_of_a_grid_search_on_the_same_folds(shape, seed, scoring, monkeypatch):
    X, y = make_data(*shape, seed=seed)
    monkeypatch.setattr(probes.heads.linear, "SEARCH_TOL", 1e-5)
    probe = LinearProbe(random_state=seed, cv=4, scoring=scoring.removesuffix("_macro")).fit(X, y)
    search = grid_search(X, y, seed, 4, scoring, tol=1e-6)
    assert probe.chosen_["strength"] == search[-1].best_params_["C"]
    assert probe.chosen_["folds"] == 4
    assert (probe.predict(X) == search.predict(X)).mean() > 0.99


def test_with_validation_rows_the_strength_is_the_best_one_on_them(monkeypatch):
    X, y = make_data(400, 30, seed=3)
    monkeypatch.setattr(probes.heads.linear, "SEARCH_TOL", 1e-5)
    train, valid = (X[:150], y[:150]), (X[150:], y[150:])
    probe = LinearProbe().fit(*train, *valid)
    scores = [f1_score(valid[1], LinearProbe(strengths=(c,)).fit(*train).predict(valid[0]), average="macro")
              for c in STRENGTHS]  # fmt: skip
    assert probe.chosen_ == {"strength": STRENGTHS[int(np.argmax(scores))], "folds": 0, "solver": "numpy"}
    alone = LinearProbe(strengths=(probe.chosen_["strength"],)).fit(*train)
    np.testing.assert_allclose(probe.predict_proba(X), alone.predict_proba(X), atol=5e-3)


def test_the_labels_of_validation_rows_decide_the_strength(data):
    X, y = data
    shuffled = np.random.default_rng(1).permutation(y[100:])
    chosen = [
        LinearProbe().fit(X[:100], y[:100], X[100:], labels).chosen_["strength"] for labels in (y[100:], shuffled)
    ]
    assert chosen[0] != chosen[1]


def test_paper_does_not_look_at_validation_rows(data):
    X, y = data
    first, second = (LinearProbe("paper", epochs=2).fit(X, y, *valid) for valid in ((), (X[:9], y[:9])))
    np.testing.assert_array_equal(first.coef_, second.coef_)


def test_validation_rows_that_do_not_fit_are_refused(data):
    with pytest.raises(ValueError, match="y_valid has labels that y has not: 7"):
        LinearProbe().fit(*data, data[0][:2], [0, 7])


def test_the_looser_search_costs_less_than_the_draw_of_the_folds():
    X, y = make_data(300, 20, seed=5)
    chosen = LinearProbe(random_state=5).fit(X, y).chosen_["strength"]
    results = grid_search(X, y, 5, 3)[-1].cv_results_
    row = STRENGTHS.index(chosen)
    assert results["mean_test_score"].max() - results["mean_test_score"][row] < results["std_test_score"][row] / 2


def test_the_order_of_the_strengths_does_not_matter_and_the_smallest_of_equals_wins(data):
    X, y = data
    forward, backward = (LinearProbe(strengths=order).fit(X, y) for order in (STRENGTHS, STRENGTHS[::-1]))
    assert forward.chosen_ == backward.chosen_
    separable = X + 100 * np.eye(4, 12, dtype=np.float32)[y]
    assert LinearProbe(strengths=(100.0, 10.0, 1000.0)).fit(separable, y).chosen_["strength"] == 10


@pytest.mark.parametrize(("members", "folds", "strength"), [(2, 2, None), (1, 0, 0.03)])
def test_rare_classes_lower_the_number_of_folds(data, members, folds, strength):
    X, y = data
    kept = np.concatenate([np.flatnonzero(y != 0), np.flatnonzero(y == 0)[:members]])
    probe = LinearProbe(cv=5, default_strength=0.03).fit(X[kept], y[kept])
    assert probe.chosen_["folds"] == folds
    assert len(probe.classes_) == 4
    if strength:
        assert probe.chosen_["strength"] == strength
    else:
        assert probe.chosen_["strength"] in STRENGTHS


def test_classes_of_unequal_size_weigh_the_same_unless_asked_otherwise(data):
    X, y = data
    rare, common = 0, 3
    balanced, plain = (LinearProbe(class_weight=w, strengths=(1e-3,)).fit(X, y) for w in ("balanced", None))
    assert (balanced.predict(X) == rare).sum() > (plain.predict(X) == rare).sum()
    assert (plain.predict(X) == common).sum() > (y == common).sum()


def test_a_constant_column_has_no_say(data):
    X, y = data
    wide = np.hstack([X, np.full((len(X), 1), 3.25, dtype=np.float32)])
    moved = wide.copy()
    moved[:, -1] = 1e3
    probe = LinearProbe(strengths=(1e-2,)).fit(wide, y)
    np.testing.assert_allclose(probe.predict_proba(moved), probe.predict_proba(wide), atol=1e-6)


def test_the_axes_of_other_rows_lead_to_the_same_optimum(monkeypatch):
    monkeypatch.setattr(probes.heads.linear, "FINAL_TOL", 1e-5)
    X, y = make_data(400, 12)
    mine, lent = (LinearProbe().fit(X[:90], y[:90], shared=found) for found in (None, factorise(X)))
    assert mine.chosen_ == lent.chosen_
    np.testing.assert_allclose(mine.predict_proba(X), lent.predict_proba(X), atol=2e-3)


@pytest.mark.parametrize("n_classes", [2, 4])
def test_paper_makes_the_updates_of_a_plain_torch_loop(n_classes):
    import torch

    X, y = make_data(200, 10, n_classes)
    probe = LinearProbe("paper", random_state=7, epochs=100, learning_rate=5e-3).fit(X, y)

    rng = np.random.default_rng(7)
    ((weights, biases),) = initialise([10, n_classes], rng)
    layer = torch.nn.Linear(10, n_classes)
    layer.load_state_dict({"weight": torch.tensor(weights), "bias": torch.tensor(biases)})
    std = X.std(axis=0)
    Z, target = torch.tensor((X - X.mean(axis=0)) / std), torch.tensor(y)
    counts = np.bincount(y)
    loss = torch.nn.CrossEntropyLoss(weight=torch.tensor(1 / counts, dtype=torch.float32))
    optimiser = torch.optim.SGD(layer.parameters(), lr=5e-3)
    for _ in range(100):
        for batch in torch.tensor(rng.permutation(len(X))).split(64):
            optimiser.zero_grad()
            loss(layer(Z[batch]), target[batch]).backward()
            optimiser.step()

    np.testing.assert_allclose(probe.coef_ * std, layer.weight.detach().numpy(), atol=1e-4)
    np.testing.assert_allclose(probe.intercept_, layer.bias.detach().numpy(), atol=1e-4)
    assert np.abs(layer.weight.detach().numpy() - weights).max() > 0.05
    assert probe.chosen_ == {"epochs": 100}


def test_the_defaults_of_paper_are_those_of_the_study():
    probe = LinearProbe("paper")
    assert (probe.learning_rate, probe.batch_size, probe.epochs, probe.class_weight) == (5e-4, 64, 100, "balanced")
