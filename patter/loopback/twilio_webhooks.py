"""Twilio's messenger: signs webhooks, delivers them, and judges what comes back.

It owns delivery; it refuses to know what a webhook means and what is done with the TwiML that answers it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from urllib.parse import urlencode, urljoin, urlsplit

import aiohttp
from yarl import URL

from patter.loopback.misbehaviour import Misbehaviour
from patter.loopback.reach import Reach
from patter.wire import twilio_signature

BUDGET_S = 15.0  # what a carrier waits for an answer
ANSWER_LIMIT = 256 * 1024  # bytes; more than any TwiML may have
XML_TYPES = ("text/xml", "application/xml", "text/html")


@dataclass(frozen=True, slots=True)
class Delivery:
    """One webhook as it was answered. `status` 0 = no answer, with what went wrong in `problem`."""

    url: str
    method: str
    form: Mapping[str, str]
    status: int
    content_type: str = ""
    body: str = ""
    problem: str = ""

    @property
    def took(self) -> bool:
        """Whether it was answered as a webhook should be."""
        return 200 <= self.status < 300


class Messenger:
    """Delivers the webhooks of all calls. `note` takes what is wrong with the answers; `deliveries` keeps every attempt."""

    def __init__(
        self, http: aiohttp.ClientSession, reach: Reach, auth_token: str, day: Misbehaviour, note: Callable[[str], None]
    ) -> None:
        self.deliveries: list[Delivery] = []
        self._http, self._reach, self._token, self._day, self._note = http, reach, auth_token, day, note

    def signed(self, url: str, form: Mapping[str, str] | None = None) -> dict[str, str]:
        """The signature's header for a request to the public `url`."""
        return {twilio_signature.HEADER: twilio_signature.sign(url, form or {}, self._token)}

    async def tell(self, url: str, form: Mapping[str, str], method: str = "POST") -> None:
        """A callback: nobody minds its answer, but a failure is noted."""
        answer = await self._deliver(url, form, method)
        if not answer.took:
            self._note(f"the callback to {_bare(url)} {answer.problem or f'was answered {answer.status}'}")

    async def ask(self, url: str, form: Mapping[str, str], method: str = "POST") -> str | None:
        """TwiML, "" for an empty answer, or None if there was no usable one (which is noted)."""
        answer = await self._deliver(url, form, method)
        if not answer.took:
            self._note(f"11200: the webhook {_bare(url)} {answer.problem or f'was answered {answer.status}'}")
            return None
        if answer.body.strip() and answer.content_type not in XML_TYPES:
            self._note(f"12300: the webhook {_bare(url)} answers {answer.content_type}, which is not XML")
            return None
        return answer.body

    async def _deliver(self, url: str, form: Mapping[str, str], method: str) -> Delivery:
        answer = await self._attempt(url, form, method)
        if self._day.duplicate_webhooks:
            await self._attempt(url, form, method)
        return answer

    async def _attempt(self, url: str, form: Mapping[str, str], method: str) -> Delivery:
        method = "GET" if method == "GET" else "POST"  # TwiML may say anything
        if method == "GET" and form:
            url, form = url + ("&" if urlsplit(url).query else "?") + urlencode(form), {}
        headers = {**self.signed(url, form), "User-Agent": "TwilioProxy/1.1"}
        address, tunnel = self._reach.of(url)
        try:
            async with self._http.request(
                method,
                URL(address, encoded=True),
                data=dict(form) if method == "POST" else None,
                headers=headers | tunnel,
                timeout=aiohttp.ClientTimeout(total=BUDGET_S),
                allow_redirects=False,
            ) as response:
                body = (await response.content.read(ANSWER_LIMIT)).decode("utf-8", "replace")
                delivery = Delivery(url, method, dict(form), response.status, response.content_type, body)
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            delivery = Delivery(url, method, dict(form), 0, problem=f"failed ({type(error).__name__})")
        self.deliveries.append(delivery)
        return delivery


def _bare(url: str) -> str:
    return urljoin(url, urlsplit(url).path)
