from __future__ import annotations

import numpy as np
import pytest

from featurestore.backbones.engines import base
from featurestore.extraction.compiled_backbone import compile_backbones
from featurestore.extraction.requests import ExtractionOptions, list_requests
from featurestore.preprocessing import Preprocessing


@pytest.fixture
def requests_of(make_dataset):
    def make(backbones, variants, **options):
        return list_requests(make_dataset(), backbones, variants, ExtractionOptions(**options))

    return make


def test_variants_of_one_size_share_a_model_and_layers_a_pass(models, requests_of) -> None:
    requests = requests_of(["dinov2-s", "dinov2-s@3"], ["full-224", "center-224", "full-320"])
    compiled = compile_backbones(requests, ExtractionOptions(), "array")
    assert list(compiled) == requests
    assert models.loaded == ["dinov2-s", "dinov2-s"], "once for each size"
    sizes = {(id(one.forward), request.preprocessing.resize) for request, one in compiled.items()}
    assert sorted(size for _, size in sizes) == [224, 320], "layers and crops share a pass"
    for request, one in compiled.items():
        assert one.backbone.spec == request.spec
        assert one.outputs == request.outputs
        assert set(one.shapes) == set(request.poolings)


def test_another_number_of_channels_is_another_model(models, requests_of) -> None:
    compile_backbones(requests_of(["dinov2-s"], ["full-224", "channels=0-1"]), ExtractionOptions(), "array")
    assert models.loaded == ["dinov2-s", "dinov2-s"]


@pytest.mark.parametrize(
    ("decoder", "variant", "expected"),
    [("pillow", "full-224", True), ("astropy", "full-224", False), ("pillow", "asinh-224", False)],
)
def test_8_bit_pixels_are_expected_where_nothing_stretches_them(
    models, requests_of, monkeypatch, decoder, variant, expected
) -> None:
    asked = []

    def compile_forward(*given, eight_bit):
        asked.append(eight_bit)
        return models.compile(*given, eight_bit=eight_bit)

    monkeypatch.setattr(base, "compile_forward", compile_forward)
    compile_backbones(requests_of(["dinov2-s"], [variant]), ExtractionOptions(), decoder)
    assert asked == [expected]


def test_a_task_says_what_to_make_of_a_batch(models, requests_of) -> None:
    (request,) = requests_of(["dinov2-s"], ["full-224"])
    compiled = compile_backbones([request], ExtractionOptions(), "array")[request]
    slots = np.array([0, 2])
    task = compiled.task(Preprocessing(resize=32), slots)
    assert task.preprocessing.resize == 32
    assert task.forward is compiled.forward
    np.testing.assert_array_equal(task.slots, slots)
