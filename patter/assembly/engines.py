"""Engines that hear and speak by themselves: which one an agent asks for, and what it is made of.

It owns that choice and what their calls share; it refuses to know what is said.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, replace

from patter.assembly.stock import Stock
from patter.audio.format import AudioChunk
from patter.conversations.realtime import TRANSCRIBES, RealtimeConversation
from patter.conversations.realtime_greeting import GreetingKey
from patter.conversations.stored_agent import StoredAgent
from patter.conversations.stored_agent_door import AgentDoor, agent_id_of
from patter.models import Agent
from patter.ports import Conversation
from patter.providers import openai_account
from patter.providers.openai_realtime import model_for, realtime_target
from patter.providers.speech_cache import SpeechCache
from patter.wire.openai_realtime import Shape

SPEECH_TO_SPEECH, STORED_AGENT = "openai_realtime", "elevenlabs_convai"
RINGS_S = 60.0  # so long a session may wait for its call: longer than phones ring


@dataclass(frozen=True, slots=True)
class Engine:
    """An engine for one call, and what its parts are called in events."""

    conversation: Conversation
    stt: str
    llm: str
    tts: str


class Greetings:
    """The greetings' sound, among all the speech that is kept."""

    def __init__(self, cache: SpeechCache) -> None:
        self._cache = cache

    def get(self, key: GreetingKey) -> Sequence[AudioChunk] | None:
        """See `GreetingStore`."""
        return self._cache.find(_place(key))

    def put(self, key: GreetingKey, chunks: Sequence[AudioChunk]) -> None:
        """See `GreetingStore`."""
        making = self._cache.begin(_place(key))
        for chunk in chunks:
            making.add(chunk)
        self._cache.end(_place(key), making, whole=True, worth=True)


class Engines:
    """Makes them."""

    def __init__(self, stock: Stock) -> None:
        self._stock = stock
        self._greetings = Greetings(stock.speech)
        self._doors: dict[tuple[str, str], AgentDoor] = {}

    def alone(self, agent: Agent) -> bool:
        """Whether the agent's engine hears and speaks by itself."""
        return agent.provider in (SPEECH_TO_SPEECH, STORED_AGENT)

    def settled(self, agent: Agent) -> Agent:
        """The agent with the address of its engine filled in."""
        if agent.provider != SPEECH_TO_SPEECH or agent.realtime.base_url:
            return agent
        return replace(agent, realtime=replace(agent.realtime, base_url=self._stock.keys.openai_url))

    def make(self, agent: Agent, note: Callable[[str], None]) -> Engine:
        """The engine of one call. Raises ValueError for settings that cannot work."""
        if agent.provider == STORED_AGENT:
            name = f"elevenlabs/{agent_id_of(agent)}"
            return Engine(StoredAgent(self._door(), self._stock.clock), name, name, name)
        shape = _shape(agent)
        model, sentence = model_for(agent.model, shape)
        if sentence:
            note(sentence)
        conversation = RealtimeConversation(
            self._stock.dialer, self._stock.clock, key=self._stock.keys.openai, greetings=self._greetings
        )
        hears = agent.realtime.transcription_model or TRANSCRIBES[shape]
        return Engine(conversation, f"openai/{hears}", f"openai/{model}", f"openai/{agent.voice}")

    async def vouch(self, agent: Agent) -> None:
        """Raise ProviderError for a key, model or stored agent that is refused."""
        if agent.provider == STORED_AGENT:
            await self._door().warm(agent)
            return
        settled = self.settled(agent)
        model, _ = model_for(agent.model, _shape(agent))
        keys, stock = self._stock.keys, self._stock
        await openai_account.vouch(stock.http, keys.openai, settled.realtime.base_url, model, "llm")

    async def warm(self, agent: Agent) -> None:
        """Open what one call will use. Raises ProviderError."""
        if agent.provider == STORED_AGENT:
            await self._door().warm(agent)
            return
        settled = self.settled(agent)
        target = realtime_target(self._stock.keys.openai, agent.model, settled.realtime.base_url, _shape(agent))
        await self._stock.dialer.warm(target, RINGS_S)

    def _door(self) -> AgentDoor:
        keys = self._stock.keys
        place = (keys.elevenlabs, keys.elevenlabs_url)
        if place not in self._doors:
            self._doors[place] = AgentDoor(self._stock.http, self._stock.dialer, key=place[0], base_url=place[1])
        return self._doors[place]


def _place(key: GreetingKey) -> tuple[str, str, str, Hashable, str]:
    return ("openai", key.model, key.voice, key.format, key.text)


def _shape(agent: Agent) -> Shape:
    return "beta" if agent.realtime.shape == "beta" else "ga"
