"""What speaks in a pipeline: a synthesizer by name, its fallbacks, and the fixed sentences that are kept ready.

It owns that choice; it refuses to know what is said.
"""

from __future__ import annotations

from collections.abc import Iterable

from patter import builders
from patter.assembly.stock import Stock, unheard
from patter.audio.format import AudioFormat
from patter.models import Agent, TTSConfig
from patter.ports import Synthesizer
from patter.providers.embedded.hibari import voice_missing
from patter.providers.fallback_voice import FallbackVoice
from patter.providers.speech_cache import CachedVoice
from patter.turns.sentences import SentenceCutter


class Voices:
    """Picks what speaks. `gap` says, as a sentence, why the embedded voice cannot be used ("" = it can)."""

    def __init__(self, stock: Stock) -> None:
        self._stock = stock
        self.gap = voice_missing()
        self._together: dict[tuple[CachedVoice, ...], FallbackVoice] = {}

    def pick(self, agent: Agent, plays: AudioFormat, notes: list[str]) -> Synthesizer | None:
        """What speaks in this call; None, with a note, when nothing can. Raises ProviderError."""
        configs = self._usable(agent)
        if not configs:
            notes.append(f"{self.gap} Until then, the agent's words are only shown.")
            return None
        voices = [self._stock.voice(config, agent, plays, notes.append) for config in configs]
        for voice in voices:
            for text in fixed_texts(agent):
                for sentence in sentences(text):
                    voice.keep(sentence)
        if len(voices) == 1:
            return voices[0]
        together = tuple(voices)
        if together not in self._together:  # shared by all calls: who is out is out for all of them
            self._together[together] = FallbackVoice(voices, self._stock.clock)
        return self._together[together]

    async def prepare(self, agent: Agent, plays: AudioFormat) -> None:
        """Make the first voice ready, and the greeting's sound. Raises ProviderError."""
        for config in self._usable(agent)[:1]:
            voice = self._stock.voice(config, agent, plays, unheard)
            await voice.start()
            greeting = builders.fill_variables(agent.first_message, agent.variables)
            for sentence in sentences(greeting):
                await voice.prepare(sentence)

    async def vouch(self, agent: Agent, plays: AudioFormat) -> None:
        """Raise ProviderError where the first voice cannot be used."""
        for config in self._usable(agent)[:1]:
            await self._stock.voice(config, agent, plays, unheard).start()

    def _usable(self, agent: Agent) -> list[TTSConfig]:
        configs = [builders.tts_of(agent, self._stock.keys), *builders.fallbacks_of(agent, self._stock.keys)[1]]
        return [config for config in configs if not (self.gap and config.provider == builders.embedded_tts().provider)]


def sentences(text: str) -> list[str]:
    """`text` as it is given to synthesis, piece by piece."""
    cutter = SentenceCutter()
    return [*cutter.push(text), *cutter.flush()]


def fixed_texts(agent: Agent) -> Iterable[str]:
    """Sentences that this agent says word for word, again and again."""
    fillers = (str(tool.get("filler") or "") for tool in agent.tools or ())
    greeting = builders.fill_variables(agent.first_message, agent.variables)
    return (text for text in (greeting, agent.recovery.apology, agent.recovery.goodbye, *fillers) if text.strip())
