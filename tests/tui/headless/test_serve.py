"""`patter-tui serve` against an engine: what it orders, what it says, and what goes on without it."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from patter import events as ev
from patter_tui import paths as places
from patter_tui.carrier import Missing
from patter_tui.headless.orders import WrongUse
from patter_tui.headless.pages import JsonPage, Page, TextPage
from patter_tui.headless.serve import Serve, _parser
from patter_tui.link import Refused
from tests.tui.fake_engine import OFF, FakeEngine
from tests.tui.story import CALL, told, until

pytestmark = pytest.mark.anyio

NUMBER = "+15550100999"
HOST = ("--host", "voice.example.com")


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(autouse=True)
def carrier_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TWILIO_ACCOUNT_SID", "AC1")
    monkeypatch.setenv("TWILIO_AUTH_TOKEN", "sesame")
    monkeypatch.setenv("TWILIO_PHONE_NUMBER", NUMBER)
    for name in (
        "TELNYX_API_KEY",
        "TELNYX_CONNECTION_ID",
        "TELNYX_PUBLIC_KEY",
        "PATTER_WEBHOOK_HOST",
        "PATTER_CARRIER_API",
    ):
        monkeypatch.delenv(name, raising=False)


@asynccontextmanager
async def engine_at(tmp_path: Path, *, ours: bool = False) -> AsyncIterator[FakeEngine]:
    async with FakeEngine(tmp_path, ours=ours) as engine:
        engine.add_agent(tmp_path / "agents" / "riverside.toml")
        yield engine


def serve(tmp_path: Path, *line: str) -> tuple[Serve, io.StringIO]:
    out = io.StringIO()
    options = _parser().parse_args(line)
    page: Page = JsonPage(out) if options.json else TextPage(out, numbered=True)
    return Serve(options, places.find(str(tmp_path)), page), out


async def soon(condition: Callable[[], object]) -> None:
    """Let everything go on until something is so."""
    while not condition():
        await asyncio.sleep(0.01)


def ordered(engine: FakeEngine) -> dict[str, object]:
    return next(body for name, body in engine.commands if name == "line")


async def test_the_line_is_ordered_as_the_command_says(tmp_path: Path) -> None:
    async with engine_at(tmp_path) as engine:
        command, out = serve(
            tmp_path, "riverside-dental", "+1 555 010 0111=sales", *HOST, "--recording", "--restore", "--keep-webhook",
            "--detach",
        )  # fmt: skip
        assert await command.run() == 0
        assert ordered(engine) == {
            "carrier": "twilio", "account": "AC1", "secret": "sesame", "public_key": "", "api_base": "",
            "agent": "riverside-dental", "routes": {"+15550100111": "sales"}, "number": NUMBER, "host": "voice.example.com",
            "tunnel": False, "port": 8000, "recording": True, "take_number": False, "restore": True, "voicemail": "",
        }  # fmt: skip
        said = out.getvalue()
        assert f"line     opening Twilio {NUMBER} for riverside-dental\n" in said
        assert f"open: Twilio {NUMBER} to riverside-dental, public address https://voice.example.com" in said
        assert "open: +15550100111 to sales" in said
        assert "calls are recorded" in said
        assert "sesame" not in said
        assert "\x1b" not in said


async def test_a_former_webhook_is_named(tmp_path: Path) -> None:
    async with engine_at(tmp_path):
        command, out = serve(tmp_path, "riverside-dental", "--tunnel", "--detach")
        assert await command.run() == 0
        assert "was answered by https://old.example.com/voice before." in out.getvalue()


async def test_calls_are_read_aloud_as_lines(tmp_path: Path) -> None:
    async with engine_at(tmp_path) as engine:
        command, out = serve(tmp_path, "riverside-dental", *HOST)
        async with asyncio.TaskGroup() as tasks:
            running = tasks.create_task(command.run())
            await soon(lambda: "ready" in out.getvalue())
            story = [
                replace(event, seq=0, **({"caller": "+15551230231"} if isinstance(event, ev.CallStarted) else {}))
                for event in told()
            ]
            await engine.publish(*story)
            await engine.publish(*(replace(event, call_id="other") for event in story[:7]))
            await soon(lambda: "#2 agent" in out.getvalue())
            running.cancel()
        said = out.getvalue()
        assert f"#1 call    from +15551230231 (riverside-dental, {CALL})" in said
        assert "#1 caller  I would like to book an appointment for next Tuesday." in said
        assert "#1 tool    find_slots(day=tuesday) ok, 143 ms" in said
        assert "offer you [not heard: half past nine" in said
        assert "#1 ended   caller hung up, 00:20, 2 turns, $0.0014" in said
        assert "#1 saved   /tmp/recording.wav" in said
        assert "#2 agent   Thank you for calling" in said


async def test_the_last_line_when_somebody_else_closes_it(tmp_path: Path) -> None:
    async with engine_at(tmp_path) as engine:
        command, out = serve(tmp_path, "riverside-dental", *HOST)
        async with asyncio.TaskGroup() as tasks:
            running = tasks.create_task(command.run())
            await soon(lambda: "ready" in out.getvalue())
            engine.line = dict(OFF)
            await engine.say_line()
            assert await running == 0
        assert out.getvalue().endswith("line     off: nothing is served\n")


async def test_a_line_with_a_problem_ends_the_command_and_an_engine_of_its_own_only(tmp_path: Path) -> None:
    async with engine_at(tmp_path, ours=True) as engine:
        engine.line_opens = False
        command, out = serve(tmp_path, "riverside-dental", *HOST)
        async with asyncio.TaskGroup() as tasks:
            running = tasks.create_task(command.run())
            await soon(lambda: "opening" in out.getvalue())
            engine.line |= {"state": "problem", "problem": "Twilio refused the keys.", "fix": "Check them."}
            await engine.say_line()
            assert await running == 1
        assert "problem: Twilio refused the keys." in out.getvalue()
        assert "fix: Check them." in out.getvalue()
        assert not engine.stopped.is_set()


async def test_what_the_engine_refuses_is_passed_on(tmp_path: Path) -> None:
    async with engine_at(tmp_path) as engine:
        engine.refuse["line"] = "Another line is open."
        command, _ = serve(tmp_path, "riverside-dental", *HOST)
        with pytest.raises(Refused, match=r"Another line is open\."):
            await command.run()


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ((), "Which agent shall answer?"),
        (("desk",), "--host voice.example.com"),
        (("desk.toml", *HOST), "There is no agent file desk.toml."),
        (("desk", "555", *HOST), "555 is no route"),
        (("desk", "--number", "555", *HOST), "no number that a carrier can dial"),
    ],
)
async def test_what_cannot_be_done_is_said_before_anything_starts(
    tmp_path: Path, line: tuple[str, ...], sentence: str
) -> None:
    command, _ = serve(tmp_path, *line)
    with pytest.raises(WrongUse, match=sentence):
        await command.run()
    assert not (tmp_path / "engine.json").exists()


async def test_missing_keys_are_said_before_anything_starts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TWILIO_AUTH_TOKEN")
    command, _ = serve(tmp_path, "desk", *HOST)
    with pytest.raises(Missing, match="TWILIO_AUTH_TOKEN"):
        await command.run()


async def test_without_a_number_it_says_how_to_name_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TWILIO_PHONE_NUMBER")
    command, _ = serve(tmp_path, "desk", *HOST)
    with pytest.raises(WrongUse, match="TWILIO_PHONE_NUMBER"):
        await command.run()


async def test_stopping_closes_the_line_and_lets_an_engine_go_that_nobody_needs(tmp_path: Path) -> None:
    async with engine_at(tmp_path, ours=True) as engine:
        engine.line = OFF | {"state": "open", "number": NUMBER, "agent": "desk"}
        command, out = serve(tmp_path, "--stop")
        assert await command.run() == 0
        assert ("close line", {"when": "idle"}) in engine.commands
        assert ("shutdown", {"when": "idle"}) in engine.commands
        assert "off: nothing is served" in out.getvalue()


async def test_stopping_while_calls_are_on_says_so_and_lets_them_go_on(tmp_path: Path) -> None:
    async with engine_at(tmp_path) as engine:
        engine.line = OFF | {"state": "open", "number": NUMBER, "agent": "desk"}
        await engine.publish(*(replace(event, seq=0) for event in until(ev.ReplyHeard)))
        command, out = serve(tmp_path, "--stop")
        assert await command.run() == 0
        assert "closing: no new calls" in out.getvalue()
        assert "1 call on" in out.getvalue()
        command, out = serve(tmp_path, "--stop", "--now")
        assert await command.run() == 0
        assert ("close line", {"when": "now"}) in engine.commands
        assert not engine.stopped.is_set()


async def test_status_says_what_is_served_and_which_calls_are_on(tmp_path: Path) -> None:
    command, out = serve(tmp_path, "--status")
    assert await command.run() == 1
    assert "nothing is served" in out.getvalue()
    async with engine_at(tmp_path) as engine:
        engine.line = OFF | {"state": "open", "carrier": "twilio", "number": NUMBER, "agent": "desk"}
        await engine.publish(ev.CallPlaced(call_id="a", callee="+15559990000", agent="desk"))
        command, out = serve(tmp_path, "--status")
        assert await command.run() == 0
        assert "#1 call    ringing with +15559990000 (desk, a)" in out.getvalue()


async def test_json_lines_are_events_and_the_line(tmp_path: Path) -> None:
    async with engine_at(tmp_path) as engine:
        command, out = serve(tmp_path, "riverside-dental", *HOST, "--json")
        async with asyncio.TaskGroup() as tasks:
            running = tasks.create_task(command.run())
            await soon(lambda: '"ready"' in out.getvalue())
            await engine.publish(*(replace(event, seq=0) for event in told()))
            await soon(lambda: "RecordingSaved" in out.getvalue())
            running.cancel()
        lines = [json.loads(line) for line in out.getvalue().splitlines()]
        opened = [line for line in lines if line["type"] == "Line"][-1]
        assert (opened["state"], opened["public_url"]) == ("open", "https://voice.example.com")
        assert ev.from_json(next(line for line in lines if line["type"] == "CallEnded")).reason == "caller_hung_up"  # type: ignore[union-attr]
        assert "sesame" not in out.getvalue()
