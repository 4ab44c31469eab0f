"""What the played vendors hear and speak with: the embedded engines where they are installed, plain stand-ins otherwise.

It owns that choice and the threads; it refuses to know which vendor asks. A stand-in does not pretend: it counts what it cannot
understand, and hums what it cannot say.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import anyio
import anyio.to_thread

from patter.audio.convert import Converter
from patter.audio.format import PCM_8K, PCM_16K, PCM_24K
from patter.loopback.tones import hum
from patter.providers.embedded.hibari import HibariSynthesizer, voice_missing
from patter.providers.embedded.mel import to_samples
from patter.providers.embedded.whisper_model import WhisperModel, recognition_missing

WORD_MS = 400.0  # of an unhurried speaker
NUMBERS = "one two three four five six seven eight nine ten eleven twelve".split()
KEPT = 64  # texts whose sound is kept

Hear = Callable[[bytes], Awaitable[str]]
"""PCM 16 kHz of a stretch of speech → its words; "" for none."""
Speak = Callable[[str], Awaitable[bytes]]
"""A text → its sound, PCM 24 kHz."""


@dataclass(frozen=True, slots=True)
class Senses:
    """An ear and a voice, and what they are called. `quick`: the ear answers at once, so it may be asked often."""

    hear: Hear
    speak: Speak
    ear: str
    voice: str
    quick: bool = True


async def senses(language: str = "en", stt_model: str = "") -> Senses:
    """The best of this machine, loaded. Raises ProviderError for engines that are installed and cannot be loaded."""
    hear, ear = counted, "counts words without understanding them"
    speak, voice = hummed, "hums"
    if not recognition_missing(stt_model):
        model = WhisperModel(stt_model)
        await anyio.to_thread.run_sync(model.warm)
        hear, ear = _Whisper(model, language).hear, f"hears with {model.name} on this machine"
    if not voice_missing():
        synthesizer = HibariSynthesizer()
        await synthesizer.start()
        speak, voice = _Hibari(synthesizer).speak, "speaks with hibari on this machine"
    return Senses(hear, speak, ear, voice, hear is counted)


async def counted(pcm_16k: bytes) -> str:
    """As many numbers as words may have been said: more of the same speech begins with the same words."""
    count = round(PCM_16K.ms_of(len(pcm_16k)) / WORD_MS)
    return " ".join(NUMBERS[at % len(NUMBERS)] for at in range(count))


async def hummed(text: str) -> bytes:
    """A hum as long as a voice would need."""
    converter = Converter(PCM_8K, PCM_24K)
    return converter.convert(hum(text)) + converter.flush()


class _Whisper:
    def __init__(self, model: WhisperModel, language: str) -> None:
        self._model, self._language = model, language
        self._turn = anyio.CapacityLimiter(1)  # two at a time on two cores only make both late

    async def hear(self, pcm_16k: bytes) -> str:
        samples = to_samples(pcm_16k)
        return await anyio.to_thread.run_sync(self._model.transcribe, samples, self._language, limiter=self._turn)


class _Hibari:
    def __init__(self, synthesizer: HibariSynthesizer) -> None:
        self._synthesizer = synthesizer
        self._kept: OrderedDict[str, bytes] = OrderedDict()

    async def speak(self, text: str) -> bytes:
        if text not in self._kept:
            self._kept[text] = b"".join([chunk.data async for chunk in self._synthesizer.synthesize(text)])
        while len(self._kept) > KEPT:
            self._kept.popitem(last=False)
        self._kept.move_to_end(text)
        return self._kept[text]
