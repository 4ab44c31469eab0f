"""Speech-to-text of one call by an OpenAI session that hears every frame and finds voice and pauses by itself.

It owns which words belong to which stretch of voice and when it was; it refuses to know sockets, and whether a turn is over.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from anyio.abc import TaskGroup

from patter.audio.format import AudioChunk, AudioFormat
from patter.clock import Clock
from patter.exceptions import ProviderError
from patter.mailbox import Mailbox
from patter.models import TurnTaking
from patter.providers.dialer import Dialer
from patter.providers.openai_audio.live_session import LiveSession, audio_for
from patter.providers.openai_audio.place import Place
from patter.providers.openai_audio.transcription import amounts
from patter.signals import CallerPartial, Endpointed, Faulted, ListenerSignal, SpeechStarted, SpeechStopped, Used
from patter.wire.openai_live_transcription import (
    PREFIX_MS,
    Committed,
    Complaint,
    Completed,
    LiveEvent,
    LiveRequest,
    VoiceBegan,
    VoiceEnded,
    Wordless,
    Words,
)
from patter.wire.openai_transcription import Request, Usage, joined

LEAST_SILENCE_MS = 100
IDLE_MS = 10_000.0  # while nobody speaks, sound this old would be of no use to a new connection
SAME_MS = 150.0  # two sockets find the same end of voice, give or take this

OWN_OPTIONS = ("realtime", "turn_detection", "threshold", "eagerness", "noise_reduction")
"""Options of the settings that shape the session; all others go into its transcription's settings."""


def live_request(request: Request, audio: str, *, hears_by_itself: bool, silence_ms: float = 0.0) -> LiveRequest:
    """How a session must listen for `request`. Raises ValueError for options that no session knows."""
    options: Mapping[str, Any] = request.options
    detection = str(options.get("turn_detection", "server_vad")) if hears_by_itself else ""
    if hears_by_itself and detection not in ("server_vad", "semantic_vad"):
        raise ValueError(f'options[\'turn_detection\'] must be "server_vad" or "semantic_vad", not {detection!r}')
    return LiveRequest(
        request.model,
        audio,
        request.language,
        request.keyterms,
        turn_detection=detection,
        silence_ms=max(LEAST_SILENCE_MS, round(silence_ms)),
        threshold=float(options.get("threshold", 0.5)),
        eagerness=str(options.get("eagerness", "auto")),
        noise_reduction=str(options.get("noise_reduction", "")),
        transcription={name: value for name, value in options.items() if name not in OWN_OPTIONS},
    )


@dataclass(slots=True)
class _Stretch:
    """A stretch of voice: where it lies (positions), when it ended and was committed, and its words so far."""

    start_ms: float = 0.0
    end_ms: float = 0.0
    ended_at: float = 0.0
    asked_at: float = 0.0
    words: str = ""
    done: bool = False


class LiveTranscriber:
    """A `ports.StreamingTranscriber`. The sound of a G.711 line goes out as it came in."""

    def __init__(self, dialer: Dialer, clock: Clock, place: Place, request: Request, settings: TurnTaking) -> None:
        """Raises ValueError for options that no session knows."""
        self.name, self.model = place.vendor.name, request.model
        self._dialer, self._clock, self._place = dialer, clock, place
        self._request = live_request(request, "audio/pcm", hears_by_itself=True, silence_ms=settings.pause_ms)
        self._said: Mailbox[ListenerSignal | ProviderError] = Mailbox()
        self._session: LiveSession | None = None
        self._stretches: dict[str, _Stretch] = {}  # those without all their words, in the order of the voice
        self._speaking = False  # told that voice began, not yet that it ended
        self._told_ms = 0.0  # position of the latest end of voice that has been told
        self._twice_ms = 0.0  # sound before this position may be heard once more

    async def start(self, hears: AudioFormat, tasks: TaskGroup) -> None:
        """Connect. Raises ProviderError."""
        self._request = replace(self._request, audio=audio_for(hears))
        session = LiveSession(
            self._dialer,
            self._clock,
            self._place,
            self._request,
            hears,
            event=self._heard,
            renewed=self._renewed,
            tell=self._said.put,
            failed=self._said.put,
        )
        await session.start(tasks)
        self._session = session

    def hear(self, chunk: AudioChunk) -> None:
        """One frame, as it came."""
        session = self._session
        if session is not None:
            session.append(chunk)
            if not self._stretches:
                session.forget(session.heard_ms - IDLE_MS)

    def settle(self, settings: TurnTaking) -> None:
        """A pause of `pause_ms` ends a stretch of voice (a model that listens to the words has its own idea of it)."""
        request = replace(self._request, silence_ms=max(LEAST_SILENCE_MS, round(settings.pause_ms)))
        if request != self._request:
            self._request = request
            if self._session is not None:
                self._session.change(request)

    # ------------------------------------------------------------------ what the session hears

    def _heard(self, event: LiveEvent) -> None:
        match event:
            case VoiceBegan(item, start_ms):
                self._began(self._stretch(item), start_ms)
            case VoiceEnded(item, end_ms):
                self._ended(self._stretch(item), end_ms)
            case Committed(item):
                self._stretch(item).asked_at = self._clock.now()
            case Words(item, text):
                self._stretch(item).words += text
                if words := joined(stretch.words for stretch in self._stretches.values()):
                    self._said.put(CallerPartial(words, self._clock.now()))
            case Completed(item, text, usage):
                self._complete(self._stretch(item), text, usage)
            case Wordless(item, _, message):
                self._said.put(Faulted("stt", self.name, f"it could not write down what was said ({message})"))
                self._complete(self._stretch(item), "", None)
            case Complaint(_, message):
                self._said.put(Faulted("stt", self.name, f"it complains: {message}"))

    def _stretch(self, item: str) -> _Stretch:
        if item not in self._stretches:
            now = self._clock.now()
            heard = self._live.heard_ms
            self._stretches[item] = _Stretch(heard, heard, now, now)
        return self._stretches[item]

    @property
    def _live(self) -> LiveSession:
        assert self._session is not None, "there are no events before the session"
        return self._session

    def _began(self, stretch: _Stretch, start_ms: float) -> None:
        stretch.start_ms = self._live.position(start_ms)
        again = stretch.start_ms < self._twice_ms and (self._speaking or stretch.start_ms < self._told_ms)
        if not again:
            self._speaking = True
            self._said.put(SpeechStarted(self._live.moment(stretch.start_ms + PREFIX_MS), self._clock.now()))

    def _ended(self, stretch: _Stretch, end_ms: float) -> None:
        stretch.end_ms = self._live.position(end_ms)
        silence = self._request.silence_ms if self._request.turn_detection == "server_vad" else 0
        stretch.ended_at = self._live.moment(stretch.end_ms - silence)
        stretch.asked_at = self._clock.now()
        if self._speaking and stretch.end_ms > self._told_ms + SAME_MS:
            self._speaking, self._told_ms = False, stretch.end_ms
            self._said.put(SpeechStopped(stretch.ended_at, stretch.asked_at))

    def _complete(self, stretch: _Stretch, text: str, usage: Usage | None) -> None:
        if stretch.done:
            return
        stretch.words, stretch.done = text, True
        self._bill(stretch, usage)
        while self._stretches:  # transcripts may overtake each other
            item, first = next(iter(self._stretches.items()))
            if not first.done:
                return
            del self._stretches[item]
            self._live.forget(first.end_ms)
            sure = self._request.turn_detection == "semantic_vad"
            self._said.put(Endpointed(first.words, first.ended_at, first.asked_at, self._clock.now(), sure))

    def _bill(self, stretch: _Stretch, usage: Usage | None) -> None:
        seconds = (stretch.end_ms - stretch.start_ms) / 1000
        if usage is not None or seconds > 0:
            self._said.put(Used("stt", self.name, self.model, amounts(self.model, usage, max(0.0, seconds))))

    def _renewed(self) -> None:
        self._stretches.clear()  # the new socket hears them again
        self._twice_ms = self._live.heard_ms

    # ------------------------------------------------------------------ what it says

    async def signals(self) -> AsyncIterator[ListenerSignal]:
        """What is heard, until `aclose`. Raises ProviderError when no connection comes about any more."""
        async for said in self._said:
            if isinstance(said, ProviderError):
                raise said
            yield said

    async def aclose(self) -> None:
        """End `signals`, with the bill of what is still being written down; more than once is fine."""
        for stretch in self._stretches.values():
            if not stretch.done:
                self._bill(stretch, None)
        self._stretches.clear()
        self._said.close()
        if self._session is not None:
            await self._session.aclose()
