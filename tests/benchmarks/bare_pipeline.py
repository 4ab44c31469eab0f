"""`python -m tests.benchmarks.bare_pipeline VENDORS`: the least that makes a pipeline call, in bare aiohttp.

Frames go to the recogniser as they come, its transcript to the model, each sentence to the voice, the voice to the caller, a
mark behind it. No session, turn rules, guardrails, tools, journal, metrics, price or fault handling: the price of being a
product is what the real server costs beyond this one.
"""

from __future__ import annotations

import asyncio
import base64
import json
import secrets
import sys
from typing import Any

import aiohttp
from aiohttp import WSMsgType, web

from patter.event_loop import new_loop
from patter.wire.twiml import connect_stream

LISTEN = (
    "/v1/listen?model=nova-3&encoding=mulaw&sample_rate=8000&channels=1&interim_results=true&endpointing=400"
    "&utterance_end_ms=1000&vad_events=true&smart_format=true"
)
PROMPT = "You are helpful."
address, vendors = "", ""
http: aiohttp.ClientSession


async def voice(request: web.Request) -> web.Response:
    """Answer with a stream."""
    await request.read()
    stream = f"ws{address.removeprefix('http')}/ws/twilio/{secrets.token_urlsafe(24)}"
    return web.Response(text=connect_stream(stream), content_type="text/xml")


class Call:
    """One caller."""

    def __init__(self, socket: web.WebSocketResponse, stream: str) -> None:
        self._socket, self._stream = socket, stream
        self._history: list[dict[str, Any]] = [{"role": "system", "content": PROMPT}]
        self._answering: asyncio.Task[None] | None = None
        self._speaking = False

    async def listen(self, heard: aiohttp.ClientWebSocketResponse) -> None:
        """The recogniser's messages."""
        async for message in heard:
            said = json.loads(message.data)
            if said["type"] == "SpeechStarted" and self._speaking:
                await self._send({"event": "clear", "streamSid": self._stream})
                self._speaking = False
                if self._answering is not None:
                    self._answering.cancel()
            elif said["type"] == "Results" and said["speech_final"]:
                text = said["channel"]["alternatives"][0]["transcript"]
                self._history.append({"role": "user", "content": text})
                self._answering = asyncio.create_task(self._answer())

    async def _answer(self) -> None:
        body = {"model": "m", "messages": self._history, "stream": True, "stream_options": {"include_usage": True}}
        text = spoken = ""
        async with http.post(f"{vendors}/v1/chat/completions", json=body) as answer:
            async for line in answer.content:
                if line.startswith(b"data: {"):
                    choices = json.loads(line[6:])["choices"]
                    text += (choices[0]["delta"].get("content") or "") if choices else ""
                    if text.endswith((".", "!", "?")) and len(text) > len(spoken):
                        await self._say(text[len(spoken) :])
                        spoken = text
        self._history.append({"role": "assistant", "content": text})
        await self._send({"event": "mark", "streamSid": self._stream, "mark": {"name": secrets.token_hex(4)}})

    async def _say(self, sentence: str) -> None:
        body = {"text": sentence, "model_id": "eleven_flash_v2_5"}
        url = f"{vendors}/v1/text-to-speech/{'V' * 20}/stream?output_format=ulaw_8000"
        async with http.post(url, json=body, headers={"xi-api-key": "k"}) as answer:
            async for piece in answer.content.iter_any():
                self._speaking = True
                payload = base64.b64encode(piece).decode()
                await self._send({"event": "media", "streamSid": self._stream, "media": {"payload": payload}})

    async def _send(self, message: dict[str, Any]) -> None:
        await self._socket.send_str(json.dumps(message, separators=(",", ":")))


async def media(request: web.Request) -> web.WebSocketResponse:
    """One call."""
    socket = web.WebSocketResponse(compress=False)
    await socket.prepare(request)
    listening: asyncio.Task[None] | None = None
    async with http.ws_connect(f"ws{vendors.removeprefix('http')}{LISTEN}") as heard:
        async for message in socket:
            if message.type is not WSMsgType.TEXT:
                continue
            said: dict[str, Any] = json.loads(message.data)
            if said["event"] == "media":
                await heard.send_bytes(base64.b64decode(said["media"]["payload"]))
            elif said["event"] == "start":
                listening = asyncio.create_task(Call(socket, said["streamSid"]).listen(heard))
            elif said["event"] == "stop":
                break
    if listening is not None:
        listening.cancel()
    return socket


async def main(vendors_at: str) -> None:
    """Until killed."""
    global address, vendors, http
    vendors = vendors_at
    app = web.Application()
    app.add_routes([web.post("/webhooks/twilio/voice", voice), web.get("/ws/twilio/{token}", media)])
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    address = f"http://127.0.0.1:{runner.addresses[0][1]}"
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as http:
        print(json.dumps({"listening": address}), flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(main(sys.argv[1]))
