"""`python -m tests.benchmarks.bare_server`: the least a server can do with the same streams, in bare aiohttp.

It reads the JSON of every media frame and sends its payload back; a typed line becomes one event. No session, no codec, no
timer, no file: what a real engine costs beyond it is the price of being one.
"""

from __future__ import annotations

import asyncio
import json
import secrets
from typing import Any

from aiohttp import WSMsgType, web

from patter.wire.twiml import connect_stream

readers: set[web.WebSocketResponse] = set()
address = ""


async def rehearse(request: web.Request) -> web.Response:
    """Both kinds of calls are always welcome."""
    call_id = "CA" + secrets.token_hex(16)
    if (await request.json())["line"] == "text":
        return web.json_response({"data": {"call_id": call_id, "dial": None}}, status=201)
    dial = {"webhook_url": f"{address}/webhooks/twilio/voice", "account_sid": "AC" + "0" * 32, "auth_token": "-",
            "from": "+15005550001", "to": "+15005560001", "line": "phone"}  # fmt: skip
    return web.json_response({"data": {"call_id": None, "dial": dial}}, status=201)


async def voice(request: web.Request) -> web.Response:
    """Answer with a stream."""
    await request.read()
    stream = f"ws{address.removeprefix('http')}/ws/twilio/{secrets.token_urlsafe(24)}"
    return web.Response(text=connect_stream(stream), content_type="text/xml")


async def accept(request: web.Request) -> web.Response:
    """Whatever it is."""
    await request.read()
    return web.json_response({"data": {}})


async def text(request: web.Request) -> web.Response:
    """A typed line is answered at once."""
    await request.read()
    event = json.dumps({"type": "ReplyText", "call_id": request.match_info["id"], "text": "Thank you."})
    for reader in readers:
        await reader.send_str(event)
    return web.json_response({"data": {}})


async def events(request: web.Request) -> web.WebSocketResponse:
    """Who wants to know."""
    socket = web.WebSocketResponse(compress=False)
    await socket.prepare(request)
    readers.add(socket)
    await socket.send_str('{"hello":{}}')
    async for _ in socket:
        pass
    readers.discard(socket)
    return socket


async def media(request: web.Request) -> web.WebSocketResponse:
    """Echo."""
    socket = web.WebSocketResponse(compress=False)
    await socket.prepare(request)
    async for message in socket:
        if message.type is not WSMsgType.TEXT:
            continue
        said: dict[str, Any] = json.loads(message.data)
        if said["event"] == "media":
            answer = {"event": "media", "streamSid": said["streamSid"], "media": {"payload": said["media"]["payload"]}}
            await socket.send_str(json.dumps(answer, separators=(",", ":")))
    return socket


async def main() -> None:
    """Until killed."""
    global address
    app = web.Application()
    app.add_routes([
        web.post("/api/v1/rehearsals", rehearse), web.post("/api/v1/calls/{id}/text", text),
        web.post("/api/v1/calls/{id}/hangup", accept), web.get("/api/v1/events/ws", events),
        web.post("/webhooks/twilio/voice", voice), web.post("/webhooks/twilio/status", accept),
        web.get("/ws/twilio/{token}", media),
    ])  # fmt: skip
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    address = f"http://127.0.0.1:{runner.addresses[0][1]}"
    print(json.dumps({"listening": address}), flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main())
