"""The house of the played vendors: OpenAI, Deepgram and ElevenLabs on one stage, with one ear, one brain and one voice.

It owns who answers at which path where vendors share one, and how slow each stage is; it refuses to know what is said.
"""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any

import anyio
from aiohttp import web

from patter.audio.convert import Converter
from patter.audio.format import PCM_8K, PCM_16K, PCM_24K, AudioFormat
from patter.loopback import deepgram_manner, openai_transcription_live
from patter.loopback.deepgram import LoopbackDeepgram
from patter.loopback.elevenlabs_convai import LoopbackConvai, StoredAgent, Turn
from patter.loopback.elevenlabs_convai_agents import History
from patter.loopback.elevenlabs_tts import DEFAULT_VOICES, LoopbackElevenLabsTTS
from patter.loopback.openai_chat_living import Answer, Call, LivingChat, Messages, Tools
from patter.loopback.openai_realtime import Line, LoopbackRealtime, Manners, Prompt
from patter.loopback.openai_speech import LoopbackOpenAISpeech
from patter.loopback.openai_transcription import LoopbackTranscription
from patter.loopback.stage import Stage
from patter.vendors.senses import Senses

STAGES = ("stt", "llm", "tts")
MODELS = (
    "gpt-6-luna", "gpt-5-mini", "gpt-4.1-mini", "gpt-realtime-2.1", "gpt-realtime-2.1-mini", "gpt-4o-mini-tts",
    "gpt-transcribe", "gpt-live-transcribe", "gpt-4o-transcribe", "whisper-1",
)  # fmt: skip
"""What the list of models shows; others are good as well."""
_DICTATED = re.compile(r"word for word and nothing else: (.+)", re.DOTALL)
_SLOW_MS = 1000.0  # of speech between provisional words, where hearing takes a while


@dataclass(frozen=True, slots=True)
class Delays:
    """Seconds by which every vendor's hearing, thinking and speaking is late."""

    stt: float = 0.0
    llm: float = 0.0
    tts: float = 0.0


NO_DELAYS = Delays()


class VendorHouse:
    """All vendors on a `stage`, which may be up already. `tools` are those that stored agents know (a stored agent is not
    told of tools by its callers). Whatever key, model, voice or stored agent is named is good."""

    def __init__(
        self, stage: Stage, senses: Senses, answer: Answer, *, tools: Tools = (), delays: Delays = NO_DELAYS
    ) -> None:
        self._senses, self._answer, self._tools, self._delays = senses, answer, tools, delays
        usual = deepgram_manner.Manner()
        hears = replace(usual, answer_s=delays.stt, update_ms=usual.update_ms if senses.quick else _SLOW_MS)
        self.stage = stage
        self.chat = LivingChat(answer, models=MODELS, any_model=True, thinks_s=delays.llm)
        manners = Manners(thinks_s=delays.llm, writes_s=max(0.01, delays.stt), seconds_billed=True)
        self.realtime = LoopbackRealtime(
            answer=self._respond, transcribe=self._hear_24k, synthesize=self._speak_24k, manners=manners
        )
        self.transcription = LoopbackTranscription(
            senses.hear, manner=openai_transcription_live.Manner(answer_s=delays.stt)
        )
        self.speech = LoopbackOpenAISpeech(voice=self._speak_8k, first_s=delays.tts)
        self.deepgram = LoopbackDeepgram(senses.hear, manner=hears)
        self.voices = LoopbackElevenLabsTTS(voice=self._speak_8k, any_voice=True, first_s=delays.tts)
        account = [(name, voice_id) for name, voice_id in DEFAULT_VOICES.items()]
        self.agents = LoopbackConvai(voices=account, stand_in=self._stored)
        self._move_in()

    def _move_in(self) -> None:
        """Where two vendors have the same path, the one that has been told whose visitors it gets comes first."""
        with ExitStack() as doors:
            doors.enter_context(self.stage.only(lambda request: "xi-api-key" not in request.headers))
            self.chat.mount(self.stage)
            self.speech.mount(self.stage)
            with self.stage.only(_talks):
                self.realtime.mount(self.stage)
            self.transcription.mount(self.stage)
        self.deepgram.mount(self.stage)
        self.voices.mount(self.stage)
        self.agents.mount(self.stage)

    def environment(self) -> dict[str, str]:
        """The variables that lead an agent here."""
        root = self.stage.http
        return {
            "OPENAI_API_KEY": "loopback",
            "OPENAI_BASE_URL": f"{root}/v1",
            "DEEPGRAM_API_KEY": "loopback",
            "DEEPGRAM_BASE_URL": root,
            "ELEVENLABS_API_KEY": "loopback",
            "ELEVENLABS_BASE_URL": root,
        }

    def forget(self) -> None:
        """Let go of what vendors keep for tests, except for what was last: a house may stand for weeks."""
        kept: tuple[list[Any], ...] = (
            self.realtime.sessions, self.agents.talks, self.voices.spoken, self.speech.spoken,
            self.transcription.heard, self.transcription.sent,
        )  # fmt: skip
        for things in kept:
            del things[:-20]

    # ------------------------------------------------------------------ one ear and one voice, in everybody's formats

    async def _hear_24k(self, pcm_24k: bytes) -> str:
        return await self._senses.hear(_converted(pcm_24k, PCM_24K, PCM_16K))

    async def _hear_line(self, sound: bytes, line: AudioFormat) -> str:
        await anyio.sleep(self._delays.stt)
        return await self._senses.hear(_converted(sound, line, PCM_16K))

    async def _speak_8k(self, text: str) -> bytes:
        return _converted(await self._senses.speak(text), PCM_24K, PCM_8K)

    async def _speak_24k(self, text: str, voice: str) -> bytes:
        await anyio.sleep(self._delays.tts)
        return await self._senses.speak(text)

    async def _speak_line(self, text: str, line: AudioFormat) -> bytes:
        await anyio.sleep(self._delays.tts)
        return _converted(await self._senses.speak(text), PCM_24K, line)

    # ------------------------------------------------------------------ one brain, in everybody's words

    async def _respond(self, prompt: Prompt) -> Line:
        """A realtime model's answer."""
        if prompt.dictated:
            return Line(prompt.dictated)
        text, calls = await gathered(self._answer(messages_of(prompt), prompt.tools))
        return Line(text, [(call.name, call.arguments) for call in calls])

    def _stored(self, agent_id: str) -> StoredAgent:
        return StoredAgent(agent_id, transcribe=self._hear_line, think=self._think, speak=self._speak_line)

    async def _think(self, history: History) -> Turn:
        """A stored agent's next step. Results come without the call that they answer: it is asked for once more."""
        await anyio.sleep(self._delays.llm)
        last = max((at for at, (role, _) in enumerate(history) if role == "user"), default=-1)
        messages: list[dict[str, Any]] = [
            {"role": role, "content": text} for role, text in history[: last + 1] if role in ("user", "assistant")
        ]
        if messages and (dictated := _DICTATED.search(messages[-1]["content"])):
            return Turn(dictated[1].strip())
        tools = [*self._tools, {"name": "end_call", "description": "", "parameters": {}}]
        text, calls = await gathered(self._answer(messages, tools))
        outputs = [output for role, output in history[last + 1 :] if role == "tool"]
        if outputs:
            messages += exchange(calls, outputs)
            text, calls = await gathered(self._answer(messages, tools))
        ends = any(call.name == "end_call" for call in calls)
        uses = [(call.name, json.loads(call.arguments)) for call in calls if call.name != "end_call"]
        return Turn(text, uses, ends)


def _talks(request: web.Request) -> bool:
    return request.query.get("intent") != "transcription"


def _converted(sound: bytes, src: AudioFormat, dst: AudioFormat) -> bytes:
    converter = Converter(src, dst)
    return converter.convert(sound) + converter.flush()


async def gathered(pieces: AsyncIterator[str | Call]) -> tuple[str, list[Call]]:
    """A whole answer."""
    text, calls = "", []
    async for piece in pieces:
        if isinstance(piece, str):
            text += piece
        else:
            calls.append(piece)
    return text.strip(), calls


def exchange(calls: Sequence[Call], outputs: Sequence[str]) -> list[dict[str, Any]]:
    """Calls and their results as messages."""
    told = [
        {"id": f"call_{at}", "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
        for at, call in enumerate(calls[: len(outputs)])
    ]
    results = [
        {"role": "tool", "tool_call_id": one["id"], "content": output}
        for one, output in zip(told, outputs, strict=False)
    ]
    return [{"role": "assistant", "content": None, "tool_calls": told}, *results] if told else []


def messages_of(prompt: Prompt) -> Messages:
    """What a realtime model remembers, as messages."""
    messages: list[dict[str, Any]] = []
    for item in prompt.items:
        match item["role"]:
            case "call":
                call = {"id": item["call_id"], "type": "function"}
                function = {"name": item["name"], "arguments": item["text"]}
                messages.append({"role": "assistant", "content": None, "tool_calls": [call | {"function": function}]})
            case "output":
                messages.append({"role": "tool", "tool_call_id": item["call_id"], "content": item["text"]})
            case role:
                messages.append({"role": role, "content": item["text"]})
    return messages
