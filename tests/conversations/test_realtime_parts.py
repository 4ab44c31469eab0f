"""The parts of a realtime conversation that need no socket: captions, the memory of a call, and a lost utterance."""

from __future__ import annotations

from collections.abc import AsyncIterator

import anyio
import pytest

from patter.audio.format import MULAW_8K, AudioChunk
from patter.conversations.realtime_captions import CREDIBLE_MS, USUAL_MS, Captions, Pace
from patter.conversations.realtime_ear import LOST_S, Ear
from patter.conversations.realtime_link import Link
from patter.conversations.realtime_memory import Memory
from patter.providers.openai_realtime import failure, model_for, realtime_target
from patter.signals import ConversationSignal, SpeechStarted, SpeechStopped
from patter.wire.openai_realtime import SessionSettings
from patter.wire.openai_realtime_events import VoiceBegan
from tests.support.virtual_time import run_virtual, virtual_clock


def captions(pace: Pace | None = None) -> Captions:
    return Captions(pace or Pace(), lambda so_far, piece: "euros" not in f"{so_far} {piece}")


# ------------------------------------------------------------------ captions


def test_words_pass_when_they_are_whole() -> None:
    words = captions()
    assert [words.write(piece) for piece in ("Tu", "lip and ", "Fe", "rn, hel")] == ["", "Tulip and", "", "Fern,"]
    assert words.close() == "hel"
    assert words.text == "Tulip and Fern, hel"


def test_languages_without_blanks_pass_by_their_punctuation() -> None:
    words = captions()
    assert words.write("您好，欢迎光临。请问") == "您好，欢迎光临。"
    assert words.close() == "请问"


def test_words_are_laid_along_the_sound_and_the_rest_at_its_end() -> None:
    words = captions(Pace(100.0))
    words.write("one two three four ")
    assert [words.sound(400), words.sound(400), words.sound(400)] == ["one", "two", "three"]
    assert words.rest() == "four"
    assert words.rest() == ""


def test_words_that_come_after_their_sound_are_laid_at_once() -> None:
    words = captions(Pace(100.0))
    assert words.sound(1000) == ""
    words.write("one two three ")
    assert words.sound(100) == "one two three"


def test_what_broke_off_is_cut_to_what_had_sounded() -> None:
    words = captions(Pace(100.0))
    words.write("one two three fou")
    words.sound(700)
    assert words.break_off() == "one two"
    assert words.write("five ") == "five"
    assert words.text == "one two five"


def test_a_guardrail_lets_nothing_more_pass() -> None:
    words = captions()
    assert words.write("It is ten euros and ") == ""
    assert words.stopped
    assert (words.write("more "), words.close(), words.text) == ("", "", "")


@pytest.mark.parametrize(("ms", "learnt"), [(500, USUAL_MS), (2000, 100.0), (90_000, CREDIBLE_MS[1])])
def test_the_pace_is_learnt_from_enough_sound_and_stays_credible(ms: float, learnt: float) -> None:
    pace = Pace()
    pace.learn("a" * 19, ms)
    assert pace.ms_per_character == learnt


# ------------------------------------------------------------------ memory


def test_a_call_is_retold_in_order_without_what_was_never_said() -> None:
    memory = Memory("ga")
    memory.heard("u1", [AudioChunk(b"\xff" * 160, MULAW_8K)])
    memory.said(1, "a1", "We deliver")
    memory.said(1, "a1", "on Fridays.")
    memory.asked(1, "t1", "c1", "price_of", "")
    memory.said(2, "a2", "Never heard.")
    memory.cut(2, "")
    memory.answered("c1", "18")
    memory.heard("u2", ())
    memory.understood("u1", "do you deliver")
    told = list(memory.retold(lambda sound: ""))
    assert [(item["type"], item.get("role")) for item in told] == [
        ("message", "user"),
        ("message", "assistant"),
        ("function_call", None),
        ("function_call_output", None),
    ]
    assert told[1]["content"] == [{"type": "output_text", "text": "We deliver on Fridays."}]
    assert told[2]["arguments"] == "{}"
    assert list(memory.outputs()) == []  # it is among what was told


def test_what_was_told_anew_is_cut_by_writing_it_anew() -> None:
    memory = Memory("beta")
    memory.typed("when")
    memory.said(1, "a1", "On Fridays.")
    memory.asked(1, "t1", "c1", "price_of", "{}")
    memory.said(1, "a2", "For eighteen.")
    told = list(memory.retold(lambda sound: ""))
    rewritten = memory.cut(1, "On Fridays. For")
    assert [(old, item and item["content"]) for _, old, item in rewritten] == [
        (told[3]["id"], [{"type": "text", "text": "For"}])
    ]
    assert memory.before(rewritten[0][0]) == told[2]["id"]
    [(_, old, item), _] = memory.cut(1, "")
    assert (old, item) == (told[1]["id"], None)


def test_a_result_is_given_once() -> None:
    memory = Memory("ga")
    memory.asked(1, "t1", "c1", "price_of", "{}")
    memory.answered("c1", "18")
    assert [item["output"] for item in memory.outputs()] == ["18"]
    assert list(memory.outputs()) == []


# ------------------------------------------------------------------ an utterance that got lost


def test_a_caller_whose_words_no_session_heard_is_silent_after_a_while() -> None:
    async def scene() -> list[ConversationSignal]:
        said: list[ConversationSignal] = []
        ear = Ear(Memory("ga"), virtual_clock(), said.append)
        first, second = _deaf_link(), _deaf_link()
        ear.listen(first)
        ear.hear(AudioChunk(MULAW_8K.quiet(20), MULAW_8K))
        ear.take(VoiceBegan("u1", 0))
        ear.listen(None)
        ear.listen(second)
        assert second.appended_ms == 20
        await anyio.sleep(LOST_S + 0.1)
        assert ear.idle
        return said

    assert [type(signal) for signal in run_virtual(scene)] == [SpeechStarted, SpeechStopped]


def _deaf_link() -> Link:
    """A link that takes everything and says nothing."""

    class Hole:
        def send(self, message: str) -> bool:
            return True

    async def nothing() -> AsyncIterator[str]:
        return
        yield ""

    return Link(Hole(), nothing(), SessionSettings("", "alloy", MULAW_8K, MULAW_8K))  # type: ignore[arg-type]


# ------------------------------------------------------------------ the address


def test_a_session_is_asked_for_by_name_with_the_key_out_of_sight() -> None:
    target = realtime_target("sk-secret-123456", "my model/1")
    assert target.url == "wss://api.openai.com/v1/realtime?model=my%20model%2F1"
    assert dict(target.headers) == {"Authorization": "Bearer sk-secret-123456"}
    assert "sk-secret" not in repr(target)
    assert target == realtime_target("sk-secret-123456", "my model/1")
    assert dict(realtime_target("k", "m", "http://127.0.0.1:9/v1/", "beta").headers)["OpenAI-Beta"] == "realtime=v1"
    with pytest.raises(ValueError, match="unencrypted"):
        realtime_target("k", "m", "http://example.com/v1")


def test_only_todays_shape_gives_successors() -> None:
    assert model_for("gpt-4o-realtime-preview")[0] == "gpt-realtime-2.1"
    assert model_for("gpt-4o-realtime-preview", "beta") == ("gpt-4o-realtime-preview", "")
    assert model_for("gpt-9") == ("gpt-9", "")


@pytest.mark.parametrize(
    ("kind", "code", "retryable"),
    [
        ("server_error", "", True),
        ("", "rate_limit_exceeded", True),
        ("", "insufficient_quota", False),
        ("invalid_request_error", "invalid_api_key", False),
        ("invalid_request_error", "invalid_value", False),
        ("invalid_request_error", "session_expired", True),
        ("something_new", "", True),
    ],
)
def test_refusals_say_whether_to_try_again(kind: str, code: str, retryable: bool) -> None:
    assert failure(kind, code, "No.").retryable is retryable
