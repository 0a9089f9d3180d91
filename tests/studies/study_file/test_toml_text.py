"""Lines of values, whatever way TOML is written in."""

from __future__ import annotations

import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from studies.study_file.toml_text import TomlText

TEXT = """title = "x" # a = 3
many = [
  1,
  2, # two
]
point = { x = 1, y = 2 }
a.b.c = 4

[probe]
text = '''
seeds = 5
'''
seeds = 3
"quoted key" = 1

[[finetune]]
mode = "lora"
[[finetune]]
epochs = 2
[finetune.trainer]
clip = 1
"""


@pytest.mark.parametrize(
    ("path", "line"),
    [
        (("title",), 1),
        (("many",), 2),
        (("point", "y"), 6),
        (("a", "b", "c"), 7),
        (("probe",), 9),
        (("probe", "text"), 10),
        (("probe", "seeds"), 13),
        (("probe", "quoted key"), 14),
        (("finetune",), 16),
        (("finetune", 0, "mode"), 17),
        (("finetune", 1), 18),
        (("finetune", 1, "epochs"), 19),
        (("finetune", 1, "trainer", "clip"), 21),
    ],
)
def test_the_line_at_which_a_value_begins(path, line):
    assert TomlText(TEXT, "study.toml").locate(*path) == f"study.toml, line {line}"


@pytest.mark.parametrize("path", [(), ("absent",), ("title", "x"), ("finetune", 2), ("probe", 0), ("many", "x")])
def test_where_there_is_no_such_value_the_file_is_told(path):
    assert TomlText(TEXT, "study.toml").locate(*path) == "study.toml"


@given(st.dictionaries(st.text("abc", min_size=1, max_size=3), st.text("xyz\n= #", max_size=5), min_size=1))
def test_lines_of_generated_keys(values):
    lines, expected = [], {}
    for number, (key, text) in enumerate(values.items()):
        lines += ["# comment"] * (number % 2)
        expected[key] = len(lines) + 1
        lines += f"{key} = '''{text}'''".split("\n")
    written = "\n".join(lines)
    assert set(tomllib.loads(written)) == set(values)
    file = TomlText(written, "f")
    assert {key: file.locate(key) for key in values} == {key: f"f, line {line}" for key, line in expected.items()}
