"""The spec of a preprocessing as text, as a name and as a part of the key."""

from __future__ import annotations

import re
from dataclasses import fields, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from featurestore.errors import SkyprobeError, UnknownNameError, UsageError
from featurestore.preprocessing import VARIANTS, Preprocessing, parse_variant
from featurestore.resizing import INTERPOLATIONS, RESIZERS
from featurestore.store.key import digest

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def _stretches() -> st.SearchStrategy[str]:
    number = st.floats(1e-6, 1e6)
    ends = st.tuples(st.integers(0, 49), st.floats(50, 100))
    intervals = st.one_of(
        st.sampled_from(["minmax", "unit", "zscale", "percentile", "sigmaclip"]),
        st.builds("zscale:{}".format, number),
        st.builds("sigmaclip:{}".format, number),
        ends.map(lambda pair: f"percentile:{pair[0]}:{pair[1]}"),
    )
    curves = st.one_of(
        st.sampled_from(["linear", "asinh", "log", "sqrt"]),
        st.builds("asinh:{}".format, number),
        st.builds("log:{}".format, number),
    )
    return st.one_of(st.just("none"), intervals, curves, st.builds("{}+{}".format, intervals, curves))


_crops = st.one_of(
    st.just("none"),
    st.floats(0, 1, exclude_min=True).map("center:{}".format),
    st.floats(0, 1e9).map("box:{}".format),
)
_bands = st.integers(0, 9)
_rules = st.one_of(
    st.sampled_from(["auto", "mean"]),
    _bands.map(str),
    st.lists(st.lists(_bands, min_size=1).map(lambda bands: "+".join(map(str, bands))), min_size=1).map("-".join),
)
_resizing = st.tuples(st.sampled_from(INTERPOLATIONS), st.booleans(), st.sampled_from(RESIZERS)).filter(
    lambda choice: choice[0] == "nearest" or choice[1] or choice[2] != "pillow"
)


@st.composite
def preprocessings(draw: st.DrawFn) -> Preprocessing:
    interpolation, antialias, resizer = draw(_resizing)
    return Preprocessing(
        stretch=draw(_stretches()),
        crop=draw(_crops),
        resize=draw(st.integers(1, 5000)),
        interpolation=interpolation,
        antialias=antialias,
        channels=draw(_rules),
        resizer=resizer,
    )


@settings(max_examples=200)
@given(preprocessings())
def test_a_spec_parses_back_to_its_value(preprocessing: Preprocessing) -> None:
    assert Preprocessing.parse(str(preprocessing)) == preprocessing
    assert parse_variant(str(preprocessing)) == (str(preprocessing), preprocessing)


@given(preprocessings())
def test_a_spec_names_only_what_differs_from_the_default(preprocessing: Preprocessing) -> None:
    named = {part.partition("=")[0] for part in str(preprocessing).split(",")}
    default = Preprocessing()
    changed = {f.name for f in fields(default) if getattr(preprocessing, f.name) != getattr(default, f.name)}
    assert named == changed | {"resize"}


@pytest.mark.parametrize("spec", ["resize=224", "crop=box:0.2,resize=224", "resize=320,antialias=false"])
def test_a_spec_always_names_the_size(spec: str) -> None:
    assert str(Preprocessing.parse(spec)) == spec


def test_parse_reads_every_field() -> None:
    text = "resize=480, crop=box:0.2, stretch=percentile:1:99+asinh:0.1, interpolation=bilinear, antialias=false,"
    assert Preprocessing.parse(text + "channels=3-2-1,resizer=torch") == Preprocessing(
        stretch="percentile:1:99+asinh:0.1",
        crop="box:0.2",
        resize=480,
        interpolation="bilinear",
        antialias=False,
        channels="3-2-1",
        resizer="torch",
    )


@pytest.mark.parametrize("name", VARIANTS)
def test_named_variants_are_found_by_name_and_round_trip(name: str) -> None:
    assert parse_variant(name) == (name, VARIANTS[name])
    assert Preprocessing.parse(str(VARIANTS[name])) == VARIANTS[name]
    assert VARIANTS[name].resize == int(name.rpartition("-")[2])


def test_the_default_variant_is_the_default_preprocessing() -> None:
    assert VARIANTS["full-224"] == Preprocessing() == Preprocessing.parse("")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("stretch", "asinh:0.1"),
        ("crop", "center:0.5"),
        ("resize", 225),
        ("interpolation", "bilinear"),
        ("antialias", False),
        ("channels", "mean"),
        ("resizer", "pillow"),
    ],
)
def test_every_field_changes_the_key(field: str, value: object) -> None:
    rest = {"decoder": "pillow", "mean": MEAN, "std": STD}
    changed = replace(Preprocessing(), **{field: value})
    assert digest(changed.resolve(**rest)) != digest(Preprocessing().resolve(**rest))
    assert changed.resolve(**rest)[field] == value


@pytest.mark.parametrize("part", [{"decoder": "astropy"}, {"mean": (0.5, 0.5, 0.5)}, {"std": (0.5, 0.5, 0.5)}])
def test_decoder_and_normalisation_change_the_key(part: dict[str, object]) -> None:
    rest = {"decoder": "pillow", "mean": MEAN, "std": STD}
    assert digest(Preprocessing().resolve(**rest | part)) != digest(Preprocessing().resolve(**rest))


@pytest.mark.parametrize(("crop", "expected"), [("none", False), ("center:0.5", False), ("box:0", True)])
def test_only_box_crops_use_boxes(crop: str, expected: bool) -> None:
    assert Preprocessing(crop=crop).uses_boxes is expected


@pytest.mark.parametrize(
    ("spec", "kind", "message"),
    [
        ("resize", UsageError, "'resize' is not FIELD=VALUE [resize]. Write for example resize=224."),
        ("resize=0", UsageError, "resize must be positive [resize=0]. Give a side in pixels."),
        ("resize=-3", UsageError, "'-3' is not a whole number [resize=-3]. Write for example resize=224."),
        pytest.param("resize=" + "9" * 5000, UsageError, f"'{'9' * 5000}' is not a whole", id="5,000 digits"),
        ("resize=²", UsageError, "'²' is not a whole number"),
        ("resize=224,resize=480", UsageError, "resize is given twice [resize=224,resize=480]. Give each field once."),
        ("antialias=no", UsageError, "'no' is neither true nor false [antialias=no]. Write antialias=false."),
        ("resizer=pillow,antialias=false", UsageError, "Pillow cannot resize without antialiasing [resizer=pillow]"),
        ("crop=middle:0.5", UsageError, "unknown crop 'middle:0.5' [crop=middle:0.5]. Use none, center:F with a fract"),
        ("crop=none:", UsageError, "unknown crop 'none:'"),
        ("crop=center", UsageError, "unknown crop 'center'"),
        ("crop=center:0", UsageError, "unknown crop 'center:0'"),
        ("crop=center:1.1", UsageError, "unknown crop 'center:1.1'"),
        ("crop=box:-0.1", UsageError, "unknown crop 'box:-0.1'"),
        ("crop=box:inf", UsageError, "unknown crop 'box:inf'"),
        ("crop=box:nan", UsageError, "unknown crop 'box:nan'"),
        ("channels=rgb", UsageError, "unknown channel rule 'rgb' [channels=rgb]. Use auto, mean, one band such as 2"),
        ("channels=0-", UsageError, "unknown channel rule '0-'"),
        ("channels=0+-1", UsageError, "unknown channel rule '0+-1'"),
        ("channels=-1", UsageError, "unknown channel rule '-1'"),
        ("channels=²", UsageError, "unknown channel rule '²'"),
        ("stretch=asinh:0", UsageError, "the parameters of the stretch do not fit [asinh:0]"),
        ("stretch=asin", UnknownNameError, "unknown stretch 'asin' [stretch]. Did you mean asinh"),
        ("size=224", UnknownNameError, "unknown preprocessing field 'size' [preprocessing field]. Did you mean resize"),
        (
            "interpolation=cubic",
            UnknownNameError,
            "unknown interpolation 'cubic' [interpolation]. Did you mean bicub",
        ),
        ("resizer=pilow", UnknownNameError, "unknown resizer 'pilow' [resizer]. Did you mean pillow?"),
    ],
)
def test_a_spec_that_cannot_be_understood(spec: str, kind: type[SkyprobeError], message: str) -> None:
    with pytest.raises(SkyprobeError, match="^" + re.escape(message)) as caught:
        Preprocessing.parse(spec)
    assert type(caught.value) is kind


@pytest.mark.parametrize("text", ["full-244", ""])
def test_an_unknown_variant_offers_what_there_is(text: str) -> None:
    with pytest.raises(UnknownNameError, match=rf"^unknown variant '{text}' \[variant\]\. .*full-224"):
        parse_variant(text)
