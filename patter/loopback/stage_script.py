"""Strict scripts of loopback vendors: what a client must send, step by step, and what it gets.

It owns the steps, how a message is compared with them, and what a broken script is; it refuses to know sockets' insides.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import anyio

from patter.exceptions import PatterError
from patter.loopback.stage_peer import ClientLeft, Message, Peer

PATIENCE_S = 10.0  # longer than any client under test is slow, shorter than a test's own limit

Check = Mapping[str, Any] | Callable[[Any], object] | type[bytes]
"""How a message must be: a dict that it must contain, `bytes` (a binary frame), or a function that raises or gives False."""


class ScriptBroken(PatterError):
    """The client sent what the script did not expect, or the script was not used up."""


@dataclass(frozen=True, slots=True)
class Expect:
    """The client sends a message that fits `check` (see `difference`), within `within_s` seconds.

    `pass_audio` lets any number of audio messages come before it."""

    check: Check
    pass_audio: bool = True
    within_s: float = PATIENCE_S


@dataclass(frozen=True, slots=True)
class Audio:
    """The client sends at least so many audio messages, with nothing between them."""

    count: int = 1
    within_s: float = PATIENCE_S


@dataclass(frozen=True, slots=True)
class Quiet:
    """The client sends nothing but audio for so many seconds."""

    for_s: float


@dataclass(frozen=True, slots=True)
class Send:
    """The vendor sends a message (a dict goes as JSON, text and bytes as they are), `after_s` seconds later."""

    message: Mapping[str, Any] | str | bytes
    after_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Close:
    """The vendor closes the socket in good order."""

    code: int = 1000
    reason: str = ""
    after_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Abort:
    """The connection breaks without a goodbye."""


@dataclass(frozen=True, slots=True)
class Hang:
    """The vendor reads on and says nothing any more (pings are answered), until the client goes."""


@dataclass(frozen=True, slots=True)
class Garbage:
    """The vendor sends what its protocol does not know: text that is no JSON, or (`frame`) bytes that are no WebSocket."""

    frame: bool = False


@dataclass(frozen=True, slots=True)
class Bye:
    """The client closes the socket; with `code`, by this code."""

    code: int | None = None
    within_s: float = PATIENCE_S


Step = Expect | Audio | Quiet | Send | Close | Abort | Hang | Garbage | Bye


@dataclass(frozen=True, slots=True)
class Script:
    """What one connection is like. After the last step audio may still come, and then the client must go.

    `query` and `headers` must be among those of the upgrade (None as value: must be absent; a function or ... as in
    `difference`). `is_audio` tells which messages are audio; binary frames are, unless it says otherwise."""

    steps: Sequence[Step] = ()
    query: Mapping[str, Any] = field(default_factory=dict)
    headers: Mapping[str, Any] = field(default_factory=dict)
    is_audio: Callable[[Message], bool] = lambda message: isinstance(message, bytes)


async def play(script: Script, peer: Peer, problem: Callable[[str], None]) -> None:
    """Play `script` with a client that has come. Tells `problem` of everything that is not as written; never raises."""
    left = list(script.steps)
    peer.unplayed = len(left)
    wrong = difference(script.query, dict(peer.query), "query") or difference(
        {name.lower(): value for name, value in script.headers.items()}, peer.headers, "headers"
    )
    try:
        if wrong:
            raise _Off(wrong)
        while left:
            step = left[0]
            if isinstance(step, Hang):  # nothing can come after it
                left.clear()
                peer.unplayed = 0
            await _step(step, script, peer)
            del left[:1]
            peer.unplayed = len(left)
        async for message in peer:
            if not script.is_audio(message):
                raise _Off(f"after the last step came {_short(message)}")
    except _Off as error:
        left.clear()
        problem(f"{peer.path}: {error}")
        await peer.close(1008, "not in the script")
    except (ClientLeft, ConnectionError):
        pass
    finally:
        peer.unplayed = 0
        gone = len(left) == 1 and isinstance(left[0], Bye) and left[0].code is None and not peer.dismissed
        if left and not gone:
            problem(f"{peer.path}: the client left before {left[0]} and {len(left) - 1} more steps")


class _Off(Exception):
    """The client has left the script."""


async def _step(step: Step, script: Script, peer: Peer) -> None:
    match step:
        case Expect():
            await _expect(step, script, peer)
        case Audio(count, within):
            for _ in range(count):
                message = await _next(peer, within, step)
                if not script.is_audio(message):
                    raise _Off(f"instead of audio came {_short(message)}")
        case Quiet(for_s):
            with anyio.move_on_after(for_s):
                async for message in peer:
                    if not script.is_audio(message):
                        raise _Off(f"although nothing was expected there came {_short(message)}")
                raise ClientLeft
        case Send(message, after_s):
            await anyio.sleep(after_s)
            await peer.send(message)
        case Close(code, reason, after_s):
            await anyio.sleep(after_s)
            await peer.close(code, reason)
        case Abort():
            peer.cut()
        case Hang():
            async for _ in peer:
                pass
        case Garbage(frame):
            await peer.garbage(frame=frame)
        case Bye():
            await _bye(step, script, peer)


async def _expect(step: Expect, script: Script, peer: Peer) -> None:
    while True:
        message = await _next(peer, step.within_s, step)
        if step.pass_audio and script.is_audio(message) and differs(step.check, message):
            continue
        if wrong := differs(step.check, message):
            raise _Off(f"{_short(message)} is not as expected: {wrong}")
        return


async def _bye(step: Bye, script: Script, peer: Peer) -> None:
    with anyio.move_on_after(step.within_s):
        async for message in peer:
            if not script.is_audio(message):
                raise _Off(f"instead of a goodbye came {_short(message)}")
        if step.code is not None and peer.close_code != step.code:
            raise _Off(f"the client closed with {peer.close_code} instead of {step.code}")
        return
    raise _Off("the client did not close the socket")


async def _next(peer: Peer, within_s: float, step: Step) -> Message:
    with anyio.move_on_after(within_s):
        return await peer.receive()
    raise _Off(f"{step} never came")


def differs(check: Check, message: Message) -> str:
    """What is wrong with `message`, or "" if it fits `check`."""
    if isinstance(check, type):
        return "" if isinstance(message, check) else "it is no binary frame"
    if isinstance(check, Mapping):
        return difference(check, message, "message")
    try:
        return "the check says no" if check(message) is False else ""
    except Exception as error:
        return repr(error)


def difference(expected: Any, got: Any, where: str = "value") -> str:
    """The first place where `got` is not as `expected`, or "".

    Mappings: every key of `expected` must be there (None: absent or null). Sequences: item by item. `...` fits anything
    that is there, a type its instances, a function whatever it does not give False for or raise."""
    if expected is ...:
        return "" if got is not None else f"{where} is missing"
    if isinstance(expected, type):
        return "" if isinstance(got, expected) else f"{where} is {got!r}, no {expected.__name__}"
    if isinstance(expected, Mapping):
        if not isinstance(got, Mapping):
            return f"{where} is {_short(got)}, not an object"
        return next(
            filter(None, (difference(value, got.get(key), f"{where}.{key}") for key, value in expected.items())), ""
        )
    if isinstance(expected, list | tuple):
        if not isinstance(got, list | tuple) or len(got) != len(expected):
            return f"{where} is {_short(got)} instead of {_short(expected)}"
        pairs = enumerate(zip(expected, got, strict=True))
        return next(filter(None, (difference(one, other, f"{where}[{at}]") for at, (one, other) in pairs)), "")
    if callable(expected):
        wrong = differs(expected, got)
        return f"{where} is {_short(got)}: {wrong}" if wrong else ""
    return "" if expected == got else f"{where} is {_short(got)} instead of {_short(expected)}"


def _short(value: Any) -> str:
    if isinstance(value, bytes):
        return f"a binary frame of {len(value)} bytes"
    text = repr(value)
    return text if len(text) <= 300 else f"{text[:300]}…"
