"""The stage of played vendors: strict scripts fail on what is unexpected and on what is left, and faults happen as told."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import anyio
import pytest

from patter.loopback.stage import LoopbackVendor, Stage, closed_port, deaf_port
from patter.loopback.stage_faults import CutAfter, Garbled, HalfOpen, Hangup, Late, Refuse, Silent
from patter.loopback.stage_http import Answer, Exchange, Visit
from patter.loopback.stage_peer import Peer
from patter.loopback.stage_script import (
    Abort,
    Audio,
    Bye,
    Close,
    Expect,
    Garbage,
    Hang,
    Quiet,
    Script,
    ScriptBroken,
    Send,
    difference,
)

# ruff: noqa: PT012 -- leaving the stage is what raises, so the stage stands inside

pytestmark = pytest.mark.anyio


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as made:
        yield made


# ---------------------------------------------------------------------------------------------------- socket scripts


async def test_a_script_is_played_step_by_step(http: aiohttp.ClientSession) -> None:
    script = Script(
        [Expect({"type": "hello", "n": int}), Send({"type": "ready"}), Audio(2), Expect({"type": "stop"}), Quiet(0.01),
         Send(b"\x01"), Bye(1000)],
        query={"model": "m", "absent": None},
        headers={"Authorization": "Token k"},
    )  # fmt: skip
    async with Stage() as stage:
        stage.script("/v1/listen", script)
        async with http.ws_connect(f"{stage.ws}/v1/listen?model=m", headers={"Authorization": "Token k"}) as ws:
            await ws.send_json({"type": "hello", "n": 3, "more": True})
            assert await ws.receive_json() == {"type": "ready"}
            for _ in range(5):
                await ws.send_bytes(b"\x00" * 160)
            await ws.send_json({"type": "stop"})
            assert await ws.receive_bytes() == b"\x01"
        assert stage.peers[0].received == [{"type": "hello", "n": 3, "more": True}, {"type": "stop"}]
    assert stage.peers[0].binary_bytes == 800


@pytest.mark.parametrize(
    ("script", "sent", "says"),
    [
        (Script([Expect({"type": "a"})]), [{"type": "b"}], "is 'b' instead of 'a'"),
        (Script([Expect({"a": {"b": [1, {"c": 2}]}})]), [{"a": {"b": [1, {"c": 3}]}}], r"a\.b\[1\]\.c is 3"),
        (Script([Expect(bytes, pass_audio=False)]), [{"type": "b"}], "no binary frame"),
        (Script([Expect(lambda message: message["n"] > 2)]), [{"n": 1}], "check says no"),
        (Script([Audio(2)]), [b"x", {"type": "b"}], "instead of audio"),
        (Script([Quiet(5)]), [{"type": "b"}], "nothing was expected"),
        (Script([Bye()]), [{"type": "b"}], "instead of a goodbye"),
        (Script(), [{"type": "b"}], "after the last step"),
        (Script(query={"model": "m"}), [], "query.model is None"),
        (Script(headers={"authorization": ...}), [], "headers.authorization is missing"),
    ],
)
async def test_what_is_not_in_the_script_breaks_it(
    http: aiohttp.ClientSession, script: Script, sent: list[Any], says: str
) -> None:
    with pytest.raises(ScriptBroken, match=says):
        async with Stage() as stage:
            stage.script("/x", script)
            async with http.ws_connect(f"{stage.ws}/x") as ws:
                for message in sent:
                    await (ws.send_bytes(message) if isinstance(message, bytes) else ws.send_json(message))
                assert (await ws.receive()).data == 1008


async def test_what_is_left_of_a_script_breaks_it(http: aiohttp.ClientSession) -> None:
    with pytest.raises(ScriptBroken, match=r"left before Expect.*1 more"):
        async with Stage() as stage:
            stage.script("/x", Script([Expect({"a": 1}), Send("b")]))
            async with http.ws_connect(f"{stage.ws}/x"):
                pass
    with pytest.raises(ScriptBroken, match="1 expected sockets were never opened"):
        async with Stage() as stage:
            stage.script("/x", Script())
    with pytest.raises(ScriptBroken, match="no script is for"):
        async with Stage() as stage:
            stage.script("/x")
            async with http.ws_connect(f"{stage.ws}/x") as ws:
                await ws.receive()
    with pytest.raises(ScriptBroken, match="never met"):
        async with Stage() as stage:
            stage.faults.put("/x", Silent())


async def test_a_failing_test_is_not_hidden_by_the_script() -> None:
    with pytest.raises(KeyError):
        async with Stage() as stage:
            stage.script("/x", Script())
            raise KeyError


@pytest.mark.parametrize(
    ("step", "kind", "code"),
    [
        (Close(4000, "why"), aiohttp.WSMsgType.CLOSE, 4000),
        (Abort(), aiohttp.WSMsgType.CLOSED, 1006),
        (Garbage(), aiohttp.WSMsgType.TEXT, None),
        (Garbage(frame=True), aiohttp.WSMsgType.ERROR, None),
    ],
)
async def test_sockets_end_as_told(
    http: aiohttp.ClientSession, step: Any, kind: aiohttp.WSMsgType, code: int | None
) -> None:
    async with Stage() as stage:
        stage.script("/x", Script([Send("first"), step]))
        async with http.ws_connect(f"{stage.ws}/x") as ws:
            assert await ws.receive_str() == "first"
            assert (await ws.receive()).type is kind
            assert code is None or ws.close_code == code


async def test_a_vendor_that_hangs_answers_pings(http: aiohttp.ClientSession) -> None:
    async with Stage() as stage:
        stage.script("/x", Script([Hang()]))
        async with http.ws_connect(f"{stage.ws}/x", autoping=False) as ws:
            await ws.send_str("anything")
            await ws.ping()
            with anyio.fail_after(5):
                assert (await ws.receive()).type is aiohttp.WSMsgType.PONG


# ---------------------------------------------------------------------------------------------------------- requests


async def test_requests_are_checked_and_answered_in_pieces(http: aiohttp.ClientSession) -> None:
    answer = Answer(headers={"Content-Type": "text/event-stream"}, pieces=["data: zwölf\n\n", b"end"], chunk=3)
    form = Exchange(
        Answer(body={"text": "ok"}),
        check=lambda visit: visit.form["model"] == ["m"] and visit.filenames["file"] == "a.wav",
    )
    async with Stage() as stage:
        stage.exchanges("POST", "/v1/say/{voice}", Exchange(answer, {"f": "pcm"}, {"X-Key": "k"}, {"text": "hi"}), form)
        sent = http.post(f"{stage.http}/v1/say/eve?f=pcm", json={"text": "hi", "more": 1}, headers={"x-key": "k"})
        async with sent as response:
            assert await response.text() == "data: zwölf\n\nend"
        data = aiohttp.FormData()
        data.add_field("model", "m")
        data.add_field("file", b"RIFF", filename="a.wav")
        async with http.post(f"{stage.http}/v1/say/eve", data=data) as response:
            assert await response.json() == {"text": "ok"}
        assert stage.visits[0].match == {"voice": "eve"}


@pytest.mark.parametrize(
    ("path", "body", "says"),
    [("/other", {}, "no route"), ("/say", {"text": "no"}, "text is 'no'"), ("/twice", {}, "no exchange is left")],
)
async def test_unexpected_requests_break_the_script(
    http: aiohttp.ClientSession, path: str, body: dict[str, str], says: str
) -> None:
    with pytest.raises(ScriptBroken, match=says):
        async with Stage() as stage:
            stage.exchanges("POST", "/say", Exchange(body={"text": "yes"}))
            stage.exchanges("POST", "/twice")
            async with http.post(f"{stage.http}{path}", json=body) as response:
                assert response.status == 418
    with pytest.raises(ScriptBroken, match="1 expected requests never came"):
        async with Stage() as stage:
            stage.exchanges("GET", "/say", Exchange())


# ------------------------------------------------------------------------------------------------------------ faults


class Echo(LoopbackVendor):
    """Says everything again, by socket and by request."""

    def program(self) -> None:
        self.stage.socket("/echo", self._echo)
        self.stage.route("POST", "/echo", self._answer)

    async def _echo(self, peer: Peer) -> None:
        async for message in peer:
            await peer.send(message)

    async def _answer(self, visit: Visit) -> Any:
        return await visit.answer(Answer(body=visit.json))


async def test_the_next_sockets_meet_the_faults_that_wait(http: aiohttp.ClientSession) -> None:
    async with Echo() as vendor:
        stage = vendor.stage
        stage.faults.put("/echo", Refuse(429, {"e": 1}, retry_after="2"), Late(0.01), CutAfter(sent=2), Garbled())
        url = f"{stage.ws}/echo"
        with pytest.raises(aiohttp.WSServerHandshakeError) as raised:
            await http.ws_connect(url)
        assert (raised.value.status, (raised.value.headers or {})["Retry-After"]) == (429, "2")
        async with http.ws_connect(url) as ws:
            await ws.send_json({"n": 1})
            assert await ws.receive_json() == {"n": 1}
        async with http.ws_connect(url) as ws:
            for text in ("a", "b", "c"):
                await ws.send_str(text)
            got = [await ws.receive() for _ in range(3)]
            assert [one.data for one in got[:2]] == ["a", "b"]
            assert got[2].type in (aiohttp.WSMsgType.CLOSED, aiohttp.WSMsgType.ERROR)
        async with http.ws_connect(url) as ws:
            assert "not { json" in await ws.receive_str()


async def test_half_open_and_silent_vendors_answer_nothing(http: aiohttp.ClientSession) -> None:
    async with Echo() as vendor:
        vendor.stage.faults.put("/echo", HalfOpen(), Silent())
        async with http.ws_connect(f"{vendor.stage.ws}/echo", autoping=False, timeout=quick()) as ws:
            await ws.ping()
            with anyio.move_on_after(0.1):
                raise AssertionError(await ws.receive())
        with pytest.raises(TimeoutError):
            await http.post(f"{vendor.stage.http}/echo", timeout=aiohttp.ClientTimeout(sock_read=0.1))


async def test_requests_break_in_the_middle(http: aiohttp.ClientSession) -> None:
    async with Echo() as vendor:
        vendor.stage.faults.put("/echo", CutAfter(bytes=3), CutAfter(bytes=0), Hangup(), Garbled(frame=True))
        for heard in (b'["l', b""):
            async with http.post(f"{vendor.stage.http}/echo", json=["long"]) as response:
                assert await response.content.readexactly(len(heard)) == heard
                with pytest.raises(aiohttp.ClientPayloadError):
                    await response.content.read()
        for _ in range(2):
            with pytest.raises(aiohttp.ClientError):
                await http.post(f"{vendor.stage.http}/echo", json=["long"])


async def test_a_closed_door_refuses_and_opens_again_on_the_same_port(http: aiohttp.ClientSession) -> None:
    async with Echo() as vendor:
        await vendor.stage.close_door()
        with pytest.raises(aiohttp.ClientConnectorError):
            await http.post(f"{vendor.stage.http}/echo", json=1)
        await vendor.stage.open_door()
        async with http.post(f"{vendor.stage.http}/echo", json=1) as response:
            assert await response.json() == 1


async def test_ports_that_refuse_and_ports_that_are_deaf(http: aiohttp.ClientSession) -> None:
    with pytest.raises(aiohttp.ClientConnectorError):
        await http.get(f"http://127.0.0.1:{closed_port()}")
    async with deaf_port() as port:
        with pytest.raises(TimeoutError):
            await http.get(f"http://127.0.0.1:{port}", timeout=aiohttp.ClientTimeout(sock_connect=5, sock_read=0.1))


async def test_a_vendor_whose_own_code_fails_breaks_the_script(http: aiohttp.ClientSession) -> None:
    async def fails(peer: Peer) -> None:
        raise AssertionError("the client said it wrong")

    with pytest.raises(ScriptBroken, match="said it wrong"):
        async with Stage() as stage:
            stage.socket("/x", fails)
            async with http.ws_connect(f"{stage.ws}/x") as ws:
                await ws.receive()


def quick() -> aiohttp.ClientWSTimeout:
    return aiohttp.ClientWSTimeout(ws_close=0.1)


def test_differences_name_the_place() -> None:
    assert difference({"a": ..., "b": None}, {"a": 1}) == ""
    assert difference({"a": ...}, {}) == "value.a is missing"
    assert difference([1, 2], [1]) == "value is [1] instead of [1, 2]"
    assert difference({"a": str}, {"a": 1}) == "value.a is 1, no str"
