"""The softphone's two pipes: commands from its parent as JSON lines, reports back as JSON lines.

It owns their shapes and that a slow parent never holds up sound; it refuses to know what a command does.
"""

from __future__ import annotations

import json
import queue
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO, TextIO

from patter.loopback.twilio import Dial
from patter.wire.twilio import DIGITS

DEVICES = ("sound", "wav", "simulated")
BACKLOG = 200  # reports; twenty seconds of levels, which are worth nothing by then


class BadCommand(ValueError):
    """A command that cannot be carried out; the message says what is wrong with it."""


@dataclass(frozen=True, slots=True)
class CallerLine:
    """What a simulated caller says: when the agent has finished, or `after_ms` after it began to speak."""

    text: str
    after_ms: float | None = None


@dataclass(frozen=True, slots=True)
class PlaceCall:
    """Dial, with this device at the telephone."""

    dial: Dial
    device: str
    wav_in: str = ""
    wav_out: str = ""
    input: str | None = None
    output: str | None = None
    caller: tuple[CallerLine, ...] = ()


@dataclass(frozen=True, slots=True)
class PressKey:
    """Send a DTMF key."""

    digit: str


@dataclass(frozen=True, slots=True)
class Mute:
    """Close or open the microphone."""

    on: bool


@dataclass(frozen=True, slots=True)
class Say:
    """The simulated caller says this now."""

    text: str


@dataclass(frozen=True, slots=True)
class HangUp:
    """Put the receiver down."""


@dataclass(frozen=True, slots=True)
class ListDevices:
    """Name the microphones and speakers."""


@dataclass(frozen=True, slots=True)
class Quit:
    """Hang up and go; also what the end of the input means."""


Command = PlaceCall | PressKey | Mute | Say | HangUp | ListDevices | Quit


def read_command(text: str | bytes) -> Command:
    """One line of the parent. Raises BadCommand."""
    try:
        data = json.loads(text)
    except ValueError:
        raise BadCommand("a command is not a JSON line") from None
    if not isinstance(data, dict):
        raise BadCommand("a command is not a JSON object")
    match data.get("do"):
        case "dial":
            return _place_call(data)
        case "digit":
            digit = data.get("digit")
            if not isinstance(digit, str) or len(digit) != 1 or digit not in DIGITS:
                raise BadCommand(f"{digit!r} is not a key of a telephone (0-9, * or #)")
            return PressKey(digit)
        case "mute":
            return Mute(bool(data.get("on", True)))
        case "say":
            return Say(_words(data.get("text")))
        case "hang_up":
            return HangUp()
        case "devices":
            return ListDevices()
        case "quit":
            return Quit()
        case other:
            raise BadCommand(f"there is no command {other!r}")


def _place_call(data: Mapping[str, Any]) -> PlaceCall:
    device = data.get("device", "sound")
    if device not in DEVICES:
        raise BadCommand(f"device is {device!r}; it must be one of {', '.join(DEVICES)}")
    dial = data.get("dial")
    if not isinstance(dial, dict):
        raise BadCommand("dial is missing")
    try:
        what = Dial.from_json(dial)
    except ValueError as error:
        raise BadCommand(str(error)) from None
    if device == "wav" and not data.get("wav_in"):
        raise BadCommand("the device wav needs wav_in, the file that is spoken into the line")
    caller = data.get("caller") or ()
    if not isinstance(caller, list | tuple):
        raise BadCommand("caller is not a list of lines")
    return PlaceCall(
        dial=what,
        device=device,
        wav_in=str(data.get("wav_in") or ""),
        wav_out=str(data.get("wav_out") or ""),
        input=data.get("input") or None,
        output=data.get("output") or None,
        caller=tuple(_line(line) for line in caller),
    )


def _line(line: object) -> CallerLine:
    if isinstance(line, dict):
        after = line.get("after_ms")
        if after is not None and (isinstance(after, bool) or not isinstance(after, int | float) or after < 0):
            raise BadCommand(f"after_ms is {after!r}; it must be a number of milliseconds")
        return CallerLine(_words(line.get("say")), after)
    return CallerLine(_words(line))


def _words(text: object) -> str:
    if not isinstance(text, str) or not text.strip():
        raise BadCommand("there are no words to say")
    return text


class Reports:
    """Writes reports in a thread of its own; calling it never blocks. When the parent reads too slowly, levels are lost."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._queue: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._write, name="reports", daemon=True)
        self._thread.start()

    def __call__(self, kind: str, **fields: object) -> None:
        """One report: {"is": kind, …}."""
        if kind == "levels" and self._queue.qsize() > BACKLOG:
            return
        self._queue.put(json.dumps({"is": kind} | fields))

    def _write(self) -> None:
        while (line := self._queue.get()) is not None:
            try:
                self._stream.write(line + "\n")
                self._stream.flush()
            except (OSError, ValueError):  # the parent is gone: the end of our input says so too
                return

    def close(self) -> None:
        """Write what is queued and stop (waits up to a second)."""
        self._queue.put(None)
        self._thread.join(1.0)


def read_lines(stream: BinaryIO, take: Callable[[bytes | None], None]) -> None:
    """Give every line of `stream` to `take` from a thread of its own, and None at its end.

    `stream` should be unbuffered: a buffer's lock, held by a waiting thread, breaks the end of the process."""

    def pump() -> None:
        try:
            for line in stream:
                if line.strip():
                    take(line)
        except (OSError, ValueError):
            pass
        take(None)

    threading.Thread(target=pump, name="commands", daemon=True).start()
