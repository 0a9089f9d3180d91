"""The report as a whole, and what it says of features and extractions."""

from types import SimpleNamespace

from featurestore.extraction.embedding import Costs
from studies.report.contents import cost, provenance, unreadable, write_study_report


def test_provenance_holds_the_whole_key(feature_sets):
    facts = provenance(feature_sets)
    for matrix, (title, entry) in zip(feature_sets, facts.items(), strict=True):
        assert matrix.key.short in title
        assert entry["sha256"] == matrix.key.sha256
        assert matrix.key.to_dict().items() <= entry.items()


def test_unreadable_images_of_all_variants_are_listed_once(feature_sets):
    assert unreadable(feature_sets) == {"toy": {"bad.png": "truncated", "worse.png": "empty"}}


def test_cost_gives_seconds_and_rate_of_extractions_that_did_something():
    busy = Costs(images=50, forwards=100, load=6.0, decode=1.0, preprocess=2.0, forward=3.0, write=0.5)
    idle = Costs()
    reports = [SimpleNamespace(dataset=name, seconds=4.0, costs=c) for name, c in (("toy", busy), ("other", idle))]
    facts = cost(reports)
    assert list(facts) == ["extraction of toy"]
    assert facts["extraction of toy"]["forwards a second of wall time"] == 25.0
    assert facts["extraction of toy"]["forward, s"] == 3.0
    assert facts["extraction of toy"]["load models, s"] == 6.0


def test_a_study_report_stands_beside_its_figures(runs, feature_sets, projections, tmp_path):
    path = write_study_report(tmp_path, title="Study", runs=runs, features=feature_sets, projections=projections)
    assert path == tmp_path / "report.html"
    assert path.read_text(encoding="utf-8").count("<img ") == 7
    stems = {"toy-kind-f1-by-fraction", "toy-kind-f1-by-class", "toy-kind-confusion"}
    stems |= {"figure-2-umap", "figure-3-f1", "figure-4-classes", "figure-b-precision-recall"}
    expected = {f"{stem}.{kind}" for stem in stems for kind in ("pdf", "svg", "png")}
    assert {file.name for file in (tmp_path / "figures").iterdir()} == expected
