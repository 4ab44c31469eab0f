"""The way out to carriers against a small server on loopback: retries, waiting, limits, and no key in any text."""

from __future__ import annotations

import asyncio
import logging
import traceback
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from email.utils import formatdate
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from patter.exceptions import CarrierError
from patter.providers import carrier_http
from patter.providers.carrier_http import BODY_LIMIT, LONGEST_WAIT_S, CarrierHttp, Dialect, path_part
from tests.support.rest_desk import RestDesk, said

pytestmark = pytest.mark.anyio

SECRET = "sw0rdfish-0123456789"
NOW = 1_790_000_000.0


def read(body: Any) -> tuple[str, str]:
    return (str(body.get("code", "")), str(body.get("message", ""))) if isinstance(body, dict) else ("", "")


DIALECT = Dialect("acme", read, {"7": "feed the cat"}, {401: "look for the key"}, {"thirsty": "give it milk"})


class Desk(RestDesk):
    """The server together with our way to it."""

    @asynccontextmanager
    async def reach(self) -> AsyncIterator[CarrierHttp]:
        async with self.open() as (http, address):
            authorization = f"Bearer {SECRET}"
            yield CarrierHttp(http, DIALECT, address + "/", authorization, [SECRET], sleep=self.sleep, wall=lambda: NOW)


async def refused(desk: Desk, **values: Any) -> CarrierError:
    async with desk.reach() as http:
        with pytest.raises(CarrierError) as caught:
            await http.send("GET", "/it", **values)
    return caught.value


async def test_a_request_carries_the_key_and_its_fields() -> None:
    desk = Desk(said(201, sid="X1"))
    async with desk.reach() as http:
        assert await http.send("POST", "/a/v3%3Ab", form=[("To", "+1 &"), ("E", "a"), ("E", "b")]) == {"sid": "X1"}
        assert await http.send("PATCH", "/b", body={"to": "é"}) == {"sid": "X1"}
        assert await http.send("GET", "/c", query={"filter[n]": "+1"}) == {"sid": "X1"}
    form, body, query = desk.asked
    assert form[:3] == ("POST", "/a/v3%3Ab", "To=%2B1+%26&E=a&E=b")
    assert form[3]["Content-Type"] == "application/x-www-form-urlencoded"
    assert form[3]["Authorization"] == f"Bearer {SECRET}"
    assert body[:3] == ("PATCH", "/b", '{"to": "\\u00e9"}')
    assert body[3]["Content-Type"] == "application/json"
    assert query[:2] == ("GET", "/c?filter%5Bn%5D=%2B1")


@pytest.mark.parametrize("status", [429, 500, 502, 503])
async def test_a_busy_or_failing_carrier_is_asked_three_times_in_all(status: int) -> None:
    desk = Desk(said(status, code=9, message="not now"))
    error = await refused(desk, query={"a": "1"})
    assert (error.status, error.code, error.retryable) == (status, "9", True)
    assert len(desk.asked) == 3
    assert len({asked[:3] for asked in desk.asked}) == 1, "the very same request each time"
    assert 0.5 <= desk.waits[0] <= 0.75
    assert 1.0 <= desk.waits[1] <= 1.5


async def test_one_failure_is_forgotten_once_the_next_attempt_succeeds() -> None:
    desk = Desk(said(503), said(200, ok=True))
    async with desk.reach() as http:
        assert await http.send("POST", "/it", body={}) == {"ok": True}
    assert len(desk.asked) == 2


@pytest.mark.parametrize("status", [301, 400, 401, 403, 404, 422])
async def test_a_refusal_is_final(status: int) -> None:
    desk = Desk(said(status, {"Location": "http://127.0.0.1:1/elsewhere"}, code=7, message="no"))
    error = await refused(desk)
    assert (error.status, error.code, error.retryable, len(desk.asked)) == (status, "7", False, 1)
    assert str(error) == f"acme: it answered {status}, error 7: no — feed the cat"


@pytest.mark.parametrize(
    ("headers", "wait"),
    [
        ({"Retry-After": "3"}, 3.0),
        ({"Retry-After": " 0 "}, 0.0),
        ({"Retry-After": "2.5"}, 2.5),
        ({"Retry-After": "86400"}, LONGEST_WAIT_S),
        ({"Retry-After": formatdate(NOW + 100_007, usegmt=True), "Date": formatdate(NOW + 100_000, usegmt=True)}, 7.0),
        ({"Retry-After": formatdate(NOW - 60, usegmt=True), "Date": formatdate(NOW, usegmt=True)}, 0.0),
        ({"x-ratelimit-reset": "4"}, 4.0),
        ({"x-ratelimit-reset": "4", "Retry-After": "2"}, 2.0),
    ],
)
async def test_the_carrier_says_when_to_come_back(headers: dict[str, str], wait: float) -> None:
    desk = Desk(said(429, headers), said(200))
    async with desk.reach() as http:
        await http.send("GET", "/it")
    assert desk.waits == [wait]


@pytest.mark.parametrize("text", ["soon", "-5", "²", "9" * 40, "1.2.3", "\u0661", "Mon, 99 Foo 2026"])
async def test_a_wait_that_cannot_be_read_is_replaced_by_our_own(text: str) -> None:
    desk = Desk(said(429, {"Retry-After": text}), said(200))
    async with desk.reach() as http:
        await http.send("GET", "/it")
    assert 0.5 <= desk.waits[0] <= 0.75


async def test_what_to_do_is_told_by_words_code_and_status_in_that_order() -> None:
    assert DIALECT.fix(401, "7", "The cat is Thirsty.") == "give it milk"
    assert DIALECT.fix(401, "7", "thirstyness") == "feed the cat"
    assert DIALECT.fix(401, "8", "") == "look for the key"
    assert DIALECT.fix(400, "8", "") == "look the code up in acme's error documentation"
    assert "try again" in DIALECT.fix(503, "8", "")
    assert DIALECT.fix(400, "", "")


async def test_the_carriers_clock_is_compared_with_ours() -> None:
    desk = Desk(said(200, {"Date": formatdate(NOW + 42, usegmt=True)}), said(200, {"Date": "yesterday"}), said(404))
    async with desk.reach() as http:
        assert http.skew_s is None
        await http.send("GET", "/it")
        assert http.skew_s == 42.0
        await http.send("GET", "/it")
        assert http.skew_s == 42.0, "an answer without a usable date changes nothing"


async def test_a_refusal_shows_the_clock_too() -> None:
    desk = Desk(said(401, {"Date": formatdate(NOW - 900, usegmt=True)}))
    async with desk.reach() as http:
        with pytest.raises(CarrierError):
            await http.send("GET", "/it")
        assert http.skew_s == -900.0


async def test_a_key_that_the_carrier_repeats_stays_out_of_the_error_and_the_log(caplog: Any) -> None:
    desk = Desk(said(500, code=SECRET, message=f"bad {SECRET}\n\x1b[31m{'x' * 1000}"))
    with caplog.at_level(logging.DEBUG):
        error = await refused(desk, body={})
    assert error.problem.startswith("it answered 500: bad … [31mxxx")
    assert len(error.problem) < 400
    for text in (str(error), repr(error), "".join(traceback.format_exception(error)), repr(error.__dict__)):
        assert SECRET not in text
    assert SECRET not in repr([vars(record) for record in caplog.records])
    assert [record.levelname for record in caplog.records if record.name == carrier_http.__name__] == ["WARNING"] * 2


async def test_the_client_shows_no_key() -> None:
    async with Desk(said(200)).reach() as http:
        assert SECRET not in repr(http)


async def test_an_answer_is_read_to_a_bound() -> None:
    async def flood(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        try:
            for _ in range(64):
                await response.write(b"x" * (BODY_LIMIT // 8))
        except ConnectionError:
            pass
        return response

    error = await refused(Desk(flood))
    assert (error.status, error.retryable) == (0, False)
    assert "far too long" in error.problem


@pytest.mark.parametrize("body", [b"", b"<html>", b"[1]", b'"x"', b"[" * 100_000, b"\xff\xfe"])
async def test_an_answer_that_is_no_json_object_is_an_error(body: bytes) -> None:
    error = await refused(Desk(web.Response(body=body)))
    assert (error.status, error.code) == (200, "")
    assert "address" in error.fix


@pytest.mark.parametrize("body", [b"", b"<html>", b"[1]", b"[" * 100_000, b'{"code": {"a": 1}, "message": [2]}'])
async def test_an_error_without_words_is_told_by_its_status(body: bytes) -> None:
    error = await refused(Desk(web.Response(status=401, body=body)))
    assert error.status == 401
    assert error.code == ""
    assert error.fix == "look for the key"


async def test_a_connection_that_breaks_is_tried_again() -> None:
    async def drop(request: web.Request) -> web.StreamResponse:
        assert request.transport is not None
        request.transport.abort()
        return web.Response()

    desk = Desk(drop, said(200, ok=True))
    async with desk.reach() as http:
        assert await http.send("POST", "/it", body={"command_id": "c-1"}) == {"ok": True}
    assert [asked.body for asked in desk.asked] == ['{"command_id": "c-1"}'] * 2
    error = await refused(Desk(drop), form=[])
    assert (error.status, error.retryable) == (0, True)
    assert SECRET not in "".join(traceback.format_exception(error))


async def test_nobody_at_the_address(free_tcp_port: int) -> None:
    desk = Desk(said(200))
    async with aiohttp.ClientSession() as session:
        http = CarrierHttp(session, DIALECT, f"http://127.0.0.1:{free_tcp_port}", f"Bearer {SECRET}", sleep=desk.sleep)
        with pytest.raises(
            CarrierError, match=rf"nothing answers at 127.0.0.1:{free_tcp_port} — check .* network"
        ) as caught:
            await http.send("GET", "/it")
    assert (caught.value.status, caught.value.retryable, len(desk.waits)) == (0, True, 2)
    assert (caught.value.__cause__, caught.value.__context__) == (None, None), "aiohttp's errors may carry our headers"


async def test_after_the_end_of_its_session_nothing_is_asked() -> None:
    async with aiohttp.ClientSession() as session:
        http = CarrierHttp(session, DIALECT, "http://127.0.0.1:9", f"Bearer {SECRET}")
    with pytest.raises(CarrierError, match="open the phone line again"):
        await http.send("GET", "/it")


async def test_a_silent_carrier_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    async def silence(request: web.Request) -> web.StreamResponse:
        await asyncio.Event().wait()
        raise AssertionError

    monkeypatch.setattr(carrier_http, "ATTEMPT_S", 0.05)
    desk = Desk(silence)
    error = await refused(desk)
    assert (error.status, error.retryable, len(desk.asked)) == (0, True, 1), "nobody waits for that twice"
    assert "no answer within" in error.problem


@pytest.mark.parametrize(
    "root",
    [
        "http://api.acme.com",
        "ftp://127.0.0.1",
        "api.acme.com",
        "https://me:pw@api.acme.com",
        "https://a.b?c=d",
        "https://",
        "https:///x",
        "",
    ],
)
async def test_an_address_that_would_show_the_key_is_refused(root: str) -> None:
    async with aiohttp.ClientSession() as session:
        with pytest.raises(ValueError, match="address of acme's API"):
            CarrierHttp(session, DIALECT, root, "Bearer x")


@pytest.mark.parametrize("key", ["a\nb", "a\rX-Evil: 1", "ключ", "a\0"])
async def test_a_key_that_cannot_be_one_is_refused_without_showing_it(key: str) -> None:
    async with aiohttp.ClientSession() as session:
        with pytest.raises(ValueError, match="copy it again") as caught:
            CarrierHttp(session, DIALECT, "https://api.acme.com", f"Bearer {key}")
    assert key not in str(caught.value)


@pytest.mark.parametrize("value", ["", ".", "..", "...", "x" * 513])
def test_an_id_that_would_change_the_path_is_refused(value: str) -> None:
    with pytest.raises(ValueError, match="the call"):
        path_part(value, "the call")


def test_an_id_is_one_part_of_a_path() -> None:
    assert path_part("v3:a/../b?c#d%", "the call") == "v3%3Aa%2F..%2Fb%3Fc%23d%25"
