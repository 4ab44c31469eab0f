"""What the server answers and how it reads a request's body: JSON in, `{"data": …}` or `{"error": sentence}` out.

It owns the shapes and the limits of bodies; it refuses to know what is asked.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import anyio
from aiohttp import web

from patter.exceptions import PatterError

log = logging.getLogger(__name__)

BODY_LIMIT = 1024 * 1024
"""Bytes of any request's body: an agent file of the largest size, escaped by JSON, fits."""

BODY_SECONDS = 10.0  # on loopback a body is there at once; a peer that trickles it holds a connection for nothing

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Refused(Exception):
    """The request is refused with `status` and a sentence that says what is wrong and how to fix it."""

    def __init__(self, status: int, sentence: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(sentence)
        self.status, self.sentence, self.headers = status, sentence, headers


def data(value: Any, status: int = 200, **more: Any) -> web.Response:
    """`{"data": value, …}`."""
    return web.json_response({"data": value, **more}, status=status, dumps=json_text)


def error(status: int, sentence: str, headers: Mapping[str, str] | None = None) -> web.Response:
    """`{"error": sentence}`."""
    return web.json_response({"error": sentence}, status=status, headers=headers)


def json_text(value: Any) -> str:
    """JSON, as short as it can be; half a character pair, which is no UTF-8, becomes the escape that JSON has for it."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=str)
    return text.encode(errors="backslashreplace").decode()


@web.middleware
async def sentences(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Every refusal and every failure is a JSON sentence; what failed inside is logged, not shown."""
    try:
        return await handler(request)
    except Refused as refused:
        return error(refused.status, refused.sentence, refused.headers)
    except web.HTTPRequestEntityTooLarge:
        return error(413, f"The body is larger than {BODY_LIMIT // 1024} KiB.")
    except web.HTTPNotFound:
        return error(404, f"There is nothing at {request.path}.")
    except web.HTTPMethodNotAllowed as wrong:
        taken = sorted(wrong.allowed_methods)
        sentence = f"{request.path} takes {' or '.join(taken)}, not {request.method}."
        return error(405, sentence, {"Allow": ", ".join(taken)})
    except web.HTTPException as other:
        return error(other.status, f"{other.reason}.")
    except PatterError as problem:
        return error(422, str(problem))
    except Exception as failure:
        if isinstance(failure, ConnectionError) and (request.transport is None or request.transport.is_closing()):
            return error(499, "Whoever asked has left.")  # nobody reads it, and nothing has failed
        log.exception("a request failed", extra={"route": request.path})
        return error(500, "The engine could not do this; engine.log in its home directory says why.")


async def raw_body(request: web.Request, limit: int = BODY_LIMIT) -> bytes:
    """The body's bytes. Raises Refused if it is too large or does not come."""
    if (request.content_length or 0) > limit:
        raise Refused(413, f"The body is larger than {limit // 1024} KiB.")
    try:
        with anyio.fail_after(BODY_SECONDS):
            raw = await request.read()
    except web.RequestPayloadError:
        raise Refused(400, "The body cannot be read.") from None
    except TimeoutError:
        raise Refused(400, f"The body did not come within {BODY_SECONDS:.0f} seconds.") from None
    if len(raw) > limit:
        raise Refused(413, f"The body is larger than {limit // 1024} KiB.")
    return raw


async def json_body(request: web.Request) -> dict[str, Any]:
    """The body as a JSON object; no body is an empty one. Raises Refused."""
    raw = await raw_body(request) or b"{}"
    try:
        body = json.loads(raw, parse_constant=_no_number)
    except (ValueError, RecursionError):
        raise Refused(400, "The body is not JSON: send an object such as {}.") from None
    if not isinstance(body, dict):
        raise Refused(400, "The body must be a JSON object.")
    return body


def _no_number(word: str) -> float:
    raise ValueError(word)  # NaN is within any limits: no comparison with it is true


def text_in(body: dict[str, Any], key: str, *, limit: int = 4_000, default: str | None = None) -> str:
    """A field of text of at most `limit` characters, not empty unless it has a default. Raises Refused."""
    value = body.get(key, default)
    if not isinstance(value, str):
        raise Refused(422, f'"{key}" must be a text.')
    if default is None and not value.strip():
        raise Refused(422, f'"{key}" is empty.')
    if len(value) > limit:
        raise Refused(422, f'"{key}" is longer than {limit:,} characters.')
    if "\0" in value or any("\ud800" <= letter <= "\udfff" for letter in value):
        raise Refused(422, f'"{key}" holds characters that no text has.')
    return value


def flag_in(body: dict[str, Any], key: str, *, default: bool = False) -> bool:
    """A field that is true or false. Raises Refused."""
    value = body.get(key, default)
    if not isinstance(value, bool):
        raise Refused(422, f'"{key}" must be true or false.')
    return value


def number_in(request: web.Request, key: str, default: int, most: int) -> int:
    """A whole number from 0 to `most` of the query. Raises Refused."""
    given = request.query.get(key, str(default))
    if not (given.isascii() and given.isdigit() and len(given) < 16 and int(given) <= most):
        raise Refused(400, f"{key} must be a whole number from 0 to {most}.")
    return int(given)
