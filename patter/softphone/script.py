"""When a simulated caller speaks: after the agent has finished, or some time after it began. Pure; a step is 20 ms.

It owns the caller's manners; it refuses to know sound, voices and lines.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from patter.softphone.protocol import CallerLine

STEP_MS = 20.0
FINISHED_MS = (
    1_000.0  # this long a silence means that the agent has finished: the embedded voice pauses 820 ms at a full stop
)
GREETING_MS = 5_000.0  # an agent that has not greeted by then lets the caller begin
PATIENCE_MS = 20_000.0  # without an answer for this long the caller goes on
LEAVE_MS = 2_000.0  # of silence after the last answer, then the caller hangs up


class CallerScript:
    """Steps through the lines of one call; `step` says what to speak now."""

    def __init__(self, lines: Iterable[CallerLine] = ()) -> None:
        self._lines = deque(lines)
        self._waited_ms = 0.0  # since the caller's last word (or the start of the call)
        self._agent_ms = 0.0  # since the agent began to speak after that; 0.0: it has not
        self._quiet_ms = 0.0  # since the agent's last sound
        self._spoke = False

    def step(self, agent_loud: bool, caller_speaking: bool) -> CallerLine | None:
        """20 ms have passed, in which the agent was loud or not and the caller spoke or not. What to say now, if anything."""
        self._quiet_ms = 0.0 if agent_loud else self._quiet_ms + STEP_MS
        if caller_speaking:
            self._spoke = True
            self._waited_ms = self._agent_ms = 0.0
            return None
        self._waited_ms += STEP_MS
        if agent_loud or self._agent_ms:
            self._agent_ms += STEP_MS
        if self._lines and self._may_speak(self._lines[0]):
            return self._lines.popleft()
        return None

    def _may_speak(self, line: CallerLine) -> bool:
        if line.after_ms is not None:
            return self._agent_ms > line.after_ms or self._out_of_patience
        return self._agent_finished(FINISHED_MS)

    def _agent_finished(self, silence_ms: float) -> bool:
        return (self._agent_ms > 0.0 and self._quiet_ms >= silence_ms) or self._out_of_patience

    @property
    def _out_of_patience(self) -> bool:
        return not self._agent_ms and self._waited_ms >= (PATIENCE_MS if self._spoke else GREETING_MS)

    @property
    def done(self) -> bool:
        """Everything has been said and answered: time to hang up."""
        return not self._lines and self._agent_finished(LEAVE_MS)
