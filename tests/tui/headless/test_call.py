"""`patter-tui call`, `calls` and `hangup` against an engine: what is ordered, said and returned."""

from __future__ import annotations

import asyncio
import io
import json
import os
import signal
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from patter import events as ev
from patter_tui import paths as places
from patter_tui.headless.orders import WrongUse
from patter_tui.headless.pages import JsonPage, Page, TextPage
from patter_tui.headless.place import PlaceCall, _parser
from patter_tui.link import Refused
from tests.tui.fake_engine import OFF, FakeEngine
from tests.tui.headless.test_serve import HOST, NUMBER, anyio_backend, carrier_keys, engine_at, soon
from tests.tui.story import CALL, told, until

__all__ = ["anyio_backend", "carrier_keys"]

pytestmark = pytest.mark.anyio

OPEN = OFF | {"state": "open", "carrier": "twilio", "number": NUMBER, "agent": "riverside-dental"}
TO = "+15559990000"


def place(tmp_path: Path, *line: str) -> tuple[PlaceCall, io.StringIO]:
    out = io.StringIO()
    options = _parser().parse_args(line)
    page: Page = JsonPage(out) if options.json else TextPage(out, numbered=False)
    return PlaceCall(options, places.find(str(tmp_path)), page), out


async def answered(engine: FakeEngine, call_id: str, ending: ev.EndReason = "caller_hung_up") -> None:
    """What happens in a call that was taken."""
    for event in told()[:-1]:
        if isinstance(event, ev.CallEnded):
            event = replace(event, reason=ending)
        changes = {"direction": "outbound", "callee": TO} if isinstance(event, ev.CallStarted) else {}
        await engine.publish(replace(event, seq=0, call_id=call_id, **changes))


async def run(engine: FakeEngine, command: PlaceCall, ending: ev.EndReason, *, taken: bool) -> int:
    """Run a call that is taken, or not."""
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(command.run())
        await soon(lambda: any(isinstance(event, ev.CallPlaced) for event in engine.published) or running.done())
        placed = next(event for event in engine.published if isinstance(event, ev.CallPlaced))
        if taken:
            await answered(engine, placed.call_id, ending)
        else:
            await engine.publish(ev.CallEnded(call_id=placed.call_id, reason=ending))
    return running.result()


async def test_a_call_over_an_open_line_is_read_from_ring_to_price(tmp_path: Path) -> None:
    async with engine_at(tmp_path) as engine:
        engine.line = dict(OPEN)
        command, out = place(
            tmp_path, "+1 555 999 0000", "riverside-dental", "--voicemail", "Call us.", "--first", "Hi!"
        )
        assert await run(engine, command, "caller_hung_up", taken=True) == 0
        (order,) = [body for name, body in engine.commands if name == "place"]
        assert order == {
            "agent": "riverside-dental", "to": TO, "from": "", "voicemail": "Call us.", "first_message": "Hi!",
            "machine_detection": False, "ring_timeout_s": 30.0,
        }  # fmt: skip
        said = out.getvalue()
        assert f"call    ringing at {TO}" in said
        assert "call    answered" in said
        assert "caller  I would like to book" in said
        assert "ended   caller hung up, 00:20, 2 turns, $0.0014" in said
        assert not [name for name, _ in engine.commands if name in ("line", "close line", "shutdown")]


@pytest.mark.parametrize(
    ("ending", "taken", "code"),
    [
        ("busy", False, 1),
        ("no_answer", False, 1),
        ("failed", True, 1),
        ("voicemail_left", True, 0),
        ("transferred", True, 0),
    ],
)
async def test_the_exit_code_says_whether_it_was_a_call(
    tmp_path: Path, ending: ev.EndReason, taken: bool, code: int
) -> None:
    async with engine_at(tmp_path) as engine:
        engine.line = dict(OPEN)
        command, out = place(tmp_path, TO, "riverside-dental", "--json")
        assert await run(engine, command, ending, taken=taken) == code
        result = json.loads(out.getvalue().splitlines()[-1])
        assert (result["type"], result["reason"], result["answered"]) == ("Result", ending, taken)
        assert result["exit_code"] == code
        assert result["cost_usd"] == pytest.approx(0.0014 if taken else 0.0)


async def test_a_line_is_opened_for_the_call_and_closed_after_it(tmp_path: Path) -> None:
    async with engine_at(tmp_path, ours=True) as engine:
        command, _ = place(tmp_path, TO, "riverside-dental", *HOST, "--from", "+15550100777")
        assert await run(engine, command, "agent_ended", taken=True) == 0
        names = [name for name, _ in engine.commands]
        assert names == ["line", "place", "close line", "shutdown"]
        order = engine.commands[0][1]
        assert (order["number"], order["take_number"]) == ("+15550100777", False)


async def test_a_call_that_the_carrier_refuses_says_why(tmp_path: Path) -> None:
    async with engine_at(tmp_path) as engine:
        engine.line = dict(OPEN)
        engine.refuse["place"] = "Twilio may not call this country."
        command, _ = place(tmp_path, TO, "riverside-dental")
        with pytest.raises(Refused, match="may not call this country"):
            await command.run()


async def test_a_number_that_cannot_be_dialled_is_said_before_anything_starts(tmp_path: Path) -> None:
    command, _ = place(tmp_path, "555", "riverside-dental")
    with pytest.raises(WrongUse, match=r"write it like \+15551234567"):
        await command.run()


class Program:
    """The real command in a process of its own."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.said = ""

    async def until(self, text: str) -> None:
        """Read until it has said this."""
        assert self.process.stdout is not None
        while text not in self.said:
            line = await self.process.stdout.readline()
            assert line, self.said
            self.said += line.decode()

    async def ended(self) -> int:
        """Read the rest; its exit code."""
        out, _ = await self.process.communicate()
        self.said += out.decode()
        return int(self.process.returncode or 0)


async def program(home: Path, *line: str) -> Program:
    environment = os.environ | {"PATTER_HOME": str(home)}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "patter_tui", *line,
        stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT, env=environment,
    )  # fmt: skip
    return Program(process)


async def test_ctrl_c_leaves_the_line_open_and_says_how_to_close_it(tmp_path: Path) -> None:
    async with engine_at(tmp_path, ours=True) as engine:
        command = await program(tmp_path, "serve", "riverside-dental", *HOST)
        await command.until("Ctrl+C leaves it serving")
        command.process.send_signal(signal.SIGINT)
        assert await command.ended() == 0
        assert "The engine serves on, and calls go on. `patter-tui serve --stop` ends that." in command.said
        assert engine.line["state"] == "open"
        assert not engine.stopped.is_set()


async def test_ctrl_c_leaves_a_ringing_call_and_its_line_alone(tmp_path: Path) -> None:
    async with engine_at(tmp_path) as engine:
        command = await program(tmp_path, "call", TO, "riverside-dental", *HOST)
        await command.until("ringing at")
        command.process.send_signal(signal.SIGINT)
        assert await command.ended() == 1
        assert "The call goes on. `patter-tui hangup CAplaced" in command.said
        assert "stays open. `patter-tui serve --stop` closes it." in command.said
        assert not [name for name, _ in engine.commands if name in ("hangup", "close line", "shutdown")]


async def test_ctrl_c_leaves_the_call_running_and_its_own_line_closing(tmp_path: Path) -> None:
    async with engine_at(tmp_path) as engine:
        command = await program(tmp_path, "call", TO, "riverside-dental", *HOST)
        await command.until("ringing at")
        placed = next(event for event in engine.published if isinstance(event, ev.CallPlaced))
        await engine.publish(ev.CallStarted(call_id=placed.call_id, direction="outbound", callee=TO))
        await command.until("answered")
        command.process.send_signal(signal.SIGINT)
        assert await command.ended() == 1
        assert "The call goes on. `patter-tui hangup CAplaced" in command.said
        assert ("close line", {"when": "idle"}) in engine.commands
        assert not [name for name, _ in engine.commands if name == "hangup"]


async def test_calls_are_listed_and_ended_by_the_beginning_of_their_id(tmp_path: Path) -> None:
    async with engine_at(tmp_path) as engine:
        await engine.publish(*(replace(event, seq=0) for event in until(ev.ReplyHeard)))
        await engine.publish(ev.CallPlaced(call_id="CB2", callee=TO, agent="desk"))
        listed = await program(tmp_path, "calls")
        assert await listed.ended() == 0
        assert CALL in listed.said
        assert f"to {TO}" in listed.said
        unclear = await program(tmp_path, "hangup")
        assert await unclear.ended() == 2
        assert "Which one? 2 calls are on:" in unclear.said
        ended = await program(tmp_path, "hangup", "CB")
        assert await ended.ended() == 0
        assert "(CB2)" in ended.said
        as_json = await program(tmp_path, "calls", "--json", "--live")
        await as_json.ended()
        assert [row["call_id"] for row in json.loads(as_json.said)] == [CALL]


async def test_without_an_engine_there_is_nothing_to_list(tmp_path: Path) -> None:
    listed = await program(tmp_path, "calls")
    assert await listed.ended() == 1
    assert f"No engine is running. Ended calls are kept in {tmp_path / 'calls'}." in listed.said


async def test_commands_without_a_screen_load_no_interface() -> None:
    code = (
        "import sys, patter_tui.headless.serve, patter_tui.headless.place, patter_tui.headless.listing\n"
        "heavy = ('textual', 'rich', 'aiohttp', 'numpy')\n"
        "print([name for name in heavy if name in sys.modules])"
    )
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", code, stdout=asyncio.subprocess.PIPE)
    out, _ = await process.communicate()
    assert out.decode().strip() == "[]"
