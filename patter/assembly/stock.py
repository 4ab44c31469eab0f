"""What is built once for all calls of a process: the HTTP client, sockets, voices, caches, and what providers keep.

It owns their lives; it refuses to choose what a call uses.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Self

import aiohttp
import anyio
from anyio.abc import TaskGroup

from patter.address import Reach
from patter.audio.format import AudioFormat
from patter.builders import Keys
from patter.clock import Clock
from patter.models import Agent, STTConfig, TTSConfig
from patter.ports import Synthesizer
from patter.providers.bench import Bench
from patter.providers.dialer import Dialer
from patter.providers.mcp_tools import McpTools
from patter.providers.speech_cache import CachedVoice, SpeechCache
from patter.providers.vendor_http import new_http
from patter.providers.webhook import Webhooks
from patter.registry import maker_of


def unheard(sentence: str) -> None:
    """For makers whose notes nobody asked for."""


@dataclass(eq=False)
class Stock:
    """`async with Stock(clock, keys) as stock:`."""

    clock: Clock
    keys: Keys
    shared: dict[str, object] = field(default_factory=dict)
    """What makers keep for all calls."""
    speech: SpeechCache = field(default_factory=SpeechCache)
    http: aiohttp.ClientSession = field(init=False)
    dialer: Dialer = field(init=False)
    webhooks: Webhooks = field(init=False)
    mcp: McpTools = field(init=False)
    tasks: TaskGroup = field(init=False)
    _voices: dict[tuple[str, AudioFormat | None, object], CachedVoice] = field(default_factory=dict)
    _open: AsyncExitStack = field(default_factory=AsyncExitStack)

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            self.http = await stack.enter_async_context(new_http())
            self.dialer = Dialer(self.http)
            stack.push_async_callback(self.dialer.aclose)
            reach = Reach.of(self.keys.webhook_reach)
            self.webhooks = await stack.enter_async_context(Webhooks(reach, secret=self.keys.webhook_secret))
            self.mcp = await stack.enter_async_context(McpTools())
            self.tasks = await stack.enter_async_context(anyio.create_task_group())
            stack.callback(self.tasks.cancel_scope.cancel)
            stack.push_async_callback(self._close_voices)
            self._open = stack.pop_all()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._open.aclose()

    async def _close_voices(self) -> None:
        for voice in self._voices.values():
            await voice.aclose()

    def bench(
        self,
        config: STTConfig | TTSConfig,
        agent: Agent,
        hears: AudioFormat | None,
        plays: AudioFormat | None,
        note: Callable[[str], None] = unheard,
    ) -> Bench:
        """The workplace for the maker of `config`."""
        return Bench(
            self.http,
            self.dialer,
            self.clock,
            key=config.api_key or self.keys.of(config.provider),
            base_url=config.base_url or self.keys.url_of(config.provider),
            vendor_url=self.keys.url_of(config.provider),
            hears=hears,
            plays=plays,
            language=agent.language,
            turn_taking=agent.turn_taking,
            note=note,
            shared=self.shared,
            tasks=self.tasks,
        )

    def voice(
        self, config: TTSConfig, agent: Agent, plays: AudioFormat | None, note: Callable[[str], None] = unheard
    ) -> CachedVoice:
        """The synthesizer of these settings for lines of this format, made when it is first asked for."""
        make = maker_of("tts", config.provider)  # another one after its file beside the agent's was edited
        place = (json.dumps(config.to_dict() | {"language": agent.language}, sort_keys=True, default=repr), plays, make)
        if place not in self._voices:
            made: Synthesizer = make(config, self.bench(config, agent, None, plays, note))
            self._voices[place] = CachedVoice(made, self.speech, place)
        return self._voices[place]
