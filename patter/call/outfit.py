"""What an agent's definition becomes for one call, and how a session gets it.

It owns these two values; it refuses to know who chooses the parts (the workshop does).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from patter.call.toolbox import Toolbox
from patter.events import EndReason
from patter.models import Agent
from patter.ports import AudioTap, CallInfo, Conversation, Screen


class Steered(Protocol):
    """A call, as its parts may steer it."""

    call: CallInfo
    history: list[dict[str, Any]]

    async def transfer(
        self, number: str, by: str = "operator", summary: str = "", *, failed: Callable[[], None] | None = None
    ) -> None:
        """See `CallSession.transfer`."""

    async def hang_up_after_goodbye(self, reason: EndReason, detail: str = "") -> None: ...


@dataclass(frozen=True, slots=True)
class Outfit:
    """The parts chosen for one call: `tts` "" = no voice. `notes` are sentences for the user about what was chosen."""

    conversation: Conversation
    toolbox: Toolbox
    screen: Screen
    stt: str = ""
    llm: str = ""
    tts: str = ""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Wiring:
    """How a session gets its parts: built late, because `welcome` (`on_call_start`) may change the agent of this call.

    `rework` gives the tools and guardrails of a definition that changed while the call is up."""

    outfit: Callable[[Steered, Agent], Outfit]
    rework: Callable[[Steered, Agent], tuple[Toolbox, Screen]]
    welcome: Callable[[CallInfo, Agent], Awaitable[Agent]] | None = None
    taps: Sequence[AudioTap] = field(default=())
