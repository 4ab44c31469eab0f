"""Deepgram's two protocols on the wire, judged by the vendor's own package: what it parses, and what its client would send."""

from __future__ import annotations

import contextlib
import inspect
import json
import warnings
from typing import Any
from urllib.parse import parse_qsl, urlencode

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from patter.audio.format import ALAW_8K, MULAW_8K, PCM_16K
from patter.exceptions import WireError
from patter.wire import deepgram, deepgram_flux
from patter.wire.deepgram import (
    Metadata,
    Other,
    Refusal,
    Results,
    UtteranceEnd,
    VoiceHeard,
    Word,
    nova_parameters,
    query_of,
)
from patter.wire.deepgram_flux import Fatal, Turn, flux_parameters
from tests.support.traces import TRACES, rows

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # its own dependencies are not ours to mend
    from deepgram.core.jsonable_encoder import jsonable_encoder
    from deepgram.core.query_encoder import encode_query
    from deepgram.core.remove_none_from_dict import remove_none_from_dict
    from deepgram.listen.v1.client import AsyncV1Client
    from deepgram.listen.v1.types import (
        ListenV1CloseStream,
        ListenV1Error,
        ListenV1Finalize,
        ListenV1KeepAlive,
        ListenV1Metadata,
        ListenV1Results,
        ListenV1SpeechStarted,
        ListenV1UtteranceEnd,
    )
    from deepgram.listen.v2.client import AsyncV2Client
    from deepgram.listen.v2.types import (
        ListenV2CloseStream,
        ListenV2Configure,
        ListenV2ConfigureFailure,
        ListenV2ConfigureSuccess,
        ListenV2Connected,
        ListenV2FatalError,
        ListenV2ForceEndTurn,
        ListenV2TurnInfo,
        ListenV2Warning,
    )

NOVA = ["nova_two_finals", "nova_utterance_end", "nova_finalize_close", "nova_speech_final_first", "vendor_only"]
FLUX = ["flux_turn", "flux_configured"]
V1: dict[str, Any] = {
    "Results": ListenV1Results,
    "SpeechStarted": ListenV1SpeechStarted,
    "UtteranceEnd": ListenV1UtteranceEnd,
    "Metadata": ListenV1Metadata,
    "Error": ListenV1Error,
}
V2: dict[str, Any] = {
    "Connected": ListenV2Connected,
    "TurnInfo": ListenV2TurnInfo,
    "ConfigureSuccess": ListenV2ConfigureSuccess,
    "ConfigureFailure": ListenV2ConfigureFailure,
    "Warning": ListenV2Warning,
    "Error": ListenV2FatalError,
}


def vendor_says(trace: str) -> list[dict[str, Any]]:
    return [row["json"] for row in rows("deepgram", trace) if row["side"] == "vendor"]


def client_says(*traces: str) -> list[dict[str, Any]]:
    return [
        row["json"] for name in traces for row in rows("deepgram", name) if row["side"] == "client" and "json" in row
    ]


@pytest.mark.parametrize("trace", NOVA)
def test_the_first_protocol_is_read_as_the_vendors_package_reads_it(trace: str) -> None:
    for message in vendor_says(trace):
        theirs: Any = V1[message["type"]].model_validate(message)
        ours = deepgram.read_server(json.dumps(message))
        match ours:
            case Results():
                best = theirs.channel.alternatives[0]
                assert (ours.start, ours.end) == (theirs.start, theirs.start + theirs.duration)
                assert ours.text == best.transcript
                assert ours.words == tuple(Word(word.punctuated_word, word.start, word.end) for word in best.words)
                flags = (theirs.is_final, theirs.speech_final, theirs.from_finalize)
                assert (ours.is_final, ours.speech_final, ours.from_finalize) == flags
            case VoiceHeard(timestamp):
                assert timestamp == theirs.timestamp
            case UtteranceEnd(last_word_end):
                assert last_word_end == theirs.last_word_end
            case Metadata(request_id, duration):
                assert (request_id, duration) == (theirs.request_id, theirs.duration)
            case Refusal(code, description):
                assert (code, description) == (theirs.variant, theirs.description)
            case Other():
                pytest.fail(f"{message['type']} was not understood")


@pytest.mark.parametrize("trace", FLUX)
def test_the_second_protocol_is_read_as_the_vendors_package_reads_it(trace: str) -> None:
    for message in vendor_says(trace):
        theirs: Any = V2[message["type"]].model_validate(message)
        ours = deepgram_flux.read_server(json.dumps(message))
        match ours:
            case Turn():
                assert (ours.event, ours.index, ours.text) == (theirs.event, theirs.turn_index, theirs.transcript)
                assert (ours.window_start, ours.window_end) == (theirs.audio_window_start, theirs.audio_window_end)
                assert (ours.confidence, ours.trigger) == (theirs.end_of_turn_confidence, theirs.trigger or "")
                placed = [word for word in theirs.words if word.start is not None]
                assert ours.words == tuple(Word(word.word, word.start, word.end) for word in placed)
            case Refusal(code, description):
                assert (code, description) == (theirs.code, theirs.description)
            case Other(kind):
                assert kind in ("Connected", "ConfigureSuccess")
            case Fatal():
                pytest.fail("no trace has one")


def test_a_fatal_error_is_read() -> None:
    message = {"type": "Error", "sequence_id": 3, "code": "INTERNAL_SERVER_ERROR", "description": "Something broke."}
    ListenV2FatalError.model_validate(message)

    ours = deepgram_flux.read_server(json.dumps(message))

    assert ours == Fatal("INTERNAL_SERVER_ERROR", "Something broke.")
    assert deepgram_flux.fatal_may_pass(ours)
    assert not deepgram_flux.fatal_may_pass(Fatal("UNPARSABLE_CLIENT_MESSAGE", ""))


def test_every_control_message_is_what_the_vendors_client_sends() -> None:
    assert json.loads(deepgram.KEEP_ALIVE) == ListenV1KeepAlive(type="KeepAlive").dict()
    assert json.loads(deepgram.FINALIZE) == ListenV1Finalize(type="Finalize").dict()
    assert json.loads(deepgram.CLOSE_STREAM) == ListenV1CloseStream(type="CloseStream").dict()
    assert json.loads(deepgram.CLOSE_STREAM) == ListenV2CloseStream(type="CloseStream").dict()
    assert json.loads(deepgram_flux.FORCE_END_TURN) == ListenV2ForceEndTurn().dict()
    ours = json.loads(deepgram_flux.configure(4000))
    assert ours == ListenV2Configure.model_validate(ours).dict(exclude_none=True)
    assert ours["thresholds"] == {"eot_timeout_ms": 4000}
    assert client_says("flux_configured")[0] == json.loads(deepgram_flux.configure(3000))


NOVA_QUERIES = [
    nova_parameters("nova-3", MULAW_8K, keyterms=["Patter", "Zoë & Co"]),
    nova_parameters("nova-3", PCM_16K, language="multi", endpointing_ms=200),
    nova_parameters("nova-2-phonecall", ALAW_8K, language="de", keyterms=["Grüezi:2"]),
]
FLUX_QUERIES = [
    flux_parameters("flux-general-en", MULAW_8K, keyterms=["Patter"], eager_threshold=0.5, timeout_ms=1500),
    flux_parameters("flux-general-multi", PCM_16K, language="es"),
]


def by_their_client(parameters: dict[str, Any]) -> list[tuple[str, str]]:
    """The pairs that the vendor's client puts into its URL."""
    encoded = encode_query(jsonable_encoder(remove_none_from_dict(parameters)))
    return sorted(
        (name, value.lower() if value in ("True", "False") else value)
        for name, value in parse_qsl(urlencode(encoded or []))
    )


@pytest.mark.parametrize(("client", "queries"), [(AsyncV1Client, NOVA_QUERIES), (AsyncV2Client, FLUX_QUERIES)])
def test_a_query_is_what_the_vendors_client_would_ask(client: Any, queries: list[dict[str, Any]]) -> None:
    known = set(inspect.signature(client.connect).parameters)
    for parameters in queries:
        assert set(parameters) <= known
        assert sorted(parse_qsl(query_of(parameters))) == by_their_client(parameters)


def test_words_to_listen_for_go_by_the_name_the_model_knows() -> None:
    for model, name in (
        ("nova-3", "keyterm"), ("nova-3-medical", "keyterm"), ("nova-4-general", "keyterm"), ("nova-2", "keywords"),
        ("nova-2-phonecall", "keywords"), ("nova", "keywords"), ("enhanced-meeting", "keywords"), ("base", "keywords"),
    ):  # fmt: skip
        assert nova_parameters(model, MULAW_8K, keyterms=["x"])[name] == ["x"], model


def test_the_second_protocol_is_asked_nothing_of_the_first() -> None:
    query = query_of(flux_parameters("flux-general-en", MULAW_8K, language="en", timeout_ms=1500))

    assert query == "model=flux-general-en&encoding=mulaw&sample_rate=8000&eot_timeout_ms=1500"


def test_what_is_not_wanted_is_not_asked() -> None:
    assert query_of({"a": None, "b": [], "c": False, "d": ["1", 2], "e": 0.5}) == "c=false&d=1&d=2&e=0.5"


@pytest.mark.parametrize(("ms", "taken"), [(0, 500), (1500, 1500), (99_999, 60_000)])
def test_a_timeout_is_kept_within_what_the_vendor_takes(ms: float, taken: int) -> None:
    assert deepgram_flux.bounded_timeout(ms) == taken


@pytest.mark.parametrize("row", rows("deepgram", "broken"), ids=lambda row: row["why"])
def test_what_cannot_be_read_says_why(row: dict[str, str]) -> None:
    with pytest.raises(WireError, match=row["why"]):
        deepgram.read_server(row["text"])


json_values = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["type", "channel", "alternatives", "transcript", "words", "word", "start", "end", "duration", "event"]
            ),
            inner,
            max_size=5,
        )
    ),
    max_leaves=12,
)


@settings(max_examples=50)
@given(
    json_values, st.sampled_from(["Results", "SpeechStarted", "UtteranceEnd", "Metadata", "Error", "TurnInfo", "New"])
)
def test_no_message_is_worse_than_unreadable(value: Any, kind: str) -> None:
    message = json.dumps(value | {"type": kind} if isinstance(value, dict) else value)
    for read in (deepgram.read_server, deepgram_flux.read_server):
        with contextlib.suppress(WireError):
            read(message)


def test_kinds_and_events_of_tomorrow_are_passed_over() -> None:
    assert deepgram.read_server('{"type":"Sentiment"}') == Other("Sentiment")
    assert deepgram_flux.read_server('{"type":"TurnInfo","event":"Interrupted"}') == Other("TurnInfo Interrupted")


def test_goodbyes_are_told_in_plain_words() -> None:
    heard_nothing, _, passing = deepgram.end_of("NET-0001: nothing received")
    assert "nothing from us" in heard_nothing
    assert passing
    unreadable, fix, passing = deepgram.end_of("DATA-0000")
    assert "audio" in unreadable
    assert "encoding" in fix
    assert not passing
    assert deepgram.end_of("bye") == ("", "", True)


def test_every_trace_is_judged() -> None:
    assert {path.stem for path in (TRACES / "deepgram").iterdir()} == {*NOVA, *FLUX, "broken"}
