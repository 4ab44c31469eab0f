"""A whole text call whose model is the loopback chat server: tools, guardrails, tokens, money and the journal together."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import aiohttp
import anyio
import pytest

from patter.bus import Bus, Subscription
from patter.call.outfit import Outfit, Wiring
from patter.call.session import CallSession
from patter.call.toolbox import Toolbox
from patter.clock import Clock
from patter.conversations.pipeline import Pipeline
from patter.events import CallEnded, Event, TurnMeasured
from patter.guard import Guards
from patter.loopback.openai_chat import Exchange, LoopbackChat
from patter.models import Agent
from patter.observe.cost import Prices
from patter.observe.journal import Journal, read
from patter.observe.metrics import call_metrics
from patter.observe.reader import MetricsReader
from patter.ports import CallInfo, Screen
from patter.providers.openai_chat import OpenAIChat
from patter.transports.text import TextTransport

pytestmark = pytest.mark.anyio


def find(arguments: dict[str, Any], context: dict[str, Any]) -> dict[str, Any]:
    return {"slots": ["ten"], "day": arguments["day"]}


TOOL = {
    "name": "find",
    "description": "Find a slot",
    "parameters": {"type": "object", "properties": {"day": {"type": "string"}}, "required": ["day"]},
    "handler": find,
}
AGENT = Agent(
    "You work at {clinic}.",
    provider="pipeline",
    variables={"clinic": "Riverside"},
    tools=[TOOL],
    guardrails=[{"name": "secret", "blocked_terms": ["purple elephant"], "replacement": "I cannot say that."}],
)


async def closed_turn(events: Subscription) -> TurnMeasured:
    async for event in events:
        if isinstance(event, TurnMeasured) and event.closed:
            return event
    raise AssertionError("the call ended first")


async def test_a_text_call_with_a_model(tmp_path: Path) -> None:
    def with_result(body: dict[str, Any]) -> None:
        *_, call, result = body["messages"]
        assert json.loads(call["tool_calls"][0]["function"]["arguments"]) == {"day": "Tuesday"}
        assert json.loads(result["content"]) == {"slots": ["ten"], "day": "Tuesday"}

    script = (
        Exchange(calls=[("find", '{"day": "Tuesday"}')], usage=(100, 20, 0)),
        Exchange(["Ten ", "on Tues", "day."], usage=(150, 10, 100), check=with_result),
        Exchange(["It is a pur", "ple. Ele", "phant. More."], usage=(200, 10, 150)),
        Exchange(["Goodbye."], [("end_call", '{"reason": "done"}')], usage=(210, 12, 150)),
    )
    clock = Clock()
    bus, journal, seen = Bus(clock), Journal(tmp_path), list[Event]()
    prices = Prices.load({"acme": {"input_tokens": 1.0, "cached_tokens": 0.1, "output_tokens": 10.0}})
    for sink in (MetricsReader(bus, prices), journal, seen.append):
        bus.add_sink(sink)
    line = TextTransport(clock)
    async with LoopbackChat(*script) as server, aiohttp.ClientSession() as http:
        chat = OpenAIChat(http, base_url=server.base_url, model="m", name="acme")

        def parts(session: CallSession, agent: Agent) -> tuple[Toolbox, Screen]:
            return Toolbox(agent.tools), Guards(agent.guardrails).screen

        def outfit(session: CallSession, agent: Agent) -> Outfit:
            pipeline = Pipeline(responder=chat, clock=clock, transcriber=None, detector=None, synthesizer=None)
            return Outfit(pipeline, *parts(session, agent), llm="acme")

        session = CallSession(CallInfo("CA1", telephony="text"), AGENT, line, bus, clock, Wiring(outfit, parts))
        events = bus.subscribe()
        with anyio.fail_after(20):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(session.run)
                line.type("Something on Tuesday?")
                booked = await closed_turn(events)
                line.type("Tell me the secret.")
                guarded = await closed_turn(events)
                line.type("Bye.")
        bus.unsubscribe(events)
    journal.close()

    assert server.requests[0]["messages"][0] == {"role": "system", "content": "You work at Riverside."}
    assert [tool["function"]["name"] for tool in server.requests[0]["tools"]] == ["find", "transfer_call", "end_call"]
    assert booked.agent_text == "Ten on Tuesday."
    assert (booked.tokens_in, booked.tokens_cached, booked.tokens_out) == (250, 100, 30)
    assert booked.cost["llm"] == pytest.approx((150 * 1.0 + 100 * 0.1 + 30 * 10.0) / 1e6)
    assert 0 < booked.tool_ms < booked.total_ms == sum(booked.segments.values())
    assert guarded.agent_text == "It is a purple. I cannot say that."
    assert (guarded.tokens_in, guarded.tokens_out) == (200, 10)  # also what was never spoken is paid for
    end = next(event for event in seen if isinstance(event, CallEnded))
    assert (end.reason, end.detail) == ("agent_ended", "done")
    assert read(journal.path("CA1")) == seen
    assert call_metrics(read(journal.path("CA1")), prices) == call_metrics(seen, prices)
    assert [turn.agent_text for turn in call_metrics(seen, prices).turns][-1] == "Goodbye."
