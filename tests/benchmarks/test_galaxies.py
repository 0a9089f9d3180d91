"""Drawn galaxies open as GalaxyMNIST does, and their kinds can be told apart."""

import numpy as np

from benchmarks import galaxies
from featurestore.datasets import open_dataset


def test_files_open_as_galaxy_mnist(tmp_path, monkeypatch):
    monkeypatch.setattr(galaxies, "TRAIN", 40)
    monkeypatch.setattr(galaxies, "TEST", 20)
    galaxies.write(tmp_path / "drawn")
    table = open_dataset(f"galaxy_mnist:{tmp_path / 'drawn'}").table
    labels = table.labels["morphology"]
    assert len(table) == 60
    assert np.bincount(labels).tolist() == [15, 15, 15, 15]
    assert (np.asarray(table.splits) == "test").sum() == 20


def test_kinds_differ_in_shape():
    """Second moments of the light: disks are the most elongated, round ones the least."""

    def elongation(kind):
        image = galaxies.draw(kind, np.random.default_rng(1))[..., 0].astype(float)
        light = np.clip(image - np.median(image) - 30, 0, None)
        rows, columns = np.mgrid[: galaxies.SIDE, : galaxies.SIDE]
        cov = np.cov(np.stack([rows.ravel(), columns.ravel()]), aweights=light.ravel())
        low, high = np.linalg.eigvalsh(cov)
        return high / low

    assert elongation(0) < elongation(1) < elongation(2)
