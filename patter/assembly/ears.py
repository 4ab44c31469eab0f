"""What hears the caller in a pipeline: a recogniser by name, with a voice detector where it needs one, and its fallbacks.

It owns that choice; it refuses to know what is heard.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from patter import builders
from patter.assembly.stock import Stock
from patter.audio.format import AudioFormat
from patter.models import Agent, STTConfig
from patter.ports import StreamingTranscriber, Transcriber, VoiceDetector
from patter.providers.embedded.silero import SileroDetector, detector_missing
from patter.providers.embedded.whisper_model import recognition_missing
from patter.providers.level_detector import LevelDetector
from patter.registry import maker_of

AGAIN = 3
"""How often the first recogniser is made anew when it and all others have failed: an outage of a moment ends no call."""

Recogniser = Transcriber | StreamingTranscriber


@dataclass(frozen=True, slots=True)
class Hearing:
    """One call's ears: `makers` of recognisers, in the order in which they are tried, and what finds utterances for those
    that do not find them themselves. `first` is what the first maker will give."""

    first: Recogniser
    makers: tuple[Callable[[], Recogniser], ...]
    detector: VoiceDetector


class _Maker:
    """Makes a recogniser whenever one is wanted; the first is there already."""

    def __init__(self, ready: Recogniser, make: Callable[[], Recogniser]) -> None:
        self._ready: Recogniser | None = ready
        self._make = make

    def __call__(self) -> Recogniser:
        made, self._ready = self._ready, None
        return made if made is not None else self._make()


class LateDetector:
    """A voice detector that is loaded when it is first asked: a recogniser that finds voice itself never does."""

    def __init__(self, load: Callable[[], VoiceDetector]) -> None:
        self._load = load
        self._loaded: VoiceDetector | None = None

    @property
    def _detector(self) -> VoiceDetector:
        if self._loaded is None:
            self._loaded = self._load()
        return self._loaded

    @property
    def window_ms(self) -> float:
        """See `VoiceDetector`."""
        return self._detector.window_ms

    @property
    def lag_ms(self) -> float:
        """See `VoiceDetector`."""
        return self._detector.lag_ms

    @property
    def tail_ms(self) -> float:
        """See `VoiceDetector`."""
        return self._detector.tail_ms

    def probabilities(self, pcm_16k: bytes) -> list[float]:
        """See `VoiceDetector`."""
        return self._detector.probabilities(pcm_16k)


class Ears:
    """Picks what hears. `gap` says, as a sentence, why the embedded recogniser cannot be used ("" = it can)."""

    def __init__(self, stock: Stock, stt_model: str = "") -> None:
        self._stock = stock
        self.gap = recognition_missing(stt_model)
        self._deaf = detector_missing()

    def pick(self, agent: Agent, hears: AudioFormat, plays: AudioFormat | None, notes: list[str]) -> Hearing | None:
        """What hears this call; None, with a note, when nothing can. Raises ProviderError for settings that cannot work."""
        configs = [builders.stt_of(agent, self._stock.keys), *builders.fallbacks_of(agent, self._stock.keys)[0]]
        usable = [config for config in configs if not self._missing(config)]
        if not usable:
            notes.append(f"{self.gap or self._deaf} Until then, type the caller's words.")
            return None
        notes += dict.fromkeys(note for config in usable if (note := _foreign(config, agent)))
        makers = [self._maker(config, agent, hears, plays, notes) for config in usable]
        recogniser = makers[0]()
        first = _Maker(recogniser, makers[0])
        return Hearing(recogniser, (first, *makers[1:], *[first] * AGAIN), self._detector())

    def _missing(self, config: STTConfig) -> bool:
        return config.provider == builders.embedded_stt().provider and bool(self.gap or self._deaf)

    def _maker(
        self, config: STTConfig, agent: Agent, hears: AudioFormat, plays: AudioFormat | None, notes: list[str]
    ) -> Callable[[], Recogniser]:
        bench = self._stock.bench(config, agent, hears, plays, notes.append)

        def make() -> Recogniser:
            made: Recogniser = maker_of("stt", config.provider)(config, bench)
            return made

        return make

    def _detector(self) -> VoiceDetector:
        return LateDetector(LevelDetector if self._deaf else SileroDetector)


def _foreign(config: STTConfig, agent: Agent) -> str:
    """A sentence if the recogniser listens to one language and the agent speaks another: settings say "en" by themselves."""
    heard = str(config.options.get("language") or config.language or agent.language)
    if heard == "multi" or "multi" in config.model or _tongue(heard) == _tongue(agent.language):
        return ""
    return (
        f"The caller is listened to in {heard!r}, and the agent's language is {agent.language!r}: "
        "give its language in the stt settings too."
    )


def _tongue(language: str) -> str:
    return language.replace("_", "-").partition("-")[0].lower()
