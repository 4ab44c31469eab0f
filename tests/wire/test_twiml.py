"""TwiML: what we write is what a carrier reads, and what a carrier reads cannot hurt it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twilio.twiml.voice_response import Connect, Dial, VoiceResponse

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


def test_verbs_are_read_in_order_with_what_they_hold() -> None:
    document = twiml.read(
        '<Response><Say voice="alice">One &amp; two</Say> <Pause length="1"/>'
        '<Dial timeout="20"><Number>+14155550123</Number><Number>+14155550124</Number></Dial></Response>'
    )
    assert document.stream is None
    assert document.steps == (
        twiml.Verb("Say", {"voice": "alice"}, "One & two"),
        twiml.Verb("Pause", {"length": "1"}),
        twiml.Verb(
            "Dial",
            {"timeout": "20"},
            inside=(twiml.Verb("Number", text="+14155550123"), twiml.Verb("Number", text="+14155550124")),
        ),
    )
    assert twiml.read("<Response/>") == twiml.Document()


def test_a_sentence_and_its_end_are_read_back() -> None:
    sentence = "Nobody is <here> & now."
    assert twiml.read(twiml.say_and_hang_up(sentence)).steps == (twiml.Verb("Say", text=sentence), twiml.Verb("Hangup"))
    url = "https://agent.example.test/consult?leg=a&step=join"
    assert twiml.read(twiml.say_and_redirect(sentence, url)).steps == (
        twiml.Verb("Say", text=sentence),
        twiml.Verb("Redirect", {"method": "POST"}, url),
    )
    assert twiml.read(twiml.hang_up()).verbs == ("Hangup",)


def test_a_sentence_may_come_before_the_stream() -> None:
    document = twiml.read(twiml.connect_stream("wss://a.test/s", sentence="One <moment> & you."))
    assert document.verbs == ("Say", "Connect")
    assert document.steps[0].text == "One <moment> & you."


def test_a_number_and_a_room_are_what_twilios_library_would_dial() -> None:
    [dialled] = twiml.read(twiml.dial("+14155550123")).steps
    theirs = VoiceResponse()
    theirs.append(dial := Dial())
    dial.number("+14155550123")
    assert (dialled,) == twiml.read(str(theirs)).steps

    action, told = "https://a.test/dialled?transfer=a&b=c", "https://a.test/status?transfer=a"
    [dialled] = twiml.read(twiml.dial("+14155550123", action=action, told=told, ring_s=20.0)).steps
    theirs = VoiceResponse()
    theirs.append(dial := Dial(action=action, method="POST", timeout=20))
    dial.number("+14155550123", status_callback=told, status_callback_event="answered completed")
    assert (dialled,) == twiml.read(str(theirs)).steps

    [joined] = twiml.read(twiml.join_conference("room-1")).steps
    theirs = VoiceResponse()
    theirs.append(dial := Dial())
    dial.conference("room-1", beep=False, start_conference_on_enter=True, end_conference_on_exit=True)
    assert (joined,) == twiml.read(str(theirs)).steps


@given(st.text(max_size=200))
def test_no_words_whatever_break_what_is_said(words: str) -> None:
    for text in (twiml.say_and_hang_up(words), twiml.say_and_redirect(words, "https://a.test/x")):
        document = twiml.read(text)
        assert document.verbs[0] == "Say"
        assert len(document.verbs) == 2
        assert document.steps[0].inside == ()


def test_what_no_carrier_would_read_is_not_written() -> None:
    with pytest.raises(WireError, match="64 KB"):
        twiml.say_and_hang_up("x" * 70_000)


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
        ("<Response>" + "<a>" * 1_000 + "</a>" * 1_000 + "</Response>", "deeper"),
    ],
)
def test_a_document_that_is_not_usable_says_why(text: str, why: str) -> None:
    with pytest.raises(WireError, match=why):
        twiml.read(text)


@given(st.text(max_size=100))
def test_no_text_whatever_crashes_the_reader(text: str) -> None:
    with pytest.raises(WireError):
        twiml.read(text)
