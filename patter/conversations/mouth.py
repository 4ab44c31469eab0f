"""The pipeline's mouth: sentences → guardrails → synthesis → sound of one reply, in order.

It owns one reply's speaking; it refuses to know who wrote the text or whether anybody hears it. Nothing is synthesised
before the guardrails have passed it, and the next sentence is asked for while the one before is still playing.
"""

from __future__ import annotations

from collections.abc import Callable

from patter.audio.format import AudioChunk
from patter.clock import Clock
from patter.mailbox import Mailbox
from patter.ports import Screen, Synthesizer
from patter.signals import ConversationSignal, Guarded, ReplyAudio, ReplyReached, ReplyStage, ReplyText, Spent, Used
from patter.turns.sentences import SentenceCutter

Tell = Callable[[ConversationSignal], None]


class Mouth:
    """Speaks one reply: run `speak` beside, `write` the text, `close` at the end. `synthesizer` None = text only."""

    def __init__(
        self, reply_id: int, synthesizer: Synthesizer | None, screen: Screen, clock: Clock, tell: Tell
    ) -> None:
        self._reply_id = reply_id
        self._synthesizer = synthesizer
        self._screen = screen
        self._clock = clock
        self._tell = tell
        self._cutter = SentenceCutter()
        self._reached: set[ReplyStage] = set()
        self._sentences: Mailbox[str] = Mailbox()
        self.text = ""
        """What has been given to synthesis so far: the reply as it will be spoken."""
        self.blocked = False
        """Whether a guardrail ended the reply: nothing more of it may be spoken."""

    def write(self, text: str) -> None:
        """More of the reply's text, as the model writes it."""
        if text.strip():
            self._reach("first_token")
        for sentence in self._cutter.push(text):
            self._say(sentence)

    def pause(self) -> None:
        """The model stops for a moment (a tool): speak what there is."""
        for sentence in self._cutter.flush():
            self._say(sentence)

    def close(self) -> None:
        """The text is complete."""
        self.pause()
        self._sentences.close()

    async def speak(self) -> None:
        """Synthesise sentence by sentence until `close`. Raises ProviderError."""
        if self._synthesizer is not None:
            await self._voice(self._synthesizer)

    async def _voice(self, synthesizer: Synthesizer) -> None:
        async for sentence in self._sentences:
            await self._voice_one(synthesizer, sentence)

    async def _voice_one(self, synthesizer: Synthesizer, sentence: str) -> None:
        spent: Spent | None = None
        first = sentence
        try:
            async for piece in synthesizer.synthesize(sentence):
                if isinstance(piece, AudioChunk):
                    self._reach("first_audio")
                    self._tell(ReplyAudio(self._reply_id, piece, first))
                    first = ""
                elif isinstance(piece, Spent):
                    spent = piece
                    self._used(synthesizer, piece)
                else:
                    self._tell(piece)
        finally:
            if spent is None:
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
        if not spoken.strip():
            return
        self._reach("first_sentence")
        self.text = f"{self.text} {spoken}".strip()
        self._tell(ReplyText(self._reply_id, spoken, self._clock.now()))
        self._sentences.put(spoken)

    def _reach(self, stage: ReplyStage) -> None:
        if stage not in self._reached:
            self._reached.add(stage)
            self._tell(ReplyReached(self._reply_id, stage, self._clock.now()))
