"""An order for the telephone: whom to call, with which agent, and what to do if a machine answers.

It owns the values of one outbound call; it refuses to know carriers.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from patter.agentfile import AgentFile

RING_TIMEOUT_S = 30.0  # about six rings: longer than most people need, shorter than most mailboxes wait


@dataclass(frozen=True, slots=True, eq=False)
class Order:
    """One outbound call. Numbers in E.164. `voicemail` is left word for word if a machine answers (it implies
    `detect_machine`); `file` is this call's own agent with its own `on_message`."""

    to: str
    caller: str
    file: AgentFile
    voicemail: str = ""
    detect_machine: bool = False
    ring_timeout_s: float = RING_TIMEOUT_S
    custom_params: dict[str, Any] = field(default_factory=dict)

    @property
    def detects(self) -> bool:
        """Whether the carrier is asked who answered."""
        return self.detect_machine or bool(self.voicemail)
