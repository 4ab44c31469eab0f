"""Facts of the engine itself, most of them without a call (`call_id` ""): agents, its phone line, faults, its memory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from patter.events.base import Event


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentChanged(Event):
    """The agent's definition changed: used from the next turn on (`call_id` "" = seen on disk, no call)."""

    agent: str
    agent_version: str
    changed: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentRejected(Event):
    """An agent file on disk cannot be used; the version before it stays in use."""

    agent: str
    problem: str
    line: int = 0
    fix: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class LineChanged(Event):
    """The engine's phone line (`call_id` ""): "off", "starting", "open", "closing" or "problem" (see `problem`, `fix`)."""

    state: Literal["off", "starting", "open", "closing", "problem"]
    carrier: str = ""
    number: str = ""
    public_url: str = ""
    agent: str = ""
    problem: str = ""
    fix: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class FaultOccurred(Event):
    """A part failed. The call goes on unless a CallEnded follows."""

    stage: str
    provider: str
    problem: str
    fix: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryChanged(Event):
    """Whether what happens is kept (`call_id` ""): `keeper` is "journal" or "store". "behind": it cannot be written now, calls
    go on, `waiting` lines or calls are held and written later; "current": all of it is written."""

    keeper: Literal["journal", "store"]
    state: Literal["behind", "current"]
    waiting: int = 0
    problem: str = ""
    fix: str = ""
