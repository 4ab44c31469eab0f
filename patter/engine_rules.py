"""What the settings of providers, speech-to-speech engines, recovery and tool servers must be like for a call to use them.

It owns these rules; which engine an agent needs, and for whom, is not its business.
"""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Iterable
from urllib.parse import urlsplit

from patter import registry
from patter.address import checked_base, is_loopback
from patter.keys import Keys
from patter.models import Budget, LLMConfig, McpServer, RealtimeConfig, Recovery, STTConfig, TTSConfig

TURN_DETECTION = ("server_vad", "semantic_vad")
EAGERNESS = ("auto", "low", "medium", "high")
NOISE_REDUCTION = ("", "near_field", "far_field")
SHAPES = ("ga", "beta")
STREAMING = ("", "websocket", "http")
SILENCE_MS = (100, 10_000)
"""Of a Realtime turn: shorter cuts words apart, longer no caller waits."""
BUDGET_USD = 100_000.0
"""No limit is higher: one that was meant in cents is noticed."""
SILENCE_LIMIT_MS = (1_000, 120_000)
"""Of `Recovery`, where it is not 0: less is no silence yet, more and the caller has hung up."""
SERVER_NAME = re.compile(r"[A-Za-z0-9_-]{1,32}")  # it may become part of a tool's name, which has 64 signs
AGENT_ID = re.compile(r"[A-Za-z0-9_-]{1,100}")


def check_stt(keys: Keys, config: STTConfig, what: str = "stt") -> None:
    """Raise ValueError or TypeError, naming `what`, unless speech-to-text can work with these settings and keys."""
    _check_provider(keys, "stt", config, what)
    if not all(isinstance(word, str) and word.strip() for word in config.keyterms):
        raise TypeError(f"keyterms of {what} must be words or names as texts")


def check_tts(keys: Keys, config: TTSConfig, what: str = "tts") -> None:
    """Raise ValueError or TypeError, naming `what`, unless text-to-speech can work with these settings and keys."""
    _check_provider(keys, "tts", config, what)
    _one_of(config.streaming, STREAMING, f"streaming of {what}")


def _check_provider(keys: Keys, stage: registry.Stage, config: STTConfig | TTSConfig, what: str) -> None:
    entry = registry.entry_of(stage, config.provider)
    if entry is None:
        known = ", ".join(
            name for name in registry.names(stage) if ":" not in name
        )  # those stand in one agent's folder
        raise ValueError(
            f"unknown {what} provider {config.provider!r}: choose one of {known}, or add yours with registry.add_provider"
        )
    if entry.key and not (config.api_key or keys.of(config.provider)):
        raise ValueError(
            f"{what} provider {config.provider!r} needs an api_key: give it in its settings, or to Patter({entry.key}_key=...)"
        )
    if config.base_url:
        checked_base(config.base_url, f"base_url of {what}", carries_key=bool(entry.key or config.api_key))
    if not isinstance(config.options, dict):
        raise TypeError(f"options of {what} must be a dict, not {type(config.options).__name__}")


def check_llm(config: LLMConfig, what: str = "llm") -> None:
    """Raise ValueError unless the model's address is one."""
    parts = urlsplit(config.base_url)
    if config.base_url and (parts.scheme not in ("http", "https") or not parts.hostname):
        raise ValueError(
            f'base_url of {what} must be an address such as "http://127.0.0.1:11434/v1", not {config.base_url!r}'
        )


def check_fallbacks(keys: Keys, stt: Iterable[STTConfig], llm: Iterable[LLMConfig], tts: Iterable[TTSConfig]) -> None:
    """Raise ValueError or TypeError, with the number of the wrong one, unless each could take over."""
    for number, ears in enumerate(stt, 1):
        _is(ears, STTConfig, f"stt_fallbacks[{number - 1}]")
        check_stt(keys, ears, f"stt fallback {number}")
    for number, voice in enumerate(tts, 1):
        _is(voice, TTSConfig, f"tts_fallbacks[{number - 1}]")
        check_tts(keys, voice, f"tts fallback {number}")
    for number, brain in enumerate(llm, 1):
        _is(brain, LLMConfig, f"llm_fallbacks[{number - 1}]")
        check_llm(brain, f"llm fallback {number}")
        if not (brain.base_url or brain.api_key or keys.openai):
            raise ValueError(f"llm fallback {number} needs a base_url, an api_key, or Patter(openai_key=...)")


def check_realtime(config: RealtimeConfig) -> None:
    """Raise ValueError, naming the setting, unless a Realtime session could be opened with it."""
    _one_of(config.turn_detection, TURN_DETECTION, "realtime: turn_detection")
    _one_of(config.eagerness, EAGERNESS, "realtime: eagerness")
    _one_of(config.noise_reduction, NOISE_REDUCTION, "realtime: noise_reduction")
    _one_of(config.shape, SHAPES, "realtime: shape")
    if not SILENCE_MS[0] <= config.silence_ms <= SILENCE_MS[1]:
        raise ValueError(f"realtime: silence_ms must be from {SILENCE_MS[0]} to {SILENCE_MS[1]}")
    if not 0 <= config.threshold <= 1:
        raise ValueError("realtime: threshold must be from 0 to 1")
    if config.base_url:
        checked_base(config.base_url, "realtime: base_url")


def check_budget(budget: Budget) -> None:
    """Raise ValueError for limits that are no amounts of money, and for a goodbye without words."""
    for name in ("per_call_usd", "per_day_usd"):
        value = getattr(budget, name)
        if value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= BUDGET_USD:
            raise ValueError(f"budget: {name} must be USD, from 0 to {BUDGET_USD:,.0f}, or None for no limit")
    _is(budget.farewell, str, "budget: farewell")
    if not budget.farewell.strip():
        raise ValueError("budget: farewell is empty: give the sentence that the caller hears at the limit")


def check_recovery(config: Recovery) -> None:
    """Raise ValueError or TypeError unless it says what to speak and how long to wait."""
    _is(config.apology, str, "recovery: apology")
    _is(config.goodbye, str, "recovery: goodbye")
    least, most = SILENCE_LIMIT_MS
    if config.silence_limit_ms and not least <= config.silence_limit_ms <= most:
        raise ValueError(f"recovery: silence_limit_ms must be from {least} to {most}, or 0 for no limit")


def check_servers(servers: Iterable[McpServer]) -> None:
    """Raise ValueError or TypeError, naming the server, unless each could be asked for its tools."""
    seen: set[str] = set()
    for server in servers:
        _is(server, McpServer, "mcp")
        check_server(server)
        if server.name in seen:
            raise ValueError(f"two mcp servers are called {server.name!r}: give one another name")
        seen.add(server.name)
    if seen and importlib.util.find_spec("mcp") is None:
        raise ValueError("mcp servers need an extra package: pip install 'patter[mcp]'")


def check_server(server: McpServer) -> None:
    """Raise ValueError or TypeError, naming the server, unless it has a name and one way to it."""
    if not isinstance(server.name, str) or not SERVER_NAME.fullmatch(server.name):
        raise ValueError(f"the name of an mcp server is made of up to 32 letters, digits, _ and -, not {server.name!r}")
    what = f"mcp server {server.name!r}"
    if bool(server.url) == bool(server.command):
        raise ValueError(f"{what} needs either a url or a command")
    for words, field in ((server.command, "command"), (server.only, "only")):
        if isinstance(words, str) or not all(isinstance(word, str) and word for word in words):
            raise TypeError(f"{field} of {what} must be a list of words")
    if server.command:
        if server.headers:
            raise ValueError(f"{what} is a command: headers belong to a url, give it env instead")
        return
    if server.env:
        raise ValueError(f"{what} is at a url: env belongs to a command, give it headers instead")
    parts = urlsplit(server.url)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.username is not None:
        raise ValueError(f'url of {what} must be an address such as "https://tools.example.com/mcp"')
    if server.headers and parts.scheme == "http" and not is_loopback(server.url):
        raise ValueError(f"{what} would be sent its headers unencrypted: use https:// (http only for this machine)")


def _one_of(value: object, known: tuple[str, ...], what: str) -> None:
    if value not in known:
        raise ValueError(f"{what} must be one of {', '.join(repr(one) for one in known)}, not {value!r}")


def _is(value: object, kind: type, what: str) -> None:
    if not isinstance(value, kind):
        raise TypeError(f"{what} must be a {kind.__name__}, not {type(value).__name__}")
