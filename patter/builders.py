"""Builds the values of the public face from what a user gives, and refuses what cannot work with a sentence that says so.

It owns the argument rules and the names of modes and vendors; it refuses to build any part of a call.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from patter.keys import Keys as Keys
from patter.models import Agent, Guardrail, LLMConfig, ScriptRule, STTConfig, TTSConfig, TurnTaking

PROVIDERS = ("openai_realtime", "elevenlabs_convai", "pipeline")
KEYLESS = "pipeline"
"""The provider that needs no key: an agent file without a `provider` uses it."""

STT_PROVIDERS = ("deepgram", "whisper", "embedded")
TTS_PROVIDERS = ("elevenlabs", "openai", "embedded")
CODECS = ("PCMU", "PCMA", "L16")
"""What Telnyx can be sent."""
SYSTEM_TOOLS = ("transfer_call", "end_call")

VARIABLE_LIMIT = 500  # characters of a value: a variable is a name or a date, not a way around the prompt
_PLACEHOLDER = re.compile(r"\{([^{}]+)\}")
_E164 = re.compile(r"\+[1-9][0-9]{1,14}")
_TOOL_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")  # what the chat protocols accept as a function's name


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
    return replace(agent, provider=KEYLESS, stt=embedded_stt(), tts=embedded_tts())


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


# --------------------------------------------------------------------------- settings, tools, guardrails


def deepgram(api_key: str, language: str = "en") -> STTConfig:
    """Settings for Deepgram's transcription; `language` is BCP-47."""
    return STTConfig("deepgram", api_key, language)


def whisper(api_key: str, language: str = "en") -> STTConfig:
    """Settings for OpenAI's Whisper; `language` is BCP-47."""
    return STTConfig("whisper", api_key, language)


def embedded_stt(language: str = "en") -> STTConfig:
    """Settings for the transcription on this machine: no key, no network."""
    return STTConfig("embedded", "", language)


def elevenlabs(api_key: str, voice: str = "rachel") -> TTSConfig:
    """Settings for ElevenLabs' voices."""
    return TTSConfig("elevenlabs", api_key, voice)


def openai_tts(api_key: str, voice: str = "alloy") -> TTSConfig:
    """Settings for OpenAI's voices."""
    return TTSConfig("openai", api_key, voice)


def embedded_tts(voice: str = "heart") -> TTSConfig:
    """Settings for the voice on this machine: no key, no network."""
    return TTSConfig("embedded", "", voice)


def guardrail(
    name: str,
    blocked_terms: list[str] | None = None,
    check: Callable[[str], bool] | None = None,
    replacement: str = "I'm sorry, I can't respond to that.",
) -> dict[str, Any]:
    """An output guardrail for `agent(guardrails=[...])`. Raises ValueError without a name, TypeError for wrong types."""
    made = {"name": name, "blocked_terms": blocked_terms, "check": check, "replacement": replacement}
    _check_guardrail(made)
    return made


def tool(
    name: str,
    description: str = "",
    parameters: dict[str, Any] | None = None,
    handler: object = None,
    webhook_url: str = "",
) -> dict[str, Any]:
    """A tool for `agent(tools=[...])`; `parameters` is the JSON Schema of its arguments.

    Raises ValueError if neither `handler` nor `webhook_url` is given, or if the name or the schema cannot be used.
    """
    made: dict[str, Any] = {
        "name": name,
        "description": description,
        "parameters": {"type": "object", "properties": {}} if parameters is None else parameters,
    }
    if handler is not None:
        made["handler"] = handler
    if webhook_url:
        made["webhook_url"] = webhook_url
    check_tool(made)
    return made


def check_tool(tool: Mapping[str, Any]) -> None:
    """Raise ValueError or TypeError, naming the tool, unless a call could use it."""
    name = tool.get("name")
    if not name:
        raise ValueError("a tool has no name: give it one, the model calls it by that")
    if not isinstance(name, str) or not _TOOL_NAME.fullmatch(name):
        raise ValueError(f"tool name {name!r} cannot be used: up to 64 letters, digits, _ and - only")
    if name in SYSTEM_TOOLS:
        raise ValueError(f"tool name {name!r} is taken: every agent has that tool already")
    handler, webhook_url = tool.get("handler"), tool.get("webhook_url")
    if handler is None and not webhook_url:
        raise ValueError(f"tool {name!r} needs a handler or a webhook_url")
    if handler is not None and not callable(handler):
        raise TypeError(f"the handler of tool {name!r} must be a function, not {type(handler).__name__}")
    if webhook_url and not str(webhook_url).startswith(("http://", "https://")):
        raise ValueError(f"the webhook_url of tool {name!r} must begin with http:// or https://")
    _check_schema(name, tool.get("parameters"))


def _check_schema(name: str, schema: object) -> None:
    import jsonschema  # takes longer to import than all of patter

    if schema is None:
        return
    if not isinstance(schema, dict):
        raise TypeError(f"the parameters of tool {name!r} must be a JSON Schema as a dict, not {type(schema).__name__}")
    try:
        jsonschema.Draft202012Validator.check_schema(schema)
    except jsonschema.SchemaError as error:
        raise ValueError(f"the parameters of tool {name!r} are no valid JSON Schema: {error.message}") from None


def _check_guardrail(item: object) -> None:
    if isinstance(item, Guardrail):
        name, terms, check = item.name, item.blocked_terms, item.check
    elif isinstance(item, Mapping):
        name, terms, check = item.get("name", ""), item.get("blocked_terms"), item.get("check")
    else:
        raise TypeError(f"a guardrail must be a Guardrail or Patter.guardrail(...), not {type(item).__name__}")
    if not name:
        raise ValueError("a guardrail has no name: give it one, the log names it when it trips")
    if terms is not None and (isinstance(terms, str) or not isinstance(terms, Sequence)):
        raise TypeError(f"blocked_terms of guardrail {name!r} must be a list of words, not {type(terms).__name__}")
    if check is not None and not callable(check):
        raise TypeError(f"check of guardrail {name!r} must be a function of the text, not {type(check).__name__}")


# --------------------------------------------------------------------------- agents


def check_agent(keys: Keys, agent: Agent) -> None:
    """Raise ValueError for an agent that cannot work with these keys, TypeError for a field that is no such thing."""
    for what, kind in _KINDS.items():
        value = getattr(agent, what)
        if not isinstance(value, kind) and (value is not None or what in _NEEDED):
            raise TypeError(f"{what} must be a {kind.__name__}, not {type(value).__name__}")
    _check_provider(keys, agent.provider, agent.stt, agent.tts)
    _check_tools(agent.tools or [])
    for item in agent.guardrails or []:
        _check_guardrail(item)
    _check_script(agent.script, agent.tools or [])
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
}
_KINDS: dict[str, type] = _NEEDED | {
    "tools": list,
    "stt": STTConfig,
    "tts": TTSConfig,
    "variables": dict,
    "guardrails": list,
    "llm": LLMConfig,
}


def _check_provider(keys: Keys, provider: str, stt: STTConfig | None, tts: TTSConfig | None) -> None:
    if provider not in PROVIDERS:
        raise ValueError(f"unknown provider {provider!r}: choose one of {', '.join(PROVIDERS)}")
    if provider == "openai_realtime" and not keys.openai:
        raise ValueError("provider 'openai_realtime' needs openai_key: give it to Patter(openai_key=...)")
    if provider == "elevenlabs_convai" and not keys.elevenlabs:
        raise ValueError("provider 'elevenlabs_convai' needs elevenlabs_key: give it to Patter(elevenlabs_key=...)")
    if provider != "pipeline":
        return
    if stt is None and not keys.deepgram:
        raise ValueError(
            "provider 'pipeline' needs speech-to-text: stt=Patter.embedded_stt() (no key), stt=Patter.deepgram(...), "
            "stt=Patter.whisper(...), or Patter(deepgram_key=...)"
        )
    if tts is None and not keys.elevenlabs:
        raise ValueError(
            "provider 'pipeline' needs text-to-speech: tts=Patter.embedded_tts() (no key), tts=Patter.elevenlabs(...), "
            "tts=Patter.openai_tts(...), or Patter(elevenlabs_key=...)"
        )
    _check_engine(keys, "stt", stt, STT_PROVIDERS)
    _check_engine(keys, "tts", tts, TTS_PROVIDERS)


def _check_engine(keys: Keys, what: str, config: STTConfig | TTSConfig | None, known: tuple[str, ...]) -> None:
    if config is None:
        return
    if config.provider not in known:
        raise ValueError(f"unknown {what} provider {config.provider!r}: choose one of {', '.join(known)}")
    if config.provider != "embedded" and not (config.api_key or keys.of(config.provider)):
        raise ValueError(f"{what} provider {config.provider!r} needs an api_key")


def _check_tools(tools: list[dict[str, Any]]) -> None:
    seen: set[str] = set()
    for item in tools:
        if not isinstance(item, Mapping):
            raise TypeError(f"a tool must be a dict, as Patter.tool(...) makes it, not {type(item).__name__}")
        check_tool(item)
        if item["name"] in seen:
            raise ValueError(f"two tools are called {item['name']!r}: the model could not tell them apart")
        seen.add(item["name"])


def _check_script(script: Sequence[ScriptRule], tools: list[dict[str, Any]]) -> None:
    names = {item["name"] for item in tools} | set(SYSTEM_TOOLS)
    for rule in script:
        if not isinstance(rule, ScriptRule):
            raise TypeError(f"a script is made of ScriptRule, not {type(rule).__name__}")
        if rule.tool and rule.tool not in names:
            raise ValueError(f"a script rule calls the tool {rule.tool!r}, which the agent does not have")


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
