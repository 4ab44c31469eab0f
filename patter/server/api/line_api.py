"""The engine's API for the phone line: open it, look at it, close it, and place calls over it.

It owns the shapes of requests and answers; it refuses to know carriers and how a line lives. Credentials come in here and
never go out.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from aiohttp import web

from patter.agentfile import AgentFile
from patter.builders import choose_carrier, is_e164
from patter.exceptions import PatterError
from patter.server.agents import Agents, Entry
from patter.server.answers import Refused, data, flag_in, json_body, text_in
from patter.server.auth import visitor_of
from patter.server.endpoint import Endpoint
from patter.server.front_door import LineSettings
from patter.server.line_desk import Answering, LineDesk
from patter.server.orders import RING_TIMEOUT_S, Order
from patter.server.schemas import FLAG, NUMBER, TEXT, TEXTS, answered, listing, one_of, record, whole, words
from patter.server.schemas import number as between

ROUTES_LIMIT = 200  # numbers of one account that one engine answers
SHORTEST_RING_S, LONGEST_RING_S = 5.0, 600.0  # what both carriers take

_SHOWN = ("problem", "fix", "carrier", "number", "public_url", "agent", "voice_url_before")
LINE = record(
    {
        "state": one_of("off", "starting", "open", "closing", "problem"),
        **dict.fromkeys(_SHOWN, TEXT),
        **dict.fromkeys(("tunnel", "recording"), FLAG),
        "routes": listing(record({"number": TEXT, "agent": TEXT})),
        "notes": TEXTS,
        "since": NUMBER,
    },
    title="Line",
)
_OPTIONAL = ("number", "host", "public_key", "codec", "api_base", "voicemail", "account", "secret")
_SWITCHES = ("tunnel", "recording", "take_number", "restore")
_OPEN = record(
    {
        "agent": words(),
        "carrier": one_of("twilio", "telnyx"),
        **dict.fromkeys(_OPTIONAL, words(needed=False)),
        **dict.fromkeys(_SWITCHES, FLAG),
        "port": whole(0, 65_535),
        "routes": {"type": ["object", "null"], "maxProperties": ROUTES_LIMIT},
    },
    optional=(*_OPTIONAL, *_SWITCHES, "port", "routes"),
)
_PLACE = record(
    {
        "agent": words(),
        "to": words(),
        **dict.fromkeys(("from", "first_message", "voicemail"), words(needed=False)),
        "machine_detection": FLAG,
        "ring_timeout_s": between(SHORTEST_RING_S, LONGEST_RING_S),
    },
    optional=("from", "first_message", "voicemail", "machine_detection", "ring_timeout_s"),
)


@dataclass(frozen=True, slots=True)
class LineApi:
    """The entries of /api/v1/line and POST /api/v1/calls."""

    line: LineDesk
    agents: Agents

    def endpoints(self) -> list[Endpoint]:
        """The entries, for the table."""
        line, shown = "/api/v1/line", answered(LINE)
        return [
            Endpoint("GET", line, self.show, "read", "The phone line as it is", answer=shown),
            Endpoint(
                "POST",
                line,
                self.open,
                "admin",
                "Open the phone line; the event LineChanged tells how it went",
                body=_OPEN,
                answer=shown,
                status=202,
                refusals=(404, 409),
            ),
            Endpoint(
                "DELETE",
                line,
                self.close,
                "admin",
                "Close the phone line: calls that are up go on (idle), or end with a goodbye (now)",
                query={"when": one_of("now", "idle", default="idle")},
                answer=shown,
                status=202,
            ),
            Endpoint(
                "POST",
                "/api/v1/calls",
                self.place,
                "operate",
                "Place a call; answered once the carrier has accepted it",
                body=_PLACE,
                answer=answered(record({"call_id": TEXT})),
                status=201,
                refusals=(404, 409, 502),
            ),
        ]

    async def show(self, _: web.Request) -> web.Response:
        """The line as it is."""
        return data(self.line.status())

    async def open(self, request: web.Request) -> web.Response:
        """Begin to open the line; the event LineChanged tells how it went."""
        body = await json_body(request)
        entry = await self._usable(text_in(body, "agent"))
        settings = _settings(body)
        numbers = {settings.number: Answering(entry.name, entry.path)}
        for number, wanted in _routes(body).items():
            other = await self._usable(wanted)
            numbers[number] = Answering(other.name, other.path)
        self.line.open(settings, numbers)
        return data(self.line.status(), status=202)

    async def close(self, request: web.Request) -> web.Response:
        """Stop serving: calls that are up go on (when=idle), or end with a goodbye (when=now)."""
        when = request.query.get("when", "idle")
        if when not in ("now", "idle"):
            raise Refused(422, '"when" must be "now" or "idle".')
        self.line.close(when)
        return data(self.line.status(), status=202)

    async def place(self, request: web.Request) -> web.Response:
        """Place a call; 201 once the carrier has accepted it."""
        body = await json_body(request)
        may_open = visitor_of(request).role == "admin"
        file = _file_of(await self._usable(text_in(body, "agent"), may_open=may_open))
        to, caller = text_in(body, "to"), text_in(body, "from", default="")
        for name, number in (("to", to), ("from", caller)):
            if number and not is_e164(number):
                raise Refused(422, f'"{name}" must be in E.164 form, such as "+15551234567".')
        if first := text_in(body, "first_message", default=""):
            file = replace(file, agent=replace(file.agent, first_message=first))
        order = Order(
            to,
            caller,
            file,
            text_in(body, "voicemail", default=""),
            flag_in(body, "machine_detection"),
            _ring_timeout(body),
        )
        try:
            call_id = await self.line.dial(order)
        except PatterError as problem:
            raise Refused(502, str(problem)) from None
        return data({"call_id": call_id}, status=201)

    async def _usable(self, wanted: str, *, may_open: bool = True) -> Entry:
        entry = await self.agents.wanted(wanted, may_open=may_open)
        _file_of(entry)
        return entry


def _file_of(entry: Entry) -> AgentFile:
    if entry.file is None:
        raise Refused(422, f"This agent cannot be used yet: {entry.problem}")
    return entry.file


def _settings(body: dict[str, Any]) -> LineSettings:
    """The line that is asked for. Raises Refused for what cannot work."""
    name, account, secret = (text_in(body, key, default="") for key in ("carrier", "account", "secret"))
    if name not in ("twilio", "telnyx"):
        raise Refused(422, '"carrier" must be "twilio" or "telnyx".')
    number, host, tunnel = (
        text_in(body, "number", default=""),
        text_in(body, "host", default=""),
        flag_in(body, "tunnel"),
    )
    own, other = ((account, secret), ("", "")) if name == "twilio" else (("", ""), (secret, account))
    try:
        carrier = choose_carrier(
            "local", *own, *other, number, host,
            telnyx_public_key=text_in(body, "public_key", default=""),
            telnyx_codec=text_in(body, "codec", default="PCMU"),
            carrier_api=text_in(body, "api_base", default=""),
        )  # fmt: skip
        settings = LineSettings(
            carrier,
            number,
            host,
            tunnel,
            port=_port(body),
            recording=flag_in(body, "recording"),
            take_number=flag_in(body, "take_number", default=True),
            restore=flag_in(body, "restore"),
            voicemail=text_in(body, "voicemail", default=""),
        )
        settings.check()
    except ValueError as problem:
        raise Refused(422, f"The line cannot be opened: {problem}.") from None
    return settings


def _routes(body: dict[str, Any]) -> dict[str, str]:
    """Which further numbers lead to which agents."""
    given = body.get("routes") or {}
    if not isinstance(given, dict) or len(given) > ROUTES_LIMIT:
        raise Refused(422, f'"routes" must be an object of at most {ROUTES_LIMIT} numbers and the agents they lead to.')
    for number, agent in given.items():
        if not is_e164(number) or not isinstance(agent, str):
            raise Refused(422, '"routes" lead from E.164 numbers, such as "+15551234567", to names of agents.')
    return given


def _port(body: dict[str, Any]) -> int:
    port = body.get("port", 0)
    if isinstance(port, bool) or not isinstance(port, int) or not 0 <= port <= 65_535:
        raise Refused(422, '"port" must be a number from 1 to 65535 (0: any free one).')
    return port


def _ring_timeout(body: dict[str, Any]) -> float:
    seconds = body.get("ring_timeout_s", RING_TIMEOUT_S)
    if (
        isinstance(seconds, bool)
        or not isinstance(seconds, int | float)
        or not SHORTEST_RING_S <= seconds <= LONGEST_RING_S
    ):
        raise Refused(422, f'"ring_timeout_s" must be from {SHORTEST_RING_S:g} to {LONGEST_RING_S:g} seconds.')
    return float(seconds)
