"""Agents as they are stored at the loopback ElevenLabs: their settings, what a client may replace, and how they think.

It owns the checks of a conversation's first message; it refuses to know sockets. How the caller is transcribed, what is
answered and how it sounds are functions of whoever rehearses; without them an agent hears that something was said, repeats
it, and hums.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from patter.audio.format import AudioFormat
from patter.loopback.elevenlabs_convai_events import DEFAULT_EVENTS, FORMATS
from patter.loopback.stage_peer import Message
from patter.loopback.tones import as_line, hum

OVERRIDES = frozenset({"prompt", "first_message", "language", "voice_id"})
_VARIABLE = re.compile(r"\{\{\s*([\w.]+)\s*\}\}")


@dataclass(frozen=True, slots=True)
class Turn:
    """What a stored agent does next: it says `text`, uses tools on the client's side, or ends the call after its words."""

    text: str = ""
    tools: Sequence[tuple[str, dict[str, Any]]] = ()
    end_call: bool = False


Role = Literal["system", "assistant", "user", "context", "tool"]
History = list[tuple[Role, str]]
Transcribe = Callable[[bytes, AudioFormat], Awaitable[str]]
Think = Callable[[History], Awaitable[Turn]]
Speak = Callable[[str, AudioFormat], Awaitable[bytes]]


async def heard_something(sound: bytes, line: AudioFormat) -> str:
    """Tells how long the caller spoke, and that it could not be understood."""
    return f"(something that took {line.ms_of(len(sound)) / 1000:.1f} seconds)"


async def repeat(history: History) -> Turn:
    """Says what it was told."""
    return Turn(f"You said: {history[-1][1]}.")


async def humming(text: str, line: AudioFormat) -> bytes:
    """A hum as long as the words would take."""
    return as_line(hum(text), line)


@dataclass(slots=True)
class StoredAgent:
    """An agent as it is stored at the vendor. `hears`/`plays` are names of formats; `allows`: overrides that may be sent.

    `client_events` are the events it sends; `public` agents need no signed address. Times in seconds, of sound: `pause_s`
    of silence end the caller's turn. `chunk_ms` of sound go into one message; `pace` is how fast they are sent (1.0 = as
    fast as they are heard, 0 = at once). `aligned`: it tells which characters the sound says."""

    agent_id: str = "agent_loopback"
    hears: str = "ulaw_8000"
    plays: str = "ulaw_8000"
    prompt: str = "You are a friendly assistant."
    first_message: str = "Hello, how can I help you?"
    language: str = "en"
    voice_id: str = "EXAVITQu4vr4xnSDxMaL"
    allows: frozenset[str] = OVERRIDES
    client_events: frozenset[str] = DEFAULT_EVENTS
    public: bool = False
    aligned: bool = False
    chunk_ms: float = 100.0
    pace: float = 0.0
    pause_s: float = 0.6
    ping_s: float = 5.0
    interruptible: bool = True
    transcribe: Transcribe = heard_something
    think: Think = repeat
    speak: Speak = humming

    def __post_init__(self) -> None:
        if self.hears not in FORMATS or self.plays not in FORMATS:
            raise ValueError(f"formats must be among {', '.join(FORMATS)}")


@dataclass(slots=True)
class Begun:
    """How one conversation begins: the stored agent with what the client replaced."""

    prompt: str
    first_message: str
    language: str
    voice_id: str
    variables: dict[str, Any] = field(default_factory=dict)


class Rejected(Exception):
    """The first message cannot be used. `kind` is the vendor's word for it; the message its sentence."""

    def __init__(self, kind: str, sentence: str) -> None:
        self.kind = kind
        super().__init__(sentence)


def is_beginning(message: Message) -> bool:
    """Whether a client's message is the first one of a conversation."""
    return isinstance(message, dict) and message.get("type") == "conversation_initiation_client_data"


def begin(agent: StoredAgent, first: Message) -> Begun:
    """What the conversation begins with. Raises Rejected for overrides that are not allowed and variables that are missing."""
    message = first if isinstance(first, dict) and is_beginning(first) else {}
    given = _overrides(message.get("conversation_config_override") or {})
    for name in given:
        if name not in agent.allows:
            raise Rejected("override_error", f"Override for field '{name}' is not allowed by config.")
    variables = message.get("dynamic_variables") or {}
    if not isinstance(variables, dict):
        raise Rejected("invalid_message", "dynamic_variables must be an object")
    stored = {name: getattr(agent, name) for name in sorted(OVERRIDES)}
    begun = Begun(**(stored | given), variables=variables)
    for name in ("first_message", "prompt"):
        text = getattr(begun, name)
        missing = [key for key in _VARIABLE.findall(text) if key not in variables]
        if missing:
            raise Rejected(
                "missing_dynamic_variable", f"Missing required dynamic variables in {name.replace('_', ' ')}: {missing}"
            )
        setattr(begun, name, _VARIABLE.sub(lambda match: str(variables[match.group(1)]), text))
    return begun


def _overrides(config: Any) -> dict[str, str]:
    """The overrides by the vendor's names. Raises Rejected for shapes that are none."""
    if not isinstance(config, dict) or set(config) - {"agent", "tts"}:
        raise Rejected("invalid_message", "conversation_config_override has unknown parts")
    agent, tts = dict(config.get("agent") or {}), dict(config.get("tts") or {})
    prompt = dict(agent.pop("prompt", None) or {})
    given: dict[str, Any] = {**agent, **tts, **({"prompt": prompt.pop("prompt")} if "prompt" in prompt else {})}
    if prompt or set(given) - OVERRIDES or not all(isinstance(value, str) for value in given.values()):
        raise Rejected("invalid_message", "conversation_config_override has unknown fields")
    return given
