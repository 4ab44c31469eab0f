"""Builds the values of the public face from what a user gives, and refuses what cannot work with a sentence that says so.

It owns the argument rules and the names of modes and vendors; it refuses to build any part of a call.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from patter import engine_rules
from patter.engine_rules import check_budget as check_budget
from patter.keys import Keys as Keys
from patter.models import (
    Agent,
    Budget,
    LLMConfig,
    McpServer,
    RealtimeConfig,
    Recovery,
    STTConfig,
    TTSConfig,
    TurnTaking,
)
from patter.tool_rules import SYSTEM_TOOLS as SYSTEM_TOOLS
from patter.tool_rules import check_guardrail, check_script, check_tools
from patter.tool_rules import check_tool as check_tool
from patter.tool_rules import guardrail as guardrail
from patter.tool_rules import tool as tool

PROVIDERS = ("openai_realtime", "elevenlabs_convai", "pipeline")
KEYLESS = "pipeline"
"""The provider that needs no key: an agent file without a `provider` uses it."""

VENDOR_OF = {"openai_realtime": "openai", "elevenlabs_convai": "elevenlabs"}
"""Whose key an engine of the whole agent needs."""
CODECS = ("PCMU", "PCMA", "L16")
"""What Telnyx can be sent."""

VARIABLE_LIMIT = 500  # characters of a value: a variable is a name or a date, not a way around the prompt
_PLACEHOLDER = re.compile(r"\{([^{}]+)\}")
_E164 = re.compile(r"\+[1-9][0-9]{1,14}")


@dataclass(frozen=True)
class Carrier:
    """Whose phone line is used. `name`: "twilio", "telnyx" or "" (none).

    `account` and `secret`: account SID and auth token, or connection id and API key. `public_key` (base64) proves Telnyx'
    webhooks. `api_base` is another address of the carrier's REST API, such as a loopback carrier's. `codec`: what Telnyx is
    sent: "PCMU", "PCMA" or "L16" (16 kHz)."""

    name: str = ""
    account: str = ""
    secret: str = field(default="", repr=False)
    public_key: str = ""
    api_base: str = ""
    codec: str = "PCMU"


# --------------------------------------------------------------------------- numbers and placeholders


def is_e164(number: object) -> bool:
    """Whether `number` is a phone number as "+15551234567": a plus, then 2 to 15 digits, the first no zero."""
    return isinstance(number, str) and _E164.fullmatch(number) is not None


def check_number(number: object, what: str) -> None:
    """Raise ValueError, naming `what`, unless `number` is E.164."""
    if not is_e164(number):
        raise ValueError(f'{what} must be an E.164 number such as "+15551234567", not {number!r}')


def fill_variables(text: str, variables: Mapping[str, Any] | None) -> str:
    """Put each variable's value (cut at 500 characters) where `{name}` stands; unknown names stay, values are not searched."""
    if not variables:
        return text

    def value_of(match: re.Match[str]) -> str:
        name = match.group(1)
        return str(variables[name])[:VARIABLE_LIMIT] if name in variables else match.group(0)

    return _PLACEHOLDER.sub(value_of, text)


def filled(agent: Agent) -> Agent:
    """The agent with its variables put into `system_prompt` and `first_message`."""
    if not agent.variables:
        return agent
    return replace(
        agent,
        system_prompt=fill_variables(agent.system_prompt, agent.variables),
        first_message=fill_variables(agent.first_message, agent.variables),
    )


def as_text(agent: Agent) -> Agent:
    """The agent for a line without sound: its engines for sound do not matter there, nor do their keys."""
    return replace(agent, provider=KEYLESS, stt=embedded_stt(), tts=embedded_tts(), stt_fallbacks=(), tts_fallbacks=())


def check_callback(callback: object, name: str) -> None:
    """Raise TypeError, naming it, unless `callback` is a function or None."""
    if callback is not None and not callable(callback):
        raise TypeError(f"{name} must be a function of one dict, not {type(callback).__name__}")


def check_on_message(on_message: object) -> None:
    """Raise TypeError or ValueError unless `on_message` is a function, a URL (http, https, ws, wss) or None."""
    if isinstance(on_message, str):
        if not on_message.startswith(("http://", "https://", "ws://", "wss://")):
            raise ValueError(f"on_message must be a function or a URL with http(s):// or ws(s)://, not {on_message!r}")
    elif on_message is not None and not callable(on_message):
        raise TypeError(f"on_message must be a function or a URL, not {type(on_message).__name__}")


# --------------------------------------------------------------------------- settings


def deepgram(
    api_key: str,
    language: str = "en",
    *,
    model: str = "",
    keyterms: Iterable[str] = (),
    eager: bool = False,
    base_url: str = "",
    options: dict[str, Any] | None = None,
) -> STTConfig:
    """Settings for Deepgram's transcription; `language` is BCP-47. A `model` of the Flux family ends turns by itself."""
    return STTConfig(
        "deepgram", api_key, language,
        model=model, keyterms=_words(keyterms), eager=eager, base_url=base_url, options=options or {},
    )  # fmt: skip


def whisper(
    api_key: str,
    language: str = "en",
    *,
    model: str = "",
    keyterms: Iterable[str] = (),
    base_url: str = "",
    options: dict[str, Any] | None = None,
) -> STTConfig:
    """Settings for OpenAI's transcription models, Whisper and its successors; `language` is BCP-47."""
    return STTConfig(
        "whisper", api_key, language,
        model=model, keyterms=_words(keyterms), base_url=base_url, options=options or {},
    )  # fmt: skip


def embedded_stt(language: str = "en") -> STTConfig:
    """Settings for the transcription on this machine: no key, no network."""
    return STTConfig("embedded", "", language)


def elevenlabs(
    api_key: str,
    voice: str = "rachel",
    *,
    model: str = "",
    streaming: str = "",
    base_url: str = "",
    options: dict[str, Any] | None = None,
) -> TTSConfig:
    """Settings for ElevenLabs' voices, by name or id. `streaming`: "websocket" or "http" ("" = the faster one)."""
    return TTSConfig(
        "elevenlabs", api_key, voice, model=model, streaming=streaming, base_url=base_url, options=options or {}
    )


def openai_tts(
    api_key: str,
    voice: str = "alloy",
    *,
    model: str = "",
    base_url: str = "",
    options: dict[str, Any] | None = None,
) -> TTSConfig:
    """Settings for OpenAI's voices."""
    return TTSConfig("openai", api_key, voice, model=model, base_url=base_url, options=options or {})


def embedded_tts(voice: str = "heart") -> TTSConfig:
    """Settings for the voice on this machine: no key, no network."""
    return TTSConfig("embedded", "", voice)


def mcp_server(
    name: str,
    url: str = "",
    command: Iterable[str] = (),
    *,
    headers: dict[str, str] | None = None,
    env: dict[str, str] | None = None,
    only: Iterable[str] = (),
) -> McpServer:
    """A server of the Model Context Protocol for `agent(mcp=[...])`, at a `url` or started as a `command`.

    Raises ValueError unless it is exactly one of the two, TypeError for a command in one string."""
    server = McpServer(name, url, _words(command), headers or {}, env or {}, _words(only))
    engine_rules.check_server(server)
    return server


def _words(given: Iterable[str]) -> tuple[str, ...]:
    if isinstance(given, str):
        raise TypeError(f"a list of texts is needed, not the one text {given!r}")
    return tuple(given)


def stt_of(agent: Agent, keys: Keys) -> STTConfig:
    """The speech-to-text that a pipeline uses, its key and address filled in: the agent's own, else Deepgram if there is a
    key for it, else that on this machine."""
    if agent.stt is not None:
        return _with(keys, agent.stt)
    return _with(keys, deepgram("", agent.language)) if keys.deepgram else embedded_stt(agent.language)


def tts_of(agent: Agent, keys: Keys) -> TTSConfig:
    """The text-to-speech that a pipeline uses, as `stt_of`: the agent's own, else ElevenLabs, else that on this machine.

    The agent's `voice` counts where it is not the API's default, which is another vendor's."""
    if agent.tts is not None:
        return _with(keys, agent.tts)
    usual = elevenlabs("") if keys.elevenlabs else embedded_tts()
    return _with(keys, usual if agent.voice == Agent.voice else replace(usual, voice=agent.voice))


def fallbacks_of(agent: Agent, keys: Keys) -> tuple[tuple[STTConfig, ...], tuple[TTSConfig, ...]]:
    """The agent's speech-to-text and text-to-speech fallbacks, their keys and addresses filled in."""
    return tuple(_with(keys, one) for one in agent.stt_fallbacks), tuple(
        _with(keys, one) for one in agent.tts_fallbacks
    )


Config = TypeVar("Config", STTConfig, TTSConfig)


def _with(keys: Keys, config: Config) -> Config:
    provider = config.provider
    return replace(
        config, api_key=config.api_key or keys.of(provider), base_url=config.base_url or keys.url_of(provider)
    )


# --------------------------------------------------------------------------- agents


def check_agent(keys: Keys, agent: Agent) -> None:
    """Raise ValueError for an agent that cannot work with these keys, TypeError for a field that is no such thing."""
    for what, kind in _KINDS.items():
        value = getattr(agent, what)
        if not isinstance(value, kind) and (value is not None or what in _NEEDED):
            raise TypeError(f"{what} must be a {kind.__name__}, not {type(value).__name__}")
    check_engine(keys, agent)
    if agent.llm is not None:
        engine_rules.check_llm(agent.llm)
    engine_rules.check_recovery(agent.recovery)
    engine_rules.check_budget(agent.budget)
    engine_rules.check_servers(agent.mcp)
    check_tools(agent.tools or [])
    for item in agent.guardrails or []:
        check_guardrail(item)
    check_script(agent.script, agent.tools or [], more=bool(agent.mcp))
    turn_taking = agent.turn_taking
    if not 0 <= turn_taking.min_silence_ms <= turn_taking.max_silence_ms:
        raise ValueError("turn_taking: min_silence_ms must not be longer than max_silence_ms")


_NEEDED = {
    "system_prompt": str,
    "voice": str,
    "model": str,
    "language": str,
    "first_message": str,
    "provider": str,
    "script": tuple,
    "turn_taking": TurnTaking,
    "name": str,
    "agent_id": str,
    "realtime": RealtimeConfig,
    "recovery": Recovery,
    "budget": Budget,
    "stt_fallbacks": tuple,
    "llm_fallbacks": tuple,
    "tts_fallbacks": tuple,
    "mcp": tuple,
}
_KINDS: dict[str, type] = _NEEDED | {
    "tools": list,
    "stt": STTConfig,
    "tts": TTSConfig,
    "variables": dict,
    "guardrails": list,
    "llm": LLMConfig,
}


def check_engine(keys: Keys, agent: Agent) -> None:
    """Raise ValueError or TypeError unless the agent's engine can work with these keys."""
    provider = agent.provider
    if provider not in PROVIDERS:
        raise ValueError(f"unknown provider {provider!r}: choose one of {', '.join(PROVIDERS)}")
    if provider == "openai_realtime":
        if not keys.openai:
            raise ValueError("provider 'openai_realtime' needs openai_key: give it to Patter(openai_key=...)")
        engine_rules.check_realtime(agent.realtime)
    elif provider == "elevenlabs_convai":
        if not keys.elevenlabs:
            raise ValueError("provider 'elevenlabs_convai' needs elevenlabs_key: give it to Patter(elevenlabs_key=...)")
        if not stored_agent(agent):
            raise ValueError(
                "provider 'elevenlabs_convai' needs the id of the agent that is stored at ElevenLabs: give it as "
                'agent(agent_id="agent_...")'
            )
    else:
        _check_pipeline(keys, agent)


def stored_agent(agent: Agent) -> str:
    """The id of the agent that is stored at the vendor: `agent_id`, or a `model` that looks like one; "" if neither.

    Raises ValueError for an id that cannot be one."""
    if agent.agent_id and not engine_rules.AGENT_ID.fullmatch(agent.agent_id):
        raise ValueError(f"agent_id is made of letters, digits, _ and -, not {agent.agent_id!r}")
    return agent.agent_id or (agent.model if agent.model.startswith("agent_") else "")


def _check_pipeline(keys: Keys, agent: Agent) -> None:
    if agent.stt is None and not keys.deepgram:
        raise ValueError(
            "provider 'pipeline' needs speech-to-text: stt=Patter.embedded_stt() (no key), stt=Patter.deepgram(...), "
            "stt=Patter.whisper(...), or Patter(deepgram_key=...)"
        )
    if agent.tts is None and not keys.elevenlabs:
        raise ValueError(
            "provider 'pipeline' needs text-to-speech: tts=Patter.embedded_tts() (no key), tts=Patter.elevenlabs(...), "
            "tts=Patter.openai_tts(...), or Patter(elevenlabs_key=...)"
        )
    if agent.stt is not None:
        engine_rules.check_stt(keys, agent.stt)
    if agent.tts is not None:
        engine_rules.check_tts(keys, agent.tts)
    engine_rules.check_fallbacks(keys, agent.stt_fallbacks, agent.llm_fallbacks, agent.tts_fallbacks)


# --------------------------------------------------------------------------- carriers


def choose_carrier(
    mode: str,
    twilio_sid: str,
    twilio_token: str,
    telnyx_key: str,
    telnyx_connection_id: str,
    phone_number: str,
    webhook_url: str,
    *,
    telnyx_public_key: str = "",
    telnyx_codec: str = "PCMU",
    carrier_api: str = "",
) -> Carrier:
    """The carrier that these credentials mean. Raises ValueError naming what is missing, contradictory or misspelt."""
    if mode != "local":
        raise ValueError(f'unknown mode {mode!r}: leave it out, or say "local"')
    if (twilio_sid or twilio_token) and (telnyx_key or telnyx_connection_id):
        raise ValueError(
            "keys of two carriers given (twilio_* and telnyx_*): a Patter has one phone line, keep one of them"
        )
    for given, missing, what in (
        (twilio_sid, twilio_token, "twilio_token (with twilio_sid)"),
        (twilio_token, twilio_sid, "twilio_sid (with twilio_token)"),
        (telnyx_connection_id, telnyx_key, "telnyx_key (with telnyx_connection_id)"),
    ):
        if given and not missing:
            raise ValueError(f"{what} is missing")
    name = "twilio" if twilio_sid else "telnyx" if telnyx_key else ""
    if name and not phone_number:
        raise ValueError(f'phone_number is missing: the number that {name} gave you, as "+15551234567"')
    if phone_number:
        check_number(phone_number, "phone_number")
    if "://" in webhook_url or "/" in webhook_url:
        raise ValueError(
            f'webhook_url is a host without scheme or path, such as "voice.example.com", not {webhook_url!r}'
        )
    if telnyx_codec not in CODECS:
        raise ValueError(f"telnyx_codec must be one of {', '.join(CODECS)}, not {telnyx_codec!r}")
    if carrier_api and not carrier_api.startswith(("https://", "http://127.0.0.1:", "http://localhost:")):
        raise ValueError("carrier_api must begin with https:// (plain http only for this machine)")
    if name == "telnyx":
        public_key = telnyx_public_key or os.environ.get("TELNYX_PUBLIC_KEY", "")
        return Carrier(name, telnyx_connection_id, telnyx_key, public_key, carrier_api, telnyx_codec)
    return Carrier(name, twilio_sid, twilio_token, api_base=carrier_api)
