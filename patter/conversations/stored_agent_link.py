"""One socket's conversation with an agent at the vendor, from the first message to the last.

It owns how a conversation begins (overrides, then the formats), pings and unreadable frames; it refuses to know replies.
One socket, one link: a lost one is not mended but followed by another.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, Callable

import anyio

from patter.conversations.stored_agent_door import AgentDoor
from patter.conversations.stored_agent_start import explained
from patter.exceptions import ProviderError, WireError
from patter.providers.dialer import VendorSocket
from patter.providers.elevenlabs.account import ELEVENLABS
from patter.providers.vendor_http import LONGEST_WAIT_S, RETRY_S
from patter.signals import Faulted
from patter.wire.elevenlabs_convai import Event, Failure, Initiation, Metadata, Ping, read, write_pong

log = logging.getLogger(__name__)

START_S = 8.0  # the vendor begins within one second; nobody holds a silent telephone for longer
UNREADABLE_LIMIT = 20  # a server that sends more of it than this is not the vendor


class AgentLink:
    """Made by `open_link`. `unreadable` is told the first time that a frame cannot be read."""

    metadata: Metadata

    def __init__(self, socket: VendorSocket, initiation: Initiation, unreadable: Callable[[str], None]) -> None:
        self.socket = socket
        self.initiation = initiation
        self.failure: Failure | None = None
        """What the vendor said before it closed, if it did."""
        self.tools: set[str] = set()
        """Tools on our side that this conversation has asked for, by id."""
        self._unreadable = unreadable
        self._count = 0
        self.events = self._read()
        """What the vendor says, until it closes in good order. Raises ProviderError, in plain words, for other ends."""

    def send(self, message: str) -> bool:
        """Write a frame at once. Returns False when the socket is gone."""
        return self.socket.send(message)

    async def aclose(self) -> None:
        """Close it; more than once is fine."""
        await self.socket.aclose()

    async def _read(self) -> AsyncGenerator[Event, None]:
        try:
            async for message in self.socket.messages():
                event = self._event(message)
                if isinstance(event, Ping):
                    self.send(write_pong(event.event_id))
                elif event is not None:
                    yield event
        except ProviderError as error:
            raise explained(error, self.failure, self.initiation.overrides) from error

    def _event(self, message: str | bytes) -> Event | None:
        try:
            event = read(message)
        except WireError as problem:
            self.spoilt(str(problem))
            return None
        if isinstance(event, Failure):
            self.failure = event
            return None
        return event

    def spoilt(self, problem: str) -> None:
        """A frame could not be used. Raises ProviderError when there are too many of them."""
        self._count += 1
        if self._count == 1:
            log.warning("unreadable message from the agent", extra={"why": problem})
            self._unreadable(problem)
        if self._count > UNREADABLE_LIMIT:
            raise ELEVENLABS.garbled("llm", problem)


async def open_link(
    door: AgentDoor, agent_id: str, initiation: Initiation, unreadable: Callable[[str], None]
) -> AgentLink:
    """Begin a conversation and wait until the vendor has told its formats. Raises ProviderError."""
    link = AgentLink(await door.open(agent_id), initiation, unreadable)
    try:
        link.send(initiation.write())
        with anyio.fail_after(START_S):
            async for event in link.events:
                if isinstance(event, Metadata):
                    link.metadata = event
                    return link
        raise _ended_early(link)
    except TimeoutError as error:
        raise ELEVENLABS.broken("llm", error) from error
    finally:
        if not hasattr(link, "metadata"):
            with anyio.CancelScope(shield=True):
                await link.aclose()


async def open_at_last(
    door: AgentDoor,
    agent_id: str,
    initiation: Initiation,
    unreadable: Callable[[str], None],
    tell: Callable[[Faulted], None],
) -> AgentLink:
    """As `open_link`; what fails in passing is tried once more."""
    try:
        return await open_link(door, agent_id, initiation, unreadable)
    except ProviderError as error:
        pause = RETRY_S if error.retry_after_s is None else error.retry_after_s
        if not error.retryable or error.tries > 1 or error.code == "timeout" or pause > LONGEST_WAIT_S:
            raise
        tell(Faulted("llm", error.provider, error.problem, "it is opened once more"))
    await anyio.sleep(pause)
    return await open_link(door, agent_id, initiation, unreadable)


def _ended_early(link: AgentLink) -> ProviderError:
    error = ELEVENLABS.closed("llm", 1000, "", retryable=False, fix="look at the stored agent's settings")
    return explained(error, link.failure, link.initiation.overrides)
