"""`Patter.serve()` with the real engines, rung by the loopback carrier."""

from __future__ import annotations

from typing import Any

import aiohttp
import anyio
import pytest

from patter import Agent, CallMetrics, Patter, PatterConnectionError, PatterError
from patter.clock import Clock
from patter.loopback.twilio import CallOver, Dial, LoopbackTwilio
from patter.providers.embedded.hibari import voice_missing
from patter.server.listener import listen

NUMBER = "+15551234567"
SID, TOKEN = "AC" + "2" * 32, "the-auth-token"
SILENCE = b"\xff" * 160


@pytest.fixture
def port() -> int:
    listener = listen()
    number: int = listener.getsockname()[1]
    listener.close()
    return number


def phone_on(port: int) -> Patter:
    return Patter(twilio_sid=SID, twilio_token=TOKEN, phone_number=NUMBER, webhook_url=f"127.0.0.1:{port}")


def embedded() -> Agent:
    return Patter().agent(
        "Be kind.",
        provider="pipeline",
        stt=Patter.embedded_stt(),
        tts=Patter.embedded_tts(),
        first_message="Hello {name}, this is the front desk.",
        name="front-desk",
    )


async def answered(client: aiohttp.ClientSession, port: int) -> None:
    """Return once the server listens."""
    with anyio.fail_after(20):
        while True:
            try:
                async with client.get(f"http://127.0.0.1:{port}/health"):
                    return
            except aiohttp.ClientConnectionError:
                await anyio.sleep(0.05)


@pytest.mark.local
@pytest.mark.anyio
@pytest.mark.skipif(bool(voice_missing()), reason=voice_missing())
async def test_a_number_is_answered_and_the_caller_hears_the_greeting(port: int) -> None:
    told: list[dict[str, Any]] = []
    sounding, phone = anyio.Event(), phone_on(port)

    async def start(call: dict[str, Any]) -> dict[str, Any]:
        told.append(call)
        return {"variables": {"name": "Ada"}}

    def ear(frame: bytes) -> None:
        if frame != SILENCE:
            sounding.set()

    async def note(call: dict[str, Any]) -> None:
        told.append(call)

    async def serve() -> None:
        await phone.serve(embedded(), port, on_call_start=start, on_transcript=note, on_call_end=note)

    async with aiohttp.ClientSession() as client, anyio.create_task_group() as tasks:
        tasks.start_soon(serve)
        await answered(client, port)
        dial = Dial(f"http://127.0.0.1:{port}/webhooks/twilio/voice", SID, TOKEN, "+15550001111", NUMBER)
        carrier = LoopbackTwilio(dial, client, Clock(), mouth=lambda: SILENCE, ear=ear)
        async with anyio.create_task_group() as call:
            call.start_soon(carrier.call)
            with anyio.fail_after(20):
                await sounding.wait()
            carrier.hang_up()
        await phone.disconnect()

    started, *transcript, ended = told
    assert (started["caller"], started["callee"], started["direction"]) == ("+15550001111", NUMBER, "inbound")
    assert carrier.violations == []
    assert all(line["role"] == "assistant" and "Hello Ada".startswith(line["text"][:9]) for line in transcript)
    assert (ended["call_id"], ended["reason"]) == (carrier.call_sid, "caller_hung_up")
    assert isinstance(ended["metrics"], CallMetrics)
    listen(port).close()  # free again


@pytest.mark.anyio
async def test_disconnecting_waits_for_the_call_that_is_up(port: int) -> None:
    phone, over, ended = phone_on(port), list[CallOver](), list[dict[str, Any]]()
    waiting = anyio.Event()

    async def start(call: dict[str, Any]) -> None:
        waiting.set()

    async def serve() -> None:
        await phone.serve(embedded(), port, on_call_start=start, on_call_end=ended.append)

    async with aiohttp.ClientSession() as client, anyio.create_task_group() as tasks:
        tasks.start_soon(serve)
        await answered(client, port)
        with pytest.raises(PatterError, match="serves already"):
            await phone.serve(embedded(), port)
        dial = Dial(f"http://127.0.0.1:{port}/webhooks/twilio/voice", SID, TOKEN, "+15550001111", NUMBER)
        carrier = LoopbackTwilio(dial, client, Clock(), mouth=lambda: SILENCE, ear=lambda _: None)

        async def ring() -> None:
            over.append(await carrier.call())

        tasks.start_soon(ring)
        await waiting.wait()
        async with anyio.create_task_group() as both:
            both.start_soon(phone.disconnect)
            carrier.hang_up()

    assert len(over) == 1
    assert [call["reason"] for call in ended] == ["caller_hung_up"]


@pytest.mark.anyio
async def test_a_taken_port_is_a_connection_error(port: int) -> None:
    listener = listen(port)
    listener.listen()
    try:
        with pytest.raises(PatterConnectionError, match=f"Port {port}"):
            await phone_on(port).serve(embedded(), port)
    finally:
        listener.close()
