"""Requests to vendors over real connections: every fault in plain words, another try only where it makes sense."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from typing import Any

import aiohttp
import anyio
import pytest

from patter.exceptions import ProviderError
from patter.loopback.stage import LoopbackVendor, Stage, closed_port, deaf_port
from patter.loopback.stage_faults import CutAfter, Fault, Garbled, HalfOpen, Hangup, Refuse, Silent
from patter.loopback.stage_http import Answer, Exchange, Visit
from patter.providers import vendor_http
from patter.providers.vendor import Vendor
from patter.providers.vendor_http import VendorReply, VendorRequest, sent
from patter.signals import ConnectionUsed, Faulted

pytestmark = pytest.mark.anyio

ACME = Vendor("acme", "Acme", "ACME_API_KEY")
KEY = "secret-98765"


class Echo(LoopbackVendor):
    """Answers with what it was sent."""

    def program(self) -> None:
        self.stage.route("POST", "/x", self._answer)

    async def _answer(self, visit: Visit) -> Any:
        return await visit.answer(Answer(body=visit.json or {name: len(got) for name, got in visit.form.items()}))


def request(root: str, path: str = "/x", **values: Any) -> VendorRequest:
    return VendorRequest(
        ACME, "tts", "POST", f"{root}{path}", **({"headers": {"xi-api-key": KEY}, "body": {"say": "hi"}} | values)
    )


async def answered(http: aiohttp.ClientSession, asked: VendorRequest) -> tuple[bytes, VendorReply]:
    async with sent(http, asked) as reply:
        return await reply.response.read(), reply


async def failure(http: aiohttp.ClientSession, asked: VendorRequest) -> ProviderError:
    with pytest.raises(ProviderError) as raised:
        await answered(http, asked)
    error = raised.value
    assert KEY not in f"{error!r} {error} {error.code} {error.__cause__!r}"
    assert (error.provider, error.stage) == ("acme", "tts")
    return error


# ------------------------------------------------------------------------------------------------------ good answers


async def test_connections_are_used_again_and_that_is_told(http: aiohttp.ClientSession) -> None:
    async with Echo() as vendor:
        first, told = await answered(http, request(vendor.stage.http))
        used = [(await answered(http, request(vendor.stage.http)))[1].told for _ in range(2)]
        assert first == b'{"say": "hi"}'
    (new,) = told.told
    assert isinstance(new, ConnectionUsed)
    assert (new.stage, new.provider, new.reused, new.ms > 0) == ("tts", "acme", False, True)
    assert used == [(ConnectionUsed("tts", "acme", True, 0.0),)] * 2


async def test_leaving_before_the_end_closes_the_connection(http: aiohttp.ClientSession) -> None:
    async with Stage() as stage:
        stage.exchanges("POST", "/x", Exchange(Answer(pieces=["a"] * 200, between_s=0.05)))
        async with sent(http, request(stage.http)) as reply:
            assert await reply.response.content.readexactly(1) == b"a"
        assert isinstance(http.connector, aiohttp.TCPConnector)
        assert not http.connector._acquired
        assert not http.connector._conns


async def test_a_form_is_made_anew_for_every_try(http: aiohttp.ClientSession) -> None:
    def form() -> aiohttp.FormData:
        data = aiohttp.FormData()
        data.add_field("file", b"RIFF", filename="a.wav")
        return data

    async with Echo() as vendor:
        vendor.stage.faults.put("/x", Refuse(503, retry_after="0"))
        body, reply = await answered(http, request(vendor.stage.http, body=None, form=form))
    assert body == b'{"file": 1}'
    assert reply.told[0] == Faulted("tts", "acme", "it failed with status 503", "it is tried again")


# -------------------------------------------------------------------------------------------- faults before the answer


@pytest.mark.parametrize(
    ("fault", "problem", "retryable", "code", "tries"),
    [
        (Refuse(401, {"detail": {"status": "invalid_api_key", "message": f"bad {KEY}"}}), "refuses the key (bad …)",
         False, "invalid_api_key", 1),
        (Refuse(401, {"detail": {"status": "quota_exceeded"}}), "no credit left", False, "quota_exceeded", 1),
        (Refuse(402, {"detail": {"code": "paid_plan_required"}}), "not in this plan", False, "paid_plan_required", 1),
        (Refuse(403), "refuses the key", False, "", 1),
        (Refuse(404), "does not know the voice 'eve'", False, "", 1),
        (Refuse(422, {"detail": [{"msg": "too long"}]}), "status 422 (too long)", False, "invalid", 1),
        (Refuse(429, retry_after="60"), "too many requests", True, "", 1),
        (Refuse(429, retry_after="0"), "too many requests", True, "", 2),
        (Refuse(500, "oh" * 50_000, retry_after="0"), "failed with status 500", True, "", 2),
        (Refuse(503, retry_after="0", headers={"x-should-retry": "false"}), "status 503", False, "", 1),
        (Refuse(307, headers={"Location": "/stolen"}), "sends us to another address", False, "", 1),
        (Hangup(), "the connection broke off", True, "connection", 2),
        (Garbled(frame=True), "cannot be read (no HTTP)", True, "garbled", 2),
        (Silent(), "did not answer in time", True, "timeout", 1),
    ],
)  # fmt: skip
async def test_failures_and_how_often_they_are_tried(
    http: aiohttp.ClientSession,
    monkeypatch: pytest.MonkeyPatch,
    fault: Fault,
    problem: str,
    retryable: bool,
    code: str,
    tries: int,
) -> None:
    monkeypatch.setattr(vendor_http, "RETRY_S", 0.01)
    async with Echo() as vendor:
        vendor.stage.faults.put("/x", *[fault] * tries)
        error = await failure(http, request(vendor.stage.http, silence_s=0.2, what="the voice 'eve'"))
    assert problem in error.problem
    assert (error.retryable, error.code) == (retryable, code)
    assert error.status == (fault.status if isinstance(fault, Refuse) else 0)


@pytest.mark.parametrize("fault", [Refuse(429, retry_after="0"), Refuse(502, retry_after="0"), Hangup()])
async def test_the_second_try_may_go_well(http: aiohttp.ClientSession, fault: Fault) -> None:
    async with Echo() as vendor:
        vendor.stage.faults.put("/x", fault)
        body, reply = await answered(http, request(vendor.stage.http))
    assert body == b'{"say": "hi"}'
    assert [type(one) for one in reply.told] == [Faulted, ConnectionUsed]


async def test_what_the_vendor_asks_to_wait_is_waited(http: aiohttp.ClientSession) -> None:
    async with Echo() as vendor:
        vendor.stage.faults.put("/x", Refuse(429, headers={"retry-after-ms": "300"}))
        began = anyio.current_time()
        await answered(http, request(vendor.stage.http))
        assert anyio.current_time() - began >= 0.3


async def test_a_kept_connection_that_was_closed_meanwhile_is_no_fault(http: aiohttp.ClientSession) -> None:
    """The vendor closes it in the very moment in which it is used again: nothing is told, nothing waited for."""
    served: list[int] = []

    async def once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        served.append(len(served))
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        await reader.readuntil(b"hi")
        with contextlib.suppress(asyncio.IncompleteReadError):
            await reader.readuntil(b"\r\n\r\n")  # the next request: hang up on it
        writer.close()

    async with await asyncio.start_server(once, "127.0.0.1", 0) as server:
        root = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        assert (await answered(http, request(root)))[0] == b"ok"
        body, reply = await answered(http, request(root, attempts=1))
    assert (body, len(served)) == (b"ok", 2)
    assert [(type(one), getattr(one, "reused", None)) for one in reply.told] == [(ConnectionUsed, False)]


async def test_nobody_listens(http: aiohttp.ClientSession) -> None:
    error = await failure(http, request(f"http://127.0.0.1:{closed_port()}"))
    assert (error.problem, error.retryable, error.code) == ("it cannot be reached", True, "connection")


@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_somebody_listens_and_says_nothing(http: aiohttp.ClientSession, scheme: str) -> None:
    async with deaf_port() as port:
        with anyio.fail_after(10):
            error = await failure(http, request(f"{scheme}://127.0.0.1:{port}", connect_s=0.2, silence_s=0.2))
    assert (error.code, error.retryable) == ("timeout", True)


async def test_a_certificate_that_nobody_vouches_for(http: aiohttp.ClientSession, self_signed: ssl.SSLContext) -> None:
    async with Stage(tls=self_signed) as stage:
        error = await failure(http, request(stage.http))
    assert (error.code, error.retryable) == ("tls", False)


async def test_an_address_that_is_none(http: aiohttp.ClientSession) -> None:
    assert (await failure(http, request(f"ftp://x?token={KEY}"))).code == "address"


async def test_a_refusal_whose_words_never_come(http: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vendor_http, "REFUSAL_S", 0.1)
    async with Stage() as stage:
        answer = Answer(401, {"Content-Type": "text/plain"}, pieces=["no "], hang=True)
        stage.exchanges("POST", "/x", Exchange(answer))
        assert (await failure(http, request(stage.http))).problem == "it refuses the key (no)"


# --------------------------------------------------------------------------------------------- faults inside the answer


@pytest.mark.parametrize(
    ("fault", "problem"),
    [(CutAfter(bytes=4), "broke off"), (CutAfter(bytes=0), "broke off"), (HalfOpen(), "did not answer in time")],
)
async def test_what_breaks_after_the_first_byte_is_not_tried_again(
    http: aiohttp.ClientSession, fault: Fault, problem: str
) -> None:
    async with Echo() as vendor:
        vendor.stage.faults.put("/x", fault)
        error = await failure(http, request(vendor.stage.http, silence_s=0.2))
        assert problem in error.problem
        assert error.retryable
        assert len(vendor.stage.visits) <= 1


async def test_an_error_of_whoever_reads_is_left_alone(http: aiohttp.ClientSession) -> None:
    async with Echo() as vendor:
        with pytest.raises(KeyError):
            async with sent(http, request(vendor.stage.http)):
                raise KeyError
