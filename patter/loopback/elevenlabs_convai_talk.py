"""One conversation of the loopback agent: it listens by loudness, answers, speaks, is interrupted, uses tools and leaves.

It owns the events' numbers and what a client may send when; it refuses to know who stored the agent. A message that the real
vendor would not take is told as a problem of the client, and closes the conversation as the vendor would.
"""

from __future__ import annotations

import json
from base64 import b64decode
from binascii import Error as Base64Error
from collections.abc import Callable
from typing import Any

import anyio
from anyio.abc import TaskGroup

from patter.audio.convert import Converter
from patter.audio.format import PCM_16K
from patter.audio.level import rms_dbfs
from patter.loopback import elevenlabs_convai_events as events
from patter.loopback.elevenlabs_convai_agents import Begun, History, StoredAgent
from patter.loopback.stage_peer import Message, Peer

VOICE_DBFS = -40.0
VOICE_S = 0.06  # of sound: shorter is a click
PRE_ROLL_S = 0.3
TOOL_S = 20.0
TEXTS = {
    "user_message": ("text",),
    "contextual_update": ("text",),
    "user_activity": (),
    "pong": ("event_id",),
    "client_tool_result": ("tool_call_id", "result", "is_error"),
    "feedback": ("event_id", "score"),
}
"""What a client may send besides sound, with the fields it must have."""


class Wrong(Exception):
    """The client sent what the vendor does not take."""


class Talk:
    """One conversation, from its first message to its end. `problem` is told of what the client does wrong."""

    def __init__(self, peer: Peer, agent: StoredAgent, begun: Begun, problem: Callable[[str], None]) -> None:
        self.begun = begun
        self.history: History = [("system", begun.prompt)]
        self.conversation_id = f"conv_{id(self):x}"
        self.heard_bytes = 0
        """How much sound the caller sent."""
        self.activities = 0
        """How often the client told that the caller is there."""
        self.pongs = 0
        self._peer = peer
        self._agent = agent
        self._problem = problem
        self._number = 0
        self._line = events.FORMATS[agent.hears]
        self._voice = events.FORMATS[agent.plays]
        self._to_pcm = Converter(self._line, PCM_16K)
        self._utterance = bytearray()
        self._voiced_s = self._quiet_s = 0.0
        self._speaking = False
        self._pings: set[int] = set()
        self._results: dict[str, anyio.Event] = {}
        self._outputs: dict[str, str] = {}
        self._tasks: TaskGroup
        self._saying: anyio.CancelScope | None = None
        self._reply: tuple[int, str, float, float] | None = None  # number, words, begun at, seconds of sound
        self._over = anyio.Event()

    # ------------------------------------------------------------------ life

    async def run(self, first: Message | None) -> None:
        """The whole conversation; `first` is a message that was no beginning."""
        async with anyio.create_task_group() as self._tasks:
            await self._send(events.metadata(self._agent.plays, self._agent.hears, self.conversation_id))
            self._tasks.start_soon(self._ping)
            if self.begun.first_message:
                self._respond(self.begun.first_message)
            try:
                if first is not None:
                    await self._take(first)
                async for message in self._peer:
                    await self._take(message)
            except Wrong as wrong:
                self._problem(f"conversation: {wrong}")
                await self._peer.close(1008, f"invalid_message: {wrong}"[:120])
            self._over.set()
            self._tasks.cancel_scope.cancel()

    async def end(self, *, told: bool = True) -> None:
        """The agent ends the call, when its words have been sent."""
        number = self._next()
        if told and "agent_tool_response" in self._agent.client_events:
            await self._peer.send(events.agent_tool_response(f"end_call_{number}", "end_call", number))
        await self._peer.close(1000, "")

    async def fail(self, code: int, kind: str, sentence: str, *, told: bool = True) -> None:
        """The vendor fails; with `told`, it says why before it closes."""
        if told:
            await self._peer.send(events.error(code, kind, sentence))
        await self._peer.close(code, sentence[:120])

    async def say(self, event: events.Event) -> None:
        """Send an event of any kind."""
        await self._peer.send(event)

    def _next(self) -> int:
        self._number += 1
        return self._number

    async def _send(self, event: events.Event) -> None:
        if event["type"] in self._agent.client_events or event["type"] in ("client_tool_call", "error"):
            await self._peer.send(event)

    async def _ping(self) -> None:
        while True:
            number = self._next()
            self._pings.add(number)
            await self._send(events.ping(number))
            await anyio.sleep(self._agent.ping_s)

    # ------------------------------------------------------------------ what the client says

    async def _take(self, message: Message) -> None:
        if not isinstance(message, dict):
            raise Wrong("a message that is no JSON object")
        if "user_audio_chunk" in message:
            await self._hear(message["user_audio_chunk"])
            return
        kind = message.get("type")
        if kind not in TEXTS:
            raise Wrong(f"unknown type {kind!r}")
        missing = [name for name in TEXTS[kind] if name not in message]
        if missing:
            raise Wrong(f"{kind} without {', '.join(missing)}")
        await self._understand(kind, message)

    async def _understand(self, kind: str, message: dict[str, Any]) -> None:
        match kind:
            case "user_message":
                number = self._next()
                await self._interrupt(number)
                self._turn(str(message["text"]), number)
            case "contextual_update":
                self.history.append(("context", str(message["text"])))
            case "user_activity":
                self.activities += 1
            case "pong":
                if message["event_id"] not in self._pings:
                    raise Wrong("a pong to no ping")
                self._pings.remove(message["event_id"])
                self.pongs += 1
            case "client_tool_result":
                self._result(message)

    def _result(self, message: dict[str, Any]) -> None:
        tool_id = message["tool_call_id"]
        if not isinstance(message["result"], str) or not isinstance(message["is_error"], bool):
            raise Wrong("a tool's result must be a text, and is_error true or false")
        if tool_id not in self._results:
            raise Wrong(f"the result of a tool that was not asked for: {tool_id}")
        self._outputs[tool_id] = message["result"]
        self._results.pop(tool_id).set()

    # ------------------------------------------------------------------ listening

    async def _hear(self, payload: Any) -> None:
        try:
            sound = b64decode(payload, validate=True)
        except (Base64Error, ValueError, TypeError):
            raise Wrong("user_audio_chunk is not base64") from None
        if len(sound) % self._line.sample_bytes:
            raise Wrong("user_audio_chunk ends inside a sample")
        self.heard_bytes += len(sound)
        seconds = self._line.ms_of(len(sound)) / 1000
        self._utterance += sound
        pcm = self._to_pcm.convert(sound)
        if pcm and rms_dbfs(pcm) > VOICE_DBFS:
            self._voiced_s, self._quiet_s = self._voiced_s + seconds, 0.0
            if self._voiced_s >= VOICE_S and not self._speaking:
                self._speaking = True
                await self._voice_began()
        else:
            self._quiet_s += seconds
            if not self._speaking:
                self._voiced_s = 0.0
                del self._utterance[: -self._line.bytes_for(PRE_ROLL_S * 1000)]
            elif self._quiet_s >= self._agent.pause_s:
                self._voice_ended()

    async def _voice_began(self) -> None:
        if self._agent.interruptible and self._audible():
            await self._interrupt(self._next())

    def _voice_ended(self) -> None:
        sound, self._utterance = bytes(self._utterance), bytearray()
        self._speaking, self._voiced_s = False, 0.0
        self._tasks.start_soon(self._transcribe, sound)

    async def _transcribe(self, sound: bytes) -> None:
        text = await self._agent.transcribe(sound, self._line)
        if not text:
            return
        words = text.split()
        if len(words) > 1:
            await self._send(events.tentative_user_transcript(" ".join(words[: len(words) // 2]), self._next()))
        await self._send(events.user_transcript(text, self._next()))
        self._turn(text, self._next())

    # ------------------------------------------------------------------ answering

    def _turn(self, text: str, number: int) -> None:
        self.history.append(("user", text))
        self._begin(number, None)

    def _respond(self, text: str) -> None:
        self._begin(self._next(), text)

    def _begin(self, number: int, text: str | None) -> None:
        if self._saying is not None:
            self._saying.cancel()
        scope = self._saying = anyio.CancelScope()
        self._tasks.start_soon(self._answer, number, text, scope)

    async def _answer(self, number: int, text: str | None, scope: anyio.CancelScope) -> None:
        with scope:
            if text is not None:
                await self._speak(number, text)
                return
            while True:
                turn = await self._agent.think(self.history)
                if turn.text:
                    await self._speak(number, turn.text)
                    number = self._next()
                if turn.end_call:
                    await self.end()
                if not turn.tools:
                    return
                for name, parameters in turn.tools:
                    await self._use(name, parameters)

    async def _use(self, name: str, parameters: dict[str, Any]) -> None:
        number = self._next()
        tool_id = f"tc_{number}"
        done = self._results[tool_id] = anyio.Event()
        await self._send(events.client_tool_call(tool_id, name, parameters, number))
        with anyio.move_on_after(TOOL_S):
            await done.wait()
        output = self._outputs.pop(tool_id, json.dumps({"error": "the tool did not answer"}))
        self.history.append(("tool", output))

    async def _speak(self, number: int, text: str) -> None:
        sound = await self._agent.speak(text, self._voice)
        size = self._voice.bytes_for(self._agent.chunk_ms)
        began, seconds = anyio.current_time(), self._voice.ms_of(len(sound)) / 1000
        self.history.append(("assistant", text))
        self._reply = (number, text, began, seconds)
        await self._send(events.agent_response(text, number))
        for at in range(0, len(sound), size):
            chunk = sound[at : at + size]
            aligned = None
            if self._agent.aligned:
                share = slice(len(text) * at // len(sound), len(text) * min(len(sound), at + size) // len(sound))
                aligned = events.alignment(text[share], self._voice.ms_of(len(chunk)))
            await self._send(events.audio(chunk, number, aligned))
            if self._agent.pace:
                await anyio.sleep(self._voice.ms_of(len(chunk)) / 1000 * self._agent.pace)

    # ------------------------------------------------------------------ being interrupted

    def _audible(self) -> bool:
        return self._reply is not None and anyio.current_time() < self._reply[2] + self._reply[3]

    async def _interrupt(self, number: int) -> None:
        """Stop speaking: whatever has a lower number is void. The vendor thinks that what it sent was heard as it was sent."""
        if self._saying is not None:
            self._saying.cancel()
            self._saying = None
        await self._send(events.interruption(number))
        if self._reply is None or not self._audible():
            return
        old, text, began, seconds = self._reply
        share = (anyio.current_time() - began) / seconds if seconds else 1.0
        heard = text[: int(len(text) * share)].rpartition(" ")[0]
        self._reply = None
        self.history = [("assistant", heard) if entry == ("assistant", text) else entry for entry in self.history]
        await self._send(events.correction(text, heard, old))
