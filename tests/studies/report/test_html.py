"""The report is parsed as a browser would: nothing is loaded from outside, and nothing that was given is lost."""

import base64
from html.parser import HTMLParser
from xml.etree import ElementTree as ET

import pandas as pd
import pytest

from featurestore.errors import StoreWriteError
from probes.plotting import CaptionedFigure
from studies.figures.scores import f1_by_fraction
from studies.report.html import Table, write_report

INJECTED = "<script>alert('x')</script>\"><img src=http://evil.example/x onerror=alert(1)>"
VOID = {"meta", "img", "br", "hr", "link", "input"}


class Page(HTMLParser):
    """Elements with their attributes, text by element, and whether all elements are closed in order."""

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.elements, self.texts, self.open = [], [], []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if data.strip():
            self.texts.append((self.open[-1] if self.open else "", data.strip()))

    def all(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]

    def text(self, tag):
        return [text for name, text in self.texts if name == tag]


@pytest.fixture
def drawn(make_grid):
    return CaptionedFigure("f1", f1_by_fraction(make_grid()), "caption of the figure", "what it shows")


@pytest.fixture
def write(tmp_path):
    def write(**contents):
        path = write_report(tmp_path / "out" / "report.html", **{"title": "Study"} | contents)
        return path.read_text(encoding="utf-8")

    return write


@pytest.fixture
def full(drawn):
    return {
        "headlines": ["first result", "second result"],
        "tables": [
            Table("macro-F1, 3 runs", pd.DataFrame({"head": ["linear", "knn"], "100 %": ["0.8 [0.7-0.9]", "-"]}))
        ],
        "figures": [drawn, drawn],
        "provenance": {"toy: net": {"sha256": "ab" * 32, "preprocessing": {"crop": {"kind": "none"}}, "rows": 3}},
        "cost": {"extraction of toy": {"forward, s": 1.23456, "images": 7}},
        "unreadable": {"toy": {"bad.png": "truncated"}, "other": {}},
        "notices": ["scholarly use", "scholarly use", ""],
        "commands": ["skyprobe demo", "skyprobe ls"],
    }


def test_everything_given_stands_in_the_page(write, full):
    page = Page(write(**full))
    assert page.text("title") == page.text("h1") == ["Study"]
    assert [text for text in page.text("p") if "result" in text] == ["first result", "second result"]
    assert page.text("caption") == ["macro-F1, 3 runs"]
    assert {"linear", "knn", "0.8 [0.7-0.9]", "-", "truncated", "1.235", "7", "none", "ab" * 32} <= set(page.text("td"))
    assert {"head", "100 %", "bad.png", "preprocessing.crop.kind", "forward, s"} <= set(page.text("th"))
    assert page.text("figcaption") == ["caption of the figure"] * 2
    assert page.text("pre") == ["skyprobe demo\nskyprobe ls"]
    assert page.text("p").count("scholarly use") == 1
    assert "toy: 1, left out of every score and figure." in page.text("p")
    assert not any(text.startswith("other") for text in page.text("p"))
    assert page.text("summary") == ["toy: net"]


def test_the_page_loads_nothing_from_outside(write, full):
    page = Page(write(**full))
    links = [
        (tag, a[name]) for tag, a in page.elements for name in ("src", "href", "srcset", "data", "action") if name in a
    ]
    assert len(links) == 2
    assert all(tag == "img" and link.startswith("data:image/svg+xml;base64,") for tag, link in links)
    assert not page.all("script")
    assert not page.all("link")
    styles = " ".join(page.text("style"))
    assert "url(" not in styles
    assert "@import" not in styles


def test_figures_are_whole_svg_images_that_load_nothing_themselves(write, drawn):
    (image,) = Page(write(figures=[drawn])).all("img")
    svg = ET.fromstring(base64.b64decode(image["src"].split(",")[1]))
    assert svg.tag == "{http://www.w3.org/2000/svg}svg"
    links = [value for node in svg.iter() for name, value in node.attrib.items() if name.endswith("href")]
    assert links
    assert all(link.startswith(("#", "data:")) for link in links)


@pytest.mark.parametrize("place", ["headlines", "notices", "commands"])
def test_text_is_escaped(write, place):
    page = Page(write(**{place: [INJECTED]}))
    assert not page.all("script")
    assert not page.all("img")
    assert INJECTED in [text for _, text in page.texts]


def test_names_are_escaped_wherever_they_come_from(write, drawn):
    bad = CaptionedFigure(INJECTED, drawn.figure, INJECTED, INJECTED)
    page = Page(
        write(
            title=INJECTED,
            tables=[Table(INJECTED, pd.DataFrame({INJECTED: [INJECTED]}))],
            figures=[bad],
            provenance={INJECTED: {INJECTED: INJECTED}},
            cost={INJECTED: {INJECTED: INJECTED}},
            unreadable={INJECTED: {INJECTED: INJECTED}},
        )
    )
    assert not page.all("script")
    assert [image["alt"] for image in page.all("img")] == [INJECTED]
    assert sum(INJECTED in text for _, text in page.texts) == 15


def test_the_page_can_be_read_aloud_and_on_a_phone(write, full):
    page = Page(write(**full))
    assert page.all("html") == [{"lang": "en"}]
    assert {"name": "viewport", "content": "width=device-width, initial-scale=1"} in page.all("meta")
    assert all(image["alt"] == "what it shows" for image in page.all("img"))
    assert all(header["scope"] in {"row", "col"} for header in page.all("th"))
    assert len(page.all("table")) == len(page.all("thead")) == 4
    assert page.open == []
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert {section["aria-labelledby"] for section in page.all("section")} == set(ids)


def test_an_empty_report_is_a_page_that_says_so(write):
    page = Page(write())
    assert page.text("h2") == ["Unreadable images"]
    assert page.text("p") == ["None."]


def test_equal_contents_are_equal_files(write, full):
    assert write(**full) == write(**full)


def test_a_folder_that_cannot_be_written_is_an_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreWriteError, match="cannot be written"):
        write_report(tmp_path / "file" / "report.html", title="Study")


def test_control_characters_of_names_are_shown_as_what_they_are(write, drawn):
    name = "\x1b[2J\u202ename"
    text = write(tables=[Table(name, pd.DataFrame({name: [name]}))], headlines=[name], unreadable={name: {name: name}})
    assert "\x1b" not in text
    assert "\u202e" not in text
    assert text.count("\\x1b[2J\\u202ename") >= 6
