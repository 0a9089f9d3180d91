"""Equal figures are equal files, and drawing leaves no trace."""

import subprocess
import sys

import numpy as np
import pytest
from matplotlib import rc_context, rcParams
from matplotlib.figure import Figure

from featurestore.errors import StoreWriteError
from probes.plotting import STYLE, arrange_legend, draw_picture, label_powers, save_figure, wrap
from studies.figures.scores import confusion, f1_by_fraction, per_class_f1


def test_a_figure_is_saved_as_pdf_svg_and_png_and_equal_figures_are_equal_files(make_grid, tmp_path):
    files = [save_figure(f1_by_fraction(make_grid()), tmp_path / name, "f1") for name in ("a", "b")]
    first, second = ({kind: path.read_bytes() for kind, path in paths.items()} for paths in files)
    assert first == second
    assert {kind: data[:4] for kind, data in first.items()} == {"pdf": b"%PDF", "svg": b"<?xm", "png": b"\x89PNG"}
    assert files[0]["svg"] == tmp_path / "a" / "f1.svg"


def test_text_breaks_after_marks_and_blanks():
    assert wrap("resize=224,stretch=percentile:1:99", 1.0) == "resize=224,\nstretch=\npercentile:1:99"
    assert wrap("short", 5.0) == "short"
    assert wrap("two words", 0.4).splitlines() == ["two", "words"]


def test_a_legend_is_no_wider_than_its_figure():
    assert arrange_legend(["a", "b", "c"], 7.0)[:2] == (["a", "b", "c"], 3)
    wide = arrange_legend([f"{letter * 30} and {letter * 30}" for letter in "abcd"], 3.0)
    assert wide.columns == 1
    assert all(len(label.splitlines()) == 2 for label in wide.labels)
    assert wide.height > arrange_legend(["a"], 3.0).height


@pytest.mark.parametrize(
    ("limits", "expected"),
    [((0.018, 0.8), ["0.02", "0.05", "0.1", "0.2", "0.5"]), ((0.7, 20000), ["1", "10", "100", "1000", "10000"])],
)
def test_logarithmic_axes_have_plain_numbers(limits, expected):
    with rc_context(STYLE):
        axes = Figure().add_subplot(yscale="log", ylim=limits)
        label_powers(axes.yaxis)
        labels = axes.yaxis.get_majorticklabels()
        places = axes.yaxis.get_majorticklocs()
    shown = [text.get_text() for text, place in zip(labels, places, strict=True) if limits[0] <= place <= limits[1]]
    assert shown == expected
    assert len(axes.yaxis.get_minorticklocs()) == 0


def test_names_of_classes_are_plain_text(make_grid, tmp_path):
    runs = make_grid(classes=("$\\broken", "a_b^c", "50 % <i>"))
    save_figure(per_class_f1(runs), tmp_path, "classes")
    save_figure(confusion(runs), tmp_path, "confusion")


def test_a_folder_that_cannot_be_written_is_an_error(make_grid, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreWriteError, match="cannot be written"):
        save_figure(f1_by_fraction(make_grid()), tmp_path / "file", "f1")


def test_drawing_leaves_the_users_settings_alone(make_grid):
    before = dict(rcParams)
    f1_by_fraction(make_grid())
    assert dict(rcParams) == before


def test_importing_loads_no_pyplot():
    loaded = "assert not {'matplotlib.pyplot', 'umap', 'torch'} & sys.modules.keys()"
    code = f"import sys, studies.figures.latent, studies.figures.scores; {loaded}"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_picture_has_no_axes_and_is_not_smoothed():
    axes = Figure().add_subplot()
    draw_picture(axes, np.zeros((4, 6)), "one", (0, 3, 2, 0))
    (image,) = axes.images
    assert (image.get_interpolation(), image.get_extent()) == ("nearest", [0, 3, 2, 0])
    assert (list(axes.get_xticks()), list(axes.get_yticks()), axes.get_title()) == ([], [], "one")
    assert not any(spine.get_visible() for spine in axes.spines.values())
