"""The call desk: which number reaches which agent, which calls are up, and how they all end when the engine stops.

It owns the task group of the calls and their limit; it refuses to know carriers and how a call is put together.
"""

from __future__ import annotations

import logging
import math
import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol, Self, TypedDict, TypeVarTuple, Unpack

import anyio
from anyio.abc import TaskGroup

from patter.agentfile import AgentFile
from patter.audio.format import AudioFormat
from patter.bus import Bus
from patter.events import CallEnded, CallStarted, EndReason, Event, FaultOccurred
from patter.models import Agent, Budget, OnMessage
from patter.ports import CallInfo, Transport
from patter.server.answers import Refused

log = logging.getLogger(__name__)

CAPACITY = 100  # calls at once; a limit that a runaway dialler meets before the machine does
DRAIN_S = 10.0  # how long calls may take to say goodbye to their carriers when the engine stops

LineKind = Literal["phone", "wideband", "text"]
Args = TypeVarTuple("Args")


class CallSession(Protocol):
    """A call that is up, as the server steers it."""

    @property
    def call(self) -> CallInfo: ...

    async def run(self) -> CallEnded: ...

    async def say(self, text: str) -> None: ...

    async def read(self, text: str) -> None: ...

    async def interrupt(self) -> None: ...

    async def guide(self, text: str, by: str = "operator") -> None: ...

    async def mute(self, muted: bool, by: str = "operator") -> None: ...

    async def hang_up(self, reason: EndReason = "operator_ended", detail: str = "") -> None: ...

    async def say_goodbye(self, text: str, reason: EndReason, detail: str = "") -> None:
        """Say `text` instead of whatever is being said, and hang up when it has been heard."""

    async def transfer(
        self, number: str, by: str = "operator", summary: str = "", *, failed: Callable[[], None] | None = None
    ) -> None:
        """With `failed` it returns at once, and `failed` is called if nobody takes the call."""

    async def send_digits(self, digits: str) -> None: ...

    def update(self, agent: Agent, version: str = "") -> None: ...


class Casting(TypedDict, total=False):
    """Who answers a call besides the agent's definition: its handler, its name and version for the world, and what to leave
    word for word (`voicemail`) if a machine answered."""

    on_message: OnMessage | None
    agent_name: str
    agent_version: str
    voicemail: str


class OpenCall(Protocol):
    """Puts a call together. Raises PatterError or ValueError, with a sentence, for an agent that cannot be run."""

    def __call__(self, call: CallInfo, agent: Agent, transport: Transport, **cast: Unpack[Casting]) -> CallSession: ...


class Foresight(Protocol):
    """Makes ready what a call will need before it is there."""

    async def vouch(self, agent: Agent) -> None:
        """Return when nothing is known to be in the agent's way. Raises PatterError, with a sentence, for what certainly is:
        a key that its provider refuses, a model or a voice that does not exist."""

    def foresee(self, key: object, agent: Agent, line: AudioFormat) -> None:
        """A call (`key`: anything that stands for it, told again as it comes nearer) is on its way to this agent."""


class _Unprepared:
    """For desks whose calls need nothing."""

    async def vouch(self, agent: Agent) -> None: ...

    def foresee(self, key: object, agent: Agent, line: AudioFormat) -> None: ...


class Purse(Protocol):
    """Says whether there is money for another call."""

    def refusal(self, agent: str = "", own: Budget | None = None) -> str:
        """Why there is none today for a call of this agent (which may spend `own`), as a sentence; "" if there is."""

    def farewell(self, own: Budget | None = None) -> str:
        """What somebody who calls is told then."""


class _Bottomless:
    """Where no budget is set."""

    def refusal(self, agent: str = "", own: Budget | None = None) -> str:
        return ""

    def farewell(self, own: Budget | None = None) -> str:
        return ""


@dataclass(frozen=True, slots=True)
class Route:
    """Where a number leads: the agent file and the kind of line."""

    agent: Path
    line: LineKind


@dataclass(slots=True, eq=False)
class LiveCall:
    """A call that is up. `begun` is set once the world was told of it, `over` when its session has returned."""

    session: CallSession
    agent: Path
    begun: anyio.Event = field(default_factory=anyio.Event)
    over: anyio.Event = field(default_factory=anyio.Event)
    ended: bool = False
    """Whether its CallEnded has been published."""


class Desk:
    """Starts and ends calls. `async with Desk(…)`: leaving ends every call within `DRAIN_S`.

    `used` is told which agent, version and text of its file a call begins with."""

    def __init__(
        self,
        bus: Bus,
        open_call: OpenCall,
        capacity: int = CAPACITY,
        *,
        foresight: Foresight | None = None,
        purse: Purse | None = None,
        used: Callable[[str, str, str], None] = lambda agent, version, text: None,
    ) -> None:
        self._bus = bus
        self._open_call = open_call
        self._foresight = foresight or _Unprepared()
        self._purse = purse or _Bottomless()
        self._used = used
        self._capacity = capacity
        self._calls: dict[str, LiveCall] = {}
        self._routes: dict[str, Route] = {}
        self._numbers: dict[Route, str] = {}
        self._tasks: TaskGroup
        self._idle = anyio.Event()
        self._latest: dict[str, float] = {}
        self.stopping = False
        """True once no new call is taken."""

    async def __aenter__(self) -> Self:
        self._forget_sink = self._bus.add_sink(self._note)
        self._tasks = anyio.create_task_group()
        await self._tasks.__aenter__()
        return self

    async def __aexit__(self, *error: Any) -> bool | None:
        try:
            with anyio.CancelScope(shield=True):
                await self._end_all()
            self._tasks.cancel_scope.cancel()
            return await self._tasks.__aexit__(*error)
        finally:
            self._forget_sink()

    # ------------------------------------------------------------------ numbers

    def number_of(self, route: Route) -> str:
        """The number that leads to `route`: always the same one, from a range that no carrier gives to anybody."""
        if route not in self._numbers:
            free = 10_000 - len(self._numbers)
            if not free:
                raise Refused(409, "All rehearsal numbers are in use: restart the engine.")
            number = f"+1500556{len(self._numbers):04d}"
            self._numbers[route], self._routes[number] = number, route
        return self._numbers[route]

    def lead(self, number: str, route: Route) -> None:
        """Let `number`, which a carrier gave us, lead to `route`."""
        self._routes[number] = route

    def forget(self, number: str) -> None:
        """`number`, which a carrier gave us, leads nowhere any more."""
        self._routes.pop(number, None)

    def route_of(self, number: str) -> Route | None:
        """Where a number leads, or None."""
        return self._routes.get(number)

    # ------------------------------------------------------------------ calls

    @property
    def count(self) -> int:
        """How many calls are up."""
        return len(self._calls)

    def find(self, call_id: str) -> LiveCall | None:
        """The call, if it is up."""
        return self._calls.get(call_id)

    def calls_of(self, telephony: str) -> list[LiveCall]:
        """The calls that are up over one kind of line."""
        return [live for live in self._calls.values() if live.session.call.telephony == telephony]

    def quiet_s(self, telephony: str) -> float:
        """For how many seconds no call of this kind of line has ended (infinite: there was none)."""
        latest = self._latest.get(telephony)
        return math.inf if latest is None else anyio.current_time() - latest

    def refusal(self, coming: int = 0, file: AgentFile | None = None) -> str:
        """Why no new call (for the agent of `file`) can be taken now, as a sentence; "" if one can. `coming`: calls that are on
        their way already."""
        if self.stopping:
            return "The engine is stopping and takes no new calls."
        if len(self._calls) + coming >= self._capacity:
            return f"The engine is busy: {self._capacity} calls are up, which is its limit. End one first."
        return self._purse.refusal(file.name, file.agent.budget) if file is not None else self._purse.refusal()

    def farewell(self, file: AgentFile) -> str:
        """What somebody who calls is told when the budget pays for no more calls; "" if it does."""
        own = file.agent.budget
        return self._purse.farewell(own) if self._purse.refusal(file.name, own) else ""

    async def vouch(self, agent: Agent) -> None:
        """See `Foresight.vouch`: asked before anybody's telephone rings."""
        await self._foresight.vouch(agent)

    def foresee(self, key: object, agent: Agent, line: AudioFormat) -> None:
        """See `Foresight.foresee`; never raises, for a call can do without."""
        try:
            self._foresight.foresee(key, agent, line)
        except Exception:
            log.exception("a call could not be prepared")

    def start(self, call: CallInfo, file: AgentFile, transport: Transport, *, voicemail: str = "") -> LiveCall:
        """Put the call together and let it run. Raises Refused when it may not, PatterError or ValueError when it cannot."""
        if sentence := self.refusal(file=file):
            raise Refused(409, sentence)
        if call.call_id in self._calls:
            raise Refused(409, "This call is up already.")
        session = self._open_call(
            call,
            file.agent,
            transport,
            on_message=file.on_message,
            agent_name=file.name,
            agent_version=file.version,
            voicemail=voicemail,
        )
        self._used(file.name, file.version, file.text)
        live = LiveCall(session, file.path)
        self._calls[call.call_id] = live
        self._idle = anyio.Event()
        self._tasks.start_soon(self._run, call.call_id, live)
        return live

    def spawn(self, job: Callable[[*Args], Awaitable[Any]], *args: *Args) -> None:
        """Run `job(*args)` beside the calls, until the desk is left; what it raises is logged."""
        self._tasks.start_soon(self._work, job, args)

    async def _work(self, job: Callable[..., Awaitable[Any]], args: tuple[Any, ...]) -> None:
        try:
            await job(*args)
        except Exception:
            log.exception("a job beside the calls failed", extra={"job": getattr(job, "__qualname__", "")})

    def failed(self, call: CallInfo, file: AgentFile, problem: Exception) -> None:
        """Tell the world of a call that came in and could not be put together."""
        self._began(call, file)
        self._bus.publish(
            FaultOccurred(call_id=call.call_id, stage="agent", provider=file.agent.provider, problem=str(problem))
        )
        self._bus.publish(CallEnded(call_id=call.call_id, reason="failed", detail=str(problem)))

    def missed(self, call: CallInfo, file: AgentFile, reason: EndReason, detail: str) -> None:
        """Tell the world of a call that came in and was over before its agent heard anything."""
        self._began(call, file)
        self._bus.publish(CallEnded(call_id=call.call_id, reason=reason, detail=detail))

    def _began(self, call: CallInfo, file: AgentFile) -> None:
        known: dict[str, Literal["inbound", "outbound"]] = {"inbound": "inbound", "outbound": "outbound"}
        self._bus.publish(
            CallStarted(
                call_id=call.call_id,
                caller=call.caller,
                callee=call.callee,
                direction=known.get(call.direction, "test"),
                agent=file.name,
                agent_version=file.version,
                provider_mode=file.agent.provider,
                telephony=call.telephony,
                custom_params=call.custom_params,
            )
        )

    async def _run(self, call_id: str, live: LiveCall) -> None:
        reason: EndReason = "engine_stopped"
        try:
            await live.session.run()
        except Exception:
            log.exception("a call's session failed", extra={"call_id": call_id})
            reason = "failed"
        finally:
            if not live.ended:
                self._bus.publish(CallEnded(call_id=call_id, reason=reason, detail="The session broke off."))
            del self._calls[call_id]
            self._latest[live.session.call.telephony] = anyio.current_time()
            live.over.set()
            if not self._calls:
                self._idle.set()

    def _note(self, event: Event) -> None:
        if isinstance(event, CallStarted | CallEnded) and event.call_id in self._calls:
            self._calls[event.call_id].ended = isinstance(event, CallEnded)
            self._calls[event.call_id].begun.set()

    def update(self, file: AgentFile) -> None:
        """Give a new version to the calls of this agent file, from their next turn on."""
        for live in list(self._calls.values()):
            if live.agent != file.path:
                continue
            try:
                live.session.update(file.agent, file.version)
            except Exception:  # one call's trouble with a new version is not the others'
                log.exception("a call could not take a new version", extra={"call_id": live.session.call.call_id})

    # ------------------------------------------------------------------ the end

    async def wait_idle(self) -> None:
        """Return when no call is up."""
        while self._calls:
            await self._idle.wait()

    async def _end_all(self) -> None:
        self.stopping = True
        with anyio.move_on_after(DRAIN_S):
            for live in list(self._calls.values()):
                try:
                    await live.session.hang_up("engine_stopped", "The engine was stopped.")
                except Exception:
                    log.exception("hanging up failed")
            await self.wait_idle()


def new_call_id() -> str:
    """An id for a call that no carrier has named, shaped like a carrier's."""
    return "CA" + secrets.token_hex(16)
