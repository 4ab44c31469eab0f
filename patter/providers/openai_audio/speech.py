"""OpenAI's voices, and those of servers that speak its speech protocol: one streamed request for every sentence.

It owns that request and what may not be asked for; it refuses to know the JSON (the wire does) and holds no call's state.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing, suppress
from datetime import date
from functools import partial
from typing import Any

import aiohttp
import anyio

from patter.audio.format import PCM_24K
from patter.clock import Clock
from patter.exceptions import ProviderError, WireError
from patter.providers.delivery import NO_SOUND, SILENCE_S, Delivery, Pieces, delivered, speakable
from patter.providers.openai_account import BASE, OPENAI
from patter.providers.retired import living
from patter.providers.vendor import Vendor
from patter.providers.vendor_http import VendorReply, VendorRequest, sent
from patter.signals import Spent, SynthesizerPiece
from patter.wire.openai_speech import (
    DEFAULT_MODEL,
    Broken,
    Done,
    EventReader,
    Sound,
    misuse,
    portions,
    request_body,
)

WARM_S = 50.0  # connections are kept for 60 s: within this time one still stands
END_S = 0.2  # the end of a body follows its last event at once
INSTEAD = 'use another provider for the voice: "elevenlabs", or "embedded", which needs no key'


class OpenAISpeech:
    """A Synthesizer: PCM of 24 kHz. `base` is the root that ends in /v1 and `vendor` whose it is; `options` as OpenAI names
    them.

    What OpenAI itself would refuse is told by `start`; another server may know other models and voices. `today`: the date
    by which a model has ended (default: now)."""

    def __init__(
        self,
        http: aiohttp.ClientSession,
        clock: Clock,
        *,
        key: str = "",
        base: str = BASE,
        vendor: Vendor = OPENAI,
        model: str = "",
        voice: str = "alloy",
        options: Mapping[str, Any] | None = None,
        today: date | None = None,
    ) -> None:
        self._http, self._clock, self._base, self._today = http, clock, base, today
        self._vendor, self.name = vendor, vendor.name
        self._headers = {"Authorization": f"Bearer {key or 'none'}"}
        self._options = dict(options or {})
        self._used_at = float("-inf")
        self.model, self.voice = model or DEFAULT_MODEL, voice

    async def start(self) -> None:
        """Check the settings and the key, and open a connection, so that the first sentence does not wait for it.

        Raises ProviderError. Trouble with the question that opens the connection, other than a refused key, proves nothing
        about speaking."""
        if problem := self._problem():
            raise problem
        if self._clock.now() - self._used_at < WARM_S:
            return
        request = VendorRequest(
            self._vendor, "tts", "GET", f"{self._base}/models", self._headers, attempts=1, silence_s=SILENCE_S
        )
        try:
            async with sent(self._http, request) as reply:
                await reply.response.read()
            self._used_at = self._clock.now()
        except ProviderError as error:
            if error.status == 401:
                raise

    async def synthesize(self, text: str) -> AsyncGenerator[SynthesizerPiece, None]:
        """The sound of `text` as it comes; nothing for text without words. Raises ProviderError.

        Longer text than the vendor takes at once is cut where a sentence, clause or word ends."""
        if problem := self._problem():
            raise problem
        for portion in portions(text):
            if speakable(portion):
                spoken = delivered(partial(self._ask, portion), Delivery(PCM_24K), self.name)
                async with aclosing(spoken) as pieces:
                    async for piece in pieces:
                        yield piece

    async def aclose(self) -> None:
        """Nothing to close: the connections belong to whoever made them."""

    async def _ask(self, text: str, delivery: Delivery) -> Pieces:
        request = VendorRequest(
            self._vendor,
            "tts",
            "POST",
            f"{self._base}/audio/speech",
            self._headers,
            request_body(self.model, self.voice, text, self._options),
            silence_s=SILENCE_S,
            what=f"the model {self.model!r}",
        )
        async with sent(self._http, request) as reply:
            delivery.begun = True
            for told in reply.told:
                yield told
            events = reply.response.content_type == "text/event-stream"
            if not events and reply.response.content_type.startswith(NO_SOUND):
                raise self._vendor.garbled("tts", f"{reply.response.content_type} instead of sound")
            async with aclosing(
                _events(self._vendor, reply, delivery) if events else _bytes(reply, delivery)
            ) as pieces:
                async for piece in pieces:
                    yield piece
            self._used_at = self._clock.now()

    def _problem(self) -> ProviderError | None:
        """What OpenAI would refuse of the settings."""
        if self._base != BASE:
            return None
        name, ended = living(self.model, self._today)
        if ended and name == self.model:
            return ProviderError(ended.rstrip("."), provider=self.name, stage="tts", fix=INSTEAD, code="model_ended")
        told = misuse(self.model, self.voice, self._options)
        return ProviderError(told, provider=self.name, stage="tts", code="settings") if told else None


async def _bytes(reply: VendorReply, delivery: Delivery) -> Pieces:
    async for data in reply.response.content.iter_any():
        if chunk := delivery.take(data):
            yield chunk


async def _events(vendor: Vendor, reply: VendorReply, delivery: Delivery) -> Pieces:
    reader = EventReader()
    try:
        async for data in reply.response.content.iter_any():
            for event in reader.feed(data):
                if isinstance(event, Sound):
                    if chunk := delivery.take(event.data):
                        yield chunk
                elif isinstance(event, Done):
                    if event.input_tokens is not None and event.output_tokens is not None:
                        yield Spent(
                            {"input_tokens": float(event.input_tokens), "output_tokens": float(event.output_tokens)}
                        )
                    await _finish(reply)
                    return
                else:
                    raise _gave_up(vendor, event)
    except WireError as error:
        raise vendor.garbled("tts", str(error)) from None
    raise vendor.broken("tts", ConnectionResetError())  # an answer that just ends has lost something


async def _finish(reply: VendorReply) -> None:
    """Read the empty rest, so that the connection can be used again; a server that does not end it is left alone."""
    with anyio.move_on_after(END_S), suppress(aiohttp.ClientError, TimeoutError):
        await reply.response.content.read()


def _gave_up(vendor: Vendor, event: Broken) -> ProviderError:
    return ProviderError(
        f"it gave up in the middle ({event.message[:300]})",
        provider=vendor.name,
        stage="tts",
        retryable=True,
        fix="try again",
        code=event.code,
    )
