"""TwiML: the answers to voice webhooks and the orders to live calls, written for the carrier and read in its chair.

It owns the XML and its escaping; it refuses to know who asked and to resolve anything outside the text it is given.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit
from xml.parsers import expat
from xml.sax.saxutils import escape, quoteattr

from patter.exceptions import WireError

LIMIT = 64 * 1024  # bytes; the carrier refuses longer documents
INLINE_LIMIT = 4_000  # characters of a document that is sent with a REST request
PARAMETER_LIMIT = 500  # characters of name and value together
DEPTH = 8  # no verb nests deeper than Connect, Stream, Parameter

_NO_XML = re.compile(
    "[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]"
)  # characters that no XML 1.0 text may hold


def connect_stream(url: str, parameters: Mapping[str, str] | None = None, *, sentence: str = "") -> str:
    """Join the call to the media socket at `url` (ws or wss, no query). `parameters` come back in `start`.

    A `sentence` is said before, in the carrier's own voice.
    Raises WireError for an address or a parameter that the carrier would refuse or lose silently."""
    _check_address(url)
    inner = ""
    for name, value in (parameters or {}).items():
        if len(name) + len(value) >= PARAMETER_LIMIT:
            raise WireError(
                f"parameter {name!r} is too long: name and value together must stay under {PARAMETER_LIMIT} characters"
            )
        inner += f"<Parameter name={_attribute(name)} value={_attribute(value)}/>"
    said = f"<Say>{_text(sentence)}</Say>" if sentence else ""
    return _document(f"{said}<Connect><Stream url={_attribute(url)}>{inner}</Stream></Connect>")


def dial(number: str, *, action: str = "", told: str = "", ring_s: float = 30.0) -> str:
    """Hand the call to another number; this ends its media stream, and the call when that number hangs up.

    With an `action` its answer says (by POST) how the call goes on, once the other one has hung up or has not come within
    `ring_s`; `told` hears of that other leg being answered and ended."""
    after = f' action={_attribute(action)} method="POST" timeout="{round(ring_s)}"' if action else ""
    callback = f' statusCallback={_attribute(told)} statusCallbackEvent="answered completed"' if told else ""
    return _document(f"<Dial{after}><Number{callback}>{_text(number)}</Number></Dial>")


def join_conference(room: str) -> str:
    """Put the call into a room; the room closes with whoever leaves it first."""
    return _document(
        '<Dial><Conference beep="false" startConferenceOnEnter="true" endConferenceOnExit="true">'
        f"{_text(room)}</Conference></Dial>"
    )


def say_and_hang_up(sentence: str) -> str:
    """Tell the caller something in the carrier's own voice, then end the call."""
    return _document(f"<Say>{_text(sentence)}</Say><Hangup/>")


def say_and_redirect(sentence: str, url: str) -> str:
    """Tell the caller something in the carrier's own voice, then ask `url` (by POST) how to go on."""
    return _document(f'<Say>{_text(sentence)}</Say><Redirect method="POST">{_text(url)}</Redirect>')


def hang_up() -> str:
    """End the call."""
    return _document("<Hangup/>")


def _document(body: str) -> str:
    text = f'<?xml version="1.0" encoding="UTF-8"?><Response>{body}</Response>'
    if len(text.encode()) > LIMIT:
        raise WireError("TwiML would be longer than 64 KB")
    return text


def _text(words: str) -> str:
    return escape(_NO_XML.sub(" ", words))


def _attribute(value: str) -> str:
    return quoteattr(_NO_XML.sub(" ", value))


def _check_address(url: str) -> None:
    parts = urlsplit(url)
    if parts.scheme not in ("ws", "wss") or not parts.netloc:
        raise WireError(f"the stream's address {url!r} must be an absolute ws:// or wss:// URL")
    if parts.query or parts.fragment:
        raise WireError(
            "the stream's address may not have a query or a fragment: the carrier drops them; use parameters"
        )


@dataclass(frozen=True, slots=True)
class StreamVerb:
    """`<Connect><Stream>`: where the carrier opens the media socket, and what it hands back in `start`."""

    url: str
    parameters: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Verb:
    """One element: its attributes, its own text without the space around it, and the elements inside it in order."""

    name: str
    attributes: dict[str, str] = field(default_factory=dict)
    text: str = ""
    inside: tuple[Verb, ...] = ()


@dataclass(frozen=True, slots=True)
class Document:
    """A TwiML answer: its verbs in order, and the bidirectional stream among them, if any."""

    steps: tuple[Verb, ...] = ()
    stream: StreamVerb | None = None

    @property
    def verbs(self) -> tuple[str, ...]:
        """The names of the verbs."""
        return tuple(verb.name for verb in self.steps)


def read(text: str) -> Document:
    """The document as a carrier sees it. No DTD is allowed, so there are no entities to expand or to fetch.

    Raises WireError for XML that is broken, too long or not TwiML, and for a stream without a usable address."""
    if len(text.encode(errors="replace")) > LIMIT:
        raise WireError("TwiML is longer than 64 KB")
    reader = _Reader()
    try:
        reader.parser.Parse(text, True)
    except (expat.ExpatError, UnicodeError) as error:
        raise WireError(f"TwiML is not well-formed XML: {error}") from None
    return Document(reader.steps, _stream(reader.steps))


def _stream(steps: tuple[Verb, ...]) -> StreamVerb | None:
    streams = [inside for verb in steps if verb.name == "Connect" for inside in verb.inside if inside.name == "Stream"]
    if not streams:
        return None
    if len(streams) > 1:
        raise WireError("a call can have one bidirectional stream only")
    attributes = streams[0].attributes
    if attributes.get("track", "inbound_track") != "inbound_track":
        raise WireError("a bidirectional stream carries the inbound track only")
    url = attributes.get("url", "")
    _check_address(url)
    parameters = [inside.attributes for inside in streams[0].inside if inside.name == "Parameter"]
    return StreamVerb(url, {each.get("name", ""): each.get("value", "") for each in parameters})


class _Open:
    """An element whose end has not come yet."""

    def __init__(self, name: str, attributes: dict[str, str]) -> None:
        self.name, self.attributes = name, attributes
        self.text: list[str] = []
        self.inside: list[Verb] = []

    def closed(self) -> Verb:
        return Verb(self.name, self.attributes, "".join(self.text).strip(), tuple(self.inside))


class _Reader:
    def __init__(self) -> None:
        self.steps: tuple[Verb, ...] = ()
        self._path: list[_Open] = []
        self.parser = expat.ParserCreate()
        self.parser.StartDoctypeDeclHandler = self._doctype
        self.parser.StartElementHandler = self._open
        self.parser.EndElementHandler = self._close
        self.parser.CharacterDataHandler = self._say

    def _doctype(self, *_: object) -> None:
        raise WireError("TwiML may not have a document type: it could define entities")

    def _open(self, name: str, attributes: dict[str, str]) -> None:
        if not self._path and name != "Response":
            raise WireError(f"TwiML begins with <Response>, not <{name[:40]}>")
        if len(self._path) >= DEPTH:
            raise WireError("TwiML is nested deeper than any verb")
        self._path.append(_Open(name, attributes))

    def _say(self, text: str) -> None:
        self._path[-1].text.append(text)

    def _close(self, _: str) -> None:
        verb = self._path.pop().closed()
        if self._path:
            self._path[-1].inside.append(verb)
        else:
            self.steps = verb.inside
