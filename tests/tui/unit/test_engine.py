"""Finding, starting and stopping engine processes, with small programs in place of the engine."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from patter_tui import engine, paths
from patter_tui.engine import EngineUnavailable

PROGRAM = """
import json, os, sys, threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

home = Path(sys.argv[sys.argv.index("--home") + 1])
protocol, stubborn = {protocol}, {stubborn}

class Handler(BaseHTTPRequestHandler):
    def log_message(self, *words):
        pass
    def answer(self, data):
        body = json.dumps(data).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def do_GET(self):
        self.answer({{"engine_id": "one", "protocol": protocol, "version": "9.9", "pid": os.getpid()}})
    def do_POST(self):
        self.answer({{}})
        if not stubborn and self.headers["Authorization"] == "Bearer secret":
            (home / "engine.json").unlink()
            os._exit(0)

server = HTTPServer(("127.0.0.1", 0), Handler)
facts = {{"port": server.server_port, "pid": os.getpid(), "token": "secret", "engine_id": "one", "protocol": protocol}}
(home / "engine.new").write_text(json.dumps(facts))
(home / "engine.new").rename(home / "engine.json")
server.serve_forever()
"""


@pytest.fixture
def places(tmp_path: Path) -> paths.Paths:
    """A prepared home."""
    found = paths.find(str(tmp_path))
    paths.prepare(found)
    return found


def program(home: Path, *, protocol: int = 1, stubborn: bool = False) -> tuple[str, str]:
    """The command of a small engine."""
    file = home / "small_engine.py"
    file.write_text(PROGRAM.format(protocol=protocol, stubborn=stubborn))
    return sys.executable, str(file)


def test_an_engine_is_started_adopted_and_stopped(places: paths.Paths) -> None:
    started = engine.ensure(places, command=program(places.home))
    try:
        assert started.ours
        adopted = engine.ensure(places, command=("/nonexistent",))
        assert (adopted.pid, adopted.port, adopted.ours) == (started.pid, started.port, True)
    finally:
        assert engine.stop(started)
    assert engine.find(places) is None
    assert not engine.alive(started.pid)


def test_an_engine_that_was_not_started_by_a_workbench_is_not_ours(places: paths.Paths) -> None:
    started = engine.ensure(places, command=program(places.home))
    try:
        places.started_file.write_text(json.dumps({"engine_id": "another"}))
        found = engine.find(places)
        assert found is not None
        assert not found.ours
    finally:
        engine.stop(started)


def test_an_engine_that_does_not_listen_to_reason_is_ended(
    places: paths.Paths, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "STOP_SECONDS", 0.4)
    started = engine.ensure(places, command=program(places.home, stubborn=True))
    assert engine.stop(started)
    assert not engine.alive(started.pid)


def test_an_engine_of_another_version_is_named_and_can_be_stopped(places: paths.Paths) -> None:
    command = program(places.home, protocol=2)
    with pytest.raises(EngineUnavailable, match=r"another version \(9.9\).*patter-tui stop"):
        engine.ensure(places, command=command)
    running = engine.find_any_version(places)
    assert running is not None
    assert engine.stop(running)


def test_an_engine_that_fails_at_its_start_says_its_last_words(places: paths.Paths) -> None:
    command = (sys.executable, "-c", "import sys; print('reading agents'); sys.exit('port 8000 is in use.')")
    with pytest.raises(EngineUnavailable, match=r"port 8000 is in use\."):
        engine.ensure(places, command=command)


def test_a_start_that_nobody_waits_for_leaves_nothing_running(places: paths.Paths) -> None:
    command = (sys.executable, "-c", "import time; time.sleep(60)")
    with pytest.raises(EngineUnavailable):
        engine.ensure(places, command=command, given_up=lambda: True)
    process = next(reversed(engine._children.values()))
    assert process.wait(5) != 0


@pytest.mark.parametrize("left_behind", ["", "{", '{"port": 1, "pid": 1, "engine_id": "x"}', '{"port": "a"}', "[]"])
def test_what_a_dead_engine_left_behind_is_ignored(places: paths.Paths, left_behind: str) -> None:
    places.engine_file.write_text(left_behind)
    assert engine.find(places) is None
    assert engine.find_any_version(places) is None
