"""Twilio's REST API on this machine: who may ask, what may be asked, and the answers, as strict as the real one.

It owns requests and their refusals; it refuses to know how calls run.
"""

from __future__ import annotations

import hmac
from base64 import b64encode
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from email.utils import formatdate
from typing import Any
from urllib.parse import parse_qsl

from aiohttp import web

from patter.loopback import twilio_parameters as parameters
from patter.loopback.twilio_calls import guidance_of, outgoing, tape_of
from patter.loopback.twilio_leg import Exchange, Leg
from patter.loopback.twilio_outbox import Reports
from patter.loopback.twilio_parameters import NOT_FOUND, Refused, error_body, read_form
from patter.loopback.twilio_recording import Tape
from patter.loopback.twilio_resources import API, account, new_sid, page

FORM = "application/x-www-form-urlencoded"
BODY_LIMIT = 256 * 1024
Answer = tuple[int, dict[str, Any]]
Handler = Callable[[web.Request, "Asked"], Answer]


@dataclass(frozen=True, slots=True)
class Asked:
    """One request. `fields`: the form's or query's; a name that was given more than once has a list."""

    method: str
    path: str
    fields: dict[str, str | list[str]] = field(default_factory=dict)
    pairs: tuple[tuple[str, str], ...] = field(default=(), repr=False)


@dataclass(frozen=True, slots=True)
class Planned:
    """A failure that a test asked for. `retry_after` in seconds; `done`: the request is carried out, only its answer lost."""

    status: int
    code: int
    message: str
    retry_after: float | None = None
    done: bool = False


class TwilioApi:
    """The API of one account over `exchange`. `app` is the server."""

    def __init__(self, exchange: Exchange, auth_token: str) -> None:
        self.requests: list[Asked] = []
        self.planned: deque[Planned] = deque()
        self.app = web.Application(client_max_size=BODY_LIMIT, middlewares=[_Gate(self, exchange, auth_token).pass_])
        self._exchange = exchange
        self._began_at = exchange.now()
        root = f"{API}/Accounts/{{account}}"
        recordings = f"{root}/Calls/{{call}}/Recordings"
        routes: list[tuple[str, str, Handler]] = [
            ("GET", f"{root}.json", self._account),
            ("GET", f"{root}/Calls.json", self._list_calls),
            ("POST", f"{root}/Calls.json", self._create_call),
            ("GET", f"{root}/Calls/{{call}}.json", self._fetch_call),
            ("POST", f"{root}/Calls/{{call}}.json", self._update_call),
            ("GET", f"{recordings}.json", self._list_recordings),
            ("POST", f"{recordings}.json", self._start_recording),
            ("GET", f"{recordings}/{{recording}}.json", self._fetch_recording),
            ("POST", f"{recordings}/{{recording}}.json", self._control_recording),
            ("GET", f"{root}/Recordings/{{recording}}.json", self._fetch_recording),
            ("GET", f"{root}/IncomingPhoneNumbers.json", self._list_numbers),
            ("GET", f"{root}/IncomingPhoneNumbers/{{number}}.json", self._fetch_number),
            ("POST", f"{root}/IncomingPhoneNumbers/{{number}}.json", self._update_number),
        ]
        for method, path, handler in routes:
            self.app.router.add_route(method, path, _answering(handler))
        self.app.router.add_get(f"{root}/Recordings/{{recording:RE[0-9a-f]+}}.wav", self._listen)
        self.app.router.add_get(f"{root}/Recordings/{{recording:RE[0-9a-f]+}}", self._listen)

    # ----------------------------------------------------------------- calls

    def _account(self, _: web.Request, asked: Asked) -> Answer:
        read_form(asked.pairs, parameters.NOTHING)
        return 200, account(self._exchange.account_sid, self._began_at)

    def _list_calls(self, request: web.Request, asked: Asked) -> Answer:
        wanted = read_form(asked.pairs, parameters.LIST_CALLS)
        names = {"To": "to", "From": "from", "Status": "status", "ParentCallSid": "parent_call_sid"}
        rows = [leg.record.resource() for leg in reversed(self._exchange.legs.values())]
        for name, key in names.items():
            if name in wanted:
                rows = [row for row in rows if row[key] == wanted.get(name)]
        return 200, page("calls", rows, request.path)

    def _create_call(self, _: web.Request, asked: Asked) -> Answer:
        wanted = read_form(asked.pairs, parameters.CREATE_CALL)
        if wanted.get("From") not in self._exchange.numbers:
            raise Refused(21210, f"{wanted.get('From')} is not a number of this account, and not verified as caller id")
        if not any(name in wanted for name in ("Url", "Twiml", "ApplicationSid")):
            raise Refused(21205, "One of Url, Twiml and ApplicationSid is required")
        if "Url" in wanted and "Twiml" in wanted:
            self._exchange.note("Twiml has no effect beside a Url")
        if "ApplicationSid" in wanted:
            raise Refused(21218, "This carrier has no applications")
        leg = outgoing(self._exchange, wanted)
        return 201, leg.record.resource()

    def _fetch_call(self, request: web.Request, asked: Asked) -> Answer:
        read_form(asked.pairs, parameters.NOTHING)
        return 200, self._leg(request).record.resource()

    def _update_call(self, request: web.Request, asked: Asked) -> Answer:
        wanted = read_form(asked.pairs, parameters.UPDATE_CALL)
        leg = self._leg(request)
        if leg.gone:
            raise Refused(NOT_FOUND, f"The requested resource {request.path} was not found", 404, innocent=True)
        up = leg.answered.is_set()
        if "Status" in wanted:
            if "Url" in wanted or "Twiml" in wanted:
                self._exchange.note("Url and Twiml have no effect beside a Status")
            if wanted.get("Status") == "canceled" and up:
                raise Refused(21220, "The call is in progress: it cannot be canceled, only completed")
            leg.stop("completed" if up else "canceled", "200" if up else "487")
        elif "Url" in wanted or "Twiml" in wanted:
            if not up:
                raise Refused(21220, "The call is not in progress. Cannot redirect.", innocent=True)
            leg.order(guidance_of(wanted))
        elif not ("TimeLimit" in wanted or "StatusCallback" in wanted):
            raise Refused(parameters.BAD_REQUEST, "Nothing is to be updated")
        if "TimeLimit" in wanted:
            leg.limit(wanted.whole("TimeLimit", 0))
        if "StatusCallback" in wanted:
            leg.reports = Reports(wanted.get("StatusCallback"), wanted.get("StatusCallbackMethod", "POST"))
        return 200, leg.record.resource()

    def _leg(self, request: web.Request) -> Leg:
        leg = self._exchange.legs.get(request.match_info["call"])
        if leg is None:
            raise Refused(NOT_FOUND, f"The requested resource {request.path} was not found", 404)
        return leg

    # ----------------------------------------------------------------- recordings

    def _start_recording(self, request: web.Request, asked: Asked) -> Answer:
        wanted = read_form(asked.pairs, parameters.START_RECORDING)
        leg = self._leg(request)
        if leg.gone or not leg.answered.is_set():
            message = "The call is not in progress. It cannot be recorded."
            raise Refused(21220, message, innocent=leg.gone)
        tape = tape_of(self._exchange, leg, wanted, "StartCallRecordingAPI")
        leg.start_tape(tape)
        return 201, tape.resource()

    def _list_recordings(self, request: web.Request, asked: Asked) -> Answer:
        read_form(asked.pairs, parameters.LIST_RECORDINGS)
        rows = [tape.resource() for tape in self._leg(request).tapes.values()]
        return 200, page("recordings", rows, request.path)

    def _fetch_recording(self, request: web.Request, asked: Asked) -> Answer:
        read_form(asked.pairs, parameters.NOTHING)
        return 200, self._tape(request).resource()

    def _control_recording(self, request: web.Request, asked: Asked) -> Answer:
        wanted = read_form(asked.pairs, parameters.CONTROL_RECORDING)
        leg, tape = self._leg(request), self._tape(request)
        if tape.finished:
            raise Refused(21220, "The recording has ended already", innocent=leg.gone)
        match wanted.get("Status"):
            case "paused":
                tape.pause(leg.line)
            case "in-progress":
                tape.resume(leg.line)
            case _:
                leg.finish_tape(tape)
        return 200, tape.resource()

    def _tape(self, request: web.Request) -> Tape:
        sid = request.match_info["recording"]
        tapes = self._leg(request).tapes if "call" in request.match_info else self._exchange.tapes
        if sid == "Twilio.CURRENT":
            running = [tape for tape in tapes.values() if not tape.finished]
            found = running[-1] if running else None
        else:
            found = tapes.get(sid)
        if found is None:
            raise Refused(NOT_FOUND, f"The requested resource {request.path} was not found", 404)
        return found

    async def _listen(self, request: web.Request) -> web.Response:
        tape = self._tape(request)
        if not tape.finished:
            raise Refused(NOT_FOUND, "The recording is not finished yet", 404, innocent=True)
        return web.Response(body=tape.wav(), content_type="audio/x-wav")

    # ----------------------------------------------------------------- numbers

    def _list_numbers(self, request: web.Request, asked: Asked) -> Answer:
        wanted = read_form(asked.pairs, parameters.LIST_NUMBERS)
        part = wanted.get("PhoneNumber").replace("*", "")
        found = [number for number in self._exchange.numbers.values() if part in number.phone_number]
        rows = [number.resource(self._exchange.account_sid) for number in found]
        return 200, page("incoming_phone_numbers", rows, request.path)

    def _fetch_number(self, request: web.Request, asked: Asked) -> Answer:
        read_form(asked.pairs, parameters.NOTHING)
        return self._number(request)

    def _update_number(self, request: web.Request, asked: Asked) -> Answer:
        wanted = read_form(asked.pairs, parameters.UPDATE_NUMBER)
        number = self._exchange.numbers[self._number_of(request)]
        for name, value in wanted.values.items():
            setattr(number, _snake(name), value)
        if wanted.get("VoiceApplicationSid"):
            number.trunk_sid = ""
        elif wanted.get("TrunkSid"):
            number.voice_application_sid = ""
        if wanted.get("VoiceUrl") and (number.voice_application_sid or number.trunk_sid):
            self._exchange.note("VoiceUrl is ignored while the number has a VoiceApplicationSid or a TrunkSid")
        return self._number(request)

    def _number(self, request: web.Request) -> Answer:
        return 200, self._exchange.numbers[self._number_of(request)].resource(self._exchange.account_sid)

    def _number_of(self, request: web.Request) -> str:
        for e164, number in self._exchange.numbers.items():
            if number.sid == request.match_info["number"]:
                return e164
        raise Refused(NOT_FOUND, f"The requested resource {request.path} was not found", 404)


def _snake(name: str) -> str:
    return "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in name).lstrip("_")


def _answering(handler: Handler) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    async def answer(request: web.Request) -> web.StreamResponse:
        status, body = handler(request, await _read(request))
        return web.json_response(body, status=status)

    return answer


class _Gate:
    """What every request passes: it is written down, refused if a test wants that, and its sender checked."""

    def __init__(self, api: TwilioApi, exchange: Exchange, auth_token: str) -> None:
        self._api, self._exchange = api, exchange
        credentials = b64encode(f"{exchange.account_sid}:{auth_token}".encode()).decode()
        self._authorization = f"Basic {credentials}".encode()

    @web.middleware
    async def pass_(
        self, request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        asked = await _read(request)
        self._api.requests.append(asked)
        headers = {
            "Date": formatdate(self._exchange.now(), usegmt=True),
            "Twilio-Request-Id": new_sid("RQ"),
            "Twilio-Concurrent-Requests": "1",
        }
        planned = self._api.planned.popleft() if self._api.planned else None
        if planned is None or planned.done:
            response = await self._do(request, handler)
        if planned is not None:
            if planned.retry_after is not None:
                headers["Retry-After"] = f"{planned.retry_after:g}"
            response = web.json_response(
                error_body(planned.status, planned.code, planned.message), status=planned.status
            )
        if response.status == 401:
            headers["WWW-Authenticate"] = 'Basic realm="Twilio API"'
        response.headers.update(headers)
        return response

    async def _do(
        self, request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        try:
            self._check(request)
            return await handler(request)
        except Refused as refused:
            if not refused.innocent:
                self._exchange.note(f"{request.method} {request.path}: {refused}")
            return web.json_response(refused.body(), status=refused.status)
        except web.HTTPException as unknown:
            self._exchange.note(f"{request.method} {request.path}: {unknown.status}")
            message = f"The requested resource {request.path} was not found"
            return web.json_response(error_body(404, NOT_FOUND, message), status=404)

    def _check(self, request: web.Request) -> None:
        given = request.headers.get("Authorization", "").encode()
        if not hmac.compare_digest(given, self._authorization):
            raise Refused(20003, "Authenticate", 401)
        if request.match_info.get("account", self._exchange.account_sid) != self._exchange.account_sid:
            raise Refused(NOT_FOUND, f"The requested resource {request.path} was not found", 404)
        if request.method == "POST" and request.can_read_body and request.content_type != FORM:
            raise Refused(parameters.BAD_REQUEST, f"The body is {request.content_type}, not {FORM}")


async def _read(request: web.Request) -> Asked:
    text = await request.text() if request.method == "POST" else request.query_string
    pairs = parse_qsl(text, keep_blank_values=True)
    fields: dict[str, str | list[str]] = {}
    for name, value in pairs:
        before = fields.get(name)
        fields[name] = value if before is None else [*before, value] if isinstance(before, list) else [before, value]
    return Asked(request.method, request.path, fields, tuple(pairs))
