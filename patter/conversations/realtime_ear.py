"""The caller as a realtime session hears them: when they spoke, on the call's clock, and what they said.

It owns the caller's last seconds of sound (a new session needs them) and telling speech, utterances and their words; it refuses
to know what is answered.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from patter.audio.format import AudioChunk
from patter.clock import Clock
from patter.conversations.realtime_link import Link
from patter.conversations.realtime_memory import Memory
from patter.providers.openai_account import OPENAI
from patter.signals import (
    CallerPartial,
    CallerTranscribed,
    ConversationSignal,
    Faulted,
    SpeechStarted,
    SpeechStopped,
    Used,
    UtteranceEnded,
)
from patter.wire.openai_realtime_events import CallerUnclear, CallerWords, Committed, VoiceBegan, VoiceEnded
from patter.wire.openai_transcription import counts_tokens

Heard = VoiceBegan | VoiceEnded | Committed | CallerWords | CallerUnclear

RUN_UP_MS = 800.0  # what is kept of silence: the server tells of a voice up to half a second after it began
LOST_S = 2.0  # a new session that is given a half-heard utterance notices it at once, or never
LONGEST_MS = 15_000.0  # what is kept of speech, and of everything while no session listens


class Ear:
    """The caller of one call. `tell` receives the signals."""

    def __init__(self, memory: Memory, clock: Clock, tell: Callable[[ConversationSignal], None]) -> None:
        self.model = ""
        """What writes the caller's words down."""
        self._memory, self._clock, self._tell = memory, clock, tell
        self._link: Link | None = None
        self._recent: deque[AudioChunk] = deque()
        self._recent_ms = 0.0
        self._keep_ms = LONGEST_MS
        self._speaking = False
        self._open = False  # from the first voice until the utterance is an item
        self._sessions = 0
        self._ended_at = 0.0
        self._heard_at = self._unused_ms = 0.0
        self._partial: dict[str, str] = {}
        self._answered: set[str] = set()
        self._wordless: dict[str, float] = {}  # not written down by this session yet: utterances and their seconds
        self._orphans: set[str] = set()  # those of earlier sessions, which nobody will write down

    @property
    def idle(self) -> bool:
        """The caller says nothing, and everything they said has been understood."""
        now = self._clock.now()
        unclear = self._memory.unclear and bool(self.model) and now - self._ended_at < LONGEST_MS / 1000
        return not self._open and not unclear

    def hear(self, chunk: AudioChunk) -> None:
        """A frame, in the order it came."""
        ms = chunk.ms
        self._recent.append(chunk)
        self._recent_ms += ms
        while self._recent_ms > self._keep_ms:
            self._recent_ms -= self._recent.popleft().ms
        self._heard_at = self._clock.now()
        if self._link is not None:
            self._link.hear(chunk, ms, self._heard_at)

    def listen(self, link: Link | None) -> None:
        """Another session hears the caller from now on (None: none for a while), beginning with what no session has used."""
        self._link = link
        self._partial.clear()
        self._orphans |= self._wordless.keys()
        self._wordless.clear()
        for utterance in self._orphans & self._answered:
            self._understand_no_more(utterance)
        if link is None:
            self._keep_ms = LONGEST_MS
            return
        for chunk in self._recent:
            link.hear(chunk, chunk.ms, self._heard_at)
        if not self._open:
            self._settle()
        else:
            began = self._sessions = self._sessions + 1
            self._clock.call_later(LOST_S, lambda: self._lost(began))

    def _lost(self, session: int) -> None:
        """The session that took over has heard nothing of the utterance: as far as anybody knows the caller is silent."""
        if self._sessions != session or not self._open:
            return
        now = self._clock.now()
        if self._speaking:
            self._ended_at = now
            self._tell(SpeechStopped(now, now))
        self._open = self._speaking = False
        self._settle()

    def answered(self) -> None:
        """All that was said so far is being answered: its partial words interrupt nothing any more."""
        self._answered |= {*self._wordless, *self._orphans}
        for orphan in list(self._orphans):
            self._understand_no_more(orphan)

    def take(self, event: Heard) -> None:
        """What the session says of the caller."""
        match event:
            case VoiceBegan():
                self._began(event)
            case VoiceEnded():
                self._paused(event)
            case Committed(item_id):
                self._committed(item_id)
            case CallerWords(item_id, text, True, amounts):
                used = self._priced(item_id, amounts)
                if any(used.values()):
                    self._tell(Used("stt", OPENAI.name, self.model, used))
                self._understood(item_id, text.strip())
            case CallerWords(item_id, text):
                self._partly(item_id, text)
            case CallerUnclear(item_id, _, message):
                self._tell(Faulted("stt", OPENAI.name, "an utterance could not be written down", message[:200]))
                self._understood(item_id, "")

    def _began(self, event: VoiceBegan) -> None:
        self._open, self._keep_ms = True, LONGEST_MS
        self._sessions += 1  # whatever was waited for from an earlier session has come
        if self._speaking or self._link is None:
            return  # told already: this session hears again what the one before it heard
        self._speaking, now = True, self._clock.now()
        self._tell(SpeechStarted(min(now, self._link.moment(event.start_ms + self._link.padding_ms)), now))

    def _paused(self, event: VoiceEnded) -> None:
        if self._link is None:
            return
        self._speaking, now = False, self._clock.now()
        self._ended_at = min(now, self._link.moment(event.end_ms - self._link.silence_ms))
        self._unused_ms = max(0.0, self._link.appended_ms - event.end_ms)
        self._tell(SpeechStopped(self._ended_at, now))

    def _committed(self, item_id: str) -> None:
        now = self._clock.now()
        if self._speaking or not self._open:  # committed without a pause having been told
            self._ended_at = self._heard_at or now
        self._memory.heard(item_id, tuple(self._recent) if self.model else ())
        self._open = self._speaking = False
        if self.model:
            self._wordless[item_id] = self._recent_ms / 1000
        self._settle(self._unused_ms)
        self._tell(UtteranceEnded("", self._ended_at, now, now, now, utterance=item_id))

    def _settle(self, left_ms: float = RUN_UP_MS) -> None:
        """Only the newest sound has to be kept: what is in no utterance yet."""
        self._keep_ms = RUN_UP_MS
        while self._recent_ms > left_ms and self._recent:
            self._recent_ms -= self._recent.popleft().ms

    def _partly(self, item_id: str, text: str) -> None:
        words = self._partial[item_id] = self._partial.get(item_id, "") + text
        if item_id not in self._answered and words.strip():
            self._tell(CallerPartial(words.strip(), self._clock.now()))

    def _priced(self, item_id: str, amounts: dict[str, float]) -> dict[str, float]:
        """What writing it down used, in what has a price: by time for models whose tokens have none."""
        if not amounts.get("input_tokens") or counts_tokens(self.model):
            return amounts
        return {"audio_seconds": round(self._wordless.get(item_id, 0.0), 3)}

    def _understand_no_more(self, utterance: str) -> None:
        """The session that would have written it down is gone; the next one answers it by its sound."""
        self._orphans.discard(utterance)
        self._answered.discard(utterance)
        self._tell(CallerTranscribed(utterance, "", self._clock.now()))

    def _understood(self, item_id: str, text: str) -> None:
        self._partial.pop(item_id, None)
        self._answered.discard(item_id)
        self._wordless.pop(item_id, None)
        self._memory.understood(item_id, text)
        self._tell(CallerTranscribed(item_id, text, self._clock.now()))
