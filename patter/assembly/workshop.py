"""The workshop: puts calls together from the parts that their agents ask for, and makes ready what they will need.

It owns the order in which parts are picked and joined; it refuses to know what happens in a call.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Any

import anyio
import anyio.to_thread

from patter import builders
from patter.assembly.brains import NO_MODEL, Brains
from patter.assembly.ears import Ears
from patter.assembly.engines import Engines
from patter.assembly.errands import Errands
from patter.assembly.foresight import Foresight
from patter.assembly.stock import Stock
from patter.assembly.voices import Voices
from patter.audio.format import AudioFormat
from patter.builders import Keys
from patter.bus import Bus
from patter.call.outfit import Outfit, Steered, Wiring
from patter.call.session import CallSession
from patter.call.toolbox import Toolbox, ToolSource
from patter.clock import Clock
from patter.conversations.pipeline import Pipeline
from patter.exceptions import ProviderError
from patter.guard import Guards
from patter.models import Agent, OnMessage
from patter.ports import AudioTap, CallInfo, Screen, Transport
from patter.providers.discovery import find_servers
from patter.providers.embedded.maker import WHISPER
from patter.providers.embedded.silero import SileroDetector, detector_missing
from patter.providers.embedded.smart_turn import SmartTurn
from patter.providers.embedded.whisper_model import WhisperModel
from patter.providers.openai_chat import DEFAULT_MODEL
from patter.providers.script import ScriptResponder

NO_KEYS = Keys()
UNUSED_HANDLER = "on_message is not asked in this call: its engine answers by itself. It is for pipelines and text."
Rung = dict[str, str]
Welcome = Callable[[CallInfo, Agent], Awaitable[Agent]]


class Workshop:
    """Builds sessions. `async with` it once per engine; `warm` loads the embedded engines before the first call."""

    def __init__(self, bus: Bus, clock: Clock, *, keys: Keys = NO_KEYS, stt_model: str = "") -> None:
        self._bus = bus
        self._clock = clock
        self._keys = keys
        self._stock = Stock(clock, keys)
        self._recognition = self._stock.shared[WHISPER] = WhisperModel(stt_model)
        self._brains = Brains(self._stock)
        self._ears = Ears(self._stock, stt_model)
        self._voices = Voices(self._stock)
        self._engines = Engines(self._stock)
        self._foresight: Foresight
        self._turn_model = SmartTurn()
        self._open = AsyncExitStack()
        self._warm = False

    async def __aenter__(self) -> Workshop:
        await self._open.enter_async_context(self._stock)
        errands = Errands(self._stock, self._engines, self._brains, self._voices)
        self._foresight = Foresight(self._stock.tasks, errands.checks, errands.preparations)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._open.aclose()
        await anyio.to_thread.run_sync(self._recognition.close)

    # ------------------------------------------------------------------ before a call

    async def warm(self) -> None:
        """Look for model servers on this machine and load the embedded engines, so that the first call waits for nothing."""
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._probe)
            tasks.start_soon(self._warm_voice)
            tasks.start_soon(self._warm_recognition)
        self._warm = True

    async def _warm_voice(self) -> None:
        if not self._voices.gap:
            try:
                await self._stock.voice(builders.embedded_tts(), Agent(""), None).start()
            except ProviderError as error:
                self._voices.gap = f"{error}."

    async def _warm_recognition(self) -> None:
        if not self._ears.gap and not detector_missing():
            try:
                await anyio.to_thread.run_sync(SileroDetector, abandon_on_cancel=True)
                await anyio.to_thread.run_sync(self._recognition.warm, abandon_on_cancel=True)
            except ProviderError as error:
                self._ears.gap = f"{error}."

    async def _probe(self) -> None:
        self._brains.servers = [server for server in await find_servers(self._stock.http) if server.models]

    def rungs(self) -> dict[str, Rung]:
        """What this machine would use for each stage without keys: name, state and a note with the fix."""
        state = "ready" if self._warm else "loading"
        server = self._brains.servers[0] if self._brains.servers else None
        llm: Rung = {"name": "script (no model)", "state": "ready", "note": NO_MODEL}
        if self._keys.openai:
            llm = {"name": f"openai/{DEFAULT_MODEL}", "state": "ready", "note": ""}
        elif server is not None:
            llm = {"name": f"{server.name}/{server.models[0]}", "state": "ready", "note": f"found at {server.base_url}"}
        deaf = self._ears.gap or detector_missing()
        return {
            "stt": _rung("whisper-base (embedded)", deaf, state, "The caller's words can be typed."),
            "tts": _rung("hibari (embedded)", self._voices.gap, state, "The agent's words are shown, not spoken."),
            "vad": _rung("silero (embedded)", detector_missing(), state, "Speech is not detected."),
            "llm": llm,
        }

    async def vouch(self, agent: Agent) -> None:
        """Return when nothing is known to be in the agent's way. Raises PatterError for a certain refusal."""
        await self._foresight.vouch(agent)

    def foresee(self, key: object, agent: Agent, line: AudioFormat) -> None:
        """A call (`key` stands for it) is on its way to this agent over a line of this format."""
        self._foresight.foresee(key, agent, line)

    def check(self, agent: Agent) -> None:
        """Raises ValueError, saying what is missing and where to put it, when the agent cannot be run with these keys."""
        builders.check_agent(self._keys, agent)

    # ------------------------------------------------------------------ a call

    def open_call(
        self,
        call: CallInfo,
        agent: Agent,
        transport: Transport,
        *,
        on_message: OnMessage | None = None,
        agent_name: str = "",
        agent_version: str = "",
        voicemail: str = "",
        welcome: Welcome | None = None,
        taps: Sequence[AudioTap] = (),
    ) -> CallSession:
        """A session ready to run. Raises ValueError for an agent that cannot be run with these keys."""
        abilities = transport.abilities
        silent = abilities.hears is None and abilities.plays is None
        self.check(builders.as_text(agent) if silent else agent)
        sources: list[ToolSource] = []

        def rework(session: Steered, agent: Agent) -> tuple[Toolbox, Screen]:
            return Toolbox(agent.tools, webhooks=self._stock.webhooks, sources=sources), Guards(agent.guardrails).screen

        def outfit(session: Steered, chosen: Agent) -> Outfit:
            self.check(builders.as_text(chosen) if silent else chosen)
            notes = [str(problem) for source in sources for problem in getattr(source, "problems", ())]
            if self._engines.alone(chosen) and not silent:
                if on_message is not None:
                    notes.append(UNUSED_HANDLER)
                engine = self._engines.make(chosen, notes.append)
                parts = rework(session, chosen)
                return Outfit(engine.conversation, *parts, engine.stt, engine.llm, engine.tts, tuple(notes))
            return self._pipeline(session, chosen, on_message, abilities.hears, abilities.plays, rework, notes)

        async def receive(call: CallInfo, agent: Agent) -> Agent:
            chosen = await welcome(call, agent) if welcome is not None else agent
            if self._brains.needs_search(chosen, on_message):
                await self._probe()  # a server may have been started since; on loopback this takes milliseconds
            if chosen.mcp:
                taken = [str(tool.get("name")) for tool in chosen.tools or ()]
                sources[:] = [await self._stock.mcp.offer(chosen.mcp, taken)]
            return self._engines.settled(chosen)

        wiring = Wiring(outfit, rework, receive, taps)
        return CallSession(
            call,
            agent,
            transport,
            self._bus,
            self._clock,
            wiring,
            agent_name=agent_name,
            agent_version=agent_version,
            voicemail=voicemail,
        )

    def _pipeline(
        self,
        session: Steered,
        agent: Agent,
        on_message: OnMessage | None,
        hears: AudioFormat | None,
        plays: AudioFormat | None,
        rework: Callable[[Steered, Agent], tuple[Toolbox, Screen]],
        notes: list[str],
    ) -> Outfit:
        responder = self._brains.pick(session, agent, on_message, notes)
        hearing = self._ears.pick(agent, hears, plays, notes) if hears is not None else None
        synthesizer = self._voices.pick(agent, plays, notes) if plays is not None else None
        pipeline = Pipeline(
            responder=responder,
            clock=self._clock,
            detector=hearing.detector if hearing else None,
            turn_model=self._turn_model if hearing and agent.turn_taking.turn_model else None,
            synthesizer=synthesizer,
            fallback_ears=hearing.makers if hearing else (),
            drafts=on_message is None,
            guided=on_message is None and not isinstance(responder, ScriptResponder),
        )
        return Outfit(
            pipeline,
            *rework(session, agent),
            stt=_name(hearing.first if hearing else None),
            llm=_name(responder),
            tts=_name(synthesizer),
            notes=tuple(notes),
        )


def _rung(name: str, gap: str, state: str, otherwise: str) -> Rung:
    if gap:
        return {"name": name, "state": "missing", "note": f"{gap} {otherwise}"}
    return {"name": name, "state": state, "note": ""}


def _name(part: Any) -> str:
    return f"{part.name}/{part.model}" if part is not None else ""
