"""Equal figures are equal files, and drawing leaves no trace."""

import subprocess
import sys

import pytest
from matplotlib import rcParams

from featurestore.errors import StoreWriteError
from probes.figures.scores import confusion, f1_by_fraction, per_class_f1
from probes.figures.style import save_figure


def test_a_figure_is_saved_as_pdf_svg_and_png_and_equal_figures_are_equal_files(make_grid, tmp_path):
    files = [save_figure(f1_by_fraction(make_grid()), tmp_path / name, "f1") for name in ("a", "b")]
    first, second = ({kind: path.read_bytes() for kind, path in paths.items()} for paths in files)
    assert first == second
    assert {kind: data[:4] for kind, data in first.items()} == {"pdf": b"%PDF", "svg": b"<?xm", "png": b"\x89PNG"}
    assert files[0]["svg"] == tmp_path / "a" / "f1.svg"


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
    code = f"import sys, probes.figures.latent, probes.figures.scores; {loaded}"
    subprocess.run([sys.executable, "-c", code], check=True)
