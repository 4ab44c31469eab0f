"""An engine for the workbench's tests: a real loopback server with the real routes, strict about what it is asked."""

from __future__ import annotations

import asyncio
import json
import os
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

from aiohttp import WSMsgType, web

from patter import events as ev
from tests.tui.story import GREETING, measured

TOKEN = "a-token-for-tests"
RUNGS = {
    "stt": {"name": "whisper base", "state": "ready", "note": "embedded"},
    "llm": {"name": "script responder", "state": "ready", "note": "no model: answers by keywords from the agent file"},
    "tts": {"name": "hibari heart", "state": "ready", "note": "embedded"},
    "vad": {"name": "embedded", "state": "ready", "note": ""},
}


OFF: dict[str, Any] = {
    "state": "off", "problem": "", "fix": "", "carrier": "", "number": "", "public_url": "", "tunnel": False,
    "recording": False, "agent": "", "routes": [], "voice_url_before": "", "notes": [], "since": 0.0,
}  # fmt: skip
FORMER = "https://old.example.com/voice"


class FakeEngine:
    """Serves one home folder. `commands` is what it was told; `unexpected` what no engine would be asked (fails at the end)."""

    def __init__(self, home: Path, *, ours: bool = False) -> None:
        self.home, self.ours = home, ours
        self.engine_id = f"engine-{time.monotonic_ns()}"
        self.agents: list[dict[str, Any]] = []
        self.rows: list[dict[str, Any]] = []
        self.journals: dict[str, list[ev.Event]] = {}
        self.problems: list[dict[str, Any]] = []
        self.rungs: dict[str, Any] = RUNGS
        self.refuse: dict[str, str] = {}
        self.dial: dict[str, Any] = {"webhook_url": "http://127.0.0.1:1/webhooks/twilio/voice", "to": "+15005556001"}
        self.commands: list[tuple[str, dict[str, Any]]] = []
        self.unexpected: list[str] = []
        self.published: list[ev.Event] = []
        self.sockets: list[web.WebSocketResponse] = []
        self.gap = False
        self.slow_journals = False
        self.hung_up: list[str] = []
        self.line: dict[str, Any] = dict(OFF)
        self.line_opens = True
        self.stopped = asyncio.Event()
        self.port = 0
        self._placed = 0
        self._runner: web.AppRunner | None = None

    # ------------------------------------------------------------------ life

    async def __aenter__(self) -> Self:
        app = web.Application(middlewares=[self._guard])
        app.router.add_get("/health", self._health)
        api = "/api/v1"
        app.router.add_get(f"{api}/engine", self._engine)
        app.router.add_get(f"{api}/agents", self._agents)
        app.router.add_post(f"{api}/agents/validate", self._validate)
        app.router.add_post(f"{api}/agents/open", self._open)
        app.router.add_post(f"{api}/rehearsals", self._rehearse)
        app.router.add_get(f"{api}/line", self._get_line)
        app.router.add_post(f"{api}/line", self._open_line)
        app.router.add_delete(f"{api}/line", self._close_line)
        app.router.add_get(f"{api}/calls", self._calls)
        app.router.add_get(f"{api}/calls/active", self._active)
        app.router.add_post(f"{api}/calls", self._place_call)
        app.router.add_get(f"{api}/calls/{{id}}/events", self._events)
        app.router.add_post(f"{api}/calls/{{id}}/{{verb}}", self._command)
        app.router.add_get(f"{api}/events/ws", self._socket)
        app.router.add_post(f"{api}/shutdown", self._shutdown)
        self._runner = web.AppRunner(app, shutdown_timeout=0.2)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self.port)
        await site.start()
        assert self._runner.addresses
        self.port = self._runner.addresses[0][1]
        self._write_file()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.close()
        if exc[0] is None:
            assert not self.unexpected, f"the workbench asked for: {self.unexpected}"

    async def close(self) -> None:
        """Go away as an engine does that is stopped."""
        for site in list(self._runner.sites) if self._runner is not None else []:
            await site.stop()  # first: who comes back now must find the door closed
        for socket in list(self.sockets):
            with suppress(ConnectionError):
                await socket.close()
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None
        (self.home / "engine.json").unlink(missing_ok=True)

    def _write_file(self) -> None:
        self.home.mkdir(parents=True, exist_ok=True)
        facts = {
            "pid": os.getpid(),
            "port": self.port,
            "token": TOKEN,
            "engine_id": self.engine_id,
            "version": "0.3.0",
            "protocol": 1,
        }
        (self.home / "engine.json").write_text(json.dumps(facts))
        if self.ours:
            (self.home / "started-by-workbench.json").write_text(json.dumps({"engine_id": self.engine_id}))

    # ------------------------------------------------------------------ what tests do

    def add_agent(self, path: Path, name: str = "riverside-dental", **more: Any) -> None:
        """Know an agent file."""
        row = {
            "name": name, "path": str(path), "version": "1a2b3c4d", "ok": True, "problem": "", "line": 0, "fix": "",
            "provider": "pipeline", "first_message": GREETING, "stt": "", "llm": "", "tts": "",
        }  # fmt: skip
        self.agents.append(row | more)

    async def publish(self, *events: ev.Event) -> None:
        """Say what happened to everybody who listens."""
        for event in events:
            numbered = replace(event, seq=len(self.published) + 1, at=event.at or time.time())
            self.published.append(numbered)
            if numbered.call_id:
                self.journals.setdefault(numbered.call_id, []).append(numbered)
            for socket in list(self.sockets):
                with suppress(ConnectionError):
                    await socket.send_json(ev.to_json(numbered))

    async def drop_sockets(self) -> None:
        """Break the event connections (the workbench must come back by itself)."""
        for socket in list(self.sockets):
            await socket.close(code=4000, message=b"resume from seq")

    # ------------------------------------------------------------------ routes

    @web.middleware
    async def _guard(self, request: web.Request, handler: Any) -> web.StreamResponse:
        if request.path != "/health" and request.headers.get("Authorization") != f"Bearer {TOKEN}":
            return web.json_response({"error": "a token is needed"}, status=401)
        try:
            answer: web.StreamResponse = await handler(request)
        except web.HTTPException:
            self.unexpected.append(f"{request.method} {request.path}")
            raise
        return answer

    async def _health(self, request: web.Request) -> web.Response:
        return web.json_response(
            {"status": "ok", "version": "0.3.0", "protocol": 1, "engine_id": self.engine_id, "pid": os.getpid()}
        )

    async def _engine(self, request: web.Request) -> web.Response:
        return _data(
            {"engine_id": self.engine_id, "rungs": self.rungs, "calls": len(self.rows), "watchers": len(self.sockets)}
        )

    async def _agents(self, request: web.Request) -> web.Response:
        return _data(self.agents)

    async def _validate(self, request: web.Request) -> web.Response:
        body = await request.json()
        self.commands.append(("validate", body))
        return _data({"ok": not self.problems, "problems": self.problems})

    async def _open(self, request: web.Request) -> web.Response:
        body = await request.json()
        self.add_agent(Path(body["path"]), name=Path(body["path"]).stem)
        return _data(self.agents[-1])

    async def _rehearse(self, request: web.Request) -> web.Response:
        body = await request.json()
        self.commands.append(("rehearse", body))
        if "rehearse" in self.refuse:
            return web.json_response({"error": self.refuse["rehearse"]}, status=409)
        if body["line"] != "text":
            return web.json_response(
                {"data": {"call_id": None, "dial": self.dial | {"line": body["line"]}, "notes": []}}, status=201
            )
        call_id = f"text-{len(self.journals) + 1}"
        answer = web.json_response({"data": {"call_id": call_id, "dial": None, "notes": []}}, status=201)
        await self.publish(
            ev.CallStarted(call_id=call_id, agent=body["agent"], direction="test", line="text", llm="script responder"),
            ev.AgentSaid(call_id=call_id, turn=0, reply_id=1, text=GREETING, kind="greeting"),
        )
        return answer

    async def _calls(self, request: web.Request) -> web.Response:
        given = {row["call_id"] for row in self.rows}
        rows = self.rows + [row for row in self._calls_of_events() if row["call_id"] not in given]
        page = {"limit": 100, "offset": 0, "count": len(rows), "total": len(rows)}
        return web.json_response({"data": rows, "pagination": page})

    async def _active(self, request: web.Request) -> web.Response:
        rows = self.rows + self._calls_of_events()
        return _data([row for row in rows if row["state"] != "ended"])

    def _calls_of_events(self) -> list[dict[str, Any]]:
        rows: dict[str, dict[str, Any]] = {}
        for event in self.published:
            if isinstance(event, ev.CallPlaced | ev.CallStarted):
                rows[event.call_id] = {
                    "call_id": event.call_id, "agent": event.agent, "caller": event.caller, "callee": event.callee,
                    "state": "ringing", "direction": "outbound", "started_at": event.at, "telephony": event.telephony,
                    "answered_by": "", "carrier_recording": "",
                }  # fmt: skip
                if isinstance(event, ev.CallStarted):
                    rows[event.call_id] |= {"state": "live", "direction": event.direction, "line": event.line}
            elif isinstance(event, ev.CallEnded):
                rows[event.call_id] |= {"state": "ended", "reason": event.reason, "duration_s": event.duration_s}
        return list(rows.values())

    async def _events(self, request: web.Request) -> web.Response:
        while self.slow_journals:
            await asyncio.sleep(0.02)
        return _data([ev.to_json(event) for event in self.journals.get(request.match_info["id"], [])])

    async def _command(self, request: web.Request) -> web.Response:
        call_id, verb = request.match_info["id"], request.match_info["verb"]
        body = await request.json()
        if verb not in ("hangup", "interrupt", "say", "text", "digits", "transfer"):
            raise web.HTTPNotFound
        if verb == "transfer" and set(body) != {"number", "summary"}:
            self.unexpected.append(f"a transfer with {sorted(body)}")
        self.commands.append((verb, body))
        if verb in self.refuse:
            return web.json_response({"error": self.refuse[verb]}, status=409)
        if verb == "hangup":
            self.hung_up.append(call_id)
            await self.publish(ev.CallEnded(call_id=call_id, reason="operator_ended", duration_s=3.0))
        elif verb == "transfer":
            await self.publish(
                ev.TransferRequested(call_id=call_id, number=body["number"], by="operator", warm=bool(body["summary"])),
                ev.CallEnded(call_id=call_id, reason="transferred", detail=f"to {body['number']}", duration_s=4.0),
            )
        elif verb == "text":
            await self._answer(call_id, body["text"])
        return _data({})

    # ------------------------------------------------------------------ the line

    async def _get_line(self, request: web.Request) -> web.Response:
        return _data(self.line)

    async def _open_line(self, request: web.Request) -> web.Response:
        """202 at once; the line is open (or has its problem) when the event says so."""
        body = await request.json()
        missing = {"agent", "carrier", "account", "secret", "number", "host", "tunnel"} - set(body)
        if missing or not (body["host"] or body["tunnel"]):
            self.unexpected.append(f"a line without {missing or 'a way in'}")
        self.commands.append(("line", body))
        if "line" in self.refuse:
            return web.json_response({"error": self.refuse["line"]}, status=409)
        self.line = OFF | {
            "state": "starting", "carrier": body["carrier"], "number": body["number"], "agent": Path(body["agent"]).stem,
            "tunnel": bool(body["tunnel"]), "recording": bool(body.get("recording")), "since": time.time(),
            "routes": [{"number": number, "agent": Path(agent).stem} for number, agent in body.get("routes", {}).items()],
        }  # fmt: skip
        answer = web.json_response({"data": dict(self.line)}, status=202)
        await self.say_line()
        if self.line_opens:
            host = body["host"] or "calm-river.trycloudflare.com"
            self.line |= {"state": "open", "public_url": f"https://{host}"}
            if body.get("take_number", True):
                self.line |= {
                    "voice_url_before": FORMER,
                    "notes": [f"{body['number']} was answered by {FORMER} before."],
                }
            await self.say_line()
        return answer

    async def _close_line(self, request: web.Request) -> web.Response:
        when = request.query.get("when", "idle")
        self.commands.append(("close line", {"when": when}))
        live = [row["call_id"] for row in self._calls_of_events() if row["state"] != "ended"]
        if when == "now":
            for call_id in live:
                await self.publish(ev.CallEnded(call_id=call_id, reason="engine_stopped", duration_s=3.0))
            live = []
        self.line = OFF | ({"state": "closing"} if live else {})
        await self.say_line()
        return web.json_response({"data": dict(self.line)}, status=202)

    async def say_line(self) -> None:
        """Tell everybody what the line is now."""
        names = ("state", "carrier", "number", "public_url", "agent", "problem", "fix")
        await self.publish(ev.LineChanged(call_id="", **{name: self.line[name] for name in names}))

    async def _place_call(self, request: web.Request) -> web.Response:
        body = await request.json()
        self.commands.append(("place", body))
        if self.line["state"] != "open":
            return web.json_response({"error": "No line is open."}, status=409)
        if "place" in self.refuse:
            return web.json_response({"error": self.refuse["place"]}, status=502)
        self._placed += 1
        call_id = f"CAplaced{self._placed:024}"
        answer = web.json_response({"data": {"call_id": call_id}}, status=201)
        caller = body.get("from") or self.line["number"]
        await self.publish(
            ev.CallPlaced(call_id=call_id, caller=caller, callee=body["to"], agent=body["agent"], telephony="twilio")
        )
        return answer

    async def _answer(self, call_id: str, text: str) -> None:
        turn = 1 + sum(isinstance(event, ev.CallerSaid) for event in self.journals[call_id])
        reply = f"You said: {text}"
        await self.publish(
            ev.CallerSaid(call_id=call_id, turn=turn, text=text, source="typed"),
            ev.ReplyStarted(call_id=call_id, turn=turn, reply_id=turn + 1),
            ev.ReplyText(call_id=call_id, reply_id=turn + 1, text=reply),
            ev.AgentSaid(call_id=call_id, turn=turn, reply_id=turn + 1, text=reply),
            replace(measured(turn, turn + 1), call_id=call_id),
        )

    async def _socket(self, request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        after = request.query.get("after")
        known = request.query.get("engine", "") == self.engine_id
        await socket.send_json(
            {"hello": {"engine_id": self.engine_id, "seq": len(self.published), "gap": self.gap or not known}}
        )
        for event in self.published[int(after) :] if after is not None else []:
            await socket.send_json(ev.to_json(event))
        self.sockets.append(socket)
        try:
            async for message in socket:
                if message.type is WSMsgType.TEXT:
                    self.unexpected.append("a frame on the event socket")
        finally:
            self.sockets.remove(socket)
        return socket

    async def _shutdown(self, request: web.Request) -> web.Response:
        body = await request.json() if request.can_read_body else {}
        self.commands.append(("shutdown", body))
        self.stopped.set()
        return web.json_response({"data": {}}, status=202)


def _data(value: Any) -> web.Response:
    return web.json_response({"data": value})
