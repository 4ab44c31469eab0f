"""An agent's stand-in: answers a call with a tone, counts what it hears, and notes keys and verdicts.

It owns one call of the drill; it refuses to know carriers and engines.
"""

from __future__ import annotations

from collections.abc import Callable

import anyio
import numpy as np

from patter.audio.convert import Converter
from patter.audio.format import PCM_8K, AudioChunk, AudioFormat
from patter.events import CallEnded, EndReason
from patter.models import Agent
from patter.ports import CallInfo, Transport
from patter.signals import DigitPressed, HungUp, MachineDetected, PlayoutEnded

TONE_HZ, TONE_MS = 440.0, 400.0
REPLY = 1


class ToneAgent:
    """A call's session, as the desk runs one."""

    def __init__(self, call: CallInfo, transport: Transport) -> None:
        self.call = call
        self.frames = 0
        """How many frames of the caller's came."""
        self.digits = ""
        self.heard, self.pressed, self.machine, self._over = (anyio.Event() for _ in range(4))
        self._transport = transport

    @property
    def spelled(self) -> str:
        """The line's format, for people."""
        plays = self._transport.abilities.plays
        return f"{plays.encoding} {plays.rate} Hz" if plays else "no sound"

    async def run(self) -> CallEnded:
        """The tone, then whatever comes, until somebody hangs up."""
        self._transport.listen(self._hear)
        if plays := self._transport.abilities.plays:
            self._transport.play(AudioChunk(_tone(plays), plays), REPLY, 0.0)
            self._transport.finish(REPLY)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._follow)
            await self._over.wait()
            tasks.cancel_scope.cancel()
        await self._transport.hang_up()
        await self._transport.aclose()
        return CallEnded(call_id=self.call.call_id, reason="caller_hung_up")

    def _hear(self, _: AudioChunk) -> None:
        self.frames += 1

    async def _follow(self) -> None:
        async for signal in self._transport.signals():
            match signal:
                case PlayoutEnded():
                    self.heard.set()
                case DigitPressed(digit):
                    self.digits += digit
                    self.pressed.set()
                case MachineDetected("machine"):
                    self.machine.set()
                case HungUp():
                    self._over.set()

    async def hang_up(self, reason: EndReason = "operator_ended", detail: str = "") -> None:
        """End the call."""
        self._over.set()

    async def say_goodbye(self, text: str, reason: EndReason, detail: str = "") -> None:
        """A tone has no words for that."""
        self._over.set()

    async def say(self, text: str) -> None:
        """A tone has no words."""

    async def read(self, text: str) -> None:
        """A tone answers nothing."""

    async def interrupt(self) -> None:
        """The tone is short."""

    async def transfer(
        self, number: str, by: str = "operator", summary: str = "", *, failed: Callable[[], None] | None = None
    ) -> None:
        """Hand the call over."""
        await self._transport.transfer(number, summary)

    async def guide(self, text: str, by: str = "operator") -> None:
        """It has no model."""

    async def mute(self, muted: bool, by: str = "operator") -> None:
        """It says one thing only."""

    async def send_digits(self, digits: str) -> None:
        """Press keys."""
        await self._transport.send_digits(digits)

    def update(self, agent: Agent, version: str = "") -> None:
        """A tone stays a tone."""


def _tone(line: AudioFormat) -> bytes:
    times = np.arange(int(PCM_8K.rate * TONE_MS / 1000)) / PCM_8K.rate
    pcm = (8_000 * np.sin(2 * np.pi * TONE_HZ * times)).astype("<i2").tobytes()
    converter = Converter(PCM_8K, line)
    return converter.convert(pcm) + converter.flush()
