"""Sockets to vendors over real connections: warm ones, every fault in plain words, and nothing left open."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import aclosing

import aiohttp
import anyio
import anyio.lowlevel
import pytest

from patter.exceptions import ProviderError
from patter.loopback.stage import LoopbackVendor, Stage, closed_port, deaf_port
from patter.loopback.stage_faults import CutAfter, Garbled, HalfOpen, Hangup, Late, Refuse, Silent
from patter.loopback.stage_peer import Peer
from patter.loopback.stage_script import Abort, Bye, Close, Expect, Hang, Script, Send
from patter.providers import dialer as dialer_module
from patter.providers.dialer import Dialer, Target, VendorSocket
from patter.providers.vendor import Vendor

pytestmark = pytest.mark.anyio

ACME = Vendor("acme", "Acme", "ACME_API_KEY")
KEY = "secret-98765"


class Echo(LoopbackVendor):
    """Says everything again."""

    def program(self) -> None:
        self.stage.socket("/x", self._echo)

    async def _echo(self, peer: Peer) -> None:
        async for message in peer:
            await peer.send(message)


@pytest.fixture
async def dialer(http: aiohttp.ClientSession) -> AsyncIterator[Dialer]:
    """The product's own, but less patient, so that the tests are fast; afterwards no socket is left."""
    made = Dialer(http, connect_s=0.5, heartbeat_s=0.2)
    yield made
    await made.aclose()
    await anyio.lowlevel.checkpoint()
    assert isinstance(http.connector, aiohttp.TCPConnector)
    assert not http.connector._acquired


def target(stage: Stage, path: str = "/x") -> Target:
    return Target(ACME, "stt", f"{stage.ws}{path}", (("Authorization", f"Token {KEY}"),), what="the model 'm'")


async def read(socket: VendorSocket) -> list[str | bytes]:
    async with aclosing(socket.messages()) as messages:  # type: ignore[type-var]
        return [message async for message in messages]


async def failure(dialer: Dialer, where: Target) -> ProviderError:
    """Why no socket opens; the error holds no key."""
    with pytest.raises(ProviderError) as raised:
        await dialer.open(where)
    error = raised.value
    assert KEY not in f"{error!r} {error} {error.code} {error.__cause__!r}"
    assert (error.provider, error.stage) == ("acme", "stt")
    return error


# ------------------------------------------------------------------------------------------------ no socket comes up


@pytest.mark.parametrize(
    ("refusal", "problem", "retryable", "code"),
    [
        (Refuse(401, {"err_code": "INVALID_AUTH", "err_msg": f"bad {KEY}"}), "refuses the key (bad …)", False,
         "INVALID_AUTH"),
        (Refuse(401, {"detail": {"status": "quota_exceeded", "message": "m"}}), "no credit left", False,
         "quota_exceeded"),
        (Refuse(401, headers={"dg-error": "bad key"}), "refuses the key (bad key)", False, ""),
        (Refuse(402, {"err_code": "ASR_PAYMENT_REQUIRED"}), "no credit left", False, "ASR_PAYMENT_REQUIRED"),
        (Refuse(403, "no"), "refuses the key (no)", False, ""),
        (Refuse(404), "does not know the model 'm'", False, ""),
        (Refuse(429, retry_after="7"), "too many requests", True, ""),
        (Refuse(503, "x" * 100_000), "failed with status 503", True, ""),
        (Refuse(302, headers={"Location": "/stolen"}), "sends us to another address", False, ""),
        (Refuse(200, "hello"), "cannot be read (no WebSocket)", True, "garbled"),
        (Hangup(), "the connection broke off", True, "connection"),
        (Silent(), "did not answer in time", True, "timeout"),
    ],
)  # fmt: skip
async def test_refused_upgrades(
    dialer: Dialer, refusal: Refuse | Silent | Hangup, problem: str, retryable: bool, code: str
) -> None:
    async with Echo() as vendor:
        vendor.stage.faults.put("/x", *[refusal] * (2 if isinstance(refusal, Hangup) else 1))  # the client tries twice
        error = await failure(dialer, target(vendor.stage))
        assert problem in error.problem
        assert (error.retryable, error.code) == (retryable, code)
        if isinstance(refusal, Refuse) and refusal.status != 200:
            assert error.status == refusal.status
        assert error.retry_after_s == (7.0 if isinstance(refusal, Refuse) and refusal.retry_after else None)


async def test_a_refusal_whose_words_never_come(dialer: Dialer, monkeypatch: pytest.MonkeyPatch) -> None:
    async def endless(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 9\r\n\r\nno")
        await reader.read()
        writer.close()

    monkeypatch.setattr(dialer_module, "REFUSAL_S", 0.1)
    async with await asyncio.start_server(endless, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        error = await failure(dialer, Target(ACME, "stt", f"ws://127.0.0.1:{port}/x"))
    assert error.problem == "it refuses the key (no)"


async def test_nobody_listens(dialer: Dialer) -> None:
    error = await failure(dialer, Target(ACME, "stt", f"ws://127.0.0.1:{closed_port()}/x"))
    assert (error.problem, error.retryable) == ("it cannot be reached", True)


@pytest.mark.parametrize("scheme", ["ws", "wss"])
async def test_somebody_listens_and_says_nothing(dialer: Dialer, scheme: str) -> None:
    async with deaf_port() as port:
        with anyio.fail_after(10):
            error = await failure(dialer, Target(ACME, "stt", f"{scheme}://127.0.0.1:{port}/x"))
    assert (error.problem, error.retryable, error.code) == ("it did not answer in time", True, "timeout")


async def test_a_certificate_that_nobody_vouches_for(dialer: Dialer, self_signed: ssl.SSLContext) -> None:
    async with Stage(tls=self_signed) as stage:
        error = await failure(dialer, target(stage))
    assert (error.code, error.retryable) == ("tls", False)
    assert "certificates" in error.fix


async def test_no_tls_where_tls_is_expected(dialer: Dialer) -> None:
    async with Echo() as vendor:
        error = await failure(dialer, Target(ACME, "stt", f"wss://127.0.0.1:{vendor.stage.port}/x"))
    assert error.code == "tls"


@pytest.mark.parametrize("url", ["ws://", f"nonsense?token={KEY}", "ftp://127.0.0.1/x"])
async def test_no_address(dialer: Dialer, url: str) -> None:
    error = await failure(dialer, Target(ACME, "stt", url))
    assert (error.problem, error.retryable) == ("its address cannot be used", False)


async def test_a_name_that_leads_nowhere(dialer: Dialer) -> None:
    assert (await failure(dialer, Target(ACME, "stt", "ws://nowhere.invalid/x"))).code in ("connection", "timeout")


# ---------------------------------------------------------------------------------------------- a socket and its end


async def test_what_is_sent_is_there_at_once_and_in_order(dialer: Dialer) -> None:
    async with Echo() as vendor:
        socket = await dialer.open(target(vendor.stage))
        assert not socket.reused
        assert all(socket.send(message) for message in ("a", b"b", "c"))
        async with aclosing(socket.messages()) as messages:  # type: ignore[type-var]
            assert [await anext(messages) for _ in range(3)] == ["a", b"b", "c"]
        assert vendor.stage.peers[0].headers["authorization"] == f"Token {KEY}"
        await socket.aclose()
        await socket.aclose()
        assert not socket.send("late")
        assert socket.closed


@pytest.mark.parametrize("code", [1000, 1001])
async def test_the_vendor_goes_in_good_order(dialer: Dialer, code: int) -> None:
    async with Stage() as stage:
        stage.script("/x", Script([Send("last"), Close(code)]))
        socket = await dialer.open(target(stage))
        assert await read(socket) == ["last"]
        assert await read(socket) == []
        assert socket.close_code == code


@pytest.mark.parametrize(
    ("code", "retryable"), [(1008, False), (1011, True), (1002, False), (1012, True), (4000, False)]
)
async def test_the_vendor_objects_or_fails(dialer: Dialer, code: int, retryable: bool) -> None:
    async with Stage() as stage:
        stage.script("/x", Script([Close(code, f"NET-0001: {KEY} is late")]))
        socket = await dialer.open(target(stage))
        for _ in range(2):  # asked again, it says the same
            with pytest.raises(ProviderError, match=f"code {code}") as raised:
                await read(socket)
        assert raised.value.status == code
        assert raised.value.retryable == retryable
        assert KEY not in f"{raised.value} {raised.value.code}"


async def test_a_close_without_a_code_is_good_order(dialer: Dialer) -> None:
    async def leave(peer: Peer) -> None:
        assert peer.request.transport is not None
        peer.request.transport.write(b"\x88\x00")

    async with Stage() as stage:
        stage.socket("/x", leave)
        socket = await dialer.open(target(stage))
        assert await read(socket) == []
        assert socket.close_code == 1005


@pytest.mark.parametrize(
    ("fault", "problem", "code"),
    [
        (CutAfter(sent=2), "the connection broke off", "connection"),
        (CutAfter(received=3), "the connection broke off", "connection"),
        (Garbled(frame=True), "cannot be read (no WebSocket)", "garbled"),
        (HalfOpen(), "did not answer in time", "timeout"),
    ],
)
async def test_a_socket_breaks_in_the_middle(
    dialer: Dialer, fault: CutAfter | Garbled | HalfOpen, problem: str, code: str
) -> None:
    async with Echo() as vendor:
        vendor.stage.faults.put("/x", fault)
        socket = await dialer.open(target(vendor.stage))
        for message in ("a", "b", "c"):
            socket.send(message)
        got: list[str | bytes] = []
        with anyio.fail_after(10), pytest.raises(ProviderError) as raised:  # noqa: PT012
            async for message in socket.messages():
                got.append(message)
        assert problem in raised.value.problem
        assert (raised.value.code, raised.value.retryable) == (code, True)
        if isinstance(fault, CutAfter):
            assert got == ["a", "b"]
        assert not socket.send("d")
        await socket.aclose()


async def test_a_vendor_that_reads_nothing_is_left_and_holds_nobody(
    dialer: Dialer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dialer_module, "UNREAD_LIMIT", 1 << 20)
    async with Echo() as vendor:
        vendor.stage.faults.put("/x", HalfOpen())
        socket = await Dialer(dialer._http).open(target(vendor.stage))
        sent = 0
        while socket.send(b"\x00" * 65536):  # synchronous: the vendor gets no chance to read
            sent += 1
            assert sent < 10_000
        with anyio.fail_after(5), pytest.raises(ProviderError, match="broke off"):
            await read(socket)
        await socket.aclose()


async def test_closing_does_not_wait_for_a_vendor_that_is_gone(dialer: Dialer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dialer_module, "CLOSE_S", 0.1)
    async with Echo() as vendor:
        vendor.stage.faults.put("/x", HalfOpen(), HalfOpen())
        socket = await dialer.open(target(vendor.stage))
        with anyio.fail_after(5):
            await socket.aclose()
        full = await dialer.open(target(vendor.stage))
        for _ in range(60):
            full.send(b"\x00" * 65536)  # more than the system takes: even the goodbye has to wait
        with anyio.fail_after(5):
            await full.aclose()
        assert full.closed


async def test_our_own_goodbye_ends_the_reading_quietly(dialer: Dialer) -> None:
    async with Stage() as stage:
        stage.script("/x", Script([Hang()]), Script([Bye(1000)]), Script([Bye()]))
        for close in (VendorSocket.aclose, VendorSocket.leave):
            socket = await dialer.open(target(stage))
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(read, socket)
                await anyio.sleep(0.01)
                if close is VendorSocket.leave:
                    socket.leave()
                else:
                    await socket.aclose()
        socket = await dialer.open(target(stage))
        socket.abort()
        with pytest.raises(ProviderError, match="broke off"):
            await read(socket)


# ------------------------------------------------------------------------------------------------------ warm sockets


async def test_a_warm_socket_is_used_once(dialer: Dialer) -> None:
    async with Echo() as vendor:
        await dialer.warm(target(vendor.stage))
        first, second = await dialer.open(target(vendor.stage)), await dialer.open(target(vendor.stage))
        assert (first.reused, second.reused) == (True, False)
        assert first.connect_ms > 0
        assert len(vendor.stage.peers) == 2
        await first.aclose()
        await second.aclose()


async def test_another_target_gets_another_socket(dialer: Dialer) -> None:
    async with Echo() as vendor:
        await dialer.warm(target(vendor.stage))
        socket = await dialer.open(target(vendor.stage, "/x?other=1"))
        assert not socket.reused
        await socket.aclose()


async def test_an_unused_warm_socket_is_closed(dialer: Dialer) -> None:
    async with Stage() as stage:
        stage.script("/x", Script([Bye(1000)]), Script([Bye()]))
        await dialer.warm(target(stage), lasts_s=0.02)
        with anyio.fail_after(5):
            while not stage.peers[0].close_code:
                await anyio.sleep(0.01)
        socket = await dialer.open(target(stage))
        assert not socket.reused
        await socket.aclose()


@pytest.mark.parametrize("end", [Close(1000), Close(1011), Abort()])
async def test_a_warm_socket_that_was_closed_is_passed_over(dialer: Dialer, end: Close | Abort) -> None:
    async with Stage() as stage:
        stage.script("/x", Script([Send("hello"), end]), Script([Expect("x".__eq__)]))
        await dialer.warm(target(stage))
        with anyio.fail_after(5):
            while not dialer._parked[target(stage)][0].socket.stale:
                await anyio.sleep(0.005)
        socket = await dialer.open(target(stage))
        assert not socket.reused
        socket.send("x")
        await socket.aclose()


async def test_what_a_vendor_said_to_a_warm_socket_is_read_later(dialer: Dialer) -> None:
    async with Stage() as stage:
        stage.script("/x", Script([Send("created"), Expect("x".__eq__), Send("y")]))
        await dialer.warm(target(stage))
        await anyio.sleep(0.05)
        socket = await dialer.open(target(stage))
        assert socket.reused
        socket.send("x")
        async with aclosing(socket.messages()) as messages:  # type: ignore[type-var]
            assert [await anext(messages), await anext(messages)] == ["created", "y"]
        await socket.aclose()


async def test_a_half_open_warm_socket_is_passed_over(dialer: Dialer) -> None:
    async with Echo() as vendor:
        vendor.stage.faults.put("/x", HalfOpen())
        await dialer.warm(target(vendor.stage))
        with anyio.fail_after(10):
            while not dialer._parked[target(vendor.stage)][0].socket.stale:
                await anyio.sleep(0.02)
        socket = await dialer.open(target(vendor.stage))
        assert not socket.reused
        await socket.aclose()


async def test_closing_the_dialer_closes_what_was_never_used(http: aiohttp.ClientSession) -> None:
    async with Stage() as stage:
        stage.script("/x", Script([Bye(1000)]), Script([Bye(1000)]), Script([Bye(1000)]))
        dialer = Dialer(http)
        await dialer.warm(target(stage))
        await dialer.warm(target(stage))
        await dialer.aclose()
        await dialer.warm(target(stage))  # one that comes up only then


async def test_warming_fails_as_opening_does(dialer: Dialer) -> None:
    async with Echo() as vendor:
        vendor.stage.faults.put("/x", Refuse(401), Late(0.01))
        with pytest.raises(ProviderError, match="refuses the key"):
            await dialer.warm(target(vendor.stage))
        await dialer.warm(target(vendor.stage))
