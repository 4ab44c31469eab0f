"""The vendors of all three engines on one port, as cheap as can be, so that hundreds of calls do not wait for them.

They own fixed delays and the moments at which they were asked and answered; the judging of what is sent is the tests' (they
have strict vendors). A caller's number is in the first bytes of its voice and comes back in every text, so that a benchmark
can follow one turn through three vendors.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import math
import re
import time
from collections import defaultdict
from typing import Any, cast

import orjson

INTERIM_S = 0.25  # from the first frame of voice to the first words
STT_S = 0.15  # from the first frame of silence to the transcript
MODEL_S = 0.15  # from the request to the first token
VOICE_S = 0.10  # from the request to the first sound
ENGINE_S = 0.30  # a speech-to-speech engine: from being asked to the first sound
VAD_FRAMES = 10  # of silence that end an utterance where the engine hears by itself

CHUNK = base64.b64encode(b"\x2a" * 1600).decode()  # 200 ms of µ-law
CHUNKS = 10
FRAME = 160  # bytes: 20 ms of µ-law
VOICE = b"\x15"
SILENT64 = "/////"
_NUMBER = re.compile(rb"number (\d+)")
_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


def voice_of(number: int) -> bytes:
    """A frame of voice of this caller: 20 ms of µ-law."""
    return (VOICE + number.to_bytes(3, "big")).ljust(FRAME, VOICE)


class Moments:
    """When the vendors were asked and answered for each caller: {caller: {name: clock}}, of the turn that runs."""

    def __init__(self) -> None:
        self.of: dict[int, dict[str, float]] = defaultdict(dict)

    def note(self, number: int, name: str) -> None:
        """It happened now; of an answer: its bytes are ready and go out next."""
        self.of[number][name] = time.perf_counter()

    def added_ms(self, number: int, heard_at: float) -> float:
        """What of this turn's wait was nobody's delay but the server's: of the frame that ends the caller's voice on its way
        to who hears it, and from each answer to the next question."""
        moments = self.of[number]
        if "sound" not in moments:  # of an answer to an earlier turn: later than anything that counts
            return math.inf
        pairs = (("silent", "noticed"), ("words", "asked"), ("sentence", "text"), ("ended", "create"))
        ours = sum(moments[end] - moments[begin] for begin, end in pairs if begin in moments and end in moments)
        return (ours + heard_at - moments["sound"]) * 1000


class Peer(asyncio.Protocol):
    """One connection of the server: requests over and over, or a WebSocket once it is upgraded."""

    def __init__(self, moments: Moments) -> None:
        self._moments = moments
        self._rest = b""
        self._pipe: asyncio.Transport
        self._take: Any = None  # what a frame of the socket is given to

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._pipe = cast(asyncio.Transport, transport)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._take is not None:
            self._take.gone = True

    def data_received(self, data: bytes) -> None:
        self._rest += data
        while self._rest and (self._frame() if self._take else self._request()):
            pass

    # ------------------------------------------------------------------ HTTP

    def _request(self) -> bool:
        head, found, body = self._rest.partition(b"\r\n\r\n")
        if not found:
            return False
        lines = head.decode().split("\r\n")
        headers = {key.lower(): value for key, _, value in (line.partition(": ") for line in lines[1:])}
        size = int(headers.get("content-length", 0))
        if len(body) < size:
            return False
        self._rest = body[size:]
        path = lines[0].split(" ")[1]
        if "sec-websocket-key" in headers:
            self._upgrade(headers["sec-websocket-key"], path)
        elif "/chat/completions" in path:
            self._chat(body[:size])
        elif "/text-to-speech/" in path:
            self._speech(body[:size])
        else:
            self._plain(path, headers.get("host", ""))
        return True

    def _plain(self, path: str, host: str) -> None:
        answer: dict[str, Any] = {"data": [], "voices": [{"voice_id": "V" * 20, "name": "Rachel"}], "id": "x"}
        if "signed" in path:
            answer = {"signed_url": f"ws://{host}/v1/convai/conversation?agent_id=a&conversation_signature=s"}
        text = json.dumps(answer).encode()
        self._pipe.write(
            b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(text) + text
        )

    def _stream(self, kind: bytes, pieces: list[bytes], number: int, name: str) -> None:
        if self._pipe.is_closing():
            return
        body = b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces)
        whole = b"HTTP/1.1 200 OK\r\nContent-Type: %s\r\nTransfer-Encoding: chunked\r\n\r\n%s0\r\n\r\n" % (kind, body)
        self._moments.note(number, name)
        self._pipe.write(whole)

    def _chat(self, body: bytes) -> None:
        number = int(_NUMBER.findall(body)[-1])
        self._moments.note(number, "asked")

        def answer() -> None:
            said = ["Yes, I can help ", "you with ", f"number {number} ", "right now."]
            chunks = [{"choices": [{"index": 0, "delta": {"content": text}, "finish_reason": None}]} for text in said]
            chunks.append({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
            usage = {"prompt_tokens": 50, "completion_tokens": 10, "total_tokens": 60}
            chunks.append({"choices": [], "usage": usage})  # type: ignore[dict-item]
            common = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m"}
            lines = [b"data: " + json.dumps(common | chunk).encode() + b"\n\n" for chunk in chunks]
            self._stream(b"text/event-stream", [*lines, b"data: [DONE]\n\n"], number, "sentence")

        asyncio.get_running_loop().call_later(MODEL_S, answer)

    def _speech(self, body: bytes) -> None:
        number = int(_NUMBER.findall(body)[-1])
        self._moments.note(number, "text")

        def answer() -> None:
            self._stream(b"audio/basic", [b"\x2a" * 1600] * CHUNKS, number, "sound")

        asyncio.get_running_loop().call_later(VOICE_S, answer)

    # ------------------------------------------------------------------ WebSockets

    def _upgrade(self, key: str, path: str) -> None:
        accept = base64.b64encode(hashlib.sha1(key.encode() + _GUID).digest())
        self._pipe.write(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: %s\r\n\r\n" % accept
        )
        kinds = {"/listen": Listener, "/realtime": Realtime, "/convai/": Convai, "-input": Voices}
        kind = next(kind for part, kind in kinds.items() if part in path)
        self._take = kind(self._say, self._moments)

    def _say(self, *messages: dict[str, Any], noting: tuple[int, str] | None = None) -> None:
        """Messages in one write; `noting` (caller, what) is stamped when they go out."""
        written = b"".join(_frame_of(message) for message in messages)
        if not self._pipe.is_closing():
            if noting is not None:
                self._moments.note(*noting)
            self._pipe.write(written)

    def _frame(self) -> bool:
        data = self._rest
        if len(data) < 6:
            return False
        size, at = data[1] & 0x7F, 2
        if size == 126:
            size, at = int.from_bytes(data[2:4], "big"), 4
        elif size == 127:
            size, at = int.from_bytes(data[2:10], "big"), 10
        if len(data) < at + 4 + size:
            return False
        mask, payload = data[at : at + 4], data[at + 4 : at + 4 + size]
        self._rest = data[at + 4 + size :]
        kind = data[0] & 0x0F
        if kind == 2:
            for start in range(0, size, FRAME):
                begins = payload[start : start + 4]
                self._take.sound(bytes(one ^ other for one, other in zip(begins, mask, strict=True)))
        elif kind == 1:
            whole = int.from_bytes(payload, "big") ^ int.from_bytes((mask * (size // 4 + 1))[:size], "big")
            self._take.text(whole.to_bytes(size, "big"))
        elif kind == 9:
            self._pipe.write(b"\x8a\0")
        elif kind == 8:
            self._pipe.write(b"\x88\x02\x03\xe8")
            self._pipe.close()
        return True


def _frame_of(message: dict[str, Any]) -> bytes:
    data = orjson.dumps(message)
    size = len(data)
    return b"\x81" + (bytes([size]) if size < 126 else b"\x7e" + size.to_bytes(2, "big")) + data


class Hearing:
    """Who hears the callers' frames: tells `spoke` and `paused` of each utterance."""

    pause_s = 0.0

    def __init__(self, say: Any, moments: Moments) -> None:
        self.say, self.moments = say, moments
        self.number = 0
        self.gone = False
        self._quiet = 0
        self._speaking = False
        self.frames = 0

    def sound(self, begins: bytes) -> None:
        """The first four bytes of a frame."""
        self.frames += 1
        if begins[:1] == VOICE:
            self._quiet = 0
            if not self._speaking:
                self._speaking = True
                self.number = int.from_bytes(begins[1:4], "big")
                self.moments.of[self.number].clear()
                self.spoke()
        elif self._speaking:
            self._quiet += 1
            if self._quiet == 1:
                self.moments.note(self.number, "noticed")
            if self._quiet == (VAD_FRAMES if not self.pause_s else 1):
                self._speaking = False
                asyncio.get_running_loop().call_later(self.pause_s, self.paused)

    def sound64(self, payload: str) -> None:
        """A frame in base64."""
        self.sound(b"\xff\0\0\0" if payload.startswith(SILENT64) else base64.b64decode(payload[:8]))

    def text(self, data: bytes) -> None:
        """A message of the client."""

    def spoke(self) -> None:
        """The caller begins."""

    def paused(self) -> None:
        """The caller is done."""


class Listener(Hearing):
    """Deepgram, first generation."""

    pause_s = STT_S

    def spoke(self) -> None:
        """At once: what a real one adds is the vendor's. First words follow as a real one's do."""
        self.say({"type": "SpeechStarted", "channel": [0, 1], "timestamp": self.frames * 0.02})
        asyncio.get_running_loop().call_later(INTERIM_S, self._results, "I have a", False)

    def paused(self) -> None:
        """The transcript."""
        # a number of three digits at the end would be one that is still being dictated: the agent waits for more of it
        self._results(f"About number {self.number} I have a question.", True)

    def _results(self, text: str, final: bool) -> None:
        if self.gone:
            return
        end = self.frames * 0.02
        words = [{"word": "question", "start": end - 1.0, "end": end - STT_S, "confidence": 0.99}]
        alternative = {"transcript": text, "confidence": 0.99, "words": words}
        self.say({
            "type": "Results", "channel_index": [0, 1], "duration": 2.0, "start": max(0.0, end - 2.0), "is_final": final,
            "speech_final": final, "channel": {"alternatives": [alternative]}, "from_finalize": False,
            "metadata": {"request_id": "r", "model_uuid": "m", "model_info": {"name": "n", "version": "v", "arch": "a"}},
        }, noting=(self.number, "words") if final else None)  # fmt: skip

    def text(self, data: bytes) -> None:
        """Only its end matters."""
        if b"CloseStream" in data:
            self.say({"type": "Metadata", "transaction_key": "deprecated", "request_id": "r", "sha256": "s",
                      "created": "2026-11-22T00:00:00Z", "duration": self.frames * 0.02, "channels": 1})  # fmt: skip


class Voices(Hearing):
    """ElevenLabs' multi-context socket."""

    def text(self, data: bytes) -> None:
        """A sentence, or the end of its context."""
        message = json.loads(data)
        found = _NUMBER.search(str(message.get("text", "")).encode())
        if found is None:
            return
        number, context = int(found[1]), message.get("context_id", "")
        self.moments.note(number, "text")

        def answer() -> None:
            sound = {"audio": CHUNK, "contextId": context, "isFinal": None, "alignment": None}
            end = {"audio": None, "contextId": context, "isFinal": True}
            self.say(*[sound] * CHUNKS, end, noting=(number, "sound"))

        asyncio.get_running_loop().call_later(VOICE_S, answer)


class Realtime(Hearing):
    """OpenAI's speech-to-speech engine."""

    def __init__(self, say: Any, moments: Moments) -> None:
        super().__init__(say, moments)
        self._session: dict[str, Any] = {"type": "realtime", "object": "realtime.session", "id": "s", "model": "m"}
        self._session["expires_at"] = int(time.time()) + 3600
        self._items = 0
        say({"type": "session.created", "event_id": "e", "session": self._session})

    def text(self, data: bytes) -> None:
        """Mostly sound."""
        if data.startswith(b'{"type":"input_audio_buffer.append"'):
            begins = data.index(b'"audio":') + 9
            self.sound64(data[begins : begins + 8].strip(b' "').decode())
            return
        message = json.loads(data)
        if message["type"] == "session.update":
            self._session |= message["session"]
            self.say({"type": "session.updated", "event_id": "e", "session": self._session})
        elif message["type"] == "response.create":
            self.moments.note(self.number, "create")
            asyncio.get_running_loop().call_later(ENGINE_S, self._answer)

    def spoke(self) -> None:
        """Voice."""
        self._items += 1
        begins = {"audio_start_ms": self.frames * 20, "item_id": f"item_{self._items}"}
        self.say({"type": "input_audio_buffer.speech_started", "event_id": "e"} | begins)

    def paused(self) -> None:
        """The end of an utterance, and its words."""
        item = {"event_id": "e", "item_id": f"item_{self._items}"}
        ended = {"audio_end_ms": (self.frames - VAD_FRAMES) * 20}
        self.say(
            {"type": "input_audio_buffer.speech_stopped"} | ended | item,
            {"type": "input_audio_buffer.committed", "previous_item_id": None} | item,
            {"type": "conversation.item.input_audio_transcription.completed", "content_index": 0,
             "transcript": "I have a question.", "usage": {"type": "duration", "seconds": 2}} | item,
            noting=(self.number, "ended"),
        )  # fmt: skip

    def _answer(self) -> None:
        self._items += 1
        response, item = f"resp_{self._items}", f"item_{self._items}"
        place = {"event_id": "e", "response_id": response, "item_id": item, "output_index": 0, "content_index": 0}
        message = {"id": item, "type": "message", "status": "in_progress", "role": "assistant", "content": []}
        made = {"object": "realtime.response", "id": response, "status": "in_progress", "output": []}
        self.say({"type": "response.created", "event_id": "e", "response": made})
        self.say({"type": "response.output_item.added", "event_id": "e", "response_id": response, "output_index": 0,
                  "item": message})  # fmt: skip
        self.say({"type": "response.output_audio_transcript.delta", "delta": "Yes, I can help."} | place)
        sound = {"type": "response.output_audio.delta", "delta": CHUNK} | place
        self.say(*[sound] * CHUNKS, noting=(self.number, "sound"))
        self.say({"type": "response.output_audio.done"} | place)
        self.say({"type": "response.output_audio_transcript.done", "transcript": "Yes, I can help."} | place)
        self.say({"type": "response.output_item.done", "event_id": "e", "response_id": response, "output_index": 0,
                  "item": message | {"status": "completed"}})  # fmt: skip
        self.say({"type": "response.done", "event_id": "e", "response": made | {"status": "completed"}})


class Convai(Hearing):
    """An agent stored at ElevenLabs."""

    pause_s = ENGINE_S

    def __init__(self, say: Any, moments: Moments) -> None:
        super().__init__(say, moments)
        self._events = 0
        formats = {"agent_output_audio_format": "ulaw_8000", "user_input_audio_format": "ulaw_8000"}
        meta = {"conversation_id": "c"} | formats
        say({"type": "conversation_initiation_metadata", "conversation_initiation_metadata_event": meta})

    def text(self, data: bytes) -> None:
        """Mostly sound."""
        if data.startswith(b'{"user_audio_chunk"'):
            self.sound64(data[20:29].strip(b' ":').decode())

    def paused(self) -> None:
        """Words, answer and sound at once."""
        self._events += 2
        said = {"user_transcript": "I have a question.", "event_id": self._events - 1}
        self.say({"type": "user_transcript", "user_transcription_event": said})
        answer = {"agent_response": "Yes, I can help.", "event_id": self._events}
        self.say({"type": "agent_response", "agent_response_event": answer})
        sound = {"type": "audio", "audio_event": {"audio_base_64": CHUNK, "event_id": self._events}}
        self.say(*[sound] * CHUNKS, noting=(self.number, "sound"))
