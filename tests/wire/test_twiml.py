"""TwiML: what we write is what a carrier reads, and what a carrier reads cannot hurt it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twilio.twiml.voice_response import Connect, VoiceResponse

from patter.exceptions import WireError
from patter.wire import twiml

printable = st.text(
    st.characters(blacklist_categories=("Cs", "Cc"), blacklist_characters="\ufffe\uffff"), min_size=1, max_size=40
)


def test_a_stream_with_parameters_is_read_back() -> None:
    text = twiml.connect_stream("wss://agent.example.test/ws/1", {"name": 'a "quoted" & <odd> one', "empty": ""})
    document = twiml.read(text)
    assert document.verbs == ("Connect",)
    assert document.stream == twiml.StreamVerb(
        "wss://agent.example.test/ws/1", {"name": 'a "quoted" & <odd> one', "empty": ""}
    )


@given(st.dictionaries(printable, printable, max_size=3))
def test_every_parameter_survives(parameters: dict[str, str]) -> None:
    stream = twiml.read(twiml.connect_stream("ws://127.0.0.1:9/s", parameters)).stream
    assert stream is not None
    assert stream.parameters == parameters


def test_what_twilios_own_library_writes_is_read() -> None:
    connect = Connect()
    connect.stream(url="wss://agent.example.test/media").parameter(name="session", value="s & 1")
    response = VoiceResponse()
    response.append(connect)
    assert twiml.read(str(response)).stream == twiml.StreamVerb("wss://agent.example.test/media", {"session": "s & 1"})


def test_other_verbs_are_named_and_no_stream() -> None:
    assert twiml.read(twiml.say_and_hang_up("Nobody is <here> & now.")) == twiml.Document(("Say", "Hangup"))
    assert twiml.read(twiml.dial("+14155550123")) == twiml.Document(("Dial",))
    assert twiml.read("<Response/>") == twiml.Document(())


@pytest.mark.parametrize(
    "url", ["https://a.test/s", "/relative", "wss://a.test/s?token=1", "wss://a.test/s#top", "wss:///s", ""]
)
def test_an_address_the_carrier_would_refuse_or_cut_is_not_written(url: str) -> None:
    with pytest.raises(WireError, match="address"):
        twiml.connect_stream(url)


def test_a_parameter_that_is_too_long_is_not_written() -> None:
    with pytest.raises(WireError, match="too long"):
        twiml.connect_stream("wss://a.test/s", {"name": "x" * 496})


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "well-formed"),
        ("<Response>", "well-formed"),
        ("<html/>", "begins with <Response>"),
        ('<!DOCTYPE r [<!ENTITY a "b">]><Response>&a;</Response>', "document type"),
        ('<!DOCTYPE r SYSTEM "file:///etc/passwd"><Response/>', "document type"),
        ('<Response><Connect><Stream url="wss://a.test/s" track="both_tracks"/></Connect></Response>', "inbound track"),
        (
            '<Response><Connect><Stream url="wss://a.t/1"/><Stream url="wss://a.t/2"/></Connect></Response>',
            "one bidirectional",
        ),
        ("<Response><Connect><Stream/></Connect></Response>", "address"),
        ("<Response>" + " " * 66_000 + "</Response>", "64 KB"),
    ],
)
def test_a_document_that_is_not_usable_says_why(text: str, why: str) -> None:
    with pytest.raises(WireError, match=why):
        twiml.read(text)


@given(st.text(max_size=100))
def test_no_text_whatever_crashes_the_reader(text: str) -> None:
    with pytest.raises(WireError):
        twiml.read(text)
