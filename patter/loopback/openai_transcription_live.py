"""One live transcription session of the played OpenAI: its settings, its voice detection, and the events of its items.

It owns the session's state and the vendor's rules for it; it refuses to know who turns sound into words.
"""

from __future__ import annotations

import re
import time
from base64 import b64decode
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import anyio
from anyio.abc import TaskGroup

from patter.audio.convert import Converter
from patter.audio.format import ALAW_8K, MULAW_8K, PCM_16K, PCM_24K, AudioFormat
from patter.audio.level import rms_dbfs
from patter.audio.reblock import Reblocker
from patter.loopback.stage import Stage
from patter.loopback.stage_peer import Peer

WINDOW_MS = 20
ONSET_MS = 60.0  # of voice before it counts
LEAST_COMMIT_MS = 100.0
SEMANTIC_SILENCE_MS = 400.0
PER_MS = 32  # bytes of PCM 16 kHz
FORMATS: dict[str, AudioFormat] = {"audio/pcm": PCM_24K, "audio/pcmu": MULAW_8K, "audio/pcma": ALAW_8K}
INPUT_KEYS = frozenset({"format", "noise_reduction", "transcription", "turn_detection"})
TRANSCRIPTION_KEYS = frozenset({"model", "language", "languages", "keywords", "prompt", "delay"})
VAD_KEYS = {
    "server_vad": frozenset({"type", "threshold", "prefix_padding_ms", "silence_duration_ms"}),
    "semantic_vad": frozenset({"type", "eagerness"}),
}


@dataclass(frozen=True, slots=True)
class Manner:
    """How the vendor behaves. Times in seconds, except `_ms`, which count the sound heard.

    `answer_s` passes before the first word of a transcript, `word_s` between two. A live model says what it has heard every
    `delta_ms`. `session_ms` of sound end a session (0: never). `takes`: the formats that live sessions accept; asked for
    another one they go on with "audio/pcm", and say so."""

    answer_s: float = 0.0
    word_s: float = 0.0
    delta_ms: float = 400.0
    session_ms: float = 0.0
    loud_dbfs: float = -45.0
    takes: tuple[str, ...] = ("audio/pcm", "audio/pcmu", "audio/pcma")


class House(Protocol):
    """What the session needs of the vendor."""

    stage: Stage
    manner: Manner
    heard: list[str]
    sent: list[dict[str, Any]]

    async def words_of(self, pcm_16k: bytes) -> str: ...


class LiveListener:
    """One session in the vendor's manner of its beginning. `listen` runs until the client leaves or the session ends."""

    def __init__(self, house: House, peer: Peer, tasks: TaskGroup) -> None:
        self._house, self._peer, self._tasks, self._manner = house, peer, tasks, house.manner
        self._number = len(house.stage.peers)
        self._events = self._items = 0
        self._model = ""
        self._settings: dict[str, Any] = {"format": {"type": "audio/pcm", "rate": 24000}, "turn_detection": None}
        self._converter = Converter(PCM_24K, PCM_16K)
        self._windows = Reblocker(WINDOW_MS * PER_MS)
        self._sound = bytearray()  # PCM 16 kHz of the whole session
        self._committed = 0  # bytes of it that belong to items
        self._seen = 0  # bytes of it that have been looked at
        self._loud_ms = self._quiet_ms = 0.0
        self._open: str | None = None  # the item that is being spoken
        self._voice_from = 0
        self._last: str | None = None
        self._told = ""  # words of the open item that were sent as deltas
        self._next_delta = 0.0

    async def listen(self) -> None:
        """Greet, and do what the client says."""
        if self._peer.query.get("intent") != "transcription" or "model" in self._peer.query:
            self._house.stage.problem("a transcription session is opened with intent=transcription and without a model")
        await self._send("session.created", session=self._session())
        async for message in self._peer:
            if not isinstance(message, dict):
                await self._complain("invalid_event", "The message is no event.")
            elif not await self._do(str(message.get("type")), message):
                return

    async def _do(self, kind: str, message: Mapping[str, Any]) -> bool:
        """Whether the session goes on."""
        if kind == "session.update":
            await self._update(message.get("session"))
        elif kind == "input_audio_buffer.append":
            await self._append(str(message.get("audio")))
            limit = self._manner.session_ms
            if limit and len(self._sound) / PER_MS >= limit:
                await self._error("session_expired", "Your session hit the maximum duration of 60 minutes.")
                await self._peer.close(1001, "session_expired")
                return False
        elif kind == "input_audio_buffer.commit":
            await self._commit_asked()
        else:
            await self._complain("invalid_event", f"Unknown event {kind!r}")
        return True

    # ------------------------------------------------------------------ settings

    async def _update(self, session: Any) -> None:
        if wrong := self._fault(session):
            await self._complain("invalid_value", wrong)
            return
        heard = session["audio"]["input"]
        self._settings |= heard
        self._model = str(self._settings["transcription"]["model"])
        asked = self._settings["format"]["type"]
        if asked not in self._manner.takes:
            self._settings["format"] = {"type": "audio/pcm", "rate": 24000}
        if "format" in heard and not self._sound:
            self._converter = Converter(FORMATS[self._settings["format"]["type"]], PCM_16K)
        await self._send("session.updated", session=self._session())

    def _fault(self, session: Any) -> str:
        """What the vendor would object to in the settings, or ""."""
        if not isinstance(session, dict) or session.get("type") != "transcription":
            return "session.type must be 'transcription'"
        heard = (session.get("audio") or {}).get("input")
        if not isinstance(heard, dict) or heard.keys() - INPUT_KEYS or session.keys() - {"type", "audio", "include"}:
            return "Unknown parameter in session"
        transcription = heard.get("transcription") or self._settings.get("transcription") or {}
        model = str(transcription.get("model", ""))
        if not model or transcription.keys() - TRANSCRIPTION_KEYS:
            return "Unknown or missing parameter in session.audio.input.transcription"
        if (heard.get("format") or {"type": "audio/pcm"}).get("type") not in FORMATS:
            return "Invalid audio format"
        if "prompt" in transcription and model == "gpt-realtime-whisper":
            return "Prompt is not supported for this transcription model"
        if "keywords" in transcription and model not in ("gpt-transcribe", "gpt-live-transcribe"):
            return "Keywords are not supported for this transcription model"
        vad = heard.get("turn_detection")
        if vad is None:
            return ""
        if model in ("gpt-live-transcribe", "gpt-realtime-whisper"):
            return "Turn detection is not supported for this transcription model"
        known = VAD_KEYS.get(str(vad.get("type")))
        return "" if known is not None and not vad.keys() - known else "Unknown parameter in turn_detection"

    def _session(self) -> dict[str, Any]:
        return {
            "type": "transcription",
            "object": "realtime.transcription_session",
            "id": f"sess_{self._number}",
            "expires_at": int(time.time()) + 3600,
            "audio": {"input": dict(self._settings)},
        }

    # ------------------------------------------------------------------ sound

    async def _append(self, sound: str) -> None:
        try:
            data = b64decode(sound, validate=True)
        except ValueError:
            await self._complain("invalid_value", "audio is no base64")
            return
        pcm = self._converter.convert(data)
        self._sound += pcm
        vad = self._settings["turn_detection"]
        for window in self._windows.push(pcm):
            self._seen += len(window)
            if vad is not None:
                await self._window(rms_dbfs(window) > self._manner.loud_dbfs, vad)
        if vad is None:
            await self._deltas()

    async def _window(self, loud: bool, vad: Mapping[str, Any]) -> None:
        at_ms = self._seen / PER_MS
        self._loud_ms = self._loud_ms + WINDOW_MS if loud else 0.0
        self._quiet_ms = 0.0 if loud else self._quiet_ms + WINDOW_MS
        if self._open is None and self._loud_ms >= ONSET_MS:
            prefix = float(vad.get("prefix_padding_ms", 300))
            start = max(self._committed / PER_MS, at_ms - self._loud_ms - prefix)
            self._voice_from, self._open = int(start) * PER_MS, self._new_item()
            await self._send("input_audio_buffer.speech_started", item_id=self._open, audio_start_ms=int(start))
        silence = float(vad.get("silence_duration_ms", 500)) if vad["type"] == "server_vad" else SEMANTIC_SILENCE_MS
        if self._open is not None and self._quiet_ms >= silence:
            await self._send("input_audio_buffer.speech_stopped", item_id=self._open, audio_end_ms=int(at_ms))
            await self._commit(self._open, self._voice_from, self._seen)
            self._open = None

    async def _deltas(self) -> None:
        """A live model says what it has heard so far of what is not committed."""
        heard_ms = (len(self._sound) - self._committed) / PER_MS
        if heard_ms < self._next_delta:
            return
        self._next_delta = heard_ms + self._manner.delta_ms
        words = await self._house.words_of(bytes(self._sound[self._committed :]))
        if words.startswith(self._told) and words != self._told:
            self._open = self._open or self._new_item()
            await self._delta(self._open, words.removeprefix(self._told))
            self._told = words

    async def _commit_asked(self) -> None:
        if self._settings["turn_detection"] is not None:
            self._house.stage.problem("a commit came although the server finds the pauses")
        if len(self._sound) - self._committed < LEAST_COMMIT_MS * PER_MS:
            await self._error("input_audio_buffer_commit_empty", "buffer too small. Expected at least 100ms of audio")
            return
        item, told = self._open or self._new_item(), self._told
        self._open, self._told, self._next_delta = None, "", 0.0
        await self._commit(item, self._committed, len(self._sound), told)

    async def _commit(self, item: str, start: int, end: int, told: str = "") -> None:
        self._committed = end
        await self._send("input_audio_buffer.committed", item_id=item, previous_item_id=self._last)
        message = {
            "id": item,
            "object": "realtime.item",
            "type": "message",
            "status": "completed",
            "role": "user",
            "content": [{"type": "input_audio", "transcript": None}],
        }
        await self._send("conversation.item.added", previous_item_id=self._last, item=message)
        await self._send("conversation.item.done", previous_item_id=self._last, item=message)
        self._last = item
        self._tasks.start_soon(self._write_down, item, bytes(self._sound[start:end]), told)

    async def _write_down(self, item: str, pcm: bytes, told: str) -> None:
        await anyio.sleep(self._manner.answer_s)
        words = await self._house.words_of(pcm)
        for delta in deltas(words.removeprefix(told) if words.startswith(told) else ""):
            await self._delta(item, delta)
            await anyio.sleep(self._manner.word_s)
        self._house.heard.append(words)
        seconds = len(pcm) / PER_MS / 1000
        usage: dict[str, Any] = {"type": "duration", "seconds": seconds}
        if not self._model.startswith(("gpt-live", "gpt-realtime", "whisper")):
            taken, given = round(seconds * 10), len(words.split())
            details = {"text_tokens": 0, "audio_tokens": taken}
            usage = {"type": "tokens", "input_tokens": taken, "input_token_details": details}
            usage |= {"output_tokens": given, "total_tokens": taken + given}
        await self._say("completed", item, transcript=words, usage=usage)

    # ------------------------------------------------------------------ events

    def _new_item(self) -> str:
        self._items += 1
        return f"item_{self._number}_{self._items}"

    async def _delta(self, item: str, text: str) -> None:
        await self._say("delta", item, delta=text)

    async def _say(self, kind: str, item: str, **fields: Any) -> None:
        kind = f"conversation.item.input_audio_transcription.{kind}"
        await self._send(kind, item_id=item, content_index=0, **fields)

    async def _complain(self, code: str, message: str) -> None:
        self._house.stage.problem(f"{code}: {message}")
        await self._error(code, message)

    async def _error(self, code: str, message: str) -> None:
        error = {"type": "invalid_request_error", "code": code, "message": message, "param": None, "event_id": None}
        await self._send("error", error=error)

    async def _send(self, kind: str, **fields: Any) -> None:
        self._events += 1
        event = {"type": kind, "event_id": f"event_{self._number}_{self._events}", **fields}
        self._house.sent.append(event)
        await self._peer.send(event)


def deltas(words: str) -> list[str]:
    """The pieces in which a transcript comes: words with the space before them."""
    return re.findall(r" ?[^ ]+", words)
