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
    """Speech-to-text settings. `provider`: "deepgram", "whisper", "embedded" (no key), or one that was added.

    `model` "" is the provider's usual one; `base_url` another address of it (a region, a proxy, a loopback vendor).
    `keyterms` are names and words to listen for. `eager` lets a model that foresees the end of a turn start the answer
    early. `options` are passed on to the provider as they are."""

    provider: str
    api_key: str = field(repr=False)
    language: str = "en"
    model: str = field(default="", kw_only=True)
    base_url: str = field(default="", kw_only=True)
    keyterms: tuple[str, ...] = field(default=(), kw_only=True)
    eager: bool = field(default=False, kw_only=True)
    options: dict[str, Any] = field(default_factory=dict, kw_only=True)

    def to_dict(self) -> dict[str, Any]:
        """The settings as a dict, with the key (never log it)."""
        return {"provider": self.provider, "api_key": self.api_key, "language": self.language} | _additions(self)


@dataclass(frozen=True)
class TTSConfig:
    """Text-to-speech settings. `provider`: "elevenlabs", "openai", "embedded" (no key), or one that was added.

    `model` and `base_url` as in `STTConfig`. `streaming`: "websocket" or "http" where a provider has both ("" = the
    faster one). `options` are passed on to the provider as they are (voice settings, instructions)."""

    provider: str
    api_key: str = field(repr=False)
    voice: str = "alloy"
    model: str = field(default="", kw_only=True)
    base_url: str = field(default="", kw_only=True)
    streaming: str = field(default="", kw_only=True)
    options: dict[str, Any] = field(default_factory=dict, kw_only=True)

    def to_dict(self) -> dict[str, Any]:
        """The settings as a dict, with the key (never log it)."""
        return {"provider": self.provider, "api_key": self.api_key, "voice": self.voice} | _additions(self)


def _additions(config: STTConfig | TTSConfig) -> dict[str, Any]:
    """What a configuration says beside the reference's three fields."""
    names = (name for name in config.__dataclass_fields__ if name not in ("provider", "api_key", "language", "voice"))
    return {name: value for name in names if (value := getattr(config, name))}


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
class RealtimeConfig:
    """How a speech-to-speech engine listens and which dialect it speaks.

    `turn_detection`: "server_vad" (silence ends a turn, after `silence_ms`) or "semantic_vad" (a model decides, by
    `eagerness` "low", "medium", "high" or "auto"). `threshold` (0..1) is how loud voice must be for server_vad.
    `transcription_model` writes down what the caller says ("" = the usual one). `noise_reduction`: "", "near_field" or
    "far_field". `shape`: "ga", or "beta" for compatible servers that know only the protocol's first form. `base_url` is
    another address."""

    turn_detection: str = "server_vad"
    silence_ms: int = 500
    threshold: float = 0.5
    eagerness: str = "auto"
    transcription_model: str = ""
    noise_reduction: str = ""
    shape: str = "ga"
    base_url: str = ""


@dataclass(frozen=True)
class Recovery:
    """What the caller hears when something behind the agent fails.

    `apology` is spoken when an answer could not be made. If the agent owes an answer and the caller has waited for
    `silence_limit_ms` and heard nothing (asking again does not start the wait anew), the apology is spoken; if that stays
    silent as well, the call ends with its cause, after `goodbye` where there is still a voice. 0 = no limit."""

    apology: str = "I'm sorry, I'm having a technical problem. Could you say that again?"
    goodbye: str = "I'm sorry, I can't go on because of a technical problem. Please call again later. Goodbye."
    silence_limit_ms: int = 10_000


@dataclass(frozen=True)
class McpServer:
    """A server of the Model Context Protocol whose tools the agent has too: at a `url` (Streamable HTTP), or a `command`
    that is started (stdio). `headers` and `env` may hold secrets. `only`: names of the tools to take (() = all)."""

    name: str
    url: str = ""
    command: tuple[str, ...] = ()
    headers: dict[str, str] = field(default_factory=dict, repr=False)
    env: dict[str, str] = field(default_factory=dict, repr=False)
    only: tuple[str, ...] = ()


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
    agent_id: str = field(default="", kw_only=True)
    """The agent stored at the vendor, for an engine that keeps agents (else `model` is taken as that id)."""
    realtime: RealtimeConfig = field(default=RealtimeConfig(), kw_only=True)
    recovery: Recovery = field(default=Recovery(), kw_only=True)
    stt_fallbacks: tuple[STTConfig, ...] = field(default=(), kw_only=True)
    llm_fallbacks: tuple[LLMConfig, ...] = field(default=(), kw_only=True)
    tts_fallbacks: tuple[TTSConfig, ...] = field(default=(), kw_only=True)
    """Providers that are tried in this order when the one before fails."""
    mcp: tuple[McpServer, ...] = field(default=(), kw_only=True)
    budget: Budget = field(default_factory=lambda: Budget(), kw_only=True)
    """What a call of this agent, and all of its calls of a day, may cost; where the engine has limits too the smaller wins."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """What is kept of calls, and for how long.

    `database`: "" is the file calls.db in the home; else a URL, "sqlite:///path" or "postgresql://user:password@host/name".
    `keep_days` and `keep_calls`: older calls, and those beyond the newest so many, are deleted with everything kept of them
    (None: nothing is deleted). `mask_digits`: keys that were pressed and numbers of four digits and more are written as "•";
    `mask`: regular expressions whose matches are too, and everything that may still become a match. Masking happens before
    facts are written; it masks no sound: recordings hold what was said and the tones of keys."""

    database: str = field(default="", repr=False)
    keep_days: float | None = None
    keep_calls: int | None = None
    mask_digits: bool = False
    mask: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """What calls may cost, in USD (None: no limit); a day is one of UTC. At the limit `farewell` is said word for word and the
    call ends; no new call is taken or placed on a day whose budget is spent."""

    per_call_usd: float | None = None
    per_day_usd: float | None = None
    farewell: str = "I am sorry, I have to end our call here. Goodbye."


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
