"""The way in to agents that are stored at the vendor: a signed address for every conversation, fetched ahead if possible.

It owns the addresses that wait; it refuses to know what is said. A socket is not opened ahead: to the vendor that would be
the beginning of the conversation, with its greeting and its minutes. The signed address costs nothing, proves the key and
the agent before anybody's telephone rings, and leaves an encrypted connection behind which the socket can use.
"""

from __future__ import annotations

import time

import aiohttp

from patter.exceptions import ProviderError
from patter.models import Agent
from patter.providers.dialer import Dialer, Target, VendorSocket
from patter.providers.elevenlabs.account import ELEVENLABS, Stage, resolve_voice, signed_url

TICKET_S = 14 * 60.0  # the vendor lets a conversation begin within 15 minutes
TICKETS_KEPT = 50  # of one agent: more telephones do not ring at once
AGENT_PREFIX = "agent_"


def agent_id_of(agent: Agent) -> str:
    """The id of the stored agent: `agent_id`, else a `model` that is one. Raises ValueError saying where to put it."""
    if agent.agent_id.strip():
        return agent.agent_id.strip()
    if agent.model.startswith(AGENT_PREFIX):
        return agent.model
    raise ValueError(
        f"which agent at {ELEVENLABS.title}? Give its id as agent_id (or as model): it looks like "
        f'"{AGENT_PREFIX}01jz…" and stands on the agent\'s page'
    )


class AgentDoor:
    """One account's way in. Shared by all calls; `base_url` "" is the vendor's usual address. Raises ValueError for others."""

    def __init__(self, http: aiohttp.ClientSession, dialer: Dialer, *, key: str, base_url: str = "") -> None:
        self._http = http
        self._dialer = dialer
        self._key = key
        self._base_url = base_url
        self._tickets: dict[str, list[tuple[float, str]]] = {}

    async def warm(self, agent: Agent) -> None:
        """Fetch the address of a conversation that is about to begin, and find its voice.

        Raises ProviderError (a wrong key, an unknown agent or voice) and ValueError without an agent's id."""
        agent_id = agent_id_of(agent)
        if agent.voice not in ("", Agent.voice):
            await self.voice(agent.voice)
        url = await self._signed(agent_id)
        waiting = self._tickets.setdefault(agent_id, [])
        waiting.append((time.monotonic() + TICKET_S, url))
        del waiting[:-TICKETS_KEPT]

    async def open(self, agent_id: str) -> VendorSocket:
        """A socket to a new conversation with the agent. Raises ProviderError."""
        waiting = self._tickets.get(agent_id, [])
        while waiting:
            until, url = waiting.pop()
            if time.monotonic() < until:
                try:
                    return await self._dialer.open(_target(url, agent_id))
                except ProviderError as error:
                    if error.status not in (400, 401, 403, 404):
                        raise
                    break  # the address is not good any more: ask for another one
        return await self._dialer.open(_target(await self._signed(agent_id), agent_id))

    async def voice(self, name: str, stage: Stage = "llm") -> str:
        """The id of a voice of this account. Raises ProviderError."""
        return await resolve_voice(self._http, self._key, self._base_url, name, stage=stage)

    async def _signed(self, agent_id: str) -> str:
        return await signed_url(self._http, self._key, self._base_url, agent_id)


def _target(url: str, agent_id: str) -> Target:
    return Target(ELEVENLABS, "llm", url, what=f"the agent {agent_id}")
