"""Names that are commands of a medium: each rule against a reader of that medium."""

from __future__ import annotations

from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from probes.results.escaping import escape_csv, escape_html, escape_latex, escape_lines, escape_terminal


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("M 31, Ω = 0.3", "M 31, Ω = 0.3"),
        ("\x1b[2Jgone", r"\x1b[2Jgone"),
        ("\x9b31m", r"\x9b31m"),
        ("a\nSaved head", r"a\nSaved head"),
        ("abc\u202egpj", r"abc\u202egpj"),
        ("\udc80", r"\udc80"),
        ("\x7f\r\b", r"\x7f\r\x08"),
    ],
)
def test_what_steers_a_terminal_is_shown(name, shown):
    assert escape_terminal(name) == shown


@given(st.text())
def test_a_terminal_is_sent_nothing_but_printable_text(text):
    assert escape_terminal(text).isprintable()
    assert escape_lines(text).count("\n") == text.count("\n")
    assert all(line.isprintable() for line in escape_lines(text).split("\n"))


def test_latex_has_no_command_of_a_name():
    assert escape_latex(r"\input{/etc/passwd}") == r"\textbackslash{}input\{/etc/passwd\}"
    assert escape_latex("50 % & $x_1^2$ #3 ~ <a|b>") == (
        r"50 \% \& \$x\_1\textasciicircum{}2\$ \#3 \textasciitilde{} \textless{}a\textbar{}b\textgreater{}"
    )
    assert escape_latex("[1cm]") == "{}[1cm]"
    assert escape_latex("*") == "{}*"
    assert escape_latex("a [min-max]") == "a [min-max]"
    assert escape_latex("a\n\n\\par") == r"a\textbackslash{}n\textbackslash{}n\textbackslash{}par"


def unescape_latex(text):
    """A reader of the commands that names may become, and of none besides."""
    commands = {"textbackslash": "\\", "textasciitilde": "~", "textasciicircum": "^"}
    commands |= {"textless": "<", "textgreater": ">", "textbar": "|"}
    found, place = [], 2 if text.startswith("{}") else 0
    while place < len(text):
        letter, rest = text[place], text[place + 1 :]
        if letter != "\\":
            assert letter not in "&%$#_{}~^<>|"
            found.append(letter)
            place += 1
        elif rest[0] in "&%$#_{}":
            found.append(rest[0])
            place += 2
        else:
            name = next(name for name in commands if rest.startswith(f"{name}{{}}"))
            found.append(commands[name])
            place += len(name) + 3
    return "".join(found)


@given(st.text())
def test_a_reader_of_latex_sees_the_name(text):
    assert unescape_latex(escape_latex(text)) == escape_terminal(text)


@pytest.mark.parametrize(
    "cell", ['=HYPERLINK("http://x")', "+cmd|' /C calc'!A0", "-2+3", "@SUM(A1)", "\t=1", "\r=1", "\n=1"]
)
def test_a_formula_in_a_csv_file_is_text(cell):
    assert escape_csv(cell) == "'" + cell


@pytest.mark.parametrize("cell", ["-", "+", "-0.5", "+1e-3", "-1", "J0123+05", "a=b", "", "-.5"])
def test_numbers_and_names_remain_what_they_are(cell):
    assert escape_csv(cell) == cell


@given(st.text())
def test_html_is_text_alone(text):
    seen: list[str] = []
    parser = HTMLParser()
    parser.handle_data = seen.append
    parser.handle_starttag = parser.handle_startendtag = lambda tag, attributes: pytest.fail(tag)
    parser.feed(escape_html(text))
    parser.close()
    assert "".join(seen) == escape_terminal(text)
    assert '"' not in escape_html(text)
