import pytest

from benchmarks.document import END, START, write_table
from benchmarks.record import replace_rows


def test_only_what_stands_between_the_marks_is_replaced(tmp_path, make_row):
    page, results = tmp_path / "page.md", tmp_path / "results"
    page.write_text(f"# Title\n\n{START}\nold\n{END}\n\nThe end.\n", encoding="utf-8")
    replace_rows("sweep", [make_row("sweep", goal=1.0)], results)
    write_table(page, results)
    first = page.read_text(encoding="utf-8")
    assert first.startswith(f"# Title\n\n{START}\n\nMeasured ")
    assert first.endswith(f"\n1 of 1 goals met.\n\n{END}\n\nThe end.\n")
    assert "| sweep |" in first
    assert "old" not in first
    write_table(page, results)
    assert page.read_text(encoding="utf-8") == first


def test_nothing_is_written_before_something_is_measured(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(f"{START}\nold\n{END}\n", encoding="utf-8")
    with pytest.raises(ValueError, match="nothing was measured yet; run: make bench"):
        write_table(page, tmp_path / "results")


def test_a_page_without_marks_is_refused(tmp_path, make_row):
    page = tmp_path / "page.md"
    page.write_text("# Title\n", encoding="utf-8")
    replace_rows("sweep", [make_row("sweep")], tmp_path / "results")
    with pytest.raises(ValueError, match="lacks the marks"):
        write_table(page, tmp_path / "results")
    assert page.read_text(encoding="utf-8") == "# Title\n"
