"""A user's callbacks: called with dicts in the order of the facts, each call's beside the others.

It owns payloads, order and what happens to a callback that fails or is slow; it refuses to touch a call, except for the
agent's fields that `on_call_start` returns.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from functools import partial
from types import TracebackType
from typing import Any

import anyio
import anyio.to_thread
from anyio.abc import TaskGroup

from patter.builders import Keys, check_agent, check_callback
from patter.bus import Bus
from patter.events import (
    AgentSaid,
    CallEnded,
    CallerSaid,
    CallerTranscribed,
    CallPlaced,
    CallStarted,
    Event,
    MachineDetected,
    TurnMeasured,
)
from patter.mailbox import Mailbox
from patter.models import Agent, Callback
from patter.observe.cost import Prices
from patter.observe.metrics import CallFold
from patter.ports import CallInfo

log = logging.getLogger(__name__)

START_LIMIT_S = 5.0  # `on_call_start` holds up the greeting: after this long the call begins with the agent as it is
DRAIN_S = 10.0  # how long callbacks of calls that are over may still take when everything closes


@dataclass(frozen=True, slots=True)
class Callbacks:
    """What a user wants to be told, functions of one dict, async or plain (plain ones run in a thread)."""

    on_call_start: Callback | None = None
    on_call_end: Callback | None = None
    on_transcript: Callback | None = None
    on_metrics: Callback | None = None

    def __post_init__(self) -> None:
        for item in fields(self):
            check_callback(getattr(self, item.name), item.name)


class CallbackRunner:
    """Calls them: a sink of the bus, and a `welcome` for sessions. Use it as an async context manager."""

    def __init__(self, bus: Bus, callbacks: Callbacks, *, prices: Prices, keys: Keys) -> None:
        self._bus = bus
        self._callbacks = callbacks
        self._prices = prices
        self._keys = keys
        self._calls: dict[str, Mailbox[Event]] = {}
        self._expected: dict[str, Callback] = {}
        self._tasks: TaskGroup | None = None
        self._leave_bus: Callable[[], None] | None = None

    async def __aenter__(self) -> CallbackRunner:
        self._tasks = anyio.create_task_group()
        await self._tasks.__aenter__()
        self._leave_bus = self._bus.add_sink(self._take)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._tasks is not None
        assert self._leave_bus is not None
        self._leave_bus()
        for events in self._calls.values():
            events.close()
        self._tasks.cancel_scope.deadline = anyio.current_time() + DRAIN_S
        await self._tasks.__aexit__(kind, error, trace)

    def expect(self, call_id: str, on_machine: Callback) -> None:
        """Tell `on_machine` who answered this one call, as soon as the carrier knows: {call_id, answered_by}.

        For a call that was placed and is not over. It is told once, or again if the carrier thinks better of it."""
        if call_id in self._calls:
            self._expected[call_id] = on_machine

    async def welcome(self, call: CallInfo, agent: Agent) -> Agent:
        """Ask `on_call_start`; returns the agent with the fields that it gave, or unchanged if they cannot be used."""
        callback = self._callbacks.on_call_start
        if callback is None:
            return agent
        payload = {
            "call_id": call.call_id,
            "caller": call.caller,
            "callee": call.callee,
            "direction": call.direction,
            "custom_params": dict(call.custom_params),
        }
        try:
            with anyio.fail_after(START_LIMIT_S):
                changes = await _invoke(callback, payload)
        except TimeoutError:
            log.warning(
                "on_call_start took too long: the call begins without its answer", extra={"seconds": START_LIMIT_S}
            )
            return agent
        except Exception:
            log.exception("on_call_start failed")
            return agent
        return self._changed(agent, changes) if changes else agent

    def _changed(self, agent: Agent, changes: object) -> Agent:
        try:
            if not isinstance(changes, dict):
                raise TypeError(
                    f"on_call_start must return a dict of agent fields or None, not {type(changes).__name__}"
                )
            if unknown := changes.keys() - {item.name for item in fields(Agent)}:
                raise ValueError(f"on_call_start returned what is no field of an agent: {', '.join(sorted(unknown))}")
            changed = replace(agent, **changes)
            check_agent(self._keys, changed)
        except (TypeError, ValueError):
            log.exception("the answer of on_call_start cannot be used: the call begins with the agent as it is")
            return agent
        return changed

    # ------------------------------------------------------------------ facts, call by call

    def _take(self, event: Event) -> None:
        begins = isinstance(event, CallPlaced | CallStarted) and event.call_id not in self._calls
        if begins and self._tasks is not None:
            events = self._calls[event.call_id] = Mailbox[Event]()
            self._tasks.start_soon(self._follow, event.call_id, events)
        mailbox = self._calls.get(event.call_id)
        if mailbox is None:
            return
        mailbox.put(event)
        if isinstance(event, CallEnded):
            mailbox.close()
            del self._calls[event.call_id]

    async def _follow(self, call_id: str, events: Mailbox[Event]) -> None:
        fold = CallFold(call_id, self._prices)
        who = {"caller": "", "callee": "", "direction": ""}
        history: list[dict[str, Any]] = []
        wordless: dict[int, dict[str, Any]] = {}  # turns whose words are not known yet
        answered_by = ""
        async for event in events:
            measured = fold.feed(event)
            match event:
                case CallPlaced():
                    who = {"caller": event.caller, "callee": event.callee, "direction": "outbound"}
                case CallStarted():
                    who = {"caller": event.caller, "callee": event.callee, "direction": event.direction}
                case MachineDetected() if event.answered_by != answered_by:
                    answered_by = event.answered_by
                    payload = {"call_id": call_id, "answered_by": answered_by}
                    await _tell("on_machine", self._expected.get(call_id), payload)
                case CallerSaid(pending=True, turn=turn, text=text):
                    wordless[turn] = {"role": "user", "text": text, "timestamp": event.at}
                    history.append(wordless[turn])
                case CallerTranscribed(turn=turn, text=text) if text and turn in wordless:
                    wordless[turn]["text"] = text
                    await self._told(wordless.pop(turn), call_id, history)
                case CallerSaid(text=text):
                    history.append({"role": "user", "text": text, "timestamp": event.at})
                    await self._told(history[-1], call_id, history)
                case AgentSaid(text=text) if text:
                    history.append({"role": "assistant", "text": text, "timestamp": event.at})
                    await self._told(history[-1], call_id, history)
            for figures in measured:
                await self._measured(figures, fold)
            if isinstance(event, CallEnded):
                self._expected.pop(call_id, None)
                await self._ended(who, event, fold, history)

    async def _told(self, entry: dict[str, Any], call_id: str, history: list[dict[str, Any]]) -> None:
        known = [dict(line) for line in history if line["text"]]
        payload = {"role": entry["role"], "text": entry["text"], "call_id": call_id, "history": known}
        await _tell("on_transcript", self._callbacks.on_transcript, payload)

    async def _measured(self, turn: TurnMeasured, fold: CallFold) -> None:
        metrics = fold.turn_metrics(turn.turn) if turn.closed else None
        if metrics is not None:
            payload = {"call_id": turn.call_id, "turn": metrics, "cost_so_far": turn.cost_so_far}
            await _tell("on_metrics", self._callbacks.on_metrics, payload)

    async def _ended(self, who: dict[str, str], end: CallEnded, fold: CallFold, history: list[dict[str, Any]]) -> None:
        payload = {
            "call_id": end.call_id,
            **who,
            "transcript": [entry for entry in history if entry["text"]],
            "metrics": fold.metrics(),
            "reason": end.reason,
        }
        await _tell("on_call_end", self._callbacks.on_call_end, payload)


async def _tell(name: str, callback: Callback | None, payload: dict[str, Any]) -> None:
    if callback is None:
        return
    try:
        await _invoke(callback, payload)
    except Exception:
        log.exception("a callback failed", extra={"callback": name})


async def _invoke(callback: Callback, payload: dict[str, Any]) -> Any:
    if inspect.iscoroutinefunction(callback) or inspect.iscoroutinefunction(getattr(callback, "__call__", None)):  # noqa: B004
        return await callback(payload)
    result = await anyio.to_thread.run_sync(partial(callback, payload), abandon_on_cancel=True)
    return await result if inspect.isawaitable(result) else result
