"""The pipeline's mouth: sentences → guardrails → synthesis → sound of one reply, in order.

It owns one reply's speaking; it refuses to know who wrote the text or whether anybody hears it. Nothing is synthesised
before the guardrails have passed it, and the next sentence is asked for while the one before is still playing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import anyio

from patter.audio.format import AudioChunk
from patter.clock import Clock
from patter.exceptions import ProviderError
from patter.mailbox import Mailbox
from patter.ports import Screen, Synthesizer
from patter.signals import (
    ConversationSignal,
    Faulted,
    Guarded,
    ReplyAudio,
    ReplyReached,
    ReplyStage,
    ReplyText,
    Spent,
    Used,
)
from patter.turns.sentences import SentenceCutter

Tell = Callable[[ConversationSignal], None]


class Mouth:
    """Speaks one reply: run `speak` beside, `write` the text, `close` at the end. `synthesizer` None = text only.

    `voice` is held while a sentence is synthesised, so that two replies never sound through each other."""

    def __init__(
        self,
        reply_id: int,
        synthesizer: Synthesizer | None,
        screen: Screen,
        clock: Clock,
        tell: Tell,
        voice: anyio.Lock,
    ) -> None:
        self._reply_id = reply_id
        self._synthesizer = synthesizer
        self._screen = screen
        self._clock = clock
        self._tell = tell
        self._voice = voice
        self._cutter = SentenceCutter()
        self._sounding = False  # sound of the sentence that is being synthesised has come
        self._reached: set[ReplyStage] = set()
        self._sentences: Mailbox[tuple[str, ...]] = Mailbox()  # what stands together sounds together
        self.text = ""
        """What has been given to synthesis so far: the reply as it will be spoken."""
        self.began = False
        """Whether any of the text that is being written has come, spoken or not; the writer takes it back for a new try."""
        self.blocked = False
        """Whether a guardrail ended the reply: nothing more of it may be spoken."""

    def write(self, text: str) -> bool:
        """More of the reply's text, as the model writes it. Returns whether it completed a sentence."""
        if text.strip():
            self.began = True
            self._reach("first_token")
        sentences = self._cutter.push(text)
        for sentence in sentences:
            self._say(sentence)
        return bool(sentences)

    def pause(self) -> None:
        """The model stops for a moment (a tool): speak what there is."""
        for sentence in self._cutter.flush():
            self._say(sentence)

    def recite(self, text: str) -> None:
        """Speak a text of the agent's definition as it is, in place of the sentence that was being written."""
        self._cutter = SentenceCutter()
        if text.strip() and not self.blocked:
            self._reach("first_token")
            cutter = SentenceCutter()
            self._speak(*cutter.push(text), *cutter.flush())

    def close(self) -> None:
        """The text is complete."""
        self.pause()
        self._sentences.close()

    async def speak(self) -> None:
        """Synthesise sentence by sentence until `close`. Raises ProviderError when a sentence fails twice."""
        if self._synthesizer is None:
            return
        async for sentences in self._sentences:
            async with self._voice:
                for sentence in sentences:
                    await self._sound(self._synthesizer, sentence)

    async def _sound(self, synthesizer: Synthesizer, sentence: str) -> None:
        """A sentence that fails before it sounds is tried once more; of one that breaks off the rest is lost."""
        for again in (True, False):
            self._sounding = False
            try:
                await self._synthesise(synthesizer, sentence)
                return
            except ProviderError as error:
                if not error.retryable or not (self._sounding or (again and error.tries < 2)):
                    raise
                self._tell(Faulted(error.stage or "tts", error.provider, error.problem, error.fix))
                if self._sounding:
                    return

    async def _synthesise(self, synthesizer: Synthesizer, sentence: str) -> None:
        charged = refused = False
        try:
            async for piece in synthesizer.synthesize(sentence):
                if isinstance(piece, AudioChunk):
                    now = self._clock.now()
                    self._tell(ReplyAudio(self._reply_id, piece, "" if self._sounding else sentence))
                    self._reach("first_audio", now)  # the caller hears it before anybody is told
                    if not self._sounding:
                        self._sounding = True
                        await asyncio.sleep(0)  # and before more of it is read: some loops send when the tasks rest
                elif isinstance(piece, Spent):
                    charged = True
                    self._used(synthesizer, piece)
                else:
                    self._tell(piece)
        except ProviderError:
            refused = not self._sounding
            raise
        finally:
            if not charged and not refused:
                self._used(synthesizer, Spent({"characters": float(len(sentence))}))

    def _used(self, synthesizer: Synthesizer, spent: Spent) -> None:
        if spent.amounts:
            provider, model = spent.provider or synthesizer.name, spent.model or synthesizer.model
            self._tell(Used("tts", provider, model, spent.amounts))

    def _say(self, sentence: str) -> None:
        if self.blocked:
            return
        spoken, guardrail = self._screen(self.text, sentence)
        if guardrail is not None:
            self.blocked = True
            self._tell(Guarded(guardrail, self._reply_id))
        if spoken.strip():
            self._speak(spoken)

    def _speak(self, *sentences: str) -> None:
        self._reach("first_sentence")
        self._sentences.put(sentences)
        for spoken in sentences:
            self.text = f"{self.text} {spoken}".strip()
            self._tell(ReplyText(self._reply_id, spoken, self._clock.now()))

    def _reach(self, stage: ReplyStage, at: float | None = None) -> None:
        if stage not in self._reached:
            self._reached.add(stage)
            self._tell(ReplyReached(self._reply_id, stage, self._clock.now() if at is None else at))
