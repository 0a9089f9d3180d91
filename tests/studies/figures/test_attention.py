"""The figures show every image and map, with contours where they say."""

import numpy as np
import pytest
import torch
from matplotlib.contour import QuadContourSet

from featurestore.errors import ProbeError, UsageError
from probes.plotting import PAGE, save_figure
from studies.figures.attention import backbone_grid, head_grid, upsample
from studies.images.attention import Attention

RNG = np.random.default_rng(5)


@pytest.fixture
def make():
    def build(backbone="dinov2-s", n=2, n_blocks=3, n_heads=2, n_latent=0, **changes):
        given = {
            "dataset": "rgz", "variant": "full-224", "backbone": backbone, "weights_hash": "0" * 64, "scheme": "kind",
            "classes": ("1C-1P", "2C-2P"), "sample_ids": tuple(f"s{row}" for row in range(n)), "labels": np.arange(n),
            "pictures": RNG.integers(0, 255, (n, 20, 20, 3), dtype=np.uint8),
            "blocks": RNG.random((n, n_blocks, n_heads, 4, 5), dtype=np.float32),
            "pooled": RNG.random((n, n_latent, 4, 5), dtype=np.float32),
            "rollout": RNG.random((n, 4, 5), dtype=np.float32),
            "query": "cls", "unreadable": {},
        }  # fmt: skip
        return Attention(**given | changes)

    return build


def contours_of(figure):
    return [one for one in figure.axes[0].collections if isinstance(one, QuadContourSet)]


def names_of(figure):
    (axes,) = figure.axes
    return tuple([label.get_text() for label in axis.get_ticklabels()] for axis in (axes.xaxis, axes.yaxis))


@pytest.mark.parametrize(("of", "to"), [((4, 5), (20, 20)), ((7, 7), (98, 98)), ((6, 6), (6, 6))])
def test_upsampling_is_that_of_torch(of, to):
    values = RNG.random(of, dtype=np.float32)
    expected = torch.nn.functional.interpolate(torch.from_numpy(values)[None, None].double(), to, mode="bilinear")
    np.testing.assert_allclose(upsample(values, to), expected[0, 0].numpy(), atol=1e-12)


def test_images_stand_beside_each_other_by_backbone(make):
    first = make()
    other = make("siglip-b", n_latent=2, pictures=first.pictures)
    figure = backbone_grid([first, other])
    columns, rows = names_of(figure)
    assert [name.replace("\n", " ") for name in columns] == ["dinov2-s, class token", "siglip-b, latent query"]
    assert rows == ["1C-1P", "2C-2P"]
    canvas = figure.axes[0].images[0].get_array()
    pitch = canvas.shape[0] // 2
    for row, column in np.ndindex(2, 2):
        shown = canvas[row * pitch : row * pitch + 20, column * pitch : column * pitch + 20]
        np.testing.assert_array_equal(shown, first.pictures[row])
    levels = [one.levels[0] for one in contours_of(figure)]
    expected = [np.percentile(upsample(one.last[row], (20, 20)), 90) for one in (first, other) for row in range(2)]
    np.testing.assert_allclose(sorted(levels), sorted(expected))


@pytest.mark.parametrize("percentile", [50.0, 90.0])
def test_a_contour_encloses_the_share_that_it_says(make, percentile):
    """Of a map that rises to the right, what lies beyond the contour is that share of its panel."""
    ramp = np.tile(np.linspace(0, 1, 20, dtype=np.float32), (20, 1))
    figure = backbone_grid([make(n=1, n_blocks=1, n_heads=1, blocks=ramp[None, None, None])], percentile)
    (contour,) = contours_of(figure)
    x = contour.get_paths()[0].vertices[:, 0]
    width = 20 / round(20 / 0.95)
    np.testing.assert_allclose(x / width, percentile / 100, atol=0.03)


def test_blocks_by_heads_their_mean_and_the_rollout(make):
    columns, rows = names_of(figure := head_grid(make()))
    assert columns == ["1", "2", "mean"]
    assert rows == ["block 1", "block 2", "block 3", "rollout"]
    assert len(contours_of(figure)) == 3 * 3 + 1


def test_an_attention_pool_has_a_row(make):
    _, rows = names_of(figure := head_grid(make(n_latent=2), row=1))
    assert [name.replace("\n", " ") for name in rows][-2:] == ["attention pool", "rollout"]
    assert len(contours_of(figure)) == 4 * 3 + 1
    assert "s1" in figure.get_suptitle()


def test_an_even_map_has_no_contour(make):
    even = np.full((1, 2, 2, 4, 5), 0.05, dtype=np.float32)
    assert contours_of(backbone_grid([make(n=1, n_blocks=2, blocks=even)])) == []


def test_many_heads_fit_the_page(make):
    assert head_grid(make(n=1, n_blocks=2, n_heads=16)).get_figwidth() <= PAGE + 1e-9


def test_equal_figures_are_equal_files(make, tmp_path):
    one = make(n=1, n_blocks=1, n_heads=1)
    files = [save_figure(backbone_grid([one]), tmp_path / name, "figure") for name in ("a", "b")]
    for kind, path in files[0].items():
        assert path.read_bytes() == files[1][kind].read_bytes()


def test_other_images_cannot_be_compared(make):
    with pytest.raises(ProbeError, match=r"not over the same images.*same seed"):
        backbone_grid([make(), make("siglip-b", sample_ids=("s7", "s8"))])
    with pytest.raises(ProbeError, match="no maps"):
        backbone_grid([])


@pytest.mark.parametrize("percentile", [0.0, 100.0, -3.0])
def test_a_percentile_that_is_none(make, percentile):
    for draw in (lambda: backbone_grid([make()], percentile), lambda: head_grid(make(), 0, percentile)):
        with pytest.raises(UsageError, match="between 0 and 100"):
            draw()
