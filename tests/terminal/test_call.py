from __future__ import annotations

import io
import json
import os
import signal
from collections.abc import Callable
from typing import Any

import anyio
import pytest

from patter.builders import tool
from patter.bus import Bus
from patter.call.outfit import Outfit, Wiring
from patter.call.session import CallSession
from patter.call.toolbox import Toolbox
from patter.conversations.pipeline import Pipeline
from patter.events import CallEnded, from_json
from patter.guard import Guards
from patter.models import Agent, Guardrail
from patter.observe.cost import Prices
from patter.observe.reader import MetricsReader
from patter.ports import CallInfo, Transport
from patter.signals import ResponderPiece, TextDelta, ToolRequest
from patter.terminal.call import TerminalCall
from tests.support.parts import LinesResponder
from tests.support.virtual_time import run_virtual, virtual_clock

Lines = list[str | list[ResponderPiece]]


class Desk(io.StringIO):
    """A terminal as far as a program can tell."""

    def isatty(self) -> bool:
        return True


class Shut(io.StringIO):
    """A pipe whose reader has left."""

    def write(self, text: str) -> int:
        raise BrokenPipeError


def agent_of(**changes: Any) -> Agent:
    return Agent("Be brief.", **{"provider": "pipeline", "first_message": "Hello.", "name": "front-desk"} | changes)


async def talk(
    typed: io.StringIO,
    out: io.StringIO,
    agent: Agent,
    lines: Lines,
    as_json: bool = False,
    responder: Any = None,
    welcome: Any = None,
) -> CallEnded:
    clock = virtual_clock()
    bus = Bus(clock)
    bus.add_sink(MetricsReader(bus, Prices.load()))

    def rework(_: CallSession, agent: Agent) -> tuple[Toolbox, Callable[[str, str], tuple[str, str | None]]]:
        return Toolbox(agent.tools or []), Guards(agent.guardrails or []).screen

    def outfit(session: CallSession, agent: Agent) -> Outfit:
        pipeline = Pipeline(responder=responder or LinesResponder(*lines), clock=clock)
        return Outfit(pipeline, *rework(session, agent), llm="lines (no model)", notes=("Nothing here costs money.",))

    def open_call(
        call: CallInfo, agent: Agent, transport: Transport, *, agent_name: str = "", agent_version: str = ""
    ) -> CallSession:
        wiring = Wiring(outfit, rework, welcome)
        return CallSession(
            call, agent, transport, bus, clock, wiring, agent_name=agent_name, agent_version=agent_version
        )

    return await TerminalCall(bus, clock, open_call, typed, out, as_json=as_json).run(agent)


def printed(typed: str, *lines: str | list[ResponderPiece], desk: bool = False, **changes: Any) -> str:
    out = Desk() if desk else io.StringIO()
    run_virtual(talk, Desk(typed) if desk else io.StringIO(typed), out, agent_of(**changes), list(lines))
    return out.getvalue()


def conversation(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.startswith(("Agent:", "You:", "  ["))]


def test_piped_lines_are_answered_one_by_one() -> None:
    text = printed("Hi\nAre you open?\n", "Hello to you.", "Yes. Until six.")

    assert conversation(text) == ["Agent: Hello.", "Agent: Hello to you.", "Agent: Yes. Until six."]
    assert "You:" not in text
    assert text.endswith("caller hung up · 0.2 s · 2 turns · $0.0000\n")


def test_the_banner_says_who_answers() -> None:
    text = printed("")

    assert text.startswith("Patter text test · agent front-desk · pipeline · test_")
    assert "Answers come from: lines (no model)\nNothing here costs money.\n" in text
    assert "/quit" not in text


def test_at_a_desk_each_line_is_asked_for() -> None:
    text = printed("Hi\n/quit\n", "Hello to you.", desk=True)

    assert "/quit  /hangup  /transfer <number>  /history\n\nAgent: Hello.\nYou: " in text
    assert text.count("You: ") == 2


def test_without_a_greeting_the_first_word_is_the_callers() -> None:
    assert conversation(printed("Hi\n", "Hello.", first_message="")) == ["Agent: Hello."]


def test_empty_lines_are_no_turns() -> None:
    assert conversation(printed("\n   \nHi\n\n", "Yes?")) == ["Agent: Hello.", "Agent: Yes?"]


@pytest.mark.parametrize("command", ["/quit", "/hangup"])
def test_hanging_up_ends_the_call_before_the_lines_end(command: str) -> None:
    text = printed(f"{command}\nHi\n", "Never said.")

    assert conversation(text) == ["Agent: Hello."]
    assert "Call ended: caller hung up" in text


def test_history_shows_what_was_said() -> None:
    text = printed("/history\nHi\n/history\n", "Yes?")

    assert "  assistant: Hello.\n" in text
    assert text.count("  user: Hi\n  assistant: Yes?\n") == 1


def test_a_transfer_ends_the_call_with_its_number() -> None:
    text = printed("/transfer +15551234567\nHi\n", "Never said.")

    assert "[transfer to +15551234567, asked for by the operator]" in text
    assert "Call ended: transferred (to +15551234567)" in text
    assert "Never said" not in text


@pytest.mark.parametrize(
    ("line", "says"), [("/transfer", "E.164"), ("/transfer 555", "E.164"), ("/sing", "/sing is no command")]
)
def test_a_wrong_command_is_a_sentence_and_the_call_goes_on(line: str, says: str) -> None:
    text = printed(f"{line}\nHi\n", "Yes?")

    assert says in text
    assert "Agent: Yes?" in text


def test_tools_run_and_are_shown() -> None:
    def find_slots(arguments: dict[str, Any], context: dict[str, Any]) -> str:
        return f"9 am on {arguments['day']}"

    slots = tool("find_slots", handler=find_slots)
    ask: list[ResponderPiece] = [TextDelta("One moment."), ToolRequest("t1", "find_slots", '{"day": "Tuesday"}')]

    text = printed("Tuesday?\nThanks\n", ask, "At nine.", "Bye.", tools=[slots])

    assert conversation(text)[1:] == [
        "Agent: One moment.",
        '  [tool find_slots {"day": "Tuesday"}]',
        "  [tool find_slots gave 9 am on Tuesday (0 ms)]",
        "Agent: At nine.",
        "Agent: Bye.",
    ]


def test_what_a_guardrail_blocks_is_never_printed() -> None:
    text = printed(
        "How much?\n", "It is fifty dollars.", guardrails=[Guardrail("prices", None, ["dollars"], "Ask us.")]
    )

    assert "dollars" not in text
    assert "  [guardrail prices replaced the reply]\nAgent: Ask us.\n" in text


def test_json_is_one_event_a_line() -> None:
    out = io.StringIO()
    run_virtual(talk, io.StringIO("Hi\n/history\n"), out, agent_of(), ["Yes?"], True)
    rows = [json.loads(line) for line in out.getvalue().splitlines()]
    history = [row for row in rows if row["type"] == "History"]
    kinds = [row["type"] for row in rows if row["type"] != "History"]

    assert [entry["text"] for entry in history[0]["history"]] == ["Hello.", "Hi", "Yes?"]
    assert kinds[0] == "CallStarted"
    assert kinds.index("CallerSaid") < kinds.index("ReplyText", kinds.index("CallerSaid"))
    assert "TurnMeasured" in kinds
    assert "CallEnded" in kinds
    assert all(from_json(row) is not None for row in rows if row["type"] != "History")


def test_a_reader_that_leaves_ends_the_call() -> None:
    ended = run_virtual(talk, io.StringIO("Hi\nHi\n"), Shut(), agent_of(), [])

    assert ended.reason == "caller_hung_up"


def test_ctrl_c_hangs_up() -> None:
    class Interrupter(LinesResponder):
        async def respond(self, ask: Any) -> Any:
            os.kill(os.getpid(), signal.SIGINT)
            await anyio.sleep(3600)
            yield TextDelta("Never said.")

    out = io.StringIO()
    ended = run_virtual(talk, io.StringIO("Hi\n"), out, agent_of(), [], False, Interrupter())

    assert ended.reason == "caller_hung_up"
    assert "Never said" not in out.getvalue()


def test_ctrl_c_twice_does_not_wait_for_a_call_that_hangs() -> None:
    async def hang(call: CallInfo, agent: Agent) -> Agent:
        os.kill(os.getpid(), signal.SIGINT)
        await anyio.sleep(1)
        os.kill(os.getpid(), signal.SIGINT)
        await anyio.sleep(3600)
        return agent

    ended = run_virtual(talk, io.StringIO("Hi\n"), io.StringIO(), agent_of(), [], False, None, hang)

    assert (ended.reason, ended.duration_s) == ("engine_stopped", 1.0)
