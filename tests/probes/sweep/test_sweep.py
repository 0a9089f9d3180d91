import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

import probes.solvers.factorisation
import probes.sweep.cache
from featurestore.errors import ProbeError, UnknownNameError, UsageError
from featurestore.store import open_store
from probes.heads.registry import HEADS
from probes.solvers.factorisation import SharedRows, factorise
from probes.sweep.plan import plan
from probes.sweep.sweep import cached_sweep, fit_head, fit_many, sweep

GRID = {"fractions": (10, 50, 100), "seeds": 2}


def numbers(runs):
    return [(run.head, run.fraction, run.seed, run.n_train, run.probabilities.tobytes()) for run in runs]


def test_runs_come_by_head_fraction_and_seed(fake_heads, toy_features):
    runs = sweep(toy_features, ["stopping", "centroids"], **GRID)
    order = [(run.head, run.fraction, run.seed) for run in runs]
    assert order == [(h, f, s) for h in ("stopping", "centroids") for f in (10, 50, 100) for s in (0, 1)]


def test_a_run_states_its_provenance(fake_heads, toy_features):
    run = sweep(toy_features, ["centroids"], fractions=[50], seeds=[4])[0]
    assert (run.dataset, run.variant, run.backbone, run.pooling) == ("toy", "full-224", "net_b", "cls")
    assert run.key == toy_features.key.short
    assert (run.scheme, run.protocol, run.seed) == ("kind", "cv", 4)
    assert (run.n_train, run.n_valid, run.n_features) == (75, 0, 4)
    assert run.sample_ids == tuple(f"s{row:03d}" for row in range(200, 240))
    assert run.truth.tolist() == (np.arange(200, 240) % 3).tolist()
    assert run.params["n_rows"] == 75
    assert run.params["scale"] == 1.0
    assert run.seconds > 0


def test_probabilities_are_those_of_the_head_fitted_by_hand(fake_heads, toy_features):
    run = sweep(toy_features, ["centroids"], fractions=[100], seeds=1)[0]
    labels = toy_features.table.labels["kind"]
    by_hand = fake_heads["centroids"]().fit(toy_features.values[12:160], labels[12:160])
    assert run.probabilities == pytest.approx(by_hand.predict_proba(toy_features.values[200:]), abs=1e-5)
    assert (run.predicted == run.truth).mean() > 0.5


def test_heads_see_training_rows_alone(fake_heads, toy_features):
    sweep(toy_features, ["centroids", "stopping"], validation="split", **GRID)
    seen = np.concatenate([X[:, 0] for X in fake_heads["centroids"].seen_])
    assert set(seen) <= set(range(12, 160))
    stopped_on = fake_heads["stopping"].stopped_on_
    assert all(set(X[:, 0]) == set(range(160, 200)) for X in stopped_on)


def test_the_rest_of_the_training_rows_can_validate(fake_heads, toy_features):
    runs = sweep(toy_features, ["stopping"], fractions=[10, 100], seeds=1, validation="rest", n_jobs=1)
    (first,) = (rows[:, 0] for rows in fake_heads["stopping"].stopped_on_ if rows is not None)
    assert (runs[0].n_valid, runs[0].params["validation"]) == (148 - runs[0].n_train, "rest")
    assert set(first) <= set(range(12, 160))
    assert len(first) == runs[0].n_valid
    assert runs[1].n_valid == 0
    assert "validation" not in runs[1].params


@pytest.mark.parametrize("grid", [{}, {"validation": "none"}, {"protocol": "paper", "validation": "rest"}])
def test_no_validation_rows_when_none_are_wanted(fake_heads, toy_features, grid):
    runs = sweep(toy_features, ["stopping"], fractions=[50], seeds=1, **grid)
    assert fake_heads["stopping"].stopped_on_ == [None]
    assert runs[0].n_valid == 0


def test_linear_and_mlp_choose_inside_the_subset_unless_other_rows_are_asked_for(toy_features):
    heads = ["linear", "whitened", "mlp", "whitened-mlp"]
    inside, outside = (sweep(toy_features, heads, fractions=[10], seeds=1, validation=v) for v in ("none", "rest"))
    assert [(run.n_train, run.n_valid, run.params.get("validation")) for run in inside] == [(15, 0, None)] * 4
    assert [(run.n_train, run.n_valid, run.params["validation"]) for run in outside] == [(15, 133, "rest")] * 4
    assert [run.params["folds"] for run in inside[:2]] == [15, 15]
    assert [run.params["folds"] for run in outside[:2]] == [0, 0]


@pytest.mark.parametrize("protocol", ["cv", "paper"])
def test_the_numbers_of_the_test_rows_steer_nothing(toy_features, protocol):
    values = toy_features.values.copy()
    values[200:] = 1e3 * np.random.default_rng(0).normal(size=values[200:].shape)
    labels = toy_features.table.labels["kind"].copy()
    labels[200:] = np.roll(labels[200:], 1)
    other = replace(toy_features, values=values, table=replace(toy_features.table, labels={"kind": labels}))
    heads = ["linear", "whitened", "mlp", "whitened-mlp", "centroid", "knn"]
    for task, twin in zip(*(plan(f, heads, fractions=[50], seeds=1, protocol=protocol, validation="rest")
                            for f in (toy_features, other)), strict=True):  # fmt: skip
        fitted = [fit_head(f, t, SharedRows(f.values)) for f, t in ((toy_features, task), (other, twin))]
        mine, theirs = (head.to_arrays() for head in fitted)
        assert all(np.array_equal(mine[name], theirs[name]) for name in mine)


def test_subsets_are_nested_and_shared_by_variants_and_backbones(fake_heads, toy_features):
    other = replace(toy_features, backbone="net_c", variant="crop", values=toy_features.values * 2)
    mine, theirs = (plan(features, ["centroids"], **GRID) for features in (toy_features, other))
    assert all(np.array_equal(a.train, b.train) for a, b in zip(mine, theirs, strict=True))
    small, middle, full = (set(task.train) for task in mine if task.seed == 0)
    assert small < middle < full


def test_seeds_reach_the_head_and_its_subset(fake_heads, toy_features):
    first, second = sweep(toy_features, ["centroids"], fractions=[10], seeds=2)
    assert first.params["drawn"] != second.params["drawn"]
    assert first.probabilities.tobytes() != second.probabilities.tobytes()


def test_numbers_do_not_depend_on_n_jobs_or_repetition(fake_heads, toy_features):
    runs = [numbers(sweep(toy_features, ["centroids"], n_jobs=n_jobs, **GRID)) for n_jobs in (1, 3, 3)]
    assert runs[0] == runs[1] == runs[2]


def test_numbers_do_not_depend_on_the_order_of_rows(fake_heads, toy_features):
    rows = np.random.default_rng(0).permutation(240)
    shuffled = replace(toy_features, values=toy_features.values[rows], table=toy_features.table.take(rows))
    run, other = (sweep(features, ["centroids"], fractions=[30], seeds=1)[0] for features in (toy_features, shuffled))
    by_id = dict(zip(other.sample_ids, other.probabilities, strict=True))
    assert run.probabilities == pytest.approx(np.stack([by_id[name] for name in run.sample_ids]), abs=1e-6)


def test_a_class_absent_from_train_keeps_its_column_and_is_stated(fake_heads, make_features):
    features = make_features([0, 1] * 20 + [2, 0, 1], splits=["train"] * 40 + ["test"] * 3)
    run = sweep(features, ["centroids"], fractions=[100], seeds=1)[0]
    assert run.classes == ("c_0", "c_1", "c_2")
    assert run.params["absent_from_train"] == ["c_2"]
    assert run.probabilities[:, 2].tolist() == [0, 0, 0]
    assert run.probabilities.sum(axis=1) == pytest.approx(1)


def test_validation_rows_of_unlearnable_classes_stay_out(fake_heads, make_features):
    splits = ["train"] * 40 + ["valid"] * 3 + ["test"] * 2
    features = make_features([0, 1] * 20 + [2, 0, 1] + [0, 1], splits=splits)
    assert sweep(features, ["stopping"], fractions=[100], seeds=1, validation="split")[0].n_valid == 2


def test_a_head_without_protocol_and_seed_runs_everywhere(fake_heads, toy_features):
    runs = sweep(toy_features, ["plain"], options={"plain": {"scale": 0.5}}, **GRID)
    assert len(runs) == 6
    assert {run.params["scale"] for run in runs} == {0.5}


def test_progress_is_told_every_run(fake_heads, toy_features):
    told = []
    runs = sweep(toy_features, ["centroids"], progress=told.append, n_jobs=2, **GRID)
    assert len(told) == len(runs)
    assert {id(run) for run in told} == {id(run) for run in runs}


def test_the_longest_fit_is_begun_first(fake_heads, toy_features):
    told = []
    runs = sweep(toy_features, ["centroids"], progress=told.append, n_jobs=1, **GRID)
    sizes = [run.n_train for run in told]
    assert len(set(sizes)) > 1
    assert sizes == sorted(sizes, reverse=True)
    assert [run.n_train for run in runs] == sorted(sizes)


def test_an_error_in_one_fit_stops_the_sweep(fake_heads, toy_features, monkeypatch):
    def broken(self, X, y):
        raise ProbeError("this head is broken", where="fit", hint="Mend it.")

    monkeypatch.setattr(fake_heads["centroids"], "fit", broken)
    with pytest.raises(ProbeError, match="this head is broken"):
        sweep(toy_features, ["centroids"], **GRID)


@pytest.mark.parametrize(
    ("grid", "error", "message"),
    [
        ({"heads": ["centroid"]}, UnknownNameError, "Did you mean centroids"),
        ({"options": {"centroids": {"scales": 2}}}, UnknownNameError, "Did you mean scale"),
        ({"options": {"linear": {"scale": 2}}}, UsageError, "options for heads that are not asked for: linear"),
        ({"heads": ["plain"], "protocol": "paper"}, UsageError, "has no protocol 'paper'.*Use cv"),
        ({"validation": "tests"}, UsageError, "unknown validation rows 'tests'"),
        ({"seeds": 0}, UsageError, "seeds are 0"),
        ({"seeds": [-1]}, UsageError, "Give a number of seeds"),
        ({"fractions": [0]}, ProbeError, "whole percents"),
        ({"scheme": "kinds"}, UnknownNameError, "Did you mean kind"),
        ({"n_jobs": 0}, UsageError, "n_jobs is 0"),
    ],
)
def test_wrong_options_are_refused_before_anything_is_fitted(fake_heads, toy_features, grid, error, message):
    heads = grid.pop("heads", ["centroids"])
    with pytest.raises(error, match=message):
        sweep(toy_features, heads, **grid)
    assert fake_heads["centroids"].seen_ == []


def test_a_repeated_sweep_fits_nothing_and_equals_the_first(fake_heads, toy_features, dict_store):
    first = cached_sweep(dict_store, toy_features, ["centroids"], **GRID)
    n_fits = len(fake_heads["centroids"].seen_)
    told = []
    again = cached_sweep(dict_store, toy_features, ["centroids"], progress=told.append, **GRID)
    assert len(fake_heads["centroids"].seen_) == n_fits == 6
    assert numbers(again) == numbers(first) == numbers(sweep(toy_features, ["centroids"], **GRID))
    assert [run.params for run in again] == [run.params for run in first]
    assert [run.seconds for run in told] == [run.seconds for run in first]


def test_more_seeds_and_fractions_cost_only_the_new_ones(fake_heads, toy_features, dict_store):
    cached_sweep(dict_store, toy_features, ["centroids"], fractions=(10, 50), seeds=2)
    runs = cached_sweep(dict_store, toy_features, ["centroids"], fractions=(10, 30, 50), seeds=3)
    assert dict_store.puts == 9
    assert numbers(runs) == numbers(sweep(toy_features, ["centroids"], fractions=(10, 30, 50), seeds=3))


def changed_labels(features):
    labels = features.table.labels["kind"].copy()
    labels[20] = (labels[20] + 1) % 3
    return replace(features, table=replace(features.table, labels={"kind": labels}))


def renamed_labels(features):
    labels = features.table.labels["kind"]
    return replace(features, table=replace(features.table, labels={"kind": np.where(labels < 0, -1, (labels + 1) % 3)}))


def changed_values(features):
    values = features.values.copy()
    values[0, 0] += 1e-3
    return replace(features, values=values)


def changed_splits(features):
    splits = features.table.splits.copy()
    splits[20] = ""
    return replace(features, table=replace(features.table, splits=splits))


@pytest.mark.parametrize(
    ("change", "grid"),
    [
        (changed_labels, {}),
        (renamed_labels, {}),
        (changed_values, {}),
        (changed_splits, {}),
        (lambda features: replace(features, pooling="avg_patch"), {}),
        (lambda features: replace(features, variant="resize=224"), {}),
        (lambda features: replace(features, backbone="net_b_by_another_name"), {}),
        (lambda features: replace(features, key=replace(features.key, precision="bf16")), {}),
        (lambda features: features, {"protocol": "paper"}),
        (lambda features: features, {"options": {"stopping": {"scale": 2.0}}}),
        (lambda features: features, {"validation": "rest"}),
    ],
)
def test_whatever_changes_a_number_is_computed_anew(fake_heads, toy_features, dict_store, change, grid):
    wanted = {"fractions": [50], "seeds": 1}
    cached_sweep(dict_store, toy_features, ["stopping"], **wanted)
    cached_sweep(dict_store, change(toy_features), ["stopping"], **wanted, **grid)
    assert dict_store.puts == 2


def test_runs_that_had_begun_survive_the_failure_of_another(fake_heads, toy_features, dict_store, monkeypatch):
    def broken(self, X, y, X_valid=None, y_valid=None):
        raise ProbeError("this head is broken", where="fit", hint="Mend it.")

    monkeypatch.setattr(fake_heads["stopping"], "fit", broken)
    with pytest.raises(ProbeError, match="broken"):
        cached_sweep(dict_store, toy_features, ["centroids", "stopping"], n_jobs=1, **GRID)
    assert dict_store.puts == len(fake_heads["centroids"].seen_) > 0
    cached_sweep(dict_store, toy_features, ["centroids"], n_jobs=1, **GRID)
    assert dict_store.puts == len(fake_heads["centroids"].seen_) == 6


@pytest.mark.parametrize("protocol", ["cv", "paper"])
def test_the_built_in_heads_learn_and_repeat_bit_for_bit(toy_features, protocol):
    features = replace(toy_features, values=toy_features.values[:, 1:])
    options = {"linear": {"learning_rate": 0.1}, "whitened": {"learning_rate": 0.1}, "mlp": {"learning_rate": 0.05}}
    grid = {"fractions": (30, 100), "seeds": 2, "protocol": protocol, "options": options}
    heads = ["linear", "whitened", "mlp", "knn"]
    runs = sweep(features, heads, n_jobs=2, **grid)
    assert numbers(runs) == numbers(sweep(features, heads, n_jobs=1, **grid))
    assert len(runs) == 16
    assert all(run.probabilities.sum(axis=1) == pytest.approx(1, abs=1e-5) for run in runs)
    assert min(run.scores.macro["auroc"] for run in runs if run.fraction == 100) > 0.7


@pytest.mark.parametrize(("heads", "n_computed"), [(["linear"], 1), (["whitened"], 5), (["linear", "whitened"], 5)])
def test_heads_share_factorisations_of_training_rows(toy_features, monkeypatch, heads, n_computed):
    seen = []
    monkeypatch.setattr(probes.solvers.factorisation, "factorise", lambda X: seen.append(X[:, 0]) or factorise(X))
    sweep(toy_features, heads, fractions=(10, 50, 100), seeds=2, n_jobs=2)
    assert len(seen) == n_computed
    assert max(len(rows) for rows in seen) == 148
    assert set(np.concatenate(seen)) == set(range(12, 160))


def test_runs_of_an_older_revision_of_the_heads_are_not_reused(fake_heads, toy_features, dict_store, monkeypatch):
    wanted = {"fractions": [50], "seeds": 1}
    with monkeypatch.context() as older:
        older.setattr(probes.sweep.cache, "REVISION", probes.sweep.cache.REVISION - 1)
        cached_sweep(dict_store, toy_features, ["centroids"], **wanted)
    cached_sweep(dict_store, toy_features, ["centroids"], **wanted)
    assert dict_store.puts == 2


def test_runs_survive_the_real_store(fake_heads, toy_features, tmp_path):
    first = cached_sweep(open_store(str(tmp_path / "s.zarr"), mode="a"), toy_features, ["centroids"], **GRID)
    again = cached_sweep(open_store(str(tmp_path / "s.zarr"), mode="a"), toy_features, ["centroids"], **GRID)
    assert len(fake_heads["centroids"].seen_) == 6
    assert numbers(again) == numbers(first)
    assert [(run.params, run.seconds) for run in again] == [(run.params, run.seconds) for run in first]


def test_fit_many_gives_runs_in_the_order_of_the_tasks(fake_heads, toy_features):
    tasks = plan(toy_features, ["centroids"], **GRID)[::-1]
    runs = fit_many(toy_features, tasks, n_jobs=2)
    assert [(run.fraction, run.seed) for run in runs] == [(task.fraction, task.seed) for task in tasks]


def test_importing_probes_loads_neither_torch_nor_scikit_learn():
    code = "import sys, probes; print([m for m in ('torch', 'sklearn', 'pandas', 'scipy') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_facade_gives_its_names_and_no_others():
    import probes
    from probes.results.run import Run

    assert probes.Run is Run
    assert all(getattr(probes, name) is not None for name in dir(probes))
    with pytest.raises(AttributeError, match="nothing"):
        _ = probes.nothing


@pytest.mark.parametrize("head", ["linear", "mlp", "knn", "centroid"])
def test_built_in_heads_are_told_the_groups_of_their_rows(make_features, monkeypatch, head):
    """Rows without a group stand for themselves; a dataset without groups gives none."""
    labels, splits = np.arange(60) // 4 % 2, ["train"] * 40 + ["test"] * 20
    seen = []
    monkeypatch.setattr(HEADS.get(head), "_check_groups", staticmethod(lambda groups, n: seen.append(groups)))
    for groups in ([f"g{row // 4}" if row > 3 else "" for row in range(60)], None):
        sweep(make_features(labels, groups=groups, splits=splits), [head], fractions=[100], seeds=1)
    assert seen[1] is None
    assert len(seen[0]) == 40
    assert len(set(seen[0])) == 9 + 4
