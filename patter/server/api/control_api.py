"""The API that steers calls that are up: end, stop, speak, press keys, transfer.

It owns these shapes; it refuses to know what a session does with them.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from aiohttp import web

from patter.builders import is_e164
from patter.exceptions import PatterError
from patter.server.answers import Refused, data, flag_in, json_body, text_in
from patter.server.desk import Desk, LiveCall
from patter.server.endpoint import Endpoint, call_id_of, no_such_call

_DIGITS = re.compile(r"[0-9*#wW]{1,32}")  # w is half a second of pause at every carrier


@dataclass(frozen=True, slots=True)
class ControlApi:
    """The steering entries of /api/v1/calls/{id}. `knows` says whether there is or was such a call, `give_up` ends one that
    rings (False: none of that id does)."""

    desk: Desk
    knows: Callable[[str], bool]
    give_up: Callable[[str], Awaitable[bool]]

    def endpoints(self) -> list[Endpoint]:
        """The entries, for the table."""
        root = "/api/v1/calls/{id}"
        return [
            Endpoint("POST", f"{root}/hangup", self.hang_up, "operate", "End the call, or give it up while it rings"),
            Endpoint("POST", f"{root}/interrupt", self.interrupt, "operate", "Stop what the agent is saying"),
            Endpoint("POST", f"{root}/say", self.say, "operate", "The agent says the text word for word"),
            Endpoint("POST", f"{root}/guide", self.guide, "operate", "Tell the model what the caller does not hear"),
            Endpoint(
                "POST", f"{root}/mute", self.mute, "operate", "Let the agent say only what it is given, or answer again"
            ),
            Endpoint("POST", f"{root}/text", self.text, "operate", "The caller's typed words: a turn"),
            Endpoint("POST", f"{root}/digits", self.digits, "operate", "Press keys on the caller's line"),
            Endpoint("POST", f"{root}/transfer", self.transfer, "operate", "Hand the call to another number"),
        ]

    async def hang_up(self, request: web.Request) -> web.Response:
        """End the call, or give it up while it rings."""
        call_id = call_id_of(request)
        try:
            if self.desk.find(call_id) is None and await self.give_up(call_id):
                return data({})
        except PatterError as problem:
            raise Refused(502, str(problem)) from None
        return await self._do(self._live(request).session.hang_up("operator_ended"))

    async def interrupt(self, request: web.Request) -> web.Response:
        """Stop what the agent is saying."""
        return await self._do(self._live(request).session.interrupt())

    async def say(self, request: web.Request) -> web.Response:
        """The agent says the text word for word."""
        words = text_in(await json_body(request), "text")
        return await self._do(self._live(request).session.say(words))

    async def guide(self, request: web.Request) -> web.Response:
        """Tell the model what the caller does not hear."""
        words = text_in(await json_body(request), "text")
        return await self._do(self._live(request).session.guide(words))

    async def mute(self, request: web.Request) -> web.Response:
        """Let the agent say only what it is given ("muted": true), or answer again."""
        body = await json_body(request)
        if "muted" not in body:
            raise Refused(422, '"muted" is missing: true or false.')
        return await self._do(self._live(request).session.mute(flag_in(body, "muted")))

    async def text(self, request: web.Request) -> web.Response:
        """The caller's typed words: a turn."""
        words = text_in(await json_body(request), "text")
        return await self._do(self._live(request).session.read(words))

    async def digits(self, request: web.Request) -> web.Response:
        """Press keys on the caller's line."""
        digits = text_in(await json_body(request), "digits")
        if not _DIGITS.fullmatch(digits):
            raise Refused(422, '"digits" are up to 32 of 0-9, *, # (and w for a pause).')
        return await self._do(self._live(request).session.send_digits(digits))

    async def transfer(self, request: web.Request) -> web.Response:
        """Hand the call to another number."""
        body = await json_body(request)
        number, summary = text_in(body, "number"), text_in(body, "summary", default="")
        if not is_e164(number):
            raise Refused(422, '"number" must be in E.164 form, such as "+15551234567".')
        session = self._live(request).session
        return await self._do(session.transfer(number, summary=summary, failed=_told_by_its_event))

    def _live(self, request: web.Request) -> LiveCall:
        call_id = call_id_of(request)
        live = self.desk.find(call_id)
        if live is None:
            raise Refused(409, "This call is over.") if self.knows(call_id) else no_such_call()
        return live

    async def _do(self, verb: Awaitable[None]) -> web.Response:
        try:
            await verb
        except ValueError as problem:
            raise Refused(422, str(problem)) from None
        return data({})


def _told_by_its_event() -> None:
    """Whether anybody takes a call is known after minutes perhaps: TransferFailed or CallEnded tell, no request waits."""
