"""The house rules that a machine can check: who may import whom, and what may stand where."""

from __future__ import annotations

import ast
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("patter", "patter_tui")
PURE = ("patter/wire", "patter/turns", "patter/audio")
WORLDLY = {"aiohttp", "anyio", "asyncio", "http", "socket", "sounddevice", "subprocess", "threading", "time", "urllib"}
UI_MAY_IMPORT = {"patter.events", "patter.exceptions", "patter.models"}

VENDORS = ("deepgram", "elevenlabs", "hibari", "openai", "silero", "telnyx", "twilio", "whisper")
MODES = {"elevenlabs_convai", "openai_realtime", "pipeline"}
VENDOR_FREE = (
    "patter/audio", "patter/bus.py", "patter/call", "patter/client.py", "patter/clock.py", "patter/control.py",
    "patter/events", "patter/ports.py", "patter/signals.py", "patter/terminal.py", "patter/turns",
)  # fmt: skip
MODES_ONLY_IN = {"patter/assembly/engines.py", "patter/assembly/workshop.py", "patter/builders.py"}
MODE_IS_A_DEFAULT_OF_THE_FACE = {"patter/models.py", "patter/client.py"}
MODE_IS_A_KEY_OF_A_PRICE = {"patter/observe/prices.py"}  # a user may price an engine by its public name


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def sources(*under: str) -> list[Path]:
    found: list[Path] = []
    for name in under or PACKAGES:
        place = ROOT / name
        found += [place] if place.suffix else sorted(place.rglob("*.py"))
    return [path for path in found if path.exists()]


def where(path: Path, node: ast.AST) -> str:
    return f"{path.relative_to(ROOT)}:{getattr(node, 'lineno', 0)}"


def imports(node: ast.AST) -> Iterator[tuple[ast.AST, str]]:
    """Every import under `node` as (node, module name); `from a import b` yields a and a.b, of our own packages only a.b."""
    for item in ast.walk(node):
        if isinstance(item, ast.Import):
            yield from ((item, alias.name) for alias in item.names)
        elif isinstance(item, ast.ImportFrom) and item.module and not item.level:
            if item.module not in PACKAGES:
                yield item, item.module
            yield from ((item, f"{item.module}.{alias.name}") for alias in item.names)


def functions(path: Path) -> Iterator[ast.AST]:
    return (item for item in ast.walk(tree(path)) if isinstance(item, ast.FunctionDef | ast.AsyncFunctionDef))


def words(path: Path) -> Iterator[ast.Constant]:
    """Every string of a file that is neither a docstring nor an annotation's."""
    docs = {
        id(node.body[0].value)
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        and node.body
        and isinstance(node.body[0], ast.Expr)
    }
    bare = {id(node.value) for node in ast.walk(tree(path)) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docs | bare:
            yield node


def test_the_floors_hold() -> None:
    """The contracts of pyproject.toml: layers, the UI's borders, the softphone's and the loopback carrier's."""
    pytest.importorskip("importlinter")
    command = [
        sys.executable,
        "-c",
        "from importlinter.cli import lint_imports_command; lint_imports_command()",
        "--no-cache",
    ]

    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stdout + done.stderr


def test_every_module_has_a_floor() -> None:
    config = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"]
    floors = next(item for item in config["contracts"] if item["name"] == "floors")

    assert floors["exhaustive"] is True


def test_the_ui_borders_name_every_module_but_the_values() -> None:
    config = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"]
    border = next(item for item in config["contracts"] if item.get("source_modules") == ["patter_tui"])
    modules = {
        f"patter.{path.stem}"
        for path in (ROOT / "patter").iterdir()
        if (path.suffix == ".py" or (path / "__init__.py").exists()) and path.stem not in {"__init__", "__main__"}
    }

    assert modules - set(border["forbidden_modules"]) == UI_MAY_IMPORT


def test_the_ui_imports_only_values() -> None:
    broken = [
        f"{where(path, node)} {name}"
        for path in sources("patter_tui")
        for node, name in imports(tree(path))
        if (name == "patter" or name.startswith("patter."))
        and not any(name == allowed or name.startswith(allowed + ".") for allowed in UI_MAY_IMPORT)
    ]

    assert broken == []


def test_the_ui_loads_neither_numbers_nor_a_server() -> None:
    heavy = {"aiohttp", "numpy", "sounddevice", "soxr"}

    assert [
        f"{where(path, node)} {name}"
        for path in sources("patter_tui")
        for node, name in imports(tree(path))
        if name.split(".")[0] in heavy
    ] == []


def test_no_project_import_inside_a_function() -> None:
    broken = [
        f"{where(path, node)} {name}"
        for path in sources()
        for function in functions(path)
        for node, name in imports(function)
        if name.split(".")[0] in PACKAGES
    ]

    assert broken == []


def test_only_what_must_start_fast_or_runs_a_users_code_imports_by_name() -> None:
    late = {"patter/__init__.py", "patter_tui/cli.py", "patter/agentfile/modules.py", "patter/registry.py"}

    assert {
        str(path.relative_to(ROOT))
        for path in sources()
        for node in ast.walk(tree(path))
        if (isinstance(node, ast.Attribute) and node.attr == "import_module")
        or (isinstance(node, ast.Name) and node.id == "__import__")
    } <= late


def test_no_module_takes_values_from_the_face() -> None:
    broken = [
        f"{where(path, node)} from patter import {alias.name}"
        for path in sources()
        for node in ast.walk(tree(path))
        if isinstance(node, ast.ImportFrom) and node.module == "patter"
        for alias in node.names
        if not (ROOT / "patter" / alias.name).exists() and not (ROOT / "patter" / f"{alias.name}.py").exists()
    ]

    assert broken == []


def test_no_task_without_a_group() -> None:
    broken = [
        where(path, node)
        for path in sources()
        for node in ast.walk(tree(path))
        if (isinstance(node, ast.Attribute) and node.attr in {"create_task", "ensure_future"})
        or (isinstance(node, ast.Name) and node.id in {"create_task", "ensure_future"})
    ]

    assert broken == []


def test_codecs_and_turns_are_pure() -> None:
    broken = [
        f"{where(path, node)} {name}"
        for path in sources(*PURE)
        for node, name in imports(tree(path))
        if name.split(".")[0] in WORLDLY and not name.startswith("urllib.parse")  # parsing a URL opens nothing
    ]

    assert broken == []


def test_vendor_names_stay_where_vendors_are() -> None:
    broken = [
        f"{where(path, node)} {node.value!r}"
        for path in sources(*VENDOR_FREE)
        for node in words(path)
        if any(vendor in str(node.value).lower() for vendor in VENDORS)
        and not (path.name == "client.py" and node.value in MODES | FACE)
    ]

    assert broken == []


FACE = {"gpt-4o-mini-realtime-preview"}


def test_mode_names_stand_where_arguments_are_checked_and_parts_are_picked() -> None:
    broken = [
        f"{where(path, node)} {node.value!r}"
        for path in sources("patter")
        if str(path.relative_to(ROOT)) not in MODES_ONLY_IN | MODE_IS_A_DEFAULT_OF_THE_FACE | MODE_IS_A_KEY_OF_A_PRICE
        for node in words(path)
        if node.value in MODES
    ]

    assert broken == []


def test_every_module_says_what_it_owns() -> None:
    assert [str(path.relative_to(ROOT)) for path in sources() if not ast.get_docstring(tree(path))] == []


def test_no_file_is_a_drawer_for_leftovers() -> None:
    names = {"common", "helper", "helpers", "misc", "util", "utils"}

    assert [str(path.relative_to(ROOT)) for path in sources() if set(path.stem.split("_")) & names] == []
