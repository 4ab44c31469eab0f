"""Every key of a TOML text is found where it stands."""

from __future__ import annotations

import tomllib
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from patter.agentfile.locate import Path, locate

TEXT = '''\
# a comment with [brackets] and key = "x"
name = "a # b"   # not a comment inside quotes
prompt = """first
key = "not a key"
[[not a table]] \\""" still inside
last"""
literal = \'\'\'
[nor = this]
\'\'\'
"quoted \\u0041.key" = 1
a.b."c d" = [1, 2]

[stt]
api_key = { env = "NAME", nested = { deep = [ { x = 1 } ] } }

[[tools]]
name = "one"
[tools.parameters]
type = "object"
[tools.parameters.properties.day]
type = "string"

[[tools]]
name = "two"
[[tools.inner]]
k = 1
[[tools.inner]]
k = 2
[rehearsal]
caller = [
  "one",   # a comment ]
  {say = "two", after_ms = 12},
  'three',
]
'''


def _paths(value: Any, path: Path = ()) -> set[Path]:
    found = {path} if path else set()
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        found |= _paths(item, (*path, key))
    return found


def test_every_path_of_the_document_has_a_place() -> None:
    assert set(locate(TEXT)) == _paths(tomllib.loads(TEXT))


def test_places_are_lines_and_columns_from_one() -> None:
    places = locate(TEXT)
    lines = TEXT.splitlines()
    for path, words in {
        ("name",): "name =",
        ("literal",): "literal =",
        ("stt",): "[stt]",
        ("stt", "api_key"): "api_key =",
        ("stt", "api_key", "env"): "env =",
        ("stt", "api_key", "nested", "deep", 0, "x"): "x =",
        ("tools", 1): "[[tools]]",
        ("tools", 1, "name"): 'name = "two"',
        ("tools", 1, "inner", 1, "k"): "k = 2",
        ("tools", 0, "parameters", "properties", "day", "type"): 'type = "string"',
        ("rehearsal", "caller", 0): '"one"',
        ("rehearsal", "caller", 1, "after_ms"): "after_ms",
        ("rehearsal", "caller", 2): "'three'",
    }.items():
        line, column = places[path]
        assert lines[line - 1][column - 1 :].startswith(words), path


def test_windows_line_ends_do_not_shift_lines() -> None:
    assert locate(TEXT.replace("\n", "\r\n")) == locate(TEXT)


_keys = st.text(st.characters(codec="utf-8", exclude_categories=("Cs", "Cc")), min_size=1, max_size=6)
_values = st.recursive(
    st.integers(-9, 9) | st.booleans() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_keys, inner, max_size=3),
    max_leaves=8,
)


def _quoted(text: str) -> str:
    return '"' + "".join(f"\\U{ord(c):08x}" if not c.isalnum() or ord(c) > 126 else c for c in text) + '"'


def _toml(value: Any) -> str:
    match value:
        case bool():
            return str(value).lower()
        case str():
            return _quoted(value)
        case list():
            return "[ " + ",\n ".join(_toml(item) for item in value) + " ]"
        case dict():
            return "{ " + ", ".join(f"{_quoted(key)} = {_toml(item)}" for key, item in value.items()) + " }"
        case _:
            return str(value)


@given(st.dictionaries(_keys, _values, max_size=4), st.lists(st.dictionaries(_keys, _values, max_size=3), max_size=3))
def test_any_document_is_walked_to_its_end(top: dict[str, Any], tables: list[dict[str, Any]]) -> None:
    head = "".join(f"{_quoted(key)} = {_toml(value)}\n" for key, value in top.items())
    rows = "".join(
        "[['the tables']]\n" + "".join(f"{_quoted(key)}={_toml(value)}\n" for key, value in table.items())
        for table in tables
    )
    text = head + rows
    assert set(locate(text)) == _paths(tomllib.loads(text))
