"""The played realtime server's mind and manners: what it is asked, what it answers, and how it behaves meanwhile.

It owns these values and the simplest way to fill each of them; it refuses to know the protocol.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from patter.audio.convert import Converter
from patter.audio.format import PCM_8K, PCM_24K
from patter.loopback.stage import Stage
from patter.loopback.tones import hum


@dataclass(frozen=True, slots=True)
class Prompt:
    """What the model is asked. `items`: what it remembers, oldest first, as dicts with role ("user", "assistant", "system",
    "call", "output"), text and, for tools, name and call_id; what was cut or deleted is not among them.

    `instructions` are the response's, or the session's."""

    instructions: str
    items: Sequence[Mapping[str, str]]
    tools: Sequence[Mapping[str, Any]]
    voice: str

    @property
    def last_words(self) -> str:
        """What the caller said last."""
        return next((item["text"] for item in reversed(self.items) if item["role"] == "user"), "")

    @property
    def dictated(self) -> str:
        """The text that the instructions want to be said word for word, or ""."""
        head, gap, text = self.instructions.partition("\n\n")
        return text if gap and "word for word" in head else ""


@dataclass(frozen=True, slots=True)
class Line:
    """What the model answers: words, then tool calls as (name, arguments in JSON). `failure`: (code, message) instead;
    `cut_short`: why it could not finish ("max_output_tokens", "content_filter")."""

    text: str = ""
    calls: Sequence[tuple[str, str]] = ()
    failure: tuple[str, str] | None = None
    cut_short: str = ""


Transcribe = Callable[[bytes], Awaitable[str]]
"""PCM 24 kHz of an utterance → its words; it may raise."""
Answer = Callable[[Prompt], Awaitable[Line]]
Synthesize = Callable[[str, str], Awaitable[bytes]]
"""(text, voice) → PCM 24 kHz."""


async def no_words(pcm: bytes) -> str:
    """Understands nothing."""
    return ""


async def parrot(prompt: Prompt) -> Line:
    """Says what it is told to say, and otherwise repeats the caller."""
    return Line(prompt.dictated or f"You said: {prompt.last_words or 'nothing I could understand'}.")


async def hummed(text: str, voice: str) -> bytes:
    """A hum, as long as a voice would need."""
    converter = Converter(PCM_8K, PCM_24K)
    return converter.convert(hum(text)) + converter.flush()


@dataclass
class Manners:
    """How the server behaves. Times in seconds.

    `shapes`: which protocols it serves (a beta client is turned away with code 4000 where only "ga" is). `key` "" takes any.
    `lasts_s`: how long a session may last. `plain_pcm`: it takes PCM only, whatever it is asked for. `answers_itself`: it
    does not care for create_response and interrupt_response being false. `old_counts`: usage without details.
    `thinks_s` before the first sound, `pause_s` between pieces of `piece_ms` sound, `writes_s` until an utterance is
    written down. `words_ahead_ms`: how much the transcript is ahead of the sound."""

    shapes: tuple[str, ...] = ("ga",)
    key: str = ""
    models: tuple[str, ...] = ()
    lasts_s: float = 3600.0
    plain_pcm: bool = False
    answers_itself: bool = False
    old_counts: bool = False
    thinks_s: float = 0.0
    pause_s: float = 0.002
    piece_ms: float = 200.0
    writes_s: float = 0.01
    words_ahead_ms: float = 400.0
    seconds_billed: bool = False
    """Whether transcription is counted in seconds instead of tokens."""


@dataclass
class Seen:
    """What a server has seen, for whoever looks."""

    refusals: list[str] = field(default_factory=list)
    """Codes of the `error` events that were sent."""
    prompts: list[Prompt] = field(default_factory=list)
    sent: list[dict[str, Any]] = field(default_factory=list)
    """Every event that was sent, with `record`."""


class House(Protocol):
    """What a session needs of its server."""

    answer: Answer
    transcribe: Transcribe
    synthesize: Synthesize
    manners: Manners
    seen: Seen
    stage: Stage
    record: bool

    def number(self) -> int: ...
