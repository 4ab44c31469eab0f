"""One sentence on its way from a vendor: whole samples, nothing twice, and a second try when it breaks off.

It owns what has been delivered of the sentence; it refuses to know vendors and how they are asked.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing

import anyio

from patter.audio.format import AudioChunk, AudioFormat
from patter.exceptions import ProviderError
from patter.providers.vendor_http import LONGEST_WAIT_S, RETRY_S
from patter.signals import Faulted, SynthesizerPiece

NO_SOUND = ("text/", "application/json")  # beginnings of what an answer is called that is none of a voice's
SILENCE_S = 5.0  # a voice's first sound takes a tenth to one second; another one can still take over in time

Pieces = AsyncGenerator[SynthesizerPiece, None]


class Delivery:
    """The sound of one sentence in `format`. After `again`, as much as came before is passed over."""

    def __init__(self, format: AudioFormat) -> None:
        self.format = format
        self.size = 0
        """Bytes that have been handed on."""
        self.begun = False
        """Whether the vendor has begun to answer: then it is this sentence's business to ask again."""
        self._skip = 0
        self._odd = b""

    @property
    def ms(self) -> float:
        """How much has been handed on."""
        return self.format.ms_of(self.size)

    def take(self, data: bytes, base64: str = "") -> AudioChunk | None:
        """What `data` gives to hand on; None if there is nothing (yet). `base64` is `data` as it stood on the wire."""
        if self._odd:
            data, base64 = self._odd + data, ""
            self._odd = b""
        if self._skip:
            passed = min(self._skip, len(data))
            self._skip -= passed
            data, base64 = data[passed:], ""
        if extra := len(data) % self.format.sample_bytes:
            self._odd = data[-extra:]
            data, base64 = data[:-extra], ""
        if not data:
            return None
        self.size += len(data)
        return AudioChunk(data, self.format, base64)

    def again(self) -> None:
        """The sentence is asked for anew, from its beginning."""
        self._skip, self._odd, self.begun = self.size, b"", False


def speakable(text: str) -> bool:
    """Whether there is anything to say: a letter or a digit of any script."""
    return any(sign.isalnum() for sign in text)


async def delivered(ask: Callable[[Delivery], Pieces], delivery: Delivery, provider: str) -> Pieces:
    """The pieces that `ask` gives. When it breaks off after it had begun, it is asked once more, and goes on where it broke.

    Raises ProviderError, also when there was no sound at all."""
    failure: ProviderError | None = None
    for final in (False, True):
        if failure is not None:
            yield Faulted("tts", provider, failure.problem, "the sentence is asked for again")
            await anyio.sleep(_wait(failure))
            delivery.again()
        try:
            async with aclosing(ask(delivery)) as pieces:
                async for piece in pieces:
                    yield piece
            _check(delivery, provider)
            return
        except ProviderError as error:
            if final:
                error.tries = max(error.tries, 2)
            waited = error.code == "timeout"  # the caller has heard that silence already
            if final or waited or not error.retryable or not delivery.begun or _wait(error) > LONGEST_WAIT_S:
                raise
            failure = error


def _wait(error: ProviderError) -> float:
    """Seconds until the next try: at once after a connection that broke, a little later after a refusal."""
    if error.retry_after_s is not None:
        return error.retry_after_s
    return RETRY_S if error.status else 0.0


def _check(delivery: Delivery, provider: str) -> None:
    if not delivery.size:
        raise ProviderError(
            "it answered without any sound", provider=provider, stage="tts", retryable=True, code="silent"
        )
