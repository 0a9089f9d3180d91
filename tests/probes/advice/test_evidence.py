"""Lines of runs, their citation, and paired differences."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from probes.advice.evidence import compare_lines, gather_lines, same_family
from probes.results import compare


def test_runs_that_differ_in_their_seed_alone_are_one_line(make_runs):
    lines, elsewhere = gather_lines([*make_runs(head="mlp"), *make_runs(), *make_runs(fraction=10)])
    assert [(line.first.head, line.first.fraction, len(line.runs)) for line in lines] == [
        ("linear", 10, 3), ("linear", 100, 3), ("mlp", 100, 3),
    ]  # fmt: skip
    assert elsewhere == 0


def test_runs_with_other_options_or_validation_rows_are_other_lines(make_runs):
    runs = [*make_runs(), *make_runs(params={"options": {"epochs": 9}}), *make_runs(params={"validation": "rest"})]
    lines, _ = gather_lines(runs)
    assert [line.settings for line in lines] == ["", '{"options": {"epochs": 9}}', '{"validation": "rest"}']
    assert '{"validation": "rest"}' in str(lines[2])


def test_of_several_runs_of_one_identity_the_one_with_most_training_rows_counts(make_runs):
    (line,), _ = gather_lines(
        [*make_runs(wrong=100, n_train=700), *make_runs(wrong=60), *make_runs(wrong=90, n_train=20)]
    )
    assert [run.n_train for run in line.runs] == [800, 800, 800]
    assert line.mean == pytest.approx(0.75, abs=0.01)


def test_runs_on_other_test_rows_than_most_are_left_out_and_counted(make_runs):
    older = [replace(run, sample_ids=run.sample_ids[::-1]) for run in make_runs(head="mlp", seeds=2)]
    relabelled = [replace(run, truth=np.roll(run.truth, 1)) for run in make_runs(head="knn", seeds=1)]
    lines, elsewhere = gather_lines([*older, *make_runs(), *relabelled])
    assert [line.first.head for line in lines] == ["linear"]
    assert elsewhere == 3


def test_no_runs_are_no_lines():
    assert gather_lines([]) == ((), 0)


def test_a_line_is_cited_with_all_that_identifies_it(make_runs):
    (line,), _ = gather_lines(make_runs())
    assert str(line) == (
        "toy (kind): dinov2-s, full-224, cls, head linear, convex, 100 % of the labels (800), seeds 0, 1, 2, 240 test "
        "rows: macro-F1 0.750 [0.750-0.750]"
    )


def test_lines_are_compared_run_by_run_over_their_common_seeds(make_runs):
    (first,), _ = gather_lines(make_runs(wrong=70))
    (second,), _ = gather_lines(make_runs(wrong=40, head="mlp", seeds=2))
    found = compare_lines(first, second)
    pairs = [compare(first.runs[seed], second.runs[seed]) for seed in (0, 1)]
    assert found.value == pytest.approx(np.mean([pair.value for pair in pairs]))
    assert (found.low, found.high) == (min(pair.low for pair in pairs), max(pair.high for pair in pairs))
    assert (found.verdict, compare_lines(second, first).verdict, compare_lines(first, first).verdict) == (1, -1, 0)
    assert str(found).startswith("+0.12") and "%" in str(found)


def test_lines_without_a_common_seed_are_not_compared(make_runs):
    (first,), _ = gather_lines(make_runs())
    (second,), _ = gather_lines([replace(run, seed=run.seed + 5) for run in make_runs()])
    assert compare_lines(first, second) is None


@pytest.mark.parametrize(
    ("first", "second", "same"),
    [
        ("dinov2-s", "dinov2-b", True),
        ("resnet-50", "resnet-152", True),
        ("dinov2-s-reg", "dinov2-b-reg", True),
        ("dinov2-s", "dinov2-s", False),
        ("dinov2-s", "dinov2-b-reg", False),
        ("mae-b", "msn-b", False),
        ("siglip-b", "siglip-so400m", True),
        ("clip-b-openai", "clip-b-laion", False),
    ],
)
def test_a_family_differs_in_size_alone(first, second, same):
    assert same_family(first, second) is same


def test_commands_quote_what_the_user_called_the_data(make_evidence, make_runs):
    evidence = make_evidence(make_runs())
    command = evidence.probe_command(evidence.lines[0], "linear,mlp")
    assert command == (
        "skyprobe probe 'my galaxies/' -b dinov2-s -p full-224 --head linear,mlp --protocol convex --pooling cls "
        "--labels kind"
    )
