"""Drawn galaxies in the files and form of GalaxyMNIST, for those who lack it: ``python -m benchmarks.galaxies FOLDER``.

Four kinds of light profile with random size, angle, ellipticity, colour and noise; nothing is taken from real images.
"""

from __future__ import annotations

import sys
from pathlib import Path

import h5py
import numpy as np
from numpy.typing import NDArray

SIDE = 64
TRAIN, TEST = 800, 400

Pixels = NDArray[np.float64]


def draw(kind: int, rng: np.random.Generator) -> NDArray[np.uint8]:
    """One galaxy, uint8 (64, 64, 3); kinds in the order of GalaxyMNIST."""
    x, y = _axes(rng)
    profile = (_round, _cigar, _disk, _spiral)[kind]
    light = profile(x, y, rng) * rng.uniform(0.35, 1)
    colour = np.array([1.0, rng.uniform(0.7, 1), rng.uniform(0.4, 0.9)])
    noisy = light[..., None] * colour + rng.normal(0.06, rng.uniform(0.03, 0.1), size=(SIDE, SIDE, 3))
    return np.asarray(noisy.clip(0, 1) * 255, dtype=np.uint8)


def write(folder: Path, seed: int = 0) -> None:
    """Write ``train_dataset.hdf5`` and ``test_dataset.hdf5``, all four kinds equally often."""
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    for name, size in (("train", TRAIN), ("test", TEST)):
        labels = rng.permutation(np.arange(size, dtype=np.uint8) % 4)
        with h5py.File(folder / f"{name}_dataset.hdf5", "w") as file:
            file["images"] = np.stack([draw(kind, rng) for kind in labels])
            file["labels"] = labels


def _axes(rng: np.random.Generator) -> tuple[Pixels, Pixels]:
    """Coordinates along and across a random direction, from a random centre, in pixels."""
    rows, columns = np.mgrid[:SIDE, :SIDE] - SIDE / 2 - rng.normal(0, 2, size=(2, 1, 1))
    angle = rng.uniform(0, np.pi)
    return columns * np.cos(angle) + rows * np.sin(angle), rows * np.cos(angle) - columns * np.sin(angle)


def _exponential(x: Pixels, y: Pixels, length: float, ratio: float) -> Pixels:
    return np.asarray(np.exp(-np.hypot(x, y / ratio) / length))


def _round(x: Pixels, y: Pixels, rng: np.random.Generator) -> Pixels:
    return _exponential(x, y, rng.uniform(4, 9), rng.uniform(0.85, 1))


def _cigar(x: Pixels, y: Pixels, rng: np.random.Generator) -> Pixels:
    return _exponential(x, y, rng.uniform(6, 11), rng.uniform(0.35, 0.6))


def _disk(x: Pixels, y: Pixels, rng: np.random.Generator) -> Pixels:
    bulge = _exponential(x, y, rng.uniform(2, 4), 0.9)
    return 0.5 * bulge + 0.8 * _exponential(x, y, rng.uniform(8, 12), rng.uniform(0.1, 0.25))


def _spiral(x: Pixels, y: Pixels, rng: np.random.Generator) -> Pixels:
    y = y / rng.uniform(0.6, 1)
    radius, phase = np.hypot(x, y), np.arctan2(y, x)
    arms = 0.5 + 0.5 * np.cos(2 * phase - rng.choice([-1, 1]) * rng.uniform(3, 5) * np.log1p(radius))
    disk = np.exp(-radius / rng.uniform(9, 14)) * arms
    return np.asarray(0.6 * _exponential(x, y, 3, 1) + disk)


if __name__ == "__main__":
    write(Path(sys.argv[1]))
