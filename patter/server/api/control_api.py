"""The API that steers calls that are up: end, stop, speak, guide, mute, press keys, transfer.

It owns these shapes; it refuses to know what a session does with them.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from aiohttp import web

from patter.builders import is_e164
from patter.exceptions import PatterError
from patter.server.answers import Refused, data, json_body, text_in
from patter.server.desk import CallSession, Desk
from patter.server.endpoint import Endpoint, call_id_of, no_such_call
from patter.server.schemas import FLAG, NO_BODY, OBJECT, Schema, answered, pattern, record, words

ROOT = "/api/v1/calls/{id}"
E164 = pattern(r"^\+[1-9][0-9]{1,14}$", 'must be in E.164 form, such as "+15551234567"')

_TEXT = record({"text": words()})
_DIGITS = record(  # w is half a second of pause at every carrier
    {"digits": pattern("^[0-9*#wW]{1,32}$", "must be up to 32 of 0-9, *, # (and w for a pause)")}
)
_NUMBER = record({"number": E164, "summary": words(needed=False)}, optional=("summary",))
_MUTED = record({"muted": FLAG})


@dataclass(frozen=True, slots=True)
class ControlApi:
    """The steering entries of /api/v1/calls/{id}. `knows` says whether there is or was such a call, `give_up` ends one that
    rings (False: none of that id does)."""

    desk: Desk
    knows: Callable[[str], Awaitable[bool]]
    give_up: Callable[[str], Awaitable[bool]]

    def endpoints(self) -> list[Endpoint]:
        """The entries, for the table."""
        return [
            _verb("hangup", self.hang_up, "End the call, or give it up while it rings", NO_BODY, 502),
            _verb("interrupt", self.interrupt, "Stop what the agent is saying", NO_BODY),
            _verb("say", self.say, "The agent says the text word for word", _TEXT),
            _verb("guide", self.guide, "Tell the model what the caller does not hear", _TEXT),
            _verb("mute", self.mute, "Let the agent say only what it is given, or answer again", _MUTED),
            _verb("text", self.text, "The caller's typed words: a turn", _TEXT),
            _verb("digits", self.digits, "Press keys on the caller's line", _DIGITS),
            _verb("transfer", self.transfer, "Hand the call to another number", _NUMBER),
        ]

    async def hang_up(self, request: web.Request) -> web.Response:
        """End the call, or give it up while it rings."""
        call_id = call_id_of(request)
        try:
            if self.desk.find(call_id) is None and await self.give_up(call_id):
                return data({})
        except PatterError as problem:
            raise Refused(502, str(problem)) from None
        return await self._do((await self._live(request)).hang_up("operator_ended"))

    async def interrupt(self, request: web.Request) -> web.Response:
        """Stop what the agent is saying."""
        return await self._do((await self._live(request)).interrupt())

    async def say(self, request: web.Request) -> web.Response:
        """The agent says the text word for word."""
        text = text_in(await json_body(request), "text")
        return await self._do((await self._live(request)).say(text))

    async def guide(self, request: web.Request) -> web.Response:
        """Tell the model what the caller does not hear."""
        text = text_in(await json_body(request), "text")
        return await self._do((await self._live(request)).guide(text))

    async def mute(self, request: web.Request) -> web.Response:
        """Let the agent say only what it is given ("muted": true), or answer again."""
        muted = (await json_body(request))["muted"]
        return await self._do((await self._live(request)).mute(muted))

    async def text(self, request: web.Request) -> web.Response:
        """The caller's typed words: a turn."""
        text = text_in(await json_body(request), "text")
        return await self._do((await self._live(request)).read(text))

    async def digits(self, request: web.Request) -> web.Response:
        """Press keys on the caller's line."""
        digits = (await json_body(request))["digits"].strip()
        return await self._do((await self._live(request)).send_digits(digits))

    async def transfer(self, request: web.Request) -> web.Response:
        """Hand the call to another number."""
        body = await json_body(request)
        number, summary = body["number"], text_in(body, "summary", default="")
        if not is_e164(number):
            raise Refused(422, f'"number" {E164["x-must"]}.')
        session = await self._live(request)
        return await self._do(session.transfer(number, summary=summary, failed=_told_by_its_event))

    async def _live(self, request: web.Request) -> CallSession:
        call_id = call_id_of(request)
        live = self.desk.find(call_id)
        if live is None:
            raise Refused(409, "This call is over.") if await self.knows(call_id) else no_such_call()
        return live.session

    async def _do(self, verb: Awaitable[None]) -> web.Response:
        try:
            await verb
        except ValueError as problem:
            raise Refused(422, str(problem)) from None
        return data({})


def _verb(
    name: str,
    handler: Callable[[web.Request], Awaitable[web.Response]],
    summary: str,
    body: Schema,
    *refusals: int,
) -> Endpoint:
    done = answered(OBJECT)
    return Endpoint(
        "POST", f"{ROOT}/{name}", handler, "operate", summary, body=body, answer=done, refusals=(409, *refusals)
    )


def _told_by_its_event() -> None:
    """Whether anybody takes a call is known after minutes perhaps: TransferFailed or CallEnded tell, no request waits."""
