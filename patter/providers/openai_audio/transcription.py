"""Speech-to-text of one call by OpenAI's transcription requests: one request an utterance, sent when the caller pauses.

It owns which request still counts, its second try, and its bill; it refuses to find voice or to end turns.
"""

from __future__ import annotations

from collections.abc import AsyncIterator

import aiohttp
import anyio
from anyio.abc import TaskGroup

from patter.clock import Clock
from patter.exceptions import ProviderError, WireError
from patter.mailbox import Mailbox
from patter.providers.openai_account import vouch
from patter.providers.openai_audio.place import Place
from patter.providers.utterance import BYTES_PER_S, UtteranceSound
from patter.providers.vendor_http import LONGEST_WAIT_S, RETRY_S, VendorReply, VendorRequest, sent
from patter.signals import Faulted, Transcribed, TranscriberSignal, Used
from patter.wire.openai_transcription import (
    Delta,
    Request,
    Transcript,
    TranscriptReader,
    Usage,
    counts_tokens,
    form_fields,
    read_whole,
    wav,
)

LEAST_BYTES = int(0.1 * BYTES_PER_S)  # shorter sound is refused
SILENCE_S = 5.0  # no byte for so long: the caller's turn ends soon after, with words or without
ATTEMPTS = 2


class OpenAITranscriber:
    """A `ports.Transcriber`. An utterance of which no voice was told is not sent: the models invent words for silence.

    After a ProviderError `signals` may be read on: the next utterance is asked for as if nothing had happened."""

    def __init__(self, http: aiohttp.ClientSession, clock: Clock, place: Place, request: Request) -> None:
        self.name, self.model = place.vendor.name, request.model
        self._http, self._clock, self._place, self._request = http, clock, place, request
        self._fields = form_fields(request)
        self._sound = UtteranceSound()
        self._said: Mailbox[TranscriberSignal | ProviderError] = Mailbox()
        self._asked: _Asked | None = None
        self._tasks: TaskGroup | None = None

    async def start(self, tasks: TaskGroup) -> None:
        """Ready at once; meanwhile the connection for the first utterance is opened, and the key tried."""
        self._tasks = tasks
        tasks.start_soon(self._greet)

    async def _greet(self) -> None:
        try:
            await vouch(self._http, self._place.key, self._place.root, self.model, "stt")
        except ProviderError as error:
            if error.status == 401:  # anything else may still be different when an utterance is sent
                self._said.put(error)

    def hear(self, pcm_16k: bytes) -> None:
        """Keep it for the request."""
        self._sound.hear(pcm_16k)

    def begin(self) -> None:
        """The utterance includes up to half a second before this moment."""
        self._sound.begin()

    def pause(self) -> None:
        """Send everything since `begin`; the answer is a final `Transcribed`, "" when there were no words."""
        self._withdraw()
        self._sound.pause()
        now, begun = self._clock.now(), self._sound.begun
        pcm = self._sound.since(begun) if begun is not None else b""
        if len(pcm) < LEAST_BYTES:
            self._said.put(Transcribed("", True, now, now))
        elif self._tasks is None:
            raise ProviderError("the transcriber has not been started", provider=self.name, stage="stt")
        else:
            self._asked = _Asked(pcm[: len(pcm) & ~1], now)
            self._tasks.start_soon(self._ask, self._asked)

    def resume(self) -> None:
        """The answer to the last `pause` will not come any more if it has not come yet."""
        self._withdraw()

    def commit(self) -> None:
        """Forget the utterance: what was heard after its last pause may belong to the next."""
        self._withdraw()
        self._sound.take()

    def _withdraw(self) -> None:
        asked, self._asked = self._asked, None
        if asked is not None:
            asked.scope.cancel()
            if asked.sent and not asked.answered:  # the vendor has the sound, and bills it
                self._bill(None, asked)

    # ------------------------------------------------------------------ one request

    async def _ask(self, asked: _Asked) -> None:
        with asked.scope:
            try:
                words = await self._answer(asked)
            except ProviderError as error:
                asked.answered = True
                self._said.put(error)
                return
            asked.answered = True
            self._bill(words.usage, asked)
            self._said.put(Transcribed(words.text, True, asked.at, self._clock.now()))

    async def _answer(self, asked: _Asked) -> Transcript:
        attempt = 1
        while True:
            try:
                return await self._once(asked)
            except ProviderError as error:
                wait = error.retry_after_s if error.retry_after_s is not None else RETRY_S
                if not error.retryable or attempt == ATTEMPTS or wait > LONGEST_WAIT_S:
                    raise
                self._said.put(Faulted("stt", self.name, error.problem, "it is tried again"))
            attempt += 1
            await anyio.sleep(wait)

    async def _once(self, asked: _Asked) -> Transcript:
        request = VendorRequest(
            self._place.vendor,
            "stt",
            "POST",
            f"{self._place.root}/audio/transcriptions",
            {**self._place.headers, "Accept": "text/event-stream, application/json"},
            form=lambda: self._form(asked.pcm),
            attempts=1,  # a break in the middle of the answer is worth another try too, so the tries are counted here
            silence_s=SILENCE_S,
            what=f"the model {self.model!r}",
        )
        asked.sent = True
        try:
            async with sent(self._http, request) as reply:
                for told in reply.told:
                    self._said.put(told)
                return await self._read(reply, asked)
        except WireError as error:
            raise self._place.vendor.garbled("stt", str(error)) from error

    def _form(self, pcm: bytes) -> aiohttp.FormData:
        form = aiohttp.FormData()
        for name, value in self._fields:
            form.add_field(name, value)
        form.add_field("file", wav(pcm, 16000), filename="utterance.wav", content_type="audio/wav")
        return form

    async def _read(self, reply: VendorReply, asked: _Asked) -> Transcript:
        if reply.response.content_type != "text/event-stream":
            return read_whole(await reply.response.read())
        reader, words = TranscriptReader(), ""
        async for data in reply.response.content.iter_any():
            for piece in reader.feed(data):
                if isinstance(piece, Transcript):
                    return piece
                words = self._partly(words, piece, asked)
        for piece in reader.close():
            if isinstance(piece, Transcript):
                return piece
        raise WireError("the transcript broke off")

    def _partly(self, words: str, piece: Delta, asked: _Asked) -> str:
        words += piece.text
        if words.strip():
            self._said.put(Transcribed(words.strip(), False, asked.at, self._clock.now()))
        return words

    def _bill(self, usage: Usage | None, asked: _Asked) -> None:
        self._said.put(Used("stt", self.name, self.model, amounts(self.model, usage, len(asked.pcm) / BYTES_PER_S)))

    # ------------------------------------------------------------------ what it says

    async def signals(self) -> AsyncIterator[TranscriberSignal]:
        """Partials, finals, and what they cost, until `aclose`. Raises ProviderError when an utterance was lost."""
        async for said in self._said:
            if isinstance(said, ProviderError):
                raise said
            yield said

    async def aclose(self) -> None:
        """End `signals`; more than once is fine."""
        self._withdraw()
        self._said.close()


class _Asked:
    """One request: the sound, when it was asked for, and how far it has come."""

    def __init__(self, pcm: bytes, at: float) -> None:
        self.pcm, self.at = pcm, at
        self.scope = anyio.CancelScope()
        self.sent = self.answered = False


def amounts(model: str, usage: Usage | None, seconds: float) -> dict[str, float]:
    """What is counted for `seconds` of sound, with the price table's keys: tokens where they have a price, else time."""
    if usage is not None and counts_tokens(model) and (usage.input_tokens or usage.output_tokens):
        return {"input_tokens": float(usage.input_tokens), "output_tokens": float(usage.output_tokens)}
    return {"audio_seconds": usage.seconds if usage is not None and usage.seconds else seconds}
