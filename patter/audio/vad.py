"""From the probabilities of a voice detector to stretches of voice: began, paused, went on.

It owns the hysteresis and the bookkeeping in milliseconds of audio; it refuses to know detectors, clocks or turns.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class VoiceStarted:
    """Voice has lasted the minimum; its first sound was `began_ms_ago` before the end of the newest window."""

    began_ms_ago: float


@dataclass(frozen=True, slots=True)
class VoicePaused:
    """There has been silence for the pause time; the last sound was `ended_ms_ago` before the end of the newest window."""

    ended_ms_ago: float


@dataclass(frozen=True, slots=True)
class VoiceResumed:
    """Voice is back after a pause; its first sound was `began_ms_ago` before the end of the newest window."""

    began_ms_ago: float


VoiceEvent = VoiceStarted | VoicePaused | VoiceResumed


@dataclass(frozen=True, slots=True)
class VoiceGateConfig:
    """Thresholds are probabilities, the rest ms. Voice begins at `on` and lasts until it falls below `off`.

    `lag_ms` and `tail_ms` are the detector's: how long after the first sound its first voiced window begins, and how long
    after the last sound its first quiet window begins."""

    on: float = 0.5
    off: float = 0.35
    min_speech_ms: float = 120
    pause_ms: float = 200
    resume_ms: float = 64  # two windows: quick enough to call off the end of a turn, long enough to pass over a click
    lag_ms: float = 0
    tail_ms: float = 0


class VoiceGate:
    """One caller's voice. Push every window in order; `end()` when the utterance has been taken."""

    __slots__ = ("_age_ms", "_lasted_ms", "_paused", "_silence_ms", "config", "speaking", "voiced")

    def __init__(self, config: VoiceGateConfig | None = None) -> None:
        self.config = config or VoiceGateConfig()
        self.speaking = False
        """True between VoiceStarted (or VoiceResumed) and VoicePaused."""
        self.voiced = False
        """Whether the newest window is voice, however short."""
        self._paused = False
        self._age_ms = 0.0  # of the first window of the present stretch of voice
        self._lasted_ms = 0.0  # its age when the newest voiced window came
        self._silence_ms = 0.0  # quiet windows since then

    @property
    def in_utterance(self) -> bool:
        """True from VoiceStarted until `end()`."""
        return self.speaking or self._paused

    @property
    def voice_ms(self) -> float:
        """How long the present voice has lasted up to its newest sound, short gaps included; 0.0 when there is none."""
        return self._lasted_ms + self.config.lag_ms if self.voiced or self.speaking else 0.0

    @property
    def silence_ms(self) -> float:
        """How long ago the last sound of voice was; 0.0 during voice, and before any."""
        return self._silence_ms + self.config.tail_ms if self._silence_ms else 0.0

    def end(self) -> None:
        """The utterance is over: the next voice is a VoiceStarted again."""
        self._paused = self.speaking = False
        self._age_ms = self._lasted_ms = 0.0

    def push(self, probability: float, window_ms: float) -> VoiceEvent | None:
        """Take one window of `window_ms`; says what has just become certain, if anything."""
        goes_on = self.voiced
        self.voiced = probability >= (self.config.off if goes_on else self.config.on)
        if not self.voiced:
            return self._silence(window_ms)
        if not goes_on and not self.speaking:
            self._age_ms = 0.0
        return self._voice(window_ms)

    def _voice(self, window_ms: float) -> VoiceEvent | None:
        self._age_ms += window_ms
        self._lasted_ms = self._age_ms
        self._silence_ms = 0.0
        needed = self.config.resume_ms if self._paused else self.config.min_speech_ms
        if self.speaking or self.voice_ms < needed:
            return None
        event = VoiceResumed if self._paused else VoiceStarted
        self.speaking, self._paused = True, False
        return event(self.voice_ms)

    def _silence(self, window_ms: float) -> VoiceEvent | None:
        if not self._lasted_ms:
            return None
        self._silence_ms += window_ms
        self._age_ms += window_ms
        if not self.speaking or self.silence_ms < self.config.pause_ms:
            return None
        self.speaking, self._paused = False, True
        return VoicePaused(self.silence_ms)
