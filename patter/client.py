"""`Patter`: the face of the SDK. It checks what the user gives and hands it to the parts.

It owns the public signatures; it refuses to know how a call works.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import anyio

from patter import builders
from patter.assembly import Workshop
from patter.builders import Carrier, Keys
from patter.bus import Bus
from patter.callbacks import CallbackRunner, Callbacks
from patter.clock import Clock
from patter.exceptions import NotInThisVersion, PatterConnectionError, PatterError
from patter.models import Agent, IncomingMessage, LLMConfig, OnMessage, ScriptRule, STTConfig, TTSConfig, TurnTaking
from patter.observe.cost import Prices
from patter.observe.metrics import MetricsReader
from patter.server.app import PortInUse, listen
from patter.server.front_door import FrontDoor, Line
from patter.server.twilio_routes import Account
from patter.terminal.call import TerminalCall

log = logging.getLogger(__name__)


@dataclass(eq=False)
class _Serving:
    """One life of `serve()`."""

    stop: anyio.Event = field(default_factory=anyio.Event)
    over: anyio.Event = field(default_factory=anyio.Event)


class Patter:
    """Gives AI agents a phone number. Raises ValueError, naming it, for a credential that is missing or contradictory."""

    def __init__(
        self,
        mode: str = "local",
        twilio_sid: str = "",
        twilio_token: str = "",
        telnyx_key: str = "",
        telnyx_connection_id: str = "",
        openai_key: str = "",
        elevenlabs_key: str = "",
        deepgram_key: str = "",
        phone_number: str = "",
        webhook_url: str = "",
        pricing: dict[str, Any] | None = None,
    ) -> None:
        self._carrier = builders.choose_carrier(
            mode, twilio_sid, twilio_token, telnyx_key, telnyx_connection_id, phone_number, webhook_url
        )
        self._keys = Keys(openai=openai_key, elevenlabs=elevenlabs_key, deepgram=deepgram_key)
        self._phone_number = phone_number
        self._webhook_url = webhook_url
        self._prices = Prices.load(pricing)
        self._serving: _Serving | None = None

    def agent(
        self,
        system_prompt: str,
        voice: str = "alloy",
        model: str = "gpt-4o-mini-realtime-preview",
        language: str = "en",
        first_message: str = "",
        tools: list[dict[str, Any]] | None = None,
        provider: str = "openai_realtime",
        stt: STTConfig | None = None,
        tts: TTSConfig | None = None,
        variables: dict[str, Any] | None = None,
        guardrails: list[Any] | None = None,
        *,
        llm: LLMConfig | None = None,
        script: Sequence[ScriptRule] = (),
        turn_taking: TurnTaking | None = None,
        name: str = "",
    ) -> Agent:
        """An agent, checked. `llm`, `script`, `turn_taking` and `name` are as in `models.Agent`.

        Raises ValueError for an unknown provider, a missing key or a tool that cannot work, TypeError for wrong types.
        """
        made = Agent(
            system_prompt,
            voice,
            model,
            language,
            first_message,
            tools,
            provider,
            stt,
            tts,
            variables,
            guardrails,
            llm=llm,
            script=tuple(script),
            turn_taking=turn_taking or TurnTaking(),
            name=name,
        )
        builders.check_agent(self._keys, made)
        return made

    async def call(
        self,
        to: str,
        on_message: Callable[[IncomingMessage], Awaitable[str]] | None = None,
        first_message: str = "",
        from_number: str = "",
        agent_id: str | None = None,
        agent: Agent | None = None,
        machine_detection: bool = False,
        on_machine: Callable[[dict[str, Any]], Awaitable[None]] | None = None,
        voicemail_message: str = "",
    ) -> None:
        """Call `to` (E.164). Raises PatterConnectionError without an `agent` or a carrier, ValueError for a wrong number.

        This version dials nobody yet: once the arguments are right it raises NotInThisVersion.
        """
        if agent is None:
            raise PatterConnectionError("call() needs an agent: call(to, agent=phone.agent(...))")
        _check_is_agent(agent)
        builders.check_number(to, "to")
        if from_number:
            builders.check_number(from_number, "from_number")
        builders.check_on_message(on_message)
        self._check_carrier("call()")
        raise NotInThisVersion(
            "dialling out over a carrier is not in this version: rehearse the agent with patter-tui, or by text with test()"
        )

    async def serve(
        self,
        agent: Agent,
        port: int = 8000,
        recording: bool = False,
        on_call_start: Callable[[dict[str, Any]], Awaitable[Any]] | None = None,
        on_call_end: Callable[[dict[str, Any]], Awaitable[None]] | None = None,
        on_transcript: Callable[[dict[str, Any]], Awaitable[None]] | None = None,
        on_message: OnMessage | None = None,
        on_metrics: Callable[[dict[str, Any]], Awaitable[None]] | None = None,
        voicemail_message: str = "",
        dashboard: bool = True,
        dashboard_token: str = "",
        tunnel: bool = False,
    ) -> None:
        """Answer the phone until `disconnect()`. `port` 1 to 65535, or 0 for any free one; it listens on loopback only.

        The carrier reaches it as https://`webhook_url`: point your number's voice webhook to /webhooks/twilio/voice there.
        Raises TypeError if `agent` is no Agent, ValueError for a wrong port or a missing `webhook_url`,
        PatterConnectionError without a carrier or if the port is taken, and NotInThisVersion for recording, tunnels,
        voicemail, and engines or carriers that are not built yet. There is no dashboard, and no journal of these calls, yet.
        """
        _check_is_agent(agent)
        if isinstance(port, bool) or not isinstance(port, int) or not 0 <= port <= 65_535:
            raise ValueError(f"port must be a number from 1 to 65535 (0: any free one), not {port!r}")
        callbacks = Callbacks(on_call_start, on_call_end, on_transcript, on_metrics)
        builders.check_on_message(on_message)
        self._check_carrier("serve()")
        if not self._webhook_url and not tunnel:
            raise ValueError('webhook_url is missing: the public host of this machine, such as "voice.example.com"')
        for asked, what in ((recording, "recording"), (tunnel, "tunnel"), (voicemail_message, "voicemail_message")):
            if asked:
                raise NotInThisVersion(f"{what} of serve() is not in this version: leave it out")
        builders.check_answerable(self._carrier)
        if self._serving is not None:
            raise PatterError("this Patter serves already: disconnect() it first, or make another Patter")
        self._serving = serving = _Serving()
        try:
            await self._answer(serving, agent, port, on_message, callbacks)
        finally:
            self._serving = None
            serving.over.set()

    async def _answer(
        self, serving: _Serving, agent: Agent, port: int, on_message: OnMessage | None, callbacks: Callbacks
    ) -> None:
        clock = Clock()
        bus = Bus(clock)
        bus.add_sink(MetricsReader(bus, self._prices))
        runner = CallbackRunner(bus, callbacks, prices=self._prices, keys=self._keys)
        line = Line(Account(self._carrier.account, self._carrier.secret), self._phone_number, self._webhook_url)
        try:
            listener = listen(port)
        except PortInUse as error:
            raise PatterConnectionError(str(error)) from None
        with listener:
            async with Workshop(bus, clock, keys=self._keys) as workshop, runner:
                workshop.check(agent)
                open_call = partial(workshop.open_call, welcome=runner.welcome)
                log.info("answering calls", extra={"port": listener.getsockname()[1]})
                door = FrontDoor(line, listener, agent, on_message, bus, clock, open_call)
                await _keep_open(door, workshop, serving.stop)

    async def test(
        self,
        agent: Agent,
        on_message: OnMessage | None = None,
        on_call_start: Callable[[dict[str, Any]], Awaitable[Any]] | None = None,
        on_call_end: Callable[[dict[str, Any]], Awaitable[None]] | None = None,
        *,
        as_json: bool = False,
        version: str = "",
    ) -> None:
        """Talk to the agent by text in this terminal: no carrier, no sound; piped lines work too.

        `as_json` prints every event as one JSON object a line; `version` names the agent's version in them. Answers come
        from `on_message`, a model, or the agent's script. Raises TypeError if `agent` is no Agent.
        """
        _check_is_agent(agent)
        builders.check_on_message(on_message)
        callbacks = Callbacks(on_call_start, on_call_end)
        clock = Clock()
        bus = Bus(clock)
        bus.add_sink(MetricsReader(bus, self._prices))
        runner = CallbackRunner(bus, callbacks, prices=self._prices, keys=self._keys)
        async with Workshop(bus, clock, keys=self._keys) as workshop, runner:
            open_call = partial(workshop.open_call, on_message=on_message, welcome=runner.welcome)
            call = TerminalCall(bus, clock, open_call, sys.stdin, sys.stdout, as_json=as_json)
            await call.run(builders.as_text(agent), agent_name=agent.name, agent_version=version)

    async def disconnect(self) -> None:
        """Stop `serve()`: no new calls, those that are up may finish, then the port is free. Does nothing if none runs."""
        serving = self._serving
        if serving is not None:
            serving.stop.set()
            await serving.over.wait()

    def _check_carrier(self, what: str) -> None:
        if self._carrier == Carrier():
            raise PatterConnectionError(f"{what} needs a carrier: give its credentials to Patter(...)")

    # ------------------------------------------------------------------ values

    @staticmethod
    def deepgram(api_key: str, language: str = "en") -> STTConfig:
        """Speech-to-text settings for the engine of this name."""
        return builders.deepgram(api_key, language)

    @staticmethod
    def whisper(api_key: str, language: str = "en") -> STTConfig:
        """Speech-to-text settings for the engine of this name."""
        return builders.whisper(api_key, language)

    @staticmethod
    def embedded_stt(language: str = "en") -> STTConfig:
        """Speech-to-text on this machine: no key, no network."""
        return builders.embedded_stt(language)

    @staticmethod
    def elevenlabs(api_key: str, voice: str = "rachel") -> TTSConfig:
        """Text-to-speech settings for the engine of this name."""
        return builders.elevenlabs(api_key, voice)

    @staticmethod
    def openai_tts(api_key: str, voice: str = "alloy") -> TTSConfig:
        """Text-to-speech settings for the engine of this name."""
        return builders.openai_tts(api_key, voice)

    @staticmethod
    def embedded_tts(voice: str = "heart") -> TTSConfig:
        """Text-to-speech on this machine: no key, no network."""
        return builders.embedded_tts(voice)

    @staticmethod
    def guardrail(
        name: str,
        blocked_terms: list[str] | None = None,
        check: Callable[[str], bool] | None = None,
        replacement: str = "I'm sorry, I can't respond to that.",
    ) -> dict[str, Any]:
        """An output guardrail for `agent(guardrails=[...])`."""
        return builders.guardrail(name, blocked_terms, check, replacement)

    @staticmethod
    def tool(
        name: str,
        description: str = "",
        parameters: dict[str, Any] | None = None,
        handler: object = None,
        webhook_url: str = "",
    ) -> dict[str, Any]:
        """A tool for `agent(tools=[...])`; `parameters` is a JSON Schema. Raises ValueError without handler or webhook."""
        return builders.tool(name, description, parameters, handler, webhook_url)


def _check_is_agent(agent: object) -> None:
    if not isinstance(agent, Agent):
        raise TypeError(f"agent must be an Agent, as Patter.agent(...) makes it, not {type(agent).__name__}")


async def _keep_open(door: FrontDoor, workshop: Workshop, stop: anyio.Event) -> None:
    async with door, anyio.create_task_group() as tasks:
        tasks.start_soon(_warm, workshop)
        await stop.wait()
        await door.close()
        tasks.cancel_scope.cancel()


async def _warm(workshop: Workshop) -> None:
    try:
        await workshop.warm()
    except Exception:
        log.exception("loading the engines failed: calls will try again")
