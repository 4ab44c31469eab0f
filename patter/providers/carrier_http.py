"""Requests to a carrier's REST API: time limits, retries, and errors in words that say what to do.

It owns the one way out to carriers and keeps their keys out of every text; it refuses to know what a request is about.
"""

from __future__ import annotations

import json
import logging
import random
import re
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import quote, urlencode

import aiohttp
import anyio
from yarl import URL

from patter.exceptions import CarrierError
from patter.providers.address import is_loopback

log = logging.getLogger(__name__)

ATTEMPTS = 3
ATTEMPT_S = 10.0  # carriers answer in well under a second; somebody may be waiting on the line
FIRST_WAIT_S = 0.5
LONGEST_WAIT_S = 30.0  # also when the carrier asks for more: a call that waits longer has been given up by people
BODY_LIMIT = 1 << 20  # bytes; their answers are a few kB
MESSAGE_LIMIT = 300  # characters of what the carrier says that we pass on
PART_LIMIT = 512  # characters of an id in a path

Sleep = Callable[[float], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Dialect:
    """How one carrier words its errors. `name` is its name in ours.

    `read` takes an error's JSON and gives the carrier's code and message ("" = none). What to do is said by `phrases`, by
    words of the message, where one code has many causes; else by `fixes`, by code; else by `statuses`, by HTTP status."""

    name: str
    read: Callable[[Any], tuple[str, str]]
    fixes: Mapping[str, str]
    statuses: Mapping[int, str]
    phrases: Mapping[str, str] = field(default_factory=dict)

    def fix(self, status: int, code: str, message: str) -> str:
        """What the user can do about this error."""
        for phrase, fix in self.phrases.items():
            if re.search(rf"(?<!\w){re.escape(phrase)}(?!\w)", message, re.IGNORECASE):
                return fix
        found = self.fixes.get(code) or self.statuses.get(status)
        if found:
            return found
        if status >= 500:
            return f"{self.name} has trouble of its own: try again in a moment, and look at its status page"
        return f"look the code up in {self.name}'s error documentation" if code else "check what was asked for"


@dataclass(frozen=True, slots=True)
class _Answer:
    """What came back for one attempt."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class CarrierHttp:
    """One carrier's REST API over a shared client session, which stays open. `authorization` is the header's value.

    `skew_s` is the carrier's clock minus ours at its last answer, to about a second (None: no answer yet). `secrets` are
    cut out of whatever the carrier says. Raises ValueError for a key that cannot be one, and for an address without TLS
    off this machine. `sleep` and `wall` are the waiting and the wall clock (seconds since the epoch)."""

    def __init__(
        self,
        http: aiohttp.ClientSession,
        dialect: Dialect,
        base_url: str,
        authorization: str,
        secrets: Sequence[str] = (),
        *,
        sleep: Sleep = anyio.sleep,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._http, self._dialect = http, dialect
        self._root = base_url.rstrip("/")
        _check_root(self._root, dialect.name)
        if not (authorization.isascii() and authorization.isprintable()):
            raise ValueError(f"the {dialect.name} key has characters that no key has: copy it again from its console")
        self._headers = {"Authorization": authorization, "Accept": "application/json"}
        self._secrets = [text for text in (*secrets, authorization.rpartition(" ")[2]) if text]
        self._sleep, self._wall = sleep, wall
        self.skew_s: float | None = None

    async def send(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        form: Sequence[tuple[str, str]] | None = None,
        body: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        """The JSON object that comes back; a `form` or a JSON `body` goes with it. Raises CarrierError.

        Tried again, with the very same bytes, if the carrier is too busy or fails, or the connection breaks: callers make
        sure that doing a thing twice does no harm."""
        if self._http.closed:
            raise self._error("the connection to it was closed", fix="open the phone line again")
        url = URL(self._root + path + (f"?{urlencode(query)}" if query else ""), encoded=True)
        headers, data = self._headers, None
        if form is not None:
            headers, data = headers | {"Content-Type": "application/x-www-form-urlencoded"}, urlencode(form).encode()
        elif body is not None:
            headers, data = headers | {"Content-Type": "application/json"}, json.dumps(body).encode()
        attempt = 1
        while True:
            answer, broken = await self._try(method, url, headers, data)
            if answer is not None and 200 <= answer.status < 300:
                return self._object(answer)
            error = self._refused(answer) if answer is not None else self._broken(broken)
            if not error.retryable or attempt == ATTEMPTS or isinstance(broken, TimeoutError):
                raise error
            wait = self._wait(attempt, answer.headers if answer is not None else {})
            log.warning(
                "the carrier is asked again",
                extra={"carrier": self._dialect.name, "status": error.status, "code": error.code, "wait_s": wait},
            )
            attempt += 1
            await self._sleep(wait)

    async def _try(
        self, method: str, url: URL, headers: Mapping[str, str], data: bytes | None
    ) -> tuple[_Answer | None, Exception | None]:
        """One attempt: its answer, or what broke it (given back, not raised: aiohttp's errors may carry our headers)."""
        try:
            async with self._http.request(
                method,
                url,
                headers=headers,
                data=data,
                timeout=aiohttp.ClientTimeout(total=ATTEMPT_S),
                allow_redirects=False,  # a redirect would take the key to another server
            ) as response:
                body = bytearray()
                async for piece in response.content.iter_any():
                    body += piece
                    if len(body) > BODY_LIMIT:
                        return None, ValueError("an answer beyond all bounds")
                self._compare_clocks(response.headers.get("Date", ""))
                return _Answer(response.status, response.headers, bytes(body)), None
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            return None, error

    def _compare_clocks(self, date: str) -> None:
        moment = _moment(date)
        if moment is not None:
            self.skew_s = moment - self._wall()

    def _wait(self, attempt: int, headers: Mapping[str, str]) -> float:
        """Seconds until the next attempt: what the server asks for, else longer each time."""
        asked = _asked_wait(headers, self._wall())
        if asked is None:
            asked = FIRST_WAIT_S * 2 ** (attempt - 1) * (1 + random.random() / 2)  # noqa: S311  (spreads, hides nothing)
        return min(asked, LONGEST_WAIT_S)

    def _object(self, answer: _Answer) -> dict[str, Any]:
        found = _json(answer.body)
        if not isinstance(found, dict):
            raise self._error(
                "its answer is not what its API says",
                status=answer.status,
                fix=f"check that {self._root} is the address of {self._dialect.name}'s API",
            )
        return found

    def _refused(self, answer: _Answer) -> CarrierError:
        """An error reply in words that say what to do."""
        code, message = self._dialect.read(_json(answer.body))
        code = code if code.isalnum() and len(code) <= 16 else ""
        said = (f", error {code}" if code else "") + (f": {self._harmless(message)}" if message else "")
        return self._error(
            f"it answered {answer.status}{said}",
            status=answer.status,
            code=code,
            retryable=answer.status == 429 or answer.status >= 500,
            fix=self._dialect.fix(answer.status, code, message),
        )

    def _broken(self, error: Exception | None) -> CarrierError:
        """A connection's failure in words that say what to do."""
        host = URL(self._root).authority
        if isinstance(error, TimeoutError):
            return self._error(
                f"no answer within {ATTEMPT_S:g} s", fix="check the network and try again", retryable=True
            )
        if isinstance(error, aiohttp.ClientConnectorCertificateError | aiohttp.ClientSSLError):
            return self._error(
                f"the TLS certificate of {host} cannot be trusted",
                fix="check this machine's date, its certificates, and any proxy between",
            )
        if isinstance(error, aiohttp.ClientConnectorError):
            return self._error(f"nothing answers at {host}", fix="check this machine's network and DNS", retryable=True)
        if isinstance(error, ValueError):
            return self._error("its answer is far too long", fix=f"check that {self._root} is really its API")
        return self._error("the connection broke off", fix="try again", retryable=True)

    def _error(
        self, problem: str, *, fix: str, status: int = 0, code: str = "", retryable: bool = False
    ) -> CarrierError:
        name = self._dialect.name
        return CarrierError(problem, provider=name, fix=fix, retryable=retryable, status=status, code=code)

    def _harmless(self, message: str) -> str:
        """The carrier's words without our secrets, on one line, of bounded length."""
        for secret in self._secrets:
            message = message.replace(secret, "…")
        return " ".join("".join(sign if sign.isprintable() else " " for sign in message).split())[:MESSAGE_LIMIT]


def path_part(value: str, what: str) -> str:
    """An id made safe as one part of a path. Raises ValueError, naming `what`, for one that cannot be an id."""
    if not value or value.strip(".") == "" or len(value) > PART_LIMIT:
        raise ValueError(f"{what} is no id that a carrier gives")
    return quote(value, safe="")


def _check_root(root: str, name: str) -> None:
    url = URL(root)
    if url.scheme != "https" and not (url.scheme == "http" and is_loopback(root)):
        raise ValueError(f"the address of {name}'s API must begin with https:// (http:// is for this machine only)")
    if not url.host or url.user or url.password or url.query_string or url.fragment:
        raise ValueError(f"the address of {name}'s API must be plain, such as https://api.{name}.com")


def _json(body: bytes) -> Any:
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return None


def _moment(date: str) -> float | None:
    """An HTTP date as seconds since the epoch."""
    try:
        moment = parsedate_to_datetime(date)
    except (ValueError, TypeError, OverflowError):
        return None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def _asked_wait(headers: Mapping[str, str], now: float) -> float | None:
    """How long the server asks us to wait: Retry-After in seconds or as a date, or seconds in x-ratelimit-reset."""
    for text in (headers.get("Retry-After", ""), headers.get("x-ratelimit-reset", "")):
        text = text.strip()
        if text.replace(".", "", 1).isascii() and text.replace(".", "", 1).isdigit() and len(text) <= 16:
            return float(text)
        moment = _moment(text) if text else None
        if moment is not None:
            here = _moment(headers.get("Date", ""))  # the server's own clock, if it shows it: ours may be wrong
            return max(0.0, moment - (now if here is None else here))
    return None
