"""The frozen values of the public API: agents, provider settings, call and metrics values.

It owns their fields and defaults (binding: the reference); it refuses to check keys or to talk to anybody.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

OnMessage = Callable[..., Any] | str
"""`on_message`: a function of (data) or (data, control) returning str, an awaitable or an async generator; or a URL."""

Callback = Callable[[dict[str, Any]], Awaitable[Any] | Any]


@dataclass(frozen=True)
class STTConfig:
    """Speech-to-text settings. `provider`: "deepgram", "whisper", or "embedded" (no key)."""

    provider: str
    api_key: str = field(repr=False)
    language: str = "en"

    def to_dict(self) -> dict[str, Any]:
        """The settings as a dict, with the key (never log it)."""
        return {"provider": self.provider, "api_key": self.api_key, "language": self.language}


@dataclass(frozen=True)
class TTSConfig:
    """Text-to-speech settings. `provider`: "elevenlabs", "openai", or "embedded" (no key)."""

    provider: str
    api_key: str = field(repr=False)
    voice: str = "alloy"

    def to_dict(self) -> dict[str, Any]:
        """The settings as a dict, with the key (never log it)."""
        return {"provider": self.provider, "api_key": self.api_key, "voice": self.voice}


@dataclass(frozen=True)
class Guardrail:
    """An output guardrail: the first of `blocked_terms` or `check(text)` that matches replaces the text."""

    name: str
    check: object = None
    blocked_terms: list[str] | None = None
    replacement: str = "I'm sorry, I can't respond to that."


@dataclass(frozen=True)
class LLMConfig:
    """The model behind a pipeline, when no `on_message` answers: any server that speaks OpenAI's chat protocol.

    An empty `base_url` means OpenAI itself; an empty `model` lets the server's first one answer."""

    model: str = ""
    base_url: str = ""
    api_key: str = field(default="", repr=False)


@dataclass(frozen=True)
class ScriptRule:
    """One rule of the script responder (no model): when one of the `when` phrases is heard, `say` the line.

    With `tool`, that tool is called with `arguments` first and `{result}` in `say` is its answer. An empty `when` is the
    line for everything no other rule knows. `hang_up` ends the call after the line has been heard."""

    when: tuple[str, ...] = ()
    say: str = ""
    tool: str = ""
    arguments: dict[str, Any] = field(default_factory=dict)
    hang_up: bool = False


@dataclass(frozen=True)
class TurnTaking:
    """When the caller is done and what interrupts. All in ms.

    A turn ends after `min_silence_ms` if the words sound complete, after `max_silence_ms` at the latest. `pause_ms` of
    silence start recognition. `min_speech_ms` of voice stop the agent's sound; `interrupt_after_ms` of it (or real words)
    give the floor to the caller; without words the agent resumes at the latest `resume_after_ms` after the voice stopped.
    `turn_model` asks the embedded smart-turn model too whether the caller is done (about 0.1 s of CPU a pause): it can only
    shorten the wait where the words agree."""

    min_silence_ms: int = 400
    max_silence_ms: int = 1500
    pause_ms: int = 200
    min_speech_ms: int = 120
    interrupt_after_ms: int = 1000
    resume_after_ms: int = 2000
    turn_model: bool = False
    acknowledgements: tuple[str, ...] = (
        "uh-huh", "mm-hmm", "mhm", "mm", "hm", "hmm", "okay", "ok", "yeah", "yep", "right", "sure", "i see", "got it",
        "alright", "all right",
    )  # fmt: skip


@dataclass(frozen=True)
class Agent:
    """An agent's definition. Build it with `Patter.agent()`, which checks it."""

    system_prompt: str
    voice: str = "alloy"
    model: str = "gpt-4o-mini-realtime-preview"
    language: str = "en"
    first_message: str = ""
    tools: list[dict[str, Any]] | None = None
    provider: str = "openai_realtime"
    stt: STTConfig | None = None
    tts: TTSConfig | None = None
    variables: dict[str, Any] | None = None
    guardrails: list[Any] | None = None
    llm: LLMConfig | None = field(default=None, kw_only=True)
    script: tuple[ScriptRule, ...] = field(default=(), kw_only=True)
    turn_taking: TurnTaking = field(default=TurnTaking(), kw_only=True)
    name: str = field(default="", kw_only=True)


@dataclass(frozen=True)
class CallEvent:
    """Who calls whom. Numbers in E.164 where the carrier gives them; `direction` "inbound" or "outbound"."""

    call_id: str
    caller: str = ""
    callee: str = ""
    direction: str = ""


@dataclass(frozen=True)
class IncomingMessage:
    """What the caller said, for the `on_message` of `call()`."""

    text: str
    call_id: str
    caller: str


@dataclass(frozen=True)
class IncomingHandler:
    """Marks an `on_message` that wants an IncomingMessage instead of a dict, as that of `call()` does."""

    function: Callable[..., Any]

    def __call__(self, *arguments: Any) -> Any:
        """Call the function."""
        return self.function(*arguments)


@dataclass(frozen=True)
class LatencyBreakdown:
    """Latency in ms. stt: end of speech → final transcript; llm: transcript → first model text; tts: first text given
    to synthesis → first audio; total: end of speech → first audio played."""

    stt_ms: float = 0.0
    llm_ms: float = 0.0
    tts_ms: float = 0.0
    total_ms: float = 0.0


@dataclass(frozen=True)
class CostBreakdown:
    """Cost in USD by component."""

    stt: float = 0.0
    tts: float = 0.0
    llm: float = 0.0
    telephony: float = 0.0
    total: float = 0.0


@dataclass(frozen=True)
class TurnMetrics:
    """One turn: texts, latency in ms, billed audio seconds and characters; `timestamp` in seconds since the epoch."""

    turn_index: int
    user_text: str
    agent_text: str
    latency: LatencyBreakdown
    stt_audio_seconds: float = 0.0
    tts_characters: int = 0
    timestamp: float = 0.0


@dataclass(frozen=True)
class CallMetrics:
    """A completed call. `latency_p95` is the nearest-rank percentile; greeting and interrupted turns are no samples."""

    call_id: str
    duration_seconds: float
    turns: tuple[TurnMetrics, ...]
    cost: CostBreakdown
    latency_avg: LatencyBreakdown
    latency_p95: LatencyBreakdown
    provider_mode: str
    stt_provider: str = ""
    tts_provider: str = ""
    llm_provider: str = ""
    telephony_provider: str = ""
