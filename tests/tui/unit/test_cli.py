"""The command line: what it refuses, what it passes on, and what it must not load."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from patter_tui import cli, clipboard, term


def python(*line: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run Python with our packages, its input and output being pipes."""
    return subprocess.run(
        [sys.executable, *line],
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        env=os.environ | environment,
        check=False,
    )


def test_without_a_terminal_it_says_so_and_what_to_use_instead() -> None:
    done = python("-m", "patter_tui")
    assert done.returncode == 2
    assert "needs a terminal" in done.stderr
    assert "patter-tui test" in done.stderr
    assert done.stdout == ""


def test_a_dumb_terminal_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    assert "TERM=dumb" in term.problem({"TERM": "dumb"})
    assert term.problem({"TERM": "xterm-256color"}) == ""


def test_no_color_wins_over_every_theme() -> None:
    assert term.theme("dracula", {"NO_COLOR": "1"}) == "ansi-dark"
    assert term.theme("dracula", {}) == "dracula"
    assert term.theme("", {}) == ""


def test_tmux_gets_all_colours_unless_the_user_chose() -> None:
    assert term.color_system({"TMUX": "x"}) == "truecolor"
    assert term.color_system({"TMUX": "x", "NO_COLOR": "1"}) == ""
    assert term.color_system({"TERM": "xterm"}) == ""


def test_help_and_version_load_no_interface() -> None:
    code = "import sys; from patter_tui import cli\ntry: cli.main(['--help'])\nexcept SystemExit: pass\n"
    done = python(
        "-c",
        code + "print(sorted(name for name in sys.modules if name.split('.')[0] in ('textual', 'rich', 'websockets')))",
    )
    assert done.stdout.splitlines()[-1] == "[]"
    assert "patter-tui stop" in done.stdout


def test_the_workbench_contains_no_engine() -> None:
    code = (
        "import sys, patter_tui.app, patter_tui.cli, patter_tui.palette, textual.widgets._text_area\n"
        "values = {'patter.events', 'patter.exceptions', 'patter.models', 'patter.control'}\n"
        "ours = {n for n in sys.modules if n.startswith('patter.') and not n.startswith('patter.events.')} - values\n"
        "heavy = [n for n in ('numpy', 'aiohttp', 'onnxruntime', 'sounddevice', 'websockets') if n in sys.modules]\n"
        "print(sorted(ours), heavy)"
    )
    assert python("-c", code).stdout.strip() == "[] []"


def test_an_agent_file_that_is_not_there(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(term, "problem", lambda: "")
    assert cli.main(["nowhere.toml"]) == 2
    assert "There is no agent file nowhere.toml." in capsys.readouterr().err
    assert cli.main(["tset"]) == 2
    assert "Commands are: test, serve, call, calls, hangup, dashboard, doctor, vendors, stop, paths." in capsys.readouterr().err


def test_an_unknown_option_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--colour"]) == 2
    assert "does not know --colour" in capsys.readouterr().err


def test_paths_are_listed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["paths", "--home", str(tmp_path)]) == 0
    assert str(tmp_path / "agents") in capsys.readouterr().out


def test_stopping_where_nothing_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["stop", "--home", str(tmp_path)]) == 0
    assert capsys.readouterr().out == "No engine is running.\n"


def test_the_clipboard_code_is_wrapped_for_tmux() -> None:
    plain, wrapped = clipboard.escape_code("hello", {}), clipboard.escape_code("hello", {"TMUX": "1"})
    assert plain == "\x1b]52;c;aGVsbG8=\a"
    assert wrapped.startswith("\x1bPtmux;\x1b\x1b]52")
    assert not clipboard.by_program("hello", {"SSH_CONNECTION": "x"})


def test_the_text_test_takes_an_agent_by_its_name(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "patter_tui", "test", "riverside", "--home", str(tmp_path)],
        input="goodbye\n", capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert "Thank you for calling Riverside Dental." in done.stdout
    assert done.returncode == 0
