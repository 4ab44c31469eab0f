"""What only Telnyx' commands can do to a call that is up: keys, transfers cold and warm, announcements, recording, the end.

It owns the steps of a handover, which the carrier's webhooks drive; it refuses to know streams and sessions.
"""

from __future__ import annotations

import base64
import re
import secrets
from collections import OrderedDict, deque
from collections.abc import Awaitable, Mapping
from types import MappingProxyType
from typing import Protocol

import anyio

from patter.builders import is_e164
from patter.exceptions import CarrierError, PatterError
from patter.providers.telnyx_rest import GONE, TelnyxRest
from patter.server.telnyx_life import FACTS, Deed, Fact, Life, Stage, why_untaken
from patter.wire.telnyx_webhook import Webhook, plain

RING_S = 30.0  # how long the person of a transfer may let it ring
GRACE_S = 10.0  # for the carrier's webhooks, on top of what a step takes
JOIN_S = 5.0  # the carrier joins two legs within a second
LETTER_S = 0.12  # a slow voice says eight letters a second
SPEECH_LIMIT = 3_000  # characters the carrier speaks at once
DIGITS_LIMIT = 100
TONE_MS = 250
KEPT = 2_000  # handovers whose late webhooks are still known as ours
GONE_AGAIN = "That person hung up before the two were joined."
MARK = "patter:"  # what begins every client_state of ours

_DIGITS = re.compile(rf"[0-9A-D*#wW]{{1,{DIGITS_LIMIT}}}")
_VOICE = "female"  # the carrier's own, in every language of its list
_REGIONS = MappingProxyType(
    {
        "ar": "arb", "zh": "cmn-CN", "da": "da-DK", "de": "de-DE", "en": "en-US", "es": "es-ES", "fr": "fr-FR",
        "hi": "hi-IN", "it": "it-IT", "ja": "ja-JP", "ko": "ko-KR", "nb": "nb-NO", "no": "nb-NO", "nl": "nl-NL",
        "pl": "pl-PL", "pt": "pt-BR", "ro": "ro-RO", "ru": "ru-RU", "sv": "sv-SE", "tr": "tr-TR",
    }
)  # fmt: skip


def state_for(token: str) -> str:
    """The client_state (base64) that brings `token` back in every webhook of a leg."""
    return base64.b64encode(f"{MARK}{token}".encode()).decode()


def token_in(client_state: str) -> str:
    """The token in a decoded client_state; "" if it is not ours."""
    return client_state.removeprefix(MARK) if client_state.startswith(MARK) else ""


def language_for(language: str) -> str:
    """The carrier's name of an agent's language ("de", "pt-BR"); English for one it does not speak."""
    short, _, region = language.partition("-")
    return language if region else _REGIONS.get(short.lower(), "en-US")


class Handover:
    """One transfer or announcement of a call, as far as it has come. `call_id` is the caller's leg."""

    def __init__(self, call_id: str, stage: Stage) -> None:
        self.call_id = call_id
        self.token = secrets.token_urlsafe(24)
        self.handle = ""
        """The call_control_id of the other person's leg, once it is known."""
        self.problem = ""
        self.gone = False
        self._life = Life(stage)
        self._deeds: deque[Deed] = deque()
        self._news = anyio.Event()

    def is_leg(self, handle: str) -> bool:
        """Whether this is the other person's leg; the first one that is asked about is."""
        self.handle = self.handle or handle
        return self.handle == handle

    def told(self, fact: Fact, problem: str = "") -> None:
        """Something happened to one of its legs. `problem` explains an end."""
        deed = self._life.told(fact)
        if deed is not None:
            self.problem = problem
            self._deeds.append(deed)
            self._news.set()

    def leg_told(self, webhook: Webhook) -> None:
        """An event of the other person's leg."""
        fact = FACTS.get(webhook.kind)
        if fact is Fact.HUNG_UP:
            rang = self._life.stage in (Stage.CONSULTED, Stage.HANDED)
            self.gone = True
            self.told(fact, why_untaken(webhook.cause, webhook.sip_cause)[1] if rang else GONE_AGAIN)
        elif fact is not None and not (fact is Fact.SPOKEN and webhook.status == "call_hangup"):
            self.told(fact)

    def caller_told(self, fact: Fact) -> None:
        """An event of the caller's own leg."""
        if fact is Fact.HUNG_UP:
            self.told(Fact.CANCELED, "The caller hung up.")
        elif fact is Fact.BRIDGED or (fact is Fact.SPOKEN and self._life.stage is Stage.ANNOUNCED):
            self.told(fact)

    async def next(self, seconds: float) -> Deed:
        """What is to be done next; what does not happen within `seconds` is overdue."""
        with anyio.move_on_after(seconds):
            while not self._deeds:
                self._news = anyio.Event()
                await self._news.wait()
        if not self._deeds:
            self.told(Fact.OVERDUE, "It took too long.")
        return self._deeds.popleft()


class Handovers:
    """The handovers under way, by our token in their webhooks and by the caller's leg; those of late are still known."""

    def __init__(self) -> None:
        self._by_token: OrderedDict[str, Handover] = OrderedDict()
        self._by_call: dict[str, Handover] = {}

    def begin(self, call_id: str, stage: Stage) -> Handover:
        """A new one. Raises PatterError while there is another for the same call."""
        if call_id in self._by_call:
            raise PatterError("The call is being handed over already: wait for that to succeed or fail.")
        handover = self._by_call[call_id] = Handover(call_id, stage)
        self._by_token[handover.token] = handover
        while len(self._by_token) > KEPT:
            self._by_token.popitem(last=False)
        return handover

    def end(self, handover: Handover) -> None:
        """It is over. If its other leg never showed, one that does is a stranger's."""
        self._by_call.pop(handover.call_id, None)
        if not handover.handle:
            self._by_token.pop(handover.token, None)

    def by_token(self, token: str) -> Handover | None:
        """The handover whose other leg has this token."""
        return self._by_token.get(token)

    def of_call(self, call_id: str) -> Handover | None:
        """The handover of this caller that is under way."""
        return self._by_call.get(call_id)


class PhoneLine(Protocol):
    """What a control must know of the line that its call came over."""

    @property
    def connection_id(self) -> str: ...

    @property
    def webhook_url(self) -> str: ...


class TelnyxControl:
    """The `CarrierControl` of one call. `number` is ours (E.164): whom the person of a transfer sees calling."""

    def __init__(
        self,
        rest: TelnyxRest,
        line: PhoneLine,
        handovers: Handovers,
        call_id: str,
        handle: str,
        number: str,
        language: str = "en",
    ) -> None:
        self._rest = rest
        self._line = line
        self._handovers = handovers
        self._call_id = call_id
        self._handle = handle
        self._number = number
        self._language = language_for(language)
        self.left = False
        """Whether the call goes on without us, or is over at the carrier."""

    async def send_digits(self, digits: str) -> None:
        """Press keys on the line. Raises PatterError for what is no key."""
        if not _DIGITS.fullmatch(digits):
            raise PatterError(f"Keys are 0-9, A-D, *, # and w for a pause, at most {DIGITS_LIMIT} of them.")
        await self._command("send_dtmf", digits=digits, duration_millis=TONE_MS)

    async def record(self) -> None:
        """Let the carrier record both sides from now on, each on its own channel."""
        await self._command("record_start", channels="dual", format="wav")

    async def hang_up(self) -> None:
        """End the call at the carrier; not an error if it is over already."""
        if self.left:
            return
        self.left = True
        try:
            await _unless_gone(self._command("hangup"))
        except BaseException:
            self.left = False
            raise

    async def announce(self, text: str) -> None:
        """Let the carrier say `text` and end the call; returns when the last word has been said."""
        words = _spoken(text)
        if not 0 < len(words) <= SPEECH_LIMIT:
            raise PatterError(f"Telnyx says 1 to {SPEECH_LIMIT:,} characters at once, not {len(words):,}.")
        handover = self._handovers.begin(self._call_id, Stage.ANNOUNCED)
        try:
            await self._speak(self._handle, words)
            deed = await handover.next(GRACE_S + len(words) * LETTER_S)
        finally:
            self._handovers.end(handover)
        if deed is Deed.REFUSE:
            raise PatterError("The call ended before the announcement did.")
        await self.hang_up()

    async def transfer(self, number: str, summary: str = "") -> None:
        """Hand the call to `number`, with a `summary` after telling that person. See `CarrierControl.transfer`."""
        if not is_e164(number):
            raise PatterError('A call is handed to an E.164 number such as "+15551234567".')
        words, joined = _spoken(summary)[:SPEECH_LIMIT], False
        handover = self._handovers.begin(self._call_id, Stage.CONSULTED if words else Stage.HANDED)
        try:
            if words:
                await self._consult(handover, number)
            else:
                await self._hand(handover, number)
            await self._see_through(handover, number, words)
            self.left = joined = True
        finally:
            if not joined:
                await self._drop(handover)
            self._handovers.end(handover)

    async def _hand(self, handover: Handover, number: str) -> None:
        fields = {"to": number, "from": self._number or None, "timeout_secs": round(RING_S)}
        await self._command("transfer", target_leg_client_state=state_for(handover.token), **fields)

    async def _consult(self, handover: Handover, number: str) -> None:
        leg = await self._rest.dial(
            connection_id=self._line.connection_id,
            to=number,
            caller=self._number,
            client_state=state_for(handover.token),
            webhook_url=self._line.webhook_url,
            ring_timeout_s=RING_S,
            command_id=handover.token,
            link_to=self._handle,
        )
        if not handover.is_leg(leg.call_control_id):  # the request was tried again, though the first had come through
            await _unless_gone(self._rest.command(leg.call_control_id, "hangup"))

    async def _see_through(self, handover: Handover, number: str, words: str) -> None:
        """Do what the carrier's webhooks ask for until the two are joined. Raises PatterError if they are not."""
        seconds = RING_S + GRACE_S
        while True:
            match await handover.next(seconds):
                case Deed.SPEAK:
                    await self._speak(handover.handle, words)
                    seconds = GRACE_S + len(words) * LETTER_S
                case Deed.BRIDGE:
                    await self._command("bridge", call_control_id=handover.handle)
                    seconds = JOIN_S
                case Deed.DONE:
                    return
                case _:
                    raise PatterError(f"{number} did not take the call. {handover.problem}")

    async def _drop(self, handover: Handover) -> None:
        """The other person's telephone may not go on ringing, nor the person wait."""
        if not handover.handle or handover.gone:
            return
        with anyio.move_on_after(GRACE_S, shield=True):
            await _unless_gone(self._rest.command(handover.handle, "hangup"))

    async def _speak(self, handle: str, words: str) -> None:
        await self._rest.command(handle, "speak", payload=words, voice=_VOICE, language=self._language)

    async def _command(self, action: str, **fields: str | int | None) -> None:
        await self._rest.command(self._handle, action, **fields)


def _spoken(text: str) -> str:
    """A text as one line of printable characters."""
    return plain(" ".join(text.split()), len(text))


async def _unless_gone(asked: Awaitable[Mapping[str, object] | None]) -> None:
    """Wait for a command that ends a call; one that is over already is well."""
    try:
        await asked
    except CarrierError as problem:
        if problem.code not in GONE:
            raise
