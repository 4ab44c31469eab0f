"""TwiML carried out on one leg: verb after verb, until the last one, an order by REST, or the end of the call.

It owns what each verb does; it refuses to know how a leg rings and what a media stream says.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from urllib.parse import urljoin

import anyio

from patter.exceptions import WireError
from patter.loopback import twilio_schema
from patter.loopback.tones import hum, tone
from patter.loopback.twilio_dial import dial
from patter.loopback.twilio_leg import Exchange, Guidance, Leg, first_of
from patter.loopback.twilio_stream import stream
from patter.wire import twiml
from patter.wire.twiml import Document, Verb

PLAYED_MS = 1000.0  # how long any file is that is played: files are not fetched
LONGEST_LOOP = 1000


class Performance:
    """One leg doing what TwiML says."""

    def __init__(self, leg: Leg, exchange: Exchange) -> None:
        self._leg, self._exchange = leg, exchange
        self._base = ""
        self._document = Document()
        self._verbs: dict[str, Callable[[Verb], Awaitable[Guidance | None]]] = {
            "Say": self._say,
            "Play": self._play,
            "Pause": self._pause,
            "Redirect": self._redirect,
            "Hangup": self._hang_up,
            "Reject": self._reject,
            "Connect": self._connect,
            "Dial": self._dial,
        }

    async def run(self, guidance: Guidance | None) -> None:
        """Until there is nothing left to do. An order that waits goes first."""
        following = self._leg.next_order() or guidance
        while following is not None and not self._leg.gone:
            following = await self._follow(following)
            following = self._leg.next_order() or following

    async def _follow(self, guidance: Guidance) -> Guidance | None:
        document = await self._read(guidance)
        if document is None:
            if not self._leg.turn.is_set():
                self._leg.stop("completed" if self._leg.answered.is_set() else "failed")
            return None
        self._document = document
        for problem in twilio_schema.problems(document.steps):
            self._exchange.note(f"12200: {problem}")
        for number, verb in enumerate(document.steps):
            if self._leg.turn.is_set():
                return None
            if verb.name not in self._verbs:
                continue
            if verb.name != "Reject":
                self._leg.answer()
            elif number or self._leg.answered.is_set():
                self._exchange.note("<Reject> has no effect: the call is answered already")
                continue
            following = await self._verbs[verb.name](verb)
            if following is not None:
                return following
        return None

    async def _read(self, guidance: Guidance) -> Document | None:
        text, problem = await self._fetch(guidance)
        if problem and guidance.fallback_url:
            extra = {"ErrorCode": problem, "ErrorUrl": guidance.url}
            text, problem = await self._fetch(Guidance(guidance.fallback_url, guidance.fallback_method, extra=extra))
        if problem:
            return None
        self._base = guidance.url
        return twiml.read(text) if text.strip() else Document()

    async def _fetch(self, guidance: Guidance) -> tuple[str, str]:
        """(TwiML, the error's code if there is none)."""
        text: str | None = guidance.twiml
        if not text:
            form = {**self._leg.record.form(), **guidance.extra}
            text = await self._exchange.messenger.ask(guidance.url, form, guidance.method)
        if text is None:
            return "", "11200"
        try:
            if text.strip():
                twiml.read(text)
        except WireError as problem:
            self._exchange.note(f"12100: {problem}")
            return "", "12100"
        return text, ""

    # ----------------------------------------------------------------- verbs

    async def _say(self, verb: Verb) -> None:
        for _ in range(self._loops(verb)):
            self._leg.announced.append(verb.text)
            await self._sound(hum(verb.text))

    async def _play(self, verb: Verb) -> None:
        digits = verb.attributes.get("digits", "")
        if digits:
            self._leg.hear_keys(digits.replace("w", "").replace("W", ""))
            await self._wait(0.2 * len(digits))
            return
        for _ in range(self._loops(verb)):
            self._leg.announced.append(urljoin(self._base, verb.text))
            await self._sound(tone(440.0, PLAYED_MS, 0.1))

    async def _sound(self, pcm_8k: bytes) -> None:
        if self._leg.turn.is_set():
            return
        ended = anyio.Event()
        self._leg.line.announce(pcm_8k, ended.set)
        await first_of(ended, self._leg.turn)
        self._leg.line.stop_announcements()

    async def _pause(self, verb: Verb) -> None:
        length = verb.attributes.get("length", "1")
        await self._wait(float(length) if length.isdecimal() else 1.0)

    async def _wait(self, seconds: float) -> None:
        with anyio.move_on_after(seconds):
            await self._leg.turn.wait()

    async def _redirect(self, verb: Verb) -> Guidance:
        return Guidance(urljoin(self._base, verb.text), verb.attributes.get("method", "POST"))

    async def _hang_up(self, _: Verb) -> None:
        self._leg.stop("completed")

    async def _reject(self, verb: Verb) -> None:
        self._leg.stop("busy" if verb.attributes.get("reason") == "busy" else "no-answer")

    async def _connect(self, verb: Verb) -> Guidance | None:
        noun = next((inside for inside in verb.inside if inside.name == "Stream"), None)
        if noun is None or self._document.stream is None:
            return None
        await stream(self._leg, self._exchange, self._document.stream, noun)
        return self._action(verb)

    async def _dial(self, verb: Verb) -> Guidance | None:
        outcome = await dial(self._leg, self._exchange, verb, self._follow_orders)
        action = self._action(verb)
        return None if action is None else replace(action, extra=outcome)

    async def _follow_orders(self, leg: Leg) -> None:
        """A leg that left the one who dialled it goes on by itself, if it was told to."""
        await Performance(leg, self._exchange).run(None)

    def _action(self, verb: Verb) -> Guidance | None:
        """What the verb says comes after it, unless the turn is over."""
        action = verb.attributes.get("action", "")
        if not action or self._leg.turn.is_set():
            return None
        return Guidance(urljoin(self._base, action), verb.attributes.get("method", "POST"))

    @staticmethod
    def _loops(verb: Verb) -> int:
        loop = verb.attributes.get("loop", "1")
        return (int(loop) or LONGEST_LOOP) if loop.isdecimal() else 1
