"""The workshop: picks the parts of a call by what the agent asks for and what this machine has.

It owns the choice and everything that is built once (models, sockets, price rows); it refuses to know what happens in a call.
Mode and vendor names stand here and where arguments are checked, nowhere else.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Any

import aiohttp
import anyio
import anyio.to_thread

from patter.audio.format import AudioFormat
from patter.builders import Keys
from patter.bus import Bus
from patter.call.outfit import Outfit, Steered, Wiring
from patter.call.session import CallSession
from patter.call.toolbox import Toolbox
from patter.clock import Clock
from patter.control import CallControl
from patter.conversations.pipeline import Pipeline
from patter.exceptions import NotInThisVersion, ProviderError
from patter.guard import Guards
from patter.models import Agent, LLMConfig, OnMessage
from patter.ports import AudioTap, CallInfo, Responder, Screen, Synthesizer, Transcriber, Transport, VoiceDetector
from patter.providers.discovery import Found, find_servers
from patter.providers.embedded.hibari import HibariSynthesizer, voice_missing
from patter.providers.embedded.silero import SileroDetector, detector_missing
from patter.providers.embedded.smart_turn import SmartTurn
from patter.providers.embedded.whisper import WhisperTranscriber
from patter.providers.embedded.whisper_model import WhisperModel, recognition_missing
from patter.providers.handler import HandlerResponder
from patter.providers.openai_chat import DEFAULT_MODEL, OpenAIChat
from patter.providers.script import ScriptResponder
from patter.providers.webhook import Webhooks

log = logging.getLogger(__name__)

NO_MODEL = (
    "No language model: answers come from the script rules of the agent. "
    "Connect one with [llm] base_url in the agent file, an OpenAI key, or a local server such as Ollama."
)

NO_KEYS = Keys()
Rung = dict[str, str]
Welcome = Callable[[CallInfo, Agent], Awaitable[Agent]]


class Workshop:
    """Builds sessions. `async with` it once per engine; `warm` loads the embedded engines before the first call."""

    def __init__(self, bus: Bus, clock: Clock, *, keys: Keys = NO_KEYS, stt_model: str = "") -> None:
        self._bus = bus
        self._clock = clock
        self._keys = keys
        self._http: aiohttp.ClientSession
        self._webhooks: Webhooks
        self._open = AsyncExitStack()
        self._recognition = WhisperModel(stt_model)
        self._recognition_gap = recognition_missing(stt_model) or detector_missing()
        self._voice_gap = voice_missing()
        self._turn_model = SmartTurn()
        self._voices: dict[str, HibariSynthesizer] = {}
        self._servers: Sequence[Found] = ()
        self._warm = False

    async def __aenter__(self) -> Workshop:
        self._http = await self._open.enter_async_context(aiohttp.ClientSession())
        self._webhooks = await self._open.enter_async_context(Webhooks())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for voice in self._voices.values():
            await voice.aclose()
        await self._open.aclose()
        await anyio.to_thread.run_sync(self._recognition.close)

    async def warm(self) -> None:
        """Look for model servers on this machine and load the embedded engines, so that the first call waits for nothing."""
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._probe)
            tasks.start_soon(self._warm_voice)
            tasks.start_soon(self._warm_recognition)
        self._warm = True

    async def _warm_voice(self) -> None:
        if not self._voice_gap:
            try:
                await self._voice("").start()
            except ProviderError as error:
                self._voice_gap = f"{error}."

    async def _warm_recognition(self) -> None:
        if not self._recognition_gap:
            try:
                await anyio.to_thread.run_sync(SileroDetector, abandon_on_cancel=True)
                await anyio.to_thread.run_sync(self._recognition.warm, abandon_on_cancel=True)
            except ProviderError as error:
                self._recognition_gap = f"{error}."

    async def _probe(self) -> None:
        self._servers = [server for server in await find_servers(self._http) if server.models]

    def rungs(self) -> dict[str, Rung]:
        """What this machine would use for each stage without keys: name, state and a note with the fix."""
        state = "ready" if self._warm else "loading"
        server = self._servers[0] if self._servers else None
        llm: Rung = {"name": "script (no model)", "state": "ready", "note": NO_MODEL}
        if self._keys.openai:
            llm = {"name": f"openai/{DEFAULT_MODEL}", "state": "ready", "note": ""}
        elif server is not None:
            llm = {"name": f"{server.name}/{server.models[0]}", "state": "ready", "note": f"found at {server.base_url}"}
        return {
            "stt": _rung("whisper-base (embedded)", self._recognition_gap, state, "The caller's words can be typed."),
            "tts": _rung("hibari (embedded)", self._voice_gap, state, "The agent's words are shown, not spoken."),
            "vad": _rung("silero (embedded)", detector_missing(), state, "Speech is not detected."),
            "llm": llm,
        }

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
        """A session ready to run. Raises NotInThisVersion for parts that are not built yet, ValueError for bad tools."""
        self.check(agent)
        abilities = transport.abilities

        def outfit(session: Steered, chosen: Agent) -> Outfit:
            self.check(chosen)
            responder, notes = self._responder(session, chosen, on_message)
            transcriber, detector = self._ears(chosen, notes) if abilities.hears else (None, None)
            synthesizer = self._mouth(chosen, notes) if abilities.plays else None
            return Outfit(
                Pipeline(
                    responder=responder,
                    clock=self._clock,
                    transcriber=transcriber,
                    detector=detector,
                    turn_model=self._turn_model if detector and chosen.turn_taking.turn_model else None,
                    synthesizer=synthesizer,
                ),
                *self._rework(session, chosen),
                stt=_name(transcriber),
                llm=_name(responder),
                tts=_name(synthesizer),
                notes=tuple(notes),
            )

        async def receive(call: CallInfo, agent: Agent) -> Agent:
            if on_message is None and agent.llm is None and not self._keys.openai:
                await self._probe()  # a server may have been started since; on loopback this takes milliseconds
            return await welcome(call, agent) if welcome is not None else agent

        wiring = Wiring(outfit, self._rework, receive, taps)
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

    def check(self, agent: Agent) -> None:
        """Raises NotInThisVersion, naming the part and what works instead, when this version cannot run the agent."""
        if agent.provider != "pipeline":
            raise NotInThisVersion(
                f'the {agent.provider} engine is not in this version: use provider = "pipeline" '
                "(with the embedded engines it needs no key)"
            )
        for stage, config in (("stt", agent.stt), ("tts", agent.tts)):
            if config is not None and config.provider != "embedded":
                raise NotInThisVersion(
                    f'{stage} provider {config.provider!r} is not in this version: use "embedded", which needs no key'
                )

    async def vouch(self, agent: Agent) -> None:
        """See `Foresight.vouch`."""

    def foresee(self, key: object, agent: Agent, line: AudioFormat) -> None:
        """See `Foresight.foresee`."""

    def _rework(self, session: Steered, agent: Agent) -> tuple[Toolbox, Screen]:
        return Toolbox(agent.tools, webhooks=self._webhooks), Guards(agent.guardrails).screen

    # ------------------------------------------------------------------ the ladders

    def _responder(self, session: Steered, agent: Agent, on_message: OnMessage | None) -> tuple[Responder, list[str]]:
        if on_message is not None:
            call = session.call

            async def transfer(number: str, summary: str) -> None:
                await session.transfer(number, "handler", summary, failed=control.transfer_failed)

            async def hang_up() -> None:
                await session.hang_up_after_goodbye("handler_ended")

            control = CallControl(
                call.call_id, call.caller, call.callee, call.telephony, transfer=transfer, hang_up=hang_up
            )
            return HandlerResponder(on_message, control, history=session.history, http=self._http), []
        settings = agent.llm or LLMConfig()
        key = settings.api_key or ("" if settings.base_url else self._keys.openai)
        if settings.base_url or key:
            return OpenAIChat(self._http, api_key=key, model=settings.model, base_url=settings.base_url), []
        if self._servers:
            server = self._servers[0]
            model = settings.model or server.models[0]
            note = f"Answers come from {server.name} at {server.base_url}, found on this machine."
            return OpenAIChat(self._http, model=model, base_url=server.base_url, name=server.name.lower()), [note]
        return ScriptResponder(), [NO_MODEL]

    def _ears(self, agent: Agent, notes: list[str]) -> tuple[Transcriber | None, VoiceDetector | None]:
        if self._recognition_gap:
            notes.append(f"{self._recognition_gap} Until then, type the caller's words.")
            return None, None
        language = (agent.stt.language if agent.stt else "") or agent.language
        return WhisperTranscriber(self._recognition, self._clock, language), SileroDetector()

    def _mouth(self, agent: Agent, notes: list[str]) -> Synthesizer | None:
        if self._voice_gap:
            notes.append(f"{self._voice_gap} Until then, the agent's words are only shown.")
            return None
        voice = agent.tts.voice if agent.tts else ""
        return self._voice("" if voice == Agent.voice else voice)  # the API's default voice is another vendor's

    def _voice(self, voice: str) -> HibariSynthesizer:
        if voice not in self._voices:
            self._voices[voice] = HibariSynthesizer(voice) if voice else HibariSynthesizer()
        return self._voices[voice]


def _rung(name: str, gap: str, state: str, otherwise: str) -> Rung:
    return (
        {"name": name, "state": "missing", "note": f"{gap} {otherwise}"}
        if gap
        else {"name": name, "state": state, "note": ""}
    )


def _name(part: Any) -> str:
    return f"{part.name}/{part.model}" if part is not None else ""
