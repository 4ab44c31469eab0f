"""What `Patter` refuses, in which order, and what it says of the parts that are not built yet."""

from __future__ import annotations

import io
import logging
from typing import Any

import anyio
import pytest

from patter import Agent, Patter, PatterConnectionError, STTConfig, TTSConfig
from patter.models import LLMConfig, McpServer, RealtimeConfig, Recovery

CARRIER = {"twilio_sid": "AC1", "twilio_token": "t", "phone_number": "+15551234567"}
TO = "+15557654321"


def embedded(phone: Patter | None = None, **changes: Any) -> Agent:
    settings = {"provider": "pipeline", "stt": Patter.embedded_stt(), "tts": Patter.embedded_tts(), **changes}
    return (phone or Patter()).agent("Be kind.", **settings)


def test_the_simplest_patter_needs_nothing() -> None:
    assert embedded() == Agent("Be kind.", provider="pipeline", stt=Patter.embedded_stt(), tts=Patter.embedded_tts())


def test_carrier_credentials_are_checked_at_once() -> None:
    with pytest.raises(ValueError, match="phone_number is missing"):
        Patter(twilio_sid="AC1", twilio_token="t")
    with pytest.raises(ValueError, match="two carriers"):
        Patter(**CARRIER, telnyx_key="K")
    Patter(**CARRIER)


def test_prices_are_checked_at_once() -> None:
    with pytest.raises(ValueError, match="deepgram"):
        Patter(pricing={"deepgram": {"prise": 1}})


def test_keys_given_to_patter_make_engines_available() -> None:
    with pytest.raises(ValueError, match="openai_key"):
        Patter().agent("Be kind.")
    assert Patter(openai_key="k").agent("Be kind.").provider == "openai_realtime"
    assert Patter(deepgram_key="k", elevenlabs_key="k").agent("Be kind.", provider="pipeline").stt is None


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"openai_url": "http://proxy.example.com/v1"}, "openai_url would send the key unencrypted"),
        ({"deepgram_url": "wss://api.deepgram.com"}, "deepgram_url must be an address"),
        ({"elevenlabs_url": "https://user:word@example.com"}, "elevenlabs_url holds a user name"),
        ({"webhook_reach": "everywhere"}, "webhook_reach must be"),
    ],
)
def test_addresses_and_reach_are_checked_at_once(arguments: dict[str, str], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        Patter(**arguments)
    Patter(openai_url="http://127.0.0.1:8080/v1", deepgram_url="https://api.eu.deepgram.com", webhook_reach="loopback")


def test_what_an_agent_has_beside_the_reference() -> None:
    phone = Patter(openai_key="k")
    made = phone.agent(
        "Be kind.", provider="pipeline", stt=Patter.deepgram("k", model="nova-3"), tts=Patter.openai_tts(""),
        realtime=RealtimeConfig(silence_ms=300), recovery=Recovery(apology="Sorry?"),
        stt_fallbacks=[Patter.whisper("")], llm_fallbacks=[LLMConfig("gpt-x")], tts_fallbacks=[Patter.embedded_tts()],
        mcp=[Patter.mcp_server("calendar", "https://tools.example.com/mcp")], agent_id="agent_1",
    )  # fmt: skip
    assert made.stt == STTConfig("deepgram", "k", model="nova-3")
    assert made.stt_fallbacks == (STTConfig("whisper", ""),)
    assert made.llm_fallbacks == (LLMConfig("gpt-x"),)
    assert made.tts_fallbacks == (TTSConfig("embedded", "", "heart"),)
    assert made.mcp == (McpServer("calendar", "https://tools.example.com/mcp"),)
    assert (made.realtime.silence_ms, made.recovery.apology, made.agent_id) == (300, "Sorry?", "agent_1")
    with pytest.raises(ValueError, match="stt fallback 1 provider 'deepgram' needs an api_key"):
        embedded(phone, stt_fallbacks=[Patter.deepgram("")])


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("arguments", "error", "says"),
    [
        ({"to": TO}, PatterConnectionError, "needs an agent"),
        ({"to": "5551234567", "agent": embedded()}, ValueError, r"to must be an E\.164"),
        ({"to": TO, "agent": "hello"}, TypeError, "agent must be an Agent"),
        ({"to": TO, "agent": embedded(), "from_number": "1"}, ValueError, "from_number"),
        ({"to": TO, "agent": embedded(), "ring_timeout": 2}, ValueError, "5 to 600 seconds"),
        ({"to": TO, "agent": embedded(), "on_machine": "beep"}, TypeError, "on_machine must be a function"),
        ({"to": TO, "agent": embedded(), "port": -1}, ValueError, "port must be"),
        ({"to": TO, "agent": embedded()}, ValueError, "webhook_url is missing"),
    ],
)
async def test_a_call_is_checked_before_anything_is_dialled(
    arguments: dict[str, Any], error: type[Exception], says: str
) -> None:
    with pytest.raises(error, match=says):
        await Patter(**CARRIER).call(**arguments)


@pytest.mark.anyio
async def test_a_call_needs_a_carrier() -> None:
    with pytest.raises(PatterConnectionError, match="needs a carrier"):
        await Patter().call(TO, agent=embedded())


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("arguments", "error", "says"),
    [
        ({"agent": {"system_prompt": "x"}}, TypeError, "agent must be an Agent"),
        ({"port": 65_536}, ValueError, "port must be"),
        ({"port": -1}, ValueError, "port must be"),
        ({"port": "8000"}, ValueError, "port must be"),
        ({"on_call_end": "https://example.com"}, TypeError, "on_call_end must be a function"),
        ({"on_message": "ftp://example.com"}, ValueError, "on_message must be"),
        ({"on_message": 3}, TypeError, "on_message must be"),
        ({}, ValueError, "webhook_url is missing"),
        ({"agents": {"0800": embedded()}}, ValueError, r"E\.164"),
        ({"agents": {TO: "hello"}}, TypeError, "agent must be an Agent"),
        ({"tunnel": True}, ValueError, "dashboard to everybody"),
    ],
)
async def test_serving_is_checked_before_a_port_is_opened(
    arguments: dict[str, Any], error: type[Exception], says: str
) -> None:
    with pytest.raises(error, match=says):
        await Patter(**CARRIER).serve(**{"agent": embedded(), **arguments})


@pytest.mark.anyio
async def test_serving_needs_a_carrier() -> None:
    with pytest.raises(PatterConnectionError, match="needs a carrier"):
        await Patter().serve(embedded())


@pytest.mark.anyio
async def test_disconnecting_from_nothing_is_nothing() -> None:
    await Patter().disconnect()


class Talk:
    """`Patter.test()` with its standard streams replaced."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._monkeypatch = monkeypatch

    async def __call__(self, typed: str, agent: Agent, phone: Patter | None = None, **arguments: Any) -> str:
        out = io.StringIO()
        with self._monkeypatch.context() as streams:
            streams.setattr("sys.stdin", io.StringIO(typed))
            streams.setattr("sys.stdout", out)
            with anyio.fail_after(20):
                await (phone or Patter()).test(agent, **arguments)
        return out.getvalue()


@pytest.fixture
def talk(monkeypatch: pytest.MonkeyPatch) -> Talk:
    return Talk(monkeypatch)


@pytest.mark.anyio
async def test_testing_needs_an_agent() -> None:
    with pytest.raises(TypeError, match="agent must be an Agent"):
        await Patter().test("hello")  # type: ignore[arg-type]


@pytest.mark.anyio
async def test_a_text_call_runs_the_callbacks_of_any_call(talk: Talk) -> None:
    seen: list[dict[str, Any]] = []

    async def answer(message: dict[str, Any]) -> str:
        seen.append(message)
        return f"You are {message['caller']}."

    def start(call: dict[str, Any]) -> dict[str, Any]:
        seen.append(call)
        return {"variables": {"name": "Ada"}}

    async def end(call: dict[str, Any]) -> None:
        seen.append(call)

    agent = embedded(first_message="Hello {name}!")
    text = await talk("Who am I?\n", agent, on_message=answer, on_call_start=start, on_call_end=end)

    started, message, ended = seen
    assert "Agent: Hello Ada!\n" in text
    assert f"Agent: You are {started['caller']}.\n" in text
    assert started.keys() == {"call_id", "caller", "callee", "direction", "custom_params"}
    assert started["direction"] == "test"
    assert message.keys() >= {"text", "call_id", "caller", "callee", "history"}
    assert (message["text"], message["call_id"]) == ("Who am I?", started["call_id"])
    assert [entry["role"] for entry in ended["transcript"]] == ["assistant", "user", "assistant"]
    assert ended["reason"] == "caller_hung_up"
    assert ended["metrics"].turns[0].user_text == "Who am I?"


@pytest.mark.anyio
async def test_a_handler_may_take_the_call_and_stream_its_answer(talk: Talk) -> None:
    async def answer(message: dict[str, Any], call: Any) -> Any:
        yield "Just a moment. "
        yield "I connect you."
        await call.transfer("+15551234567")

    text = await talk("A person, please.\nAre you there?\n", embedded(), on_message=answer)

    assert "Agent: Just a moment. I connect you.\n" in text
    assert "Call ended: transferred (to +15551234567)" in text
    assert "Are you there" not in text


@pytest.mark.anyio
async def test_a_handler_that_raises_does_not_end_the_call(talk: Talk, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.ERROR)

    async def answer(message: dict[str, Any]) -> str:
        if message["text"] == "boom":
            raise RuntimeError("my bug")
        return "Still here."

    text = await talk("boom\nHello?\n", embedded(), on_message=answer)

    assert "Agent: Still here.\n" in text


@pytest.mark.anyio
async def test_an_agent_for_an_engine_with_sound_is_tested_by_text(talk: Talk) -> None:
    phone = Patter(openai_key="k")

    text = await talk("Hi\n", phone.agent("Be kind."), phone, on_message=lambda message: "Hello.")

    assert "Agent: Hello.\n" in text
