"""The engine's phone line: opened and closed while the engine runs, one at a time, and always with a state to show.

It owns the line's life from the wish to the last goodbye; it refuses to know carriers and HTTP.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, Self

import anyio
from anyio.abc import TaskGroup

from patter.bus import Bus
from patter.clock import Clock
from patter.events import LineChanged
from patter.exceptions import PatterConnectionError, PatterError, ProviderError, plain_errors
from patter.server.answers import Refused
from patter.server.desk import Desk, Route
from patter.server.front_door import FrontDoor, Joined, LineSettings
from patter.server.listener import PortInUse, listen
from patter.server.orders import Order
from patter.server.twilio_routes import Files

log = logging.getLogger(__name__)

LineState = Literal["off", "starting", "open", "closing", "problem"]
Join = Callable[[LineSettings, Desk, Files], Joined]
"""Makes the carrier of these settings ready; its calls go to this desk and find their agents there."""


@dataclass(frozen=True, slots=True)
class Answering:
    """The agent that answers a number, and its file."""

    agent: str
    path: Path


class LineDesk:
    """`async with LineDesk(…) as lines:`; leaving it closes the line with a goodbye to every call on it."""

    def __init__(self, desk: Desk, files: Files, bus: Bus, clock: Clock, join: Join) -> None:
        self._desk = desk
        self._files = files
        self._bus = bus
        self._clock = clock
        self._join = join
        self._state: LineState = "off"
        self._since = clock.now()
        self._problem = self._fix = ""
        self._settings: LineSettings | None = None
        self._numbers: dict[str, Answering] = {}
        self._door: FrontDoor | None = None
        self._stop = anyio.Event()
        self._over = anyio.Event()
        self._over.set()
        self._drain_s = math.inf
        self._tasks: TaskGroup

    async def __aenter__(self) -> Self:
        self._tasks = anyio.create_task_group()
        await self._tasks.__aenter__()
        return self

    async def __aexit__(self, *error: Any) -> None:
        self.close("now")
        with anyio.CancelScope(shield=True):
            await self._over.wait()
        await self._tasks.__aexit__(*error)

    # ------------------------------------------------------------------ opening and closing

    @property
    def in_use(self) -> bool:
        """Whether somebody may call, or is being called, over the line."""
        return self._state not in ("off", "problem")

    def open(self, settings: LineSettings, numbers: Mapping[str, Answering]) -> None:
        """Begin to open the line; `numbers` are those that agents answer. Raises Refused when another one is open."""
        if self._desk.stopping:
            raise Refused(409, "The engine is stopping and opens no line: start it again.")
        if self.in_use:
            if (settings, dict(numbers)) == (self._settings, self._numbers) and self._state in ("starting", "open"):
                return
            raise Refused(409, "A phone line is open already: stop serving first, then start it with the new settings.")
        self._settings, self._numbers = settings, dict(numbers)
        self._stop, self._over, self._drain_s = anyio.Event(), anyio.Event(), math.inf
        self._become("starting")
        self._tasks.start_soon(self._serve, settings)

    def close(self, when: str) -> None:
        """Take no new calls; those that are up go on ("idle") or hear a goodbye ("now"). Nothing if no line is open."""
        if when == "now":
            self._drain_s = 0.0
            if self._door is not None:
                self._door.stop_waiting()
        self._stop.set()

    async def _serve(self, settings: LineSettings) -> None:
        try:
            listener = listen(settings.port)
            try:
                joined = self._join(settings, self._desk, self._files)
            except BaseException:
                listener.close()
                raise
            with plain_errors():
                lost = await self._keep_open(FrontDoor(settings, listener, joined, self._desk))
        except ProviderError as error:
            self._become("problem", error.problem, error.fix)
        except (PatterError, PortInUse, ValueError) as error:
            self._become("problem", str(error))
        except Exception as error:
            log.exception("the phone line failed")
            self._become("problem", f"The phone line failed ({type(error).__name__}): the engine's log says where.")
        else:
            self._become("problem", *lost) if lost else self._become("off")
        finally:
            self._door = None
            self._over.set()

    async def _keep_open(self, door: FrontDoor) -> tuple[str, str] | None:
        """The line from its opening to its end; what went wrong, if its way in broke."""
        for answering in self._numbers.values():
            if (file := self._files.current(Route(answering.path, "phone"))) is not None:
                await self._desk.vouch(file.agent)  # before the number is touched
        async with door:
            self._door = door
            for number, answering in self._numbers.items():
                door.answer(number, Route(answering.path, "phone"))
            self._become("open")
            lost = await self._until_told(door)
            self._become("closing")
            await door.close(self._drain_s)
        return lost

    async def _until_told(self, door: FrontDoor) -> tuple[str, str] | None:
        """Return when the line is to close; what went wrong, if the way in broke."""
        lost = False
        async with anyio.create_task_group() as tasks:

            async def tunnel_lost() -> None:
                nonlocal lost
                await door.way_in_lost()
                lost = True
                tasks.cancel_scope.cancel()

            tasks.start_soon(tunnel_lost)
            await self._stop.wait()
            tasks.cancel_scope.cancel()
        return ("The tunnel has broken: callers cannot get through.", "Start serving again.") if lost else None

    # ------------------------------------------------------------------ calls

    async def dial(self, order: Order) -> str:
        """Place a call over the line (from its own number, if the order names none). Raises Refused or PatterError."""
        door, settings = self._door, self._settings
        if door is None or settings is None or self._state != "open":
            raise Refused(409, "No phone line is open: start serving first (`patter-tui serve AGENT`).")
        order = replace(order, caller=order.caller or settings.number, voicemail=order.voicemail or settings.voicemail)
        return await door.dial(order)

    async def give_up(self, call_id: str) -> bool:
        """Give up a call that rings. False if no call of that id does. Raises PatterError."""
        return self._door is not None and await self._door.give_up(call_id)

    # ------------------------------------------------------------------ what to show

    def status(self) -> dict[str, Any]:
        """The line as the API shows it: never a credential in it."""
        settings, door = self._settings, self._door
        known = settings is not None and self._state != "off"
        return {
            "state": self._state,
            "problem": self._problem,
            "fix": self._fix,
            "carrier": settings.carrier.name if settings and known else "",
            "number": settings.number if settings and known else "",
            "public_url": door.public_url if door else "",
            "tunnel": bool(settings and known and settings.tunnel),
            "recording": bool(settings and known and settings.recording),
            "agent": self._numbers[settings.number].agent if settings and known else "",
            "routes": [{"number": number, "agent": to.agent} for number, to in self._numbers.items() if known],
            "voice_url_before": door.voice_url_before if door else "",
            "notes": list(door.notes) if door else [],
            "since": self._since,
        }

    def _become(self, state: LineState, problem: str = "", fix: str = "") -> None:
        self._state, self._problem, self._fix, self._since = state, problem, fix, self._clock.now()
        if problem:
            log.error("the phone line: %s", problem)
        shown = self.status()
        self._bus.publish(
            LineChanged(
                call_id="",
                state=state,
                carrier=shown["carrier"],
                number=shown["number"],
                public_url=shown["public_url"],
                agent=shown["agent"],
                problem=problem,
                fix=fix,
            )
        )


def no_carriers(_settings: LineSettings, _desk: Desk, _files: Files) -> Joined:
    """For an engine that was built without carriers."""
    raise PatterConnectionError("This engine cannot reach carriers.")
