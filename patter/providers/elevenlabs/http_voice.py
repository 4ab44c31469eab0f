"""ElevenLabs' voices by HTTP: one streamed request for every sentence, over connections that are kept.

It owns that request and its answer's bytes; it refuses to know the vendor's JSON (the wire does) and holds no call's state.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from functools import partial

from patter.clock import Clock
from patter.exceptions import ProviderError
from patter.providers.delivery import NO_SOUND, SILENCE_S, Delivery, Pieces, delivered, speakable
from patter.providers.elevenlabs.account import ELEVENLABS
from patter.providers.elevenlabs.speaker import Speaker
from patter.providers.vendor_http import VendorRequest, sent
from patter.signals import Spent, SynthesizerPiece
from patter.wire.elevenlabs_tts import Manner, billed_characters

WARM_S = 50.0  # connections are kept for 60 s: within this time one still stands
_KEY_REFUSED = frozenset(("invalid_api_key", "needs_authorization"))


class ElevenLabsHttpVoice:
    """A Synthesizer. Its sound comes in the format that the speaker asks for, so that a phone line needs no conversion."""

    name = ELEVENLABS.name

    def __init__(self, speaker: Speaker, clock: Clock) -> None:
        self._speaker, self._clock = speaker, clock
        self.model, self.voice = speaker.model, speaker.voice
        self._used_at = float("-inf")

    async def start(self) -> None:
        """Find the voice and open a connection, so that the first sentence waits for neither. Raises ProviderError.

        A key that is refused is told now. Other trouble with the question that opens the connection proves nothing about
        speaking."""
        await self._speaker.manner()
        if self._clock.now() - self._used_at < WARM_S:
            return
        request = VendorRequest(
            ELEVENLABS,
            "tts",
            "GET",
            f"{self._speaker.base}/v1/models",
            self._speaker.headers,
            attempts=1,
            silence_s=SILENCE_S,
        )
        try:
            async with sent(self._speaker.http, request) as reply:
                await reply.response.read()
            self._used_at = self._clock.now()
        except ProviderError as error:
            if error.code in _KEY_REFUSED:
                raise

    async def synthesize(self, text: str) -> AsyncGenerator[SynthesizerPiece, None]:
        """The sound of `text` as it comes; nothing for text without words. Raises ProviderError."""
        if not speakable(text):
            return
        manner = await self._speaker.manner()
        spoken = delivered(partial(self._ask, manner, text), Delivery(self._speaker.format), self.name)
        try:
            async with aclosing(spoken) as pieces:
                async for piece in pieces:
                    yield piece
        except ProviderError as error:
            raise self._speaker.explained(error) from error.__cause__

    async def aclose(self) -> None:
        """Nothing to close: the connections belong to whoever made them."""

    async def _ask(self, manner: Manner, text: str, delivery: Delivery) -> Pieces:
        request = VendorRequest(
            ELEVENLABS,
            "tts",
            "POST",
            self._speaker.base + manner.stream_path(),
            self._speaker.headers,
            manner.stream_body(text),
            silence_s=SILENCE_S,
            what=f"the voice {self.voice!r} or the model {self.model!r}",
        )
        async with sent(self._speaker.http, request) as reply:
            delivery.begun = True
            for told in reply.told:
                yield told
            if reply.response.content_type.startswith(NO_SOUND):
                raise ELEVENLABS.garbled("tts", f"{reply.response.content_type} instead of sound")
            billed = billed_characters(reply.response.headers.get("character-cost", ""), self.model, text)
            if billed is not None:
                yield Spent({"characters": billed} if billed else {})
            async for data in reply.response.content.iter_any():
                if chunk := delivery.take(data):
                    yield chunk
            self._used_at = self._clock.now()
