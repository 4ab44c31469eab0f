"""TwiML for media streams: the answer to a voice webhook, written for the carrier and read in the carrier's chair.

It owns the XML and its escaping; it refuses to know who asked and to resolve anything outside the text it is given.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit
from xml.parsers import expat
from xml.sax.saxutils import escape, quoteattr

from patter.exceptions import WireError

LIMIT = 64 * 1024  # the carrier refuses longer documents
PARAMETER_LIMIT = 500  # characters of name and value together


def connect_stream(url: str, parameters: Mapping[str, str] | None = None) -> str:
    """Join the call to the media socket at `url` (ws or wss, no query). `parameters` come back in `start`.

    Raises WireError for an address or a parameter that the carrier would refuse or lose silently."""
    _check_address(url)
    inner = ""
    for name, value in (parameters or {}).items():
        if len(name) + len(value) >= PARAMETER_LIMIT:
            raise WireError(
                f"parameter {name!r} is too long: name and value together must stay under {PARAMETER_LIMIT} characters"
            )
        inner += f"<Parameter name={quoteattr(name)} value={quoteattr(value)}/>"
    return _document(f"<Connect><Stream url={quoteattr(url)}>{inner}</Stream></Connect>")


def dial(number: str) -> str:
    """Hand the call to another number; this ends its media stream."""
    return _document(f"<Dial>{escape(number)}</Dial>")


def say_and_hang_up(sentence: str) -> str:
    """Tell the caller something in the carrier's own voice, then end the call."""
    return _document(f"<Say>{escape(sentence)}</Say><Hangup/>")


def _document(body: str) -> str:
    return f'<?xml version="1.0" encoding="UTF-8"?><Response>{body}</Response>'


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
class Document:
    """A TwiML answer: its verbs in order, and the bidirectional stream among them, if any."""

    verbs: tuple[str, ...]
    stream: StreamVerb | None = None


def read(text: str) -> Document:
    """The document as a carrier sees it. No DTD is allowed, so there are no entities to expand or to fetch.

    Raises WireError for XML that is broken, too long or not TwiML, and for a stream without a usable address."""
    if len(text.encode()) > LIMIT:
        raise WireError("TwiML is longer than 64 KB")
    reader = _Reader()
    try:
        reader.parser.Parse(text, True)
    except expat.ExpatError as error:
        raise WireError(f"TwiML is not well-formed XML: {error}") from None
    if reader.stream_url is None:
        return Document(tuple(reader.verbs))
    _check_address(reader.stream_url)
    return Document(tuple(reader.verbs), StreamVerb(reader.stream_url, reader.parameters))


class _Reader:
    def __init__(self) -> None:
        self.path: list[str] = []
        self.verbs: list[str] = []
        self.stream_url: str | None = None
        self.parameters: dict[str, str] = {}
        self.parser = expat.ParserCreate()
        self.parser.StartDoctypeDeclHandler = self._doctype
        self.parser.StartElementHandler = self._open
        self.parser.EndElementHandler = self._close

    def _doctype(self, *_: object) -> None:
        raise WireError("TwiML may not have a document type: it could define entities")

    def _open(self, name: str, attributes: dict[str, str]) -> None:
        if not self.path and name != "Response":
            raise WireError(f"TwiML begins with <Response>, not <{name[:40]}>")
        self.path.append(name)
        if len(self.path) == 2:
            self.verbs.append(name)
        elif self.path == ["Response", "Connect", "Stream"]:
            if self.stream_url is not None:
                raise WireError("a call can have one bidirectional stream only")
            if attributes.get("track", "inbound_track") != "inbound_track":
                raise WireError("a bidirectional stream carries the inbound track only")
            self.stream_url = attributes.get("url", "")
        elif self.path == ["Response", "Connect", "Stream", "Parameter"]:
            self.parameters[attributes.get("name", "")] = attributes.get("value", "")

    def _close(self, _: str) -> None:
        self.path.pop()
