"""One softphone: takes commands, places calls through the loopback carrier, reports what the line and the device do.

It owns the life of its calls; it refuses to know the engine beyond its webhook, and how commands arrive.
"""

from __future__ import annotations

from collections.abc import Callable

import aiohttp
import anyio
from anyio.abc import TaskGroup

from patter.clock import Clock
from patter.exceptions import PatterConnectionError, ProviderError
from patter.loopback.twilio import CallOver, CallState, LoopbackTwilio
from patter.mailbox import Mailbox
from patter.ports import Synthesizer
from patter.softphone import protocol
from patter.softphone.device import Device, DeviceProblem
from patter.softphone.devices import SoundDevice, chosen, names
from patter.softphone.echo import EchoGuard
from patter.softphone.simulated import SimulatedCaller, speak
from patter.softphone.wavdevice import recorded_caller

LEVELS_EVERY_S = 0.1
FAREWELL_S = 3.0  # what a call may take to end when the process is told to go

Report = Callable[..., None]
"""report("levels", mic=…): one line for the parent."""


class Softphone:
    """Commands come through `commands` (see `protocol`); one call at a time. `voice` makes the simulated caller's."""

    def __init__(self, report: Report, clock: Clock, voice: Callable[[], Synthesizer]) -> None:
        self.commands: Mailbox[protocol.Command | protocol.BadCommand] = Mailbox()
        self._report = report
        self._clock = clock
        self._new_voice = voice
        self._voice: Synthesizer | None = None
        self._carrier: LoopbackTwilio | None = None
        self._device: Device | None = None
        self._busy = False
        self._scope: anyio.CancelScope | None = None
        self._muted = False

    async def run(self) -> None:
        """Until told to quit."""
        self._introduce()
        async with aiohttp.ClientSession() as session, anyio.create_task_group() as tasks:
            async for command in self.commands:
                if isinstance(command, protocol.Quit):
                    break
                await self._obey(command, session, tasks)
            self._hang_up()
            tasks.cancel_scope.deadline = anyio.current_time() + FAREWELL_S
        if self._voice is not None:
            await self._voice.aclose()

    def _introduce(self) -> None:
        try:
            microphone, speaker = chosen()
        except DeviceProblem as problem:
            self._report("ready", sound=False, problem=problem.problem, fix=problem.fix, aec="off", input="", output="")
            return
        aec = EchoGuard.best_state()
        self._report("ready", sound=True, problem="", fix="", aec=aec, input=microphone, output=speaker)

    async def _obey(
        self, command: protocol.Command | protocol.BadCommand, session: aiohttp.ClientSession, tasks: TaskGroup
    ) -> None:
        match command:
            case protocol.BadCommand():
                self._fail(str(command))
            case protocol.PlaceCall() if self._busy:
                self._fail("a call is up already", "Hang up first.")
            case protocol.PlaceCall():
                self._busy, self._muted = True, False
                tasks.start_soon(self._place, command, session)
            case protocol.PressKey(digit):
                if self._carrier is not None:
                    self._carrier.press(digit)
            case protocol.Mute(on):
                self._muted = on
            case protocol.Say(text):
                tasks.start_soon(self._say, text)
            case protocol.HangUp():
                self._hang_up()
            case protocol.ListDevices():
                self._list_devices()

    def _fail(self, problem: str, fix: str = "") -> None:
        self._report("error", problem=problem, fix=fix)

    def _list_devices(self) -> None:
        try:
            inputs, outputs = names()
        except DeviceProblem as problem:
            self._fail(problem.problem, problem.fix)
            inputs, outputs = [], []
        self._report("devices", inputs=inputs, outputs=outputs)

    def _hang_up(self) -> None:
        if self._carrier is not None:
            self._carrier.hang_up()
        elif self._scope is not None:
            self._scope.cancel()

    async def _say(self, text: str) -> None:
        device = self._device
        if not isinstance(device, SimulatedCaller):
            self._fail(
                "only a simulated caller can say typed words aloud", 'Place the call with the device "simulated".'
            )
            return
        try:
            device.say(await speak(text, await self._ready_voice(), device.line))
        except DeviceProblem as problem:
            self._fail(problem.problem, problem.fix)

    async def _ready_voice(self) -> Synthesizer:
        if self._voice is None:
            self._voice = self._new_voice()
        try:
            await self._voice.start()
        except ProviderError as error:
            raise DeviceProblem(f"the simulated caller has no voice: {error.problem}", error.fix) from error
        return self._voice

    # ----------------------------------------------------------------- one call

    async def _place(self, order: protocol.PlaceCall, session: aiohttp.ClientSession) -> None:
        reason = "hung_up"
        try:
            with anyio.CancelScope() as self._scope:
                self._device = await self._make_device(order)
                reason = await self._call(order, self._device, session)
        except (DeviceProblem, PatterConnectionError) as problem:
            reason = "failed"
            self._fail(getattr(problem, "problem", str(problem)), getattr(problem, "fix", ""))
        finally:
            if self._device is not None:
                self._device.close()
            self._device = self._carrier = self._scope = None
            self._busy = False
        self._report("ended", reason=reason)

    async def _make_device(self, order: protocol.PlaceCall) -> Device:
        line = order.dial.format
        if order.device == "wav":
            return recorded_caller(line, order.wav_in, order.wav_out)
        if order.device == "simulated":
            voice = await self._ready_voice()
            words = {item.text: await speak(item.text, voice, line) for item in order.caller}
            return SimulatedCaller(line, order.caller, words, order.wav_out)
        return SoundDevice(line, order.input, order.output)

    async def _call(self, order: protocol.PlaceCall, device: Device, session: aiohttp.ClientSession) -> str:
        def pull() -> bytes:
            return carrier.next_frame()

        def mouth() -> bytes:
            words = device.mouth()
            return b"" if self._muted else words

        def on_state(state: CallState) -> None:
            if state == "ringing":
                self._report("ringing")
            elif state == "in_call":
                self._report("in_call", call_id=carrier.call_sid)

        carrier = LoopbackTwilio(
            order.dial, session, self._clock, mouth, None if device.pulls else device.hear, on_state=on_state
        )
        device.open(pull)
        carrier.ear_delay_s = device.ear_delay_s
        self._carrier = carrier
        lost, over = False, CallOver("hung_up")
        refused: PatterConnectionError | None = None  # may not leave the task group as it is: it would come out wrapped
        async with anyio.create_task_group() as tasks:

            async def watch() -> None:
                nonlocal lost
                lost = await self._watch(device, carrier)

            tasks.start_soon(watch)
            try:
                over = await carrier.call()
            except PatterConnectionError as problem:
                refused = problem
            tasks.cancel_scope.cancel()
        if refused is not None:
            raise refused
        for violation in carrier.violations:
            self._fail(f"the engine sent what a carrier would refuse: {violation}")
        if over.detail:
            self._fail(over.detail)
        return "device_lost" if lost else over.reason

    async def _watch(self, device: Device, carrier: LoopbackTwilio) -> bool:
        """Levels ten times a second; ends when the device fails (True) or has no more to say."""
        while True:
            await anyio.sleep(LEVELS_EVERY_S)
            microphone, speaker = device.levels()
            stats = carrier.stats
            self._report(
                "levels", mic=microphone, speaker=speaker, jitter_ms=round(stats.jitter_ms, 1), aec=device.aec,
                underruns=stats.underruns + device.underruns, dropped=stats.dropped + device.dropped,
            )  # fmt: skip
            problem = device.problem()
            if problem is not None:
                self._report("device_lost", problem=problem.problem, fix=problem.fix)
                carrier.hang_up()
                return True
            if device.finished():
                carrier.hang_up()
                return False
