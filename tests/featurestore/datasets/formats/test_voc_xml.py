from __future__ import annotations

import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from xml.etree import ElementTree as ET

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from featurestore.datasets.annotation.records import AnnotatedObject
from featurestore.datasets.formats.voc_xml import read_annotation
from featurestore.errors import DatasetError

LAUGHS = """<!DOCTYPE x [<!ENTITY a "ha"><!ENTITY b "&a;&a;">]><annotation><object>&b;</object></annotation>"""
OUTSIDE = """<!DOCTYPE x [<!ENTITY a SYSTEM "file:///etc/passwd">]><annotation>&a;</annotation>"""


def object_of(name: str, corners: tuple[float, ...], difficult: str = "<difficult>0</difficult>") -> str:
    tags = ("xmin", "ymin", "xmax", "ymax")
    box = "".join(f"<{tag}>{value}</{tag}>" for tag, value in zip(tags, corners, strict=True))
    return f"<object><name>{name}</name>{difficult}<bndbox>{box}</bndbox></object>"


def write(folder: Path, *objects: str, size: str = "<size><width>8</width><height>6</height></size>") -> Path:
    path = folder / "a.xml"
    path.write_text(f"<annotation><filename>a.png</filename>{size}{''.join(objects)}</annotation>")
    return path


def test_corners_become_edges(tmp_path: Path) -> None:
    found = read_annotation(write(tmp_path, object_of(" 1_2 ", (1, 2, 3, 6)), object_of("1_1", (4, 4, 4, 4))))
    assert (found.width, found.height) == (8, 6)
    assert found.objects == (
        AnnotatedObject((0, 1, 3, 6), "1_2", crowd=False),
        AnnotatedObject((3, 3, 4, 4), "1_1", crowd=False),
    )


@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(*[st.integers(1, 50)] * 4), max_size=3))
def test_corners_are_those_that_torchvision_reads(tmp_path: Path, boxes: list[tuple[int, ...]]) -> None:
    from torchvision.datasets import VOCDetection

    corners = [(min(a, c), min(b, d), max(a, c), max(b, d)) for a, b, c, d in boxes]
    path = write(tmp_path, *(object_of("x", box) for box in corners))
    plain = VOCDetection.parse_voc_xml(ET.parse(path).getroot())["annotation"].get("object", [])
    expected = [tuple(int(one["bndbox"][tag]) for tag in ("xmin", "ymin", "xmax", "ymax")) for one in plain]
    edges = [one.xyxy for one in read_annotation(path).objects]
    assert [(x0 + 1, y0 + 1, x1, y1) for x0, y0, x1, y1 in edges] == expected


@pytest.mark.parametrize(
    ("flag", "crowd"), [("<difficult>1</difficult>", True), ("<difficult>0</difficult>", False), ("", False)]
)
def test_difficult_objects_are_crowds(tmp_path: Path, flag: str, *, crowd: bool) -> None:
    (found,) = read_annotation(write(tmp_path, object_of("x", (1, 1, 2, 2), flag))).objects
    assert found.crowd is crowd


def test_a_corner_at_zero_is_the_edge_of_the_image(tmp_path: Path) -> None:
    (found,) = read_annotation(write(tmp_path, object_of("x", (0, 0, 2, 2)))).objects
    assert found.xyxy == (0, 0, 2, 2)


@pytest.mark.parametrize("size", ["", "<size/>", "<size><height>0</height></size>"])
def test_the_height_may_be_unknown(tmp_path: Path, size: str) -> None:
    assert read_annotation(write(tmp_path, size=size)).height is None


def test_sizes_may_be_written_as_floats(tmp_path: Path) -> None:
    assert read_annotation(write(tmp_path, size="<size><width>20.0</width><height>6.0</height></size>")).width == 20


def test_an_object_without_a_box_has_no_edges(tmp_path: Path) -> None:
    (found,) = read_annotation(write(tmp_path, "<object><name>x</name><polygon/></object>")).objects
    assert np.isnan(found.xyxy).all()


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "no element found"),
        ("<annotation>", "no element found"),
        ("<svg/>", "its outermost element is svg"),
        ("<annotation><object/></annotation>", "an object has no name"),
        ("<annotation><object><name>x</name><bndbox/></object></annotation>", "an object has no bndbox/xmin"),
        (f"<annotation>{object_of('x', (1, 1, 2, 2)).replace('>2<', '>two<')}</annotation>", "could not convert"),
        ("<annotation><size><height>six</height></size></annotation>", "could not convert"),
    ],
)
def test_what_is_no_annotation(tmp_path: Path, text: str, reason: str) -> None:
    (tmp_path / "a.xml").write_text(text)
    with pytest.raises(DatasetError, match=f"the file is not a Pascal-VOC annotation: .*{reason}"):
        read_annotation(tmp_path / "a.xml")


@pytest.mark.parametrize(("text", "name"), [(LAUGHS, "a"), (OUTSIDE, "a")])
def test_entities_are_refused(tmp_path: Path, text: str, name: str) -> None:
    (tmp_path / "a.xml").write_text(text)
    with pytest.raises(DatasetError, match=f"the XML file declares the entity '{name}'"):
        read_annotation(tmp_path / "a.xml")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "iso-8859-1"])
def test_encodings_that_a_file_declares(tmp_path: Path, encoding: str) -> None:
    text = f"<?xml version='1.0' encoding='{encoding}'?><annotation>{object_of('étoile', (1, 1, 2, 2))}</annotation>"
    (tmp_path / "a.xml").write_bytes(text.encode(encoding))
    assert read_annotation(tmp_path / "a.xml").objects[0].category == "étoile"


@pytest.mark.parametrize("encoding", ["gbk", "utf-7", "no-such-thing", "idna"])
def test_encodings_that_no_parser_reads(tmp_path: Path, encoding: str) -> None:
    (tmp_path / "a.xml").write_text(f"<?xml version='1.0' encoding='{encoding}'?><annotation/>")
    with pytest.raises(DatasetError, match="the file is not a Pascal-VOC annotation"):
        read_annotation(tmp_path / "a.xml")


@pytest.mark.parametrize("size", ["9" * 400, "9" * 5000, "-1", "6.5"])
def test_impossible_sizes(tmp_path: Path, size: str) -> None:
    with pytest.raises(DatasetError, match="the file is not a Pascal-VOC annotation"):
        read_annotation(write(tmp_path, size=f"<size><width>{size}</width></size>"))


# Each example writes over the file of the one before.
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.floats(0, 1), st.binary(max_size=6)), min_size=1, max_size=4))
def test_damaged_files_are_the_projects_own_errors(tmp_path: Path, changes: list[tuple[float, bytes]]) -> None:
    data = write(tmp_path, object_of("x", (1, 1, 2, 2))).read_bytes()
    for place, change in changes:
        start = int(place * len(data))
        data = data[:start] + change + data[start + len(change) :]
    (tmp_path / "a.xml").write_bytes(data)
    with suppress(DatasetError):
        read_annotation(tmp_path / "a.xml")


def test_reading_xml_loads_no_heavy_library() -> None:
    imported = "import sys, featurestore.datasets.formats.voc"
    code = f"{imported}; print(sorted({{'torch', 'astropy', 'pandas'}} & sys.modules.keys()))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
