"""The sections of an agent file about engines: who listens, thinks and speaks, who takes over, and whose tools there are.

It owns which keys these sections have and what they may hold; it refuses to read files or to connect to anything.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from patter import builders, engine_rules, registry
from patter.address import checked_base
from patter.agentfile.modules import LookupFailed, Modules
from patter.agentfile.table import Table, nearest
from patter.keys import VARIABLES, Keys
from patter.models import Agent, LLMConfig, McpServer, RealtimeConfig, Recovery, STTConfig, TTSConfig

EMBEDDED = builders.embedded_stt().provider
_VOICES = {
    config.provider: config.voice
    for config in (builders.embedded_tts(), builders.elevenlabs(""), builders.openai_tts(""))
}
_COMMON = ("provider", "api_key", "model", "base_url", "options")
_SECRET = re.compile(r"auth|key|token|secret|passw|cookie", re.IGNORECASE)


def read_engines(top: Table, agent: Agent, modules: Modules) -> Agent:
    """The agent with its engines; what is wrong is noted and left at its default."""
    keys = _keys(top)
    stt = top.table("stt", "[stt]") or Table({}, ("stt",), top.problems, "[stt]")
    tts = top.table("tts", "[tts]") or Table({}, ("tts",), top.problems, "[tts]")
    llm = top.table("llm", "[llm]") or Table({}, ("llm",), top.problems, "[llm]")
    reader = _Reader(keys, modules, agent.language, agent.voice if "voice" in top else "")
    made = replace(
        agent,
        provider=top.choice("provider", builders.PROVIDERS, builders.KEYLESS),
        agent_id=top.text("agent_id", filled=True),
        stt=reader.stt(stt, more=("fallback",)),
        stt_fallbacks=tuple(reader.stt(table) for table in stt.tables("fallback", "stt fallback")),
        tts=reader.tts(tts, more=("fallback",)),
        tts_fallbacks=tuple(reader.tts(table) for table in tts.tables("fallback", "tts fallback")),
        llm=_llm(llm, more=("fallback",)) if set(llm.data) - {"fallback"} else None,
        llm_fallbacks=tuple(_llm_fallback(table, keys) for table in llm.tables("fallback", "llm fallback")),
        realtime=_realtime(top),
        recovery=_recovery(top),
        mcp=_mcp(top, modules),
    )
    if top.data.get("provider", made.provider) == made.provider:
        _check_engine(top, keys, made)
    return made


def _keys(top: Table) -> Keys:
    try:
        return Keys.of_environment()
    except ValueError as error:
        name = str(error).partition(" ")[0]
        top.problems.add(
            (), f"the environment variable {VARIABLES.get(name, '')} cannot be used: {error}", "correct it"
        )
        return Keys()


def _check_engine(top: Table, keys: Keys, agent: Agent) -> None:
    """Note that the engine of the whole agent lacks a key or the name of the agent that is stored at the vendor."""
    engine = replace(agent, stt=builders.embedded_stt(), tts=builders.embedded_tts(), stt_fallbacks=(),
                     llm_fallbacks=(), tts_fallbacks=(), realtime=RealtimeConfig())  # fmt: skip
    vendor = builders.VENDOR_OF.get(agent.provider, "")
    if vendor and not keys.of(vendor):
        top.add("provider", f'the provider "{agent.provider}" needs a key', _export(vendor))
        return
    try:
        builders.check_engine(keys, engine)
    except ValueError as error:
        problem, _, _ = str(error).partition(":")
        top.add("agent_id" if "agent_id" in top else "provider", problem, 'write agent_id = "agent_…"')


def _export(vendor: str) -> str:
    return f"set it before the engine starts: export {VARIABLES[vendor]}=…"


class _Reader:
    """Reads the settings of one stage's provider, the main one or a fallback."""

    def __init__(self, keys: Keys, modules: Modules, language: str, voice: str) -> None:
        self._keys, self._modules, self._language, self._voice = keys, modules, language, voice

    def stt(self, table: Table, more: tuple[str, ...] = ()) -> STTConfig:
        """Speech-to-text settings."""
        table.only((*_COMMON, "language", "keyterms", "eager", *more))
        provider = self._provider(table, "stt")
        return STTConfig(
            provider,
            self._key(table, "stt", provider),
            table.text("language", self._language, filled=True),
            model=table.text("model", filled=True),
            base_url=_base(table, carries_key=_keyed(table, "stt", provider)),
            keyterms=table.texts("keyterms"),
            eager=table.flag("eager"),
            options=table.plain("options"),
        )

    def tts(self, table: Table, more: tuple[str, ...] = ()) -> TTSConfig:
        """Text-to-speech settings."""
        table.only((*_COMMON, "voice", "streaming", *more))
        provider = self._provider(table, "tts")
        return TTSConfig(
            provider,
            self._key(table, "tts", provider),
            table.text("voice", self._voice or _VOICES.get(provider, ""), filled=True),
            model=table.text("model", filled=True),
            base_url=_base(table, carries_key=_keyed(table, "tts", provider)),
            streaming=table.choice("streaming", engine_rules.STREAMING[1:], ""),
            options=table.plain("options"),
        )

    def _provider(self, table: Table, stage: registry.Stage) -> str:
        """A known name, or `module:function` beside the file, which becomes one."""
        name = table.text("provider", EMBEDDED, filled=True) or EMBEDDED
        if registry.entry_of(stage, name) is not None and ":" not in name:
            return name
        if ":" not in name:
            known = registry.names(stage)
            names = ", ".join(f'"{one}"' for one in known if ":" not in one)
            close = nearest(name, known)
            fix = close if close.startswith("did") else 'or write "module:function" for one of your own beside the file'
            table.add("provider", f"provider must be one of {names}", fix)
            return EMBEDDED
        try:
            make = self._modules.function(name, (2,))
        except LookupFailed as failure:
            table.add("provider", f"provider of {table.title}: {failure.problem}", failure.fix)
            return EMBEDDED
        return registry.add_from_file(stage, name, make, *_source(make, self._modules))

    def _key(self, table: Table, stage: registry.Stage, provider: str) -> str:
        entry = registry.entry_of(stage, provider)
        if "api_key" not in table and entry is not None and entry.key and not self._keys.of(provider):
            fix = f'{_export(entry.key)}, or write api_key = {{ env = "NAME" }} below it'
            table.add("provider", f'the provider "{provider}" needs a key', fix)
        return table.secret("api_key")


def _source(make: Callable[..., Any], modules: Modules) -> tuple[str, str]:
    """The file that a maker comes from, and a digest of all that was read beside the agent file."""
    digest = hashlib.sha256()
    for file in sorted(modules.sources):
        digest.update(file.read_bytes() if file.is_file() else b"")
    return str(getattr(getattr(make, "__code__", None), "co_filename", make)), digest.hexdigest()


def _keyed(table: Table, stage: registry.Stage, provider: str) -> bool:
    """Whether a key is sent to the provider's address."""
    entry = registry.entry_of(stage, provider)
    return "api_key" in table or (entry is not None and bool(entry.key))


def _base(table: Table, *, carries_key: bool = True) -> str:
    url = table.text("base_url", filled=True)
    if not url.strip():
        return ""
    try:
        return checked_base(url, "base_url", carries_key=carries_key)
    except ValueError as error:
        table.add("base_url", str(error))
        return ""


def _llm(table: Table, more: tuple[str, ...] = ()) -> LLMConfig:
    table.only(("base_url", "model", "api_key", *more))
    return LLMConfig(table.text("model", filled=True), table.url("base_url"), table.secret("api_key"))


def _llm_fallback(table: Table, keys: Keys) -> LLMConfig:
    if not ({"base_url", "api_key"} & set(table.data)) and not keys.openai:
        table.add(
            "", f"{table.title} has no model server", 'write base_url = "http://…/v1" or api_key = { env = "NAME" }'
        )
    return _llm(table)


def _realtime(top: Table) -> RealtimeConfig:
    table = top.table("realtime", "[realtime]")
    if table is None:
        return RealtimeConfig()
    table.only(RealtimeConfig.__dataclass_fields__)
    usual = RealtimeConfig()
    return RealtimeConfig(
        turn_detection=table.choice("turn_detection", engine_rules.TURN_DETECTION, usual.turn_detection),
        silence_ms=table.whole("silence_ms", usual.silence_ms, *engine_rules.SILENCE_MS),
        threshold=table.number("threshold", usual.threshold, 0, 1),
        eagerness=table.choice("eagerness", engine_rules.EAGERNESS, usual.eagerness),
        transcription_model=table.text("transcription_model", filled=True),
        noise_reduction=table.choice("noise_reduction", engine_rules.NOISE_REDUCTION[1:], usual.noise_reduction),
        shape=table.choice("shape", engine_rules.SHAPES, usual.shape),
        base_url=_base(table),
    )


def _recovery(top: Table) -> Recovery:
    table = top.table("recovery", "[recovery]")
    usual = Recovery()
    if table is None:
        return usual
    table.only(Recovery.__dataclass_fields__)
    least, most = engine_rules.SILENCE_LIMIT_MS
    limit = table.whole("silence_limit_ms", usual.silence_limit_ms, 0, most)
    if 0 < limit < least:
        table.add("silence_limit_ms", f"silence_limit_ms must be from {least} to {most}", "or 0 for no limit")
        limit = usual.silence_limit_ms
    return Recovery(table.text("apology", usual.apology), table.text("goodbye", usual.goodbye), limit)


def _mcp(top: Table, modules: Modules) -> tuple[McpServer, ...]:
    made: list[McpServer] = []
    for table in top.tables("mcp", "mcp server"):
        table.only(McpServer.__dataclass_fields__)
        server = McpServer(
            table.need("name", 'write name = "calendar"'),
            table.url("url"),
            tuple(_beside(word, modules.folder) for word in table.texts("command")),
            _secrets(table, "headers"),
            _secrets(table, "env"),
            table.texts("only"),
        )
        if any(server.name == other.name for other in made):
            table.add("name", f'there are two mcp servers called "{server.name}"', "give one of them another name")
        elif server.name and ("url" in table) == ("command" in table):
            table.add("", f"{table.title} needs either url or command", 'write url = "https://…" or command = ["…"]')
        else:
            _check_server(table, server, made)
        made.append(server)
    return tuple(made)


def _beside(word: str, folder: Path | None) -> str:
    """A word of a command; where it names a file beside the agent file, by its whole path."""
    file = folder / word if folder is not None else None
    return str(file) if file is not None and file.suffix and file.is_file() else word


def _check_server(table: Table, server: McpServer, others: list[McpServer]) -> None:
    if not server.name or not (server.url or server.command):
        return  # has been told
    try:
        engine_rules.check_servers((server,))
    except (ValueError, TypeError) as error:
        table.add("name" if "name" in str(error) else "", str(error))


def _secrets(table: Table, key: str) -> dict[str, str]:
    """A table of texts, or `{ env = "NAME" }` where a value is secret."""
    values = table.table(key, f"{key} of {table.title}")
    if values is None:
        return {}
    made = {}
    for name, value in values.data.items():
        if isinstance(value, dict) or _SECRET.search(name):
            made[name] = values.secret(name)
        else:
            made[name] = values.text(name, filled=True)
    return made
