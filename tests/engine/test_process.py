"""The engine as a process: one per home, found by its file, ended in order, and readable after it was killed."""

from __future__ import annotations

import json
import os
import signal
import socket
import stat
from pathlib import Path

import pytest

from tests.support.engine_process import FAKE, engine, run
from tests.support.serving import AGENT

pytestmark = [pytest.mark.e2e, pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")]


@pytest.fixture
def agents(tmp_path: Path) -> Path:
    folder = tmp_path / "agents"
    folder.mkdir()
    (folder / "desk.toml").write_text(AGENT)
    return folder


def test_it_listens_tells_where_and_is_found(agents: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    with engine(FAKE, str(agents), str(home), home=home) as it:
        assert it.listening["listening"] == f"http://127.0.0.1:{it.info['port']}"
        assert it.listening["engine_id"] == it.info["engine_id"]
        assert (it.info["pid"], it.info["protocol"], it.info["agents_dir"]) == (it.process.pid, 1, str(agents))
        assert stat.S_IMODE((home / "engine.json").stat().st_mode) == 0o600
        assert it.ask("GET", "/health")[1]["pid"] == it.process.pid
        assert it.ask("POST", "/api/v1/shutdown", {"when": "now"})[0] == 202
        assert it.end() == (0, "")
        assert not (home / "engine.json").exists()
        log = (home / "engine.log").read_text()
        assert "the engine listens" in log
        assert "could not be loaded" in log
        assert it.info["token"] not in log
        assert "4111" not in log


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_calls_with_their_reason(number: int, agents: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    with engine(FAKE, str(agents), str(home), home=home) as it:
        call_id = it.text_call()
        it.process.send_signal(number)
        it.process.send_signal(number)  # whoever is impatient changes nothing
        assert it.end() == (0, "")
        last = it.journal(call_id)[-1]
        assert (last["type"], last["reason"]) == ("CallEnded", "engine_stopped")


def test_a_closing_terminal_ends_nothing(agents: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    with engine(FAKE, str(agents), str(home), home=home) as it:
        call_id = it.text_call()
        it.process.send_signal(signal.SIGHUP)
        assert it.ask("POST", f"/api/v1/calls/{call_id}/text", {"text": "Still there?"})[0] == 200


def test_a_second_engine_of_the_same_home_is_refused(agents: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    with engine(FAKE, str(agents), str(home), home=home) as it:
        code, errors = run(FAKE, str(agents), str(home))
        assert code == 3
        assert f"process {it.process.pid}, port {it.info['port']}" in errors
        assert len(errors.splitlines()) == 1
        assert json.loads((home / "engine.json").read_text()) == it.info
        assert it.ask("GET", "/health")[0] == 200


def test_two_homes_have_two_engines(agents: Path, tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    with engine(FAKE, str(agents), str(one), home=one) as a, engine(FAKE, str(agents), str(two), home=two) as b:
        assert a.info["engine_id"] != b.info["engine_id"]
        assert a.info["token"] != b.info["token"]


def test_a_killed_engine_leaves_readable_calls_that_the_next_one_closes(agents: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    with engine(FAKE, str(agents), str(home), home=home) as it:
        ended, cut_off = it.text_call(), it.text_call()
        it.ask("POST", f"/api/v1/calls/{cut_off}/text", {"text": "Hello?"})
        it.ask("POST", f"/api/v1/calls/{ended}/hangup")
        it.wait_for(cut_off, "TurnMeasured")
        it.wait_for(ended, "CallEnded")
        it.process.kill()
        it.end()
    assert (home / "engine.json").exists()
    with engine(FAKE, str(agents), str(home), home=home) as it:
        _, calls = it.ask("GET", "/api/v1/calls")
        assert {row["call_id"]: (row["state"], row["reason"]) for row in calls["data"]} == {
            ended: ("ended", "operator_ended"),
            cut_off: ("ended", "engine_died"),
        }
        _, call = it.ask("GET", f"/api/v1/calls/{cut_off}")
        assert [line["text"] for line in call["data"]["transcript"]][1:] == ["Hello?", "You said Hello?"]
        assert it.ask("GET", "/api/v1/calls/active")[1]["count"] == 0


def test_a_port_in_use_is_told(agents: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        code, errors = run(FAKE, str(agents), str(home), str(port))
    assert code == 2
    assert f"Port {port}" in errors
    assert "stop the program that has it" in errors
    assert len(errors.splitlines()) == 1
    with engine(FAKE, str(agents), str(home), str(port), home=home) as it:  # and the home is free again
        assert it.info["port"] == port


def test_a_missing_directory_of_agents_is_told(tmp_path: Path) -> None:
    code, errors = run(FAKE, str(tmp_path / "none"), str(tmp_path / "home"))
    assert code == 2
    assert "There is no directory" in errors
    assert len(errors.splitlines()) == 1


def test_the_port_is_free_after_the_end(agents: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    with engine(FAKE, str(agents), str(home), home=home) as it:
        port = it.info["port"]
        it.ask("POST", "/api/v1/shutdown", {"when": "now"})
        it.end()
    with engine(FAKE, str(agents), str(home), str(port), home=home) as it:
        assert it.info["port"] == port


def test_an_engine_that_may_not_linger_stops_when_it_is_alone(agents: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    with engine(FAKE, str(agents), str(home), "0", "0.3", home=home) as it:
        call_id = it.text_call()
        assert it.process.poll() is None
        it.ask("POST", f"/api/v1/calls/{call_id}/hangup")
        assert it.end() == (0, "")
