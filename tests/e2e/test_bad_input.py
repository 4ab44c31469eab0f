"""What goes wrong around a workbench, with its real processes: each time a sentence that says what, where and how to go on,
and nothing that was typed, said or filed is lost."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support import terminal as tmux
from tests.support.terminal import WORKBENCH, Terminal, household, left_behind, own_environment, processes, terminal

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]

GOOD = """\
system_prompt = "You are the front desk of a bakery."
first_message = "Corner Bakery, good morning!"

[[script]]
when = []
say = "Fresh bread is ready at seven."
"""
BROKEN = {
    "an unknown key": (GOOD.replace("first_message", "frist_message"), "line 2:", 'did you mean "first_message"?'),
    "broken TOML": (GOOD.replace("when = []", "when = ["), "line 6:", "this is no valid TOML"),
    "a variable that is not set": (
        GOOD + '\n[llm]\nbase_url = "http://127.0.0.1:9/v1"\napi_key = { env = "PATTER_TEST_KEY" }\n',
        "line 10:",
        "export PATTER_TEST_KEY=",
    ),
    "a tool that cannot be imported": (
        GOOD + '\n[[tools]]\nname = "bake"\ndescription = "Bakes."\nhandler = "no_such_oven:bake"\n',
        "line 11:",
        "put no_such_oven.py beside the agent file",
    ),
}


@pytest.fixture(autouse=True)
def needs_a_terminal() -> None:
    reason = tmux.missing()
    if reason:
        pytest.skip(reason)


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    """A home with one good agent in it; whatever a failed test left running is ended."""
    place = tmp_path / "home"
    (place / "agents").mkdir(parents=True)
    (place / "agents" / "bakery.toml").write_text(GOOD)
    with household(place):
        yield place


def typed_call(window: Terminal) -> None:
    """From the start page into a typed call whose greeting has come."""
    window.wait("type to it")
    window.press("t")
    window.says("agent", "Corner Bakery, good morning!")


def ask(window: Terminal, question: str) -> None:
    """Type a question into the call and wait for the answer."""
    window.write(question)
    window.press("Enter")
    window.says("caller", question)
    window.says("agent", "Fresh bread is ready at seven.")


def leave(window: Terminal) -> int:
    """Quit, whatever is asked; the exit code."""
    window.press("C-q")
    window.until(lambda: window.exit_code is not None or "in progress" in window.screen, "the way out")
    if window.exit_code is None:
        window.press("C-q")
    return window.ended()


# ------------------------------------------------------------------------------ the terminal


def test_without_a_terminal_it_says_what_to_use_instead(home: Path) -> None:
    done = subprocess.run(
        WORKBENCH,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        env=own_environment(home),
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert "its input is not one" in done.stderr
    assert "patter-tui test AGENT.toml" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_output_into_a_pipe_is_refused_as_well(home: Path) -> None:
    line = f"{' '.join(WORKBENCH)} | cat; exit ${{PIPESTATUS[0]}}"
    with terminal(home, command=("bash", "-c", line)) as window:
        assert window.ended() == 2
        window.wait("its output is not one", "patter-tui test AGENT.toml")


def test_a_dumb_terminal_is_refused(home: Path) -> None:
    with terminal(home, command=("env", "TERM=dumb", *WORKBENCH)) as window:
        assert window.ended() == 2
        window.wait("cannot draw on TERM=dumb", "Set TERM (for example xterm-256color)")
    assert processes(home) == {}


def test_a_terminal_that_is_too_small_says_so_and_comes_back_with_the_call(home: Path) -> None:
    with terminal(home, columns=50, rows=12) as window:
        window.wait("patter needs 60×16, this terminal has 50×12", "ctrl+q quits")
        window.resize(80, 24)
        typed_call(window)
        window.resize(50, 12)
        window.wait("patter needs 60×16")
        window.resize(100, 30)
        window.wait("in call", "Corner Bakery, good morning!")
        ask(window, "Do you have bread?")
        window.says("agent", "Corner Bakery, good morning!")
        window.resize(50, 12)
        window.wait("patter needs 60×16")
        assert leave(window) == 0
    assert left_behind(home) == {}


def test_keys_pressed_while_it_starts_do_no_harm(home: Path) -> None:
    with terminal(home) as window:
        while "F5" not in window.screen:
            assert window.exit_code is None, window.screen
            window.press("F2", "F5", "F3")
        typed_call(window)
        assert leave(window) == 0
    assert left_behind(home) == {}


# ------------------------------------------------------------------------------ the agent's file


def test_every_mistake_in_an_agent_file_has_its_line_and_is_mended_without_a_restart(home: Path) -> None:
    file = home / "agents" / "bakery.toml"
    problems = iter(BROKEN.values())
    text, line, word = next(problems)
    file.write_text(text)
    with terminal(home) as window:
        window.wait("bakery", line, word, "mend it in the editor")
        window.press("t")  # nothing can be called
        for text, line, word in problems:
            file.write_text(text)
            window.wait(line, word, "mend it in the editor")
        assert file.read_text() == text
        window.press("F2")
        window.wait(line, word, text.splitlines()[0])
        window.press("F3")
        file.write_text(GOOD)
        window.wait("Corner Bakery, good morning!")
        typed_call(window)
        file.write_text(BROKEN["broken TOML"][0])
        window.wait("bakery line 6")  # in a toast: the call goes on with the version before
        ask(window, "Do you have bread?")
        assert leave(window) == 0
    assert left_behind(home) == {}


def test_a_file_that_is_not_there_and_an_option_that_is_unknown(home: Path) -> None:
    for argument, sentence in (
        ("nobody.toml", "There is no agent file nobody.toml."),
        ("--loud", "does not know --loud"),
    ):
        with terminal(home, argument) as window:
            assert window.ended() == 2
            window.wait(sentence)


def test_text_that_was_not_saved_survives_a_workbench_that_is_killed(home: Path) -> None:
    file = home / "agents" / "bakery.toml"
    with terminal(home) as window:
        window.wait("type to it")
        window.press("F2")
        window.wait("system_prompt")
        window.write("# a thought that came late")
        window.wait("# a thought that came late")
        window.until(lambda: any((home / "drafts").iterdir()), "the draft on disk")
        (workbench,) = (number for number, command in processes(home).items() if "patter_tui" in command)
        os.kill(workbench, 9)
        window.until(lambda: workbench not in processes(home), "the workbench's end")
    assert file.read_text() == GOOD
    with terminal(home) as window:
        window.wait("type to it")
        window.press("F2")
        window.wait("# a thought that came late", "Unsaved text of last time is back")
        window.write("# saved as typed: ")
        window.press("C-s")
        window.until(lambda: "# saved as typed: # a thought that came late" in file.read_text(), "the file saved")
        assert leave(window) == 0


# ------------------------------------------------------------------------------ the engine


def test_a_killed_engine_is_noticed_started_again_and_its_call_closed(home: Path) -> None:
    with terminal(home) as window:
        typed_call(window)
        ask(window, "Do you have bread?")
        os.kill(json.loads((home / "engine.json").read_text())["pid"], 9)
        window.wait("the engine stopped; what was said is kept", "engine stopped", "^e Start engine")
        assert any("Fresh bread" in entry.text for entry in window.transcript())
        window.press("C-e")
        window.until(lambda: "^e Start engine" not in window.screen and "● engine" in window.screen, "the engine again")
        window.press("F5")
        window.wait("bakery", "✗ engine died")
        window.press("Enter")
        window.says("agent", "Fresh bread is ready at seven.")
        assert leave(window) == 0
    (call,) = (path for path in (home / "calls").iterdir() if path.is_dir())
    last = json.loads((call / "events.jsonl").read_text().splitlines()[-1])
    assert (last["type"], last["reason"]) == ("CallEnded", "engine_died")
    assert left_behind(home) == {}


def test_a_second_terminal_shares_the_engine_and_leaves_it_to_the_first(home: Path) -> None:
    with terminal(home) as first:
        typed_call(first)
        engine = json.loads((home / "engine.json").read_text())
        with terminal(home) as second:
            second.wait("Calls(1)")
            second.press("F5")
            second.wait("● live")
            second.press("Enter")
            second.says("agent", "Corner Bakery, good morning!")
            ask(first, "Do you have bread?")
            second.says("agent", "Fresh bread is ready at seven.")
            second.press("C-q")
            assert second.ended() == 0
        ask(first, "And rolls?")
        assert json.loads((home / "engine.json").read_text()) == engine
        assert leave(first) == 0
    assert left_behind(home) == {}


def test_two_terminals_opened_at_once_start_one_engine(home: Path) -> None:
    with terminal(home) as one, terminal(home) as other:
        typed_call(one)
        other.wait("Calls(1)")
        assert len([command for command in processes(home).values() if "patter.engine" in command]) == 1
        assert leave(other) == 0
        ask(one, "Do you have bread?")
        assert leave(one) == 0
    assert left_behind(home) == {}


def test_a_port_that_is_taken_is_told_in_one_sentence(home: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = str(other.getsockname()[1])
        command = (sys.executable, "-m", "patter.engine", "--agents", str(home / "agents"), "--port", port)
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            env=own_environment(home),
            timeout=60,
            check=False,
            stdin=subprocess.DEVNULL,
        )
    assert done.returncode == 2
    assert f"Port {port}" in done.stderr
    assert len(done.stderr.splitlines()) == 1


# ------------------------------------------------------------------------------ sound


def without_the_library(folder: Path) -> dict[str, str]:
    """What Python does where PortAudio is not installed: the wrapper cannot be imported."""
    folder.mkdir()
    (folder / "sounddevice.py").write_text('raise OSError("PortAudio library not found")\n')
    return {"PYTHONPATH": str(folder)}


def without_a_server(folder: Path) -> dict[str, str]:
    """What happens where the library finds no sound card and no sound server."""
    return {"PULSE_SERVER": f"unix:{folder}/nobody"}


@pytest.mark.parametrize(
    ("environment", "problem"),
    [(without_the_library, "PortAudio"), (without_a_server, "no microphone")],
    ids=["no PortAudio", "no sound card"],
)
def test_without_sound_it_says_what_to_do_and_everything_else_works(
    environment: Callable[[Path], dict[str, str]], problem: str, home: Path, tmp_path: Path
) -> None:
    if environment is without_a_server:
        if Path("/proc/asound/cards").exists():
            pytest.skip("this machine has a sound card")
        pytest.importorskip("sounddevice", exc_type=OSError)
    with terminal(home, **environment(tmp_path / "none")) as window:
        window.wait("call it yourself")
        window.press("d")
        window.wait(problem)
        window.wait("○ no call")
        typed_call(window)
        ask(window, "Do you have bread?")
        assert leave(window) == 0
    assert left_behind(home) == {}
