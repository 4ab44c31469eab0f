"""`Patter`: the face of the SDK. It checks what the user gives and hands it to the parts.

It owns the public signatures; it refuses to know how a call works.
"""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from patter import builders
from patter.agentfile import AgentFile
from patter.assembly import Workshop
from patter.builders import Carrier, Keys
from patter.bus import Bus
from patter.callbacks import CallbackRunner, Callbacks
from patter.clock import Clock
from patter.exceptions import PatterConnectionError, PatterError, plain_errors
from patter.models import (
    Agent,
    Budget,
    IncomingHandler,
    IncomingMessage,
    LLMConfig,
    McpServer,
    Memory,
    OnMessage,
    RealtimeConfig,
    Recovery,
    ScriptRule,
    STTConfig,
    TTSConfig,
    TurnTaking,
)
from patter.observe.meter import CostMeter
from patter.observe.prices import Prices
from patter.observe.reader import MetricsReader
from patter.server.front_door import LineSettings
from patter.server.home import usual_home
from patter.server.orders import RING_TIMEOUT_S, Order
from patter.server.stop_signals import stop_signals
from patter.settings import PRICES, checked_memory
from patter.station import Plan, SharedLine, Station
from patter.terminal.call import TerminalCall


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
        *,
        telnyx_public_key: str = "",
        telnyx_codec: str = "PCMU",
        carrier_api: str = "",
        home: str | Path = "",
        openai_url: str = "",
        deepgram_url: str = "",
        elevenlabs_url: str = "",
        webhook_secret: str = "",
        webhook_reach: str = "public",
        budget: Budget | None = None,
        memory: Memory | None = None,
    ) -> None:
        """`telnyx_public_key` (base64; else $TELNYX_PUBLIC_KEY) proves that webhooks are Telnyx'; `telnyx_codec` is what
        Telnyx is sent: "PCMU", "PCMA" or "L16". `carrier_api` is another address of the carrier's REST API, such as a
        loopback carrier's; `home` is where journals and recordings of calls go (else $PATTER_HOME, else the usual place).

        `openai_url`, `deepgram_url` and `elevenlabs_url` are other addresses of the vendors: a region, a proxy, a loopback
        vendor. With a `webhook_secret`, what is posted to tools' webhooks and `on_message` addresses carries
        X-Patter-Signature, the HMAC-SHA256 of the body in hex. `webhook_reach`: "public", or which other addresses tools'
        webhooks may reach: "loopback", "private", or networks such as "10.1.0.0/16"; several joined by commas.

        `budget` is what a call, and all calls of a day, may cost: at the limit the caller hears its farewell and the call ends.
        Prices are the shipped list with the home's prices.toml over it, and `pricing` over both. `memory` says where calls are
        kept, for how long, and what of them is masked."""
        self._carrier = builders.choose_carrier(
            mode, twilio_sid, twilio_token, telnyx_key, telnyx_connection_id, phone_number, webhook_url,
            telnyx_public_key=telnyx_public_key, telnyx_codec=telnyx_codec, carrier_api=carrier_api,
        )  # fmt: skip
        self._home = Path(home).expanduser() if home else usual_home()
        self._keys = Keys(
            openai=openai_key, elevenlabs=elevenlabs_key, deepgram=deepgram_key, openai_url=openai_url,
            deepgram_url=deepgram_url, elevenlabs_url=elevenlabs_url, webhook_secret=webhook_secret,
            webhook_reach=webhook_reach,
        )  # fmt: skip
        self._phone_number = phone_number
        self._webhook_url = webhook_url
        sheets = self._home / PRICES
        self._prices = Prices.load(pricing, file=sheets if sheets.is_file() else None)
        self._budget = budget or Budget()
        builders.check_budget(self._budget)
        self._memory = checked_memory(memory or Memory())
        self._serving: SharedLine | None = None

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
        agent_id: str = "",
        realtime: RealtimeConfig | None = None,
        recovery: Recovery | None = None,
        stt_fallbacks: Sequence[STTConfig] = (),
        llm_fallbacks: Sequence[LLMConfig] = (),
        tts_fallbacks: Sequence[TTSConfig] = (),
        mcp: Sequence[McpServer] = (),
        budget: Budget | None = None,
    ) -> Agent:
        """An agent, checked. `llm`, `script`, `turn_taking` and `name` are as in `models.Agent`.

        `agent_id` names the agent that is stored at the vendor, where the engine needs one; `realtime` says how a
        speech-to-speech engine listens; `recovery` what the caller hears when a part fails; the `…_fallbacks` are tried in
        their order when the provider before them fails; `mcp` are servers whose tools the agent has too; `budget` is what a
        call of this agent, and all of them in a day, may cost.

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
            agent_id=agent_id,
            realtime=realtime or RealtimeConfig(),
            recovery=recovery or Recovery(),
            stt_fallbacks=tuple(stt_fallbacks),
            llm_fallbacks=tuple(llm_fallbacks),
            tts_fallbacks=tuple(tts_fallbacks),
            mcp=tuple(mcp),
            budget=budget or Budget(),
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
        *,
        ring_timeout: float = RING_TIMEOUT_S,
        wait: bool = False,
        port: int = 8000,
    ) -> None:
        """Call `to` (E.164) with an agent of this call's own, and everything else of this call's own too.

        While `serve()` runs, the call goes over its line and this returns once the carrier has accepted it (with `wait`:
        when it is over). Without, this opens a line on `port` for the call and returns when it is over; calls that begin
        meanwhile share it, and it is closed after the last one. `ring_timeout` in
        seconds (5 to 600). `voicemail_message` is left word for word if a machine answers. `agent_id` has no meaning here.

        Raises PatterConnectionError without an `agent` or a carrier, ValueError for a wrong number, and PatterError, with
        what to do, when the carrier refuses. A call that nobody answers is no error: it ends with that reason.
        """
        if agent is None:
            raise PatterConnectionError("call() needs an agent: call(to, agent=phone.agent(...))")
        _check_is_agent(agent)
        builders.check_number(to, "to")
        if from_number:
            builders.check_number(from_number, "from_number")
        if not 5 <= ring_timeout <= 600:
            raise ValueError(f"ring_timeout must be from 5 to 600 seconds, not {ring_timeout!r}")
        _check_port(port)
        builders.check_on_message(on_message)
        builders.check_callback(on_machine, "on_machine")
        self._check_carrier("call()")
        spoken = replace(agent, first_message=first_message) if first_message else agent
        answer = IncomingHandler(on_message) if callable(on_message) else on_message
        order = Order(
            to,
            from_number or self._phone_number,
            AgentFile(Path(agent.name or "agent"), agent.name, spoken, answer, (), "", ""),
            voicemail_message,
            machine_detection or on_machine is not None,
            ring_timeout,
        )
        while (line := self._serving) is not None and line.own and line.stop.is_set():
            await line.over.wait()  # it closes behind the calls before this one
        if line is not None:
            await line.carry(order, on_machine, wait=wait or line.own)
            return
        self._check_host("call()", tunnel=False)
        settings = replace(self._line(port), take_number=False)
        self._serving = line = SharedLine(own=True)
        try:
            with plain_errors():
                async with Station(self._plan(settings, Callbacks(), agent)) as station:
                    line.opened(station)
                    try:
                        await line.carry_first(order, on_machine)
                    finally:  # the first call may be refused, and others have shared its line
                        await station.close(line.hurry)
        finally:
            self._serving = None
            line.closed()

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
        *,
        agents: Mapping[str, Agent] | None = None,
        configure_number: bool = True,
        restore_number: bool = False,
    ) -> None:
        """Answer the phone until `disconnect()`, SIGINT or SIGTERM; it listens on `port` (0: any free one) of loopback.

        The carrier reaches it as https://`webhook_url`, or through a `tunnel` of cloudflared or ngrok. `agents` gives other
        numbers of the same account agents of their own. `configure_number` points the number's webhook here (and warns if it
        pointed elsewhere), `restore_number` puts the old one back at the end. `recording` lets the carrier record and keeps
        a stereo WAV beside the journal of each call, under `Patter(home=...)`. `voicemail_message` is left on machines that
        answer calls placed meanwhile. At the end calls that are up may finish for 30 s, then hear a goodbye; a second signal
        ends them at once.

        Raises TypeError if `agent` is no Agent, ValueError for a wrong port, a missing `webhook_url` or a tunnel that would
        show an open dashboard, PatterConnectionError without a carrier, if the port is taken or the tunnel cannot be opened,
        and PatterError if the carrier refuses, or a provider of the agent does for certain (a wrong key).

        With `dashboard` the page (/dashboard) and the API (/api/v1) are on the same port, for who has the `dashboard_token`:
        `Authorization: Bearer …`, or the page's form. Without a token they are only for this machine's own user, who opens
        http://127.0.0.1:PORT/dashboard; they close for everybody as soon as a proxy is found to hide where requests are from.
        """
        _check_is_agent(agent)
        for number, other in (agents or {}).items():
            builders.check_number(number, "a number of agents")
            _check_is_agent(other)
        _check_port(port)
        callbacks = Callbacks(on_call_start, on_call_end, on_transcript, on_metrics)
        builders.check_on_message(on_message)
        self._check_carrier("serve()")
        self._check_host("serve()", tunnel=tunnel)
        if tunnel and dashboard and not dashboard_token:
            raise ValueError(
                "a tunnel would show the dashboard to everybody: give dashboard_token, or say dashboard=False"
            )
        if self._serving is not None:
            raise PatterError("this Patter's line is open already: disconnect() it first, or make another Patter")
        settings = replace(
            self._line(port), recording=recording, tunnel=tunnel, take_number=configure_number, restore=restore_number
        )
        self._serving = serving = SharedLine(voicemail_message)
        answering = (agent, *(agents or {}).values())
        try:
            with plain_errors(), stop_signals(serving.ask_to_stop):
                plan = replace(
                    self._plan(settings, callbacks, *answering), dashboard=dashboard, dashboard_token=dashboard_token
                )
                async with Station(plan) as station:
                    station.answer(self._phone_number, agent, on_message)
                    for number, other in (agents or {}).items():
                        station.answer(number, other, on_message)
                    serving.opened(station)
                    await serving.stop.wait()
                    await station.close(serving.hurry)
        finally:
            self._serving = None
            serving.closed()

    def _line(self, port: int) -> LineSettings:
        return LineSettings(self._carrier, self._phone_number, self._webhook_url, port=port)

    def _plan(self, settings: LineSettings, callbacks: Callbacks, *agents: Agent) -> Plan:
        home = self._home / "serve" / self._phone_number.removeprefix("+")
        return Plan(settings, home, self._keys, self._prices, callbacks, agents, self._budget, self._memory)

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
        bus.add_sink(CostMeter(bus, clock, self._prices))
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

    def _check_host(self, what: str, *, tunnel: bool) -> None:
        if not self._webhook_url and not tunnel:
            hint = ", or say tunnel=True" if what == "serve()" else ""
            raise ValueError(
                f'webhook_url is missing: {what} needs the public host of this machine, such as "voice.example.com"{hint}'
            )

    # ------------------------------------------------------------------ values

    deepgram = staticmethod(builders.deepgram)
    whisper = staticmethod(builders.whisper)
    embedded_stt = staticmethod(builders.embedded_stt)
    elevenlabs = staticmethod(builders.elevenlabs)
    openai_tts = staticmethod(builders.openai_tts)
    embedded_tts = staticmethod(builders.embedded_tts)
    guardrail = staticmethod(builders.guardrail)
    tool = staticmethod(builders.tool)
    mcp_server = staticmethod(builders.mcp_server)


def _check_is_agent(agent: object) -> None:
    if not isinstance(agent, Agent):
        raise TypeError(f"agent must be an Agent, as Patter.agent(...) makes it, not {type(agent).__name__}")


def _check_port(port: object) -> None:
    if isinstance(port, bool) or not isinstance(port, int) or not 0 <= port <= 65_535:
        raise ValueError(f"port must be a number from 1 to 65535 (0: any free one), not {port!r}")
