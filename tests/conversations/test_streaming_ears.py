"""Ears on a recogniser that hears voice and pauses by itself: when an utterance is over, and that every voice ends."""

from __future__ import annotations

from collections.abc import Callable

import anyio
import pytest

from patter.audio.format import MULAW_8K, PCM_16K, AudioChunk
from patter.audio.g711 import mulaw_encode
from patter.conversations.streaming_ears import LATE_WORDS_S, STALLED_S, WORDLESS_S
from patter.exceptions import ProviderError
from patter.models import TurnTaking
from patter.signals import (
    CallerPartial,
    ConnectionUsed,
    Faulted,
    TurnLikely,
    TurnUnlikely,
    Used,
)
from tests.support.parts import LOUD, QUIET
from tests.support.streaming_room import Room, listening
from tests.support.virtual_time import VIRTUAL_BACKEND

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> object:
    return VIRTUAL_BACKEND


async def test_complete_words_end_the_turn_after_the_least_silence() -> None:
    async with listening() as room:
        room.listener.voice()
        await anyio.sleep(1)
        ended_at = room.listener.pause("I would like a table for two.")
        await anyio.sleep(3)

        assert room.kinds() == ["SpeechStarted", "SpeechStopped", "CallerPartial", "UtteranceEnded"]
        utterance = room.ended[0]
        assert utterance.text == "I would like a table for two."
        assert utterance.speech_ended_at == ended_at == room.stopped[0].ended_at
        assert utterance.at == pytest.approx(ended_at + 0.4)
        assert utterance.speech_ended_at <= utterance.recognition_at <= utterance.transcript_at <= utterance.at
        assert not utterance.answered


async def test_unfinished_words_wait_for_more_which_are_joined() -> None:
    async with listening() as room:
        room.listener.voice()
        room.listener.pause("I would like to")
        await anyio.sleep(0.8)
        room.listener.voice()
        await anyio.sleep(0.5)
        room.listener.partial("book a")
        await anyio.sleep(0.5)
        ended_at = room.listener.pause("book a table.")
        await anyio.sleep(3)

        assert [utterance.text for utterance in room.ended] == ["I would like to book a table."]
        assert room.ended[0].at == pytest.approx(ended_at + 0.4)
        assert [signal.text for signal in room.told if isinstance(signal, CallerPartial)] == [
            "I would like to",
            "I would like to book a",
            "I would like to book a table.",
        ]


async def test_unfinished_words_after_which_nothing_comes_end_with_the_longest_silence() -> None:
    async with listening() as room:
        room.listener.voice()
        ended_at = room.listener.pause("my number is")
        await anyio.sleep(5)

        assert room.ended[0].at == pytest.approx(ended_at + 1.5)


async def test_a_pause_that_a_model_is_sure_of_ends_the_turn_at_once() -> None:
    async with listening() as room:
        room.listener.voice()
        room.listener.pause("and then I", sure=True)
        await anyio.sleep(0.001)

        assert room.ended[0].at - room.ended[0].transcript_at < 0.01


async def test_words_of_a_late_endpoint_are_not_waited_for_again() -> None:
    async with listening() as room:
        room.listener.voice()
        room.listener.pause("yes please", ago=1.0)
        await anyio.sleep(0.001)

        assert room.ended[0].text == "yes please"


async def test_settings_that_change_hold_from_then_on() -> None:
    async with listening() as room:
        slow = TurnTaking(min_silence_ms=900, max_silence_ms=2000)
        room.ears.settle(slow)
        room.listener.voice()
        ended_at = room.listener.pause("yes please")
        await anyio.sleep(3)

        assert room.ended[0].at == pytest.approx(ended_at + 0.9)
        assert room.listener.settled == [slow]


async def test_a_cough_is_noticed_as_soon_as_it_is_over_and_ends_without_words() -> None:
    async with listening() as room:
        await room.line(LOUD, 0.2)
        room.listener.voice(0.2)
        await room.line(LOUD, 0.1)
        quiet_from = room.clock.now()
        await room.line(QUIET, 2.0)

        assert room.kinds() == ["SpeechStarted", "SpeechStopped", "UtteranceEnded"]
        assert room.stopped[0].ended_at == pytest.approx(quiet_from, abs=0.03)
        assert room.stopped[0].at == pytest.approx(quiet_from + 0.2, abs=0.03)
        assert room.ended[0].text == ""
        assert room.ended[0].at == pytest.approx(quiet_from + 0.2 + LATE_WORDS_S, abs=0.05)


async def test_a_cough_on_a_telephone_line_is_noticed_too() -> None:
    async with listening(line=MULAW_8K) as room:
        loud, quiet = mulaw_encode(LOUD[:320]), mulaw_encode(b"\x08\x00" * 160)
        await room.line(loud, 0.1, MULAW_8K)
        room.listener.voice()
        await room.line(loud, 0.1, MULAW_8K)
        await room.line(quiet, 0.4, MULAW_8K)

        assert len(room.stopped) == 1


async def test_noise_that_never_falls_silent_ends_by_itself() -> None:
    async with listening() as room:
        room.listener.voice(0.0)
        began = room.clock.now()
        await room.line(LOUD, WORDLESS_S + 1)

        assert room.kinds() == ["SpeechStarted", "SpeechStopped", "UtteranceEnded"]
        assert room.ended[0].at == pytest.approx(began + WORDLESS_S, abs=0.05)


async def test_noise_that_is_told_again_and_again_ends_by_itself_too() -> None:
    async with listening() as room:
        began = room.clock.now()
        for _ in range(3):
            room.listener.voice(0.0)
            await room.line(LOUD, 1.2)

        assert room.kinds() == ["SpeechStarted", "SpeechStopped", "UtteranceEnded"]
        assert room.ended[0].at == pytest.approx(began + WORDLESS_S, abs=0.05)


async def test_words_that_come_after_a_short_voice_still_count() -> None:
    async with listening() as room:
        await room.line(LOUD, 0.1)
        room.listener.voice()
        await room.line(LOUD, 0.1)
        await room.line(QUIET, 0.5)
        room.listener.pause("No.", ago=0.5)
        await room.line(QUIET, 1.0)

        assert room.kinds() == ["SpeechStarted", "SpeechStopped", "CallerPartial", "UtteranceEnded"]
        assert room.ended[0].text == "No."


async def test_noise_after_words_neither_ends_them_without_words_nor_keeps_them_for_long() -> None:
    async with listening() as room:
        room.listener.voice()
        room.listener.pause("I would like to")
        await anyio.sleep(0.5)
        await room.line(LOUD, 0.1)
        room.listener.voice()
        await room.line(QUIET, 0.4)
        room.listener.pause("")
        await room.line(QUIET, 3.0)

        assert [utterance.text for utterance in room.ended] == ["I would like to"]
        assert len(room.stopped) == 2
        assert room.ended[0].at < room.stopped[1].at + 1.5


async def test_an_empty_pause_ends_a_voice_that_had_no_words() -> None:
    async with listening() as room:
        room.listener.voice()
        await anyio.sleep(0.5)
        room.listener.pause("")
        await anyio.sleep(0.001)

        assert room.kinds() == ["SpeechStarted", "SpeechStopped", "UtteranceEnded"]
        assert room.ended[0].text == ""


async def test_an_empty_pause_without_voice_is_nothing() -> None:
    async with listening() as room:
        room.listener.pause("")
        await anyio.sleep(5)

        assert room.told == []


async def test_words_without_a_voice_are_announced_as_one() -> None:
    async with listening() as room:
        room.listener.partial("hello")
        await anyio.sleep(0.3)
        room.listener.pause("Hello there.")
        await anyio.sleep(1)

        assert room.kinds() == ["SpeechStarted", "CallerPartial", "SpeechStopped", "CallerPartial", "UtteranceEnded"]


async def test_words_that_never_end_are_taken_as_they_are() -> None:
    async with listening() as room:
        room.listener.voice()
        room.listener.partial("are you")
        await anyio.sleep(2)
        room.listener.partial("are you still there")
        await anyio.sleep(STALLED_S + 1)

        assert [utterance.text for utterance in room.ended] == ["are you still there"]
        assert len(room.stopped) == 1


async def test_a_recogniser_that_connects_anew_gets_time_to_take_its_words_up_again() -> None:
    async with listening() as room:
        room.listener.partial("are you")
        await anyio.sleep(STALLED_S - 1)
        room.listener.say(Faulted("stt", "vendor", "the connection broke off"))
        await anyio.sleep(2)
        room.listener.pause("Are you still there?")
        await anyio.sleep(1)

        assert [utterance.text for utterance in room.ended] == ["Are you still there?"]


async def test_what_is_likely_is_prepared_with_all_the_words_and_taken_back() -> None:
    async with listening() as room:
        now = room.clock.now
        room.listener.voice()
        room.listener.pause("I want to")
        await anyio.sleep(0.2)
        room.listener.say(TurnLikely("cancel", now()))
        room.listener.say(TurnUnlikely(now()))
        room.listener.say(TurnLikely("cancel it", now()))
        room.listener.pause("cancel it", sure=True)
        await anyio.sleep(0.001)

        assert room.prepared == ["I want to cancel", None, "I want to cancel it"]
        assert room.ended[0].text == "I want to cancel it"


async def test_a_recogniser_that_gives_up_is_told_of_after_the_words_it_had() -> None:
    async with listening() as room:
        room.listener.voice()
        room.listener.pause("I would like to")
        await anyio.sleep(0.2)
        room.listener.partial("book")
        await anyio.sleep(0.1)
        room.listener.say(ProviderError("it is gone", provider="vendor", stage="stt", fix="try again later"))
        await anyio.sleep(0.1)

        assert room.kinds()[-2:] == ["Faulted", "UtteranceEnded"]
        assert room.ended[0].text == "I would like to book"
        assert [str(error) for error in room.failures] == ["vendor: it is gone — try again later"]


async def test_a_recogniser_that_gives_up_in_silence_ends_nothing() -> None:
    async with listening() as room:
        room.listener.say(ProviderError("it is gone", provider="vendor", stage="stt"))
        await anyio.sleep(0.1)

        assert room.kinds() == ["Faulted"]
        assert len(room.failures) == 1


async def test_every_frame_goes_on_as_it_came() -> None:
    async with listening() as room:
        chunk = AudioChunk(QUIET, PCM_16K, "AAAA")
        room.ears.hear(chunk)

        assert room.listener.heard == [chunk]
        assert room.listener.heard[0] is chunk


async def test_money_and_connections_are_handed_on_to_the_last() -> None:
    room = Room()
    async with anyio.create_task_group() as tasks:
        await room.ears.start(PCM_16K, tasks)
        room.listener.say(ConnectionUsed("stt", "vendor", True))
        await anyio.sleep(0.01)
        await room.ears.aclose()

        assert room.told == [
            ConnectionUsed("stt", "vendor", True),
            Used("stt", "vendor", "one", {"audio_seconds": 7.0}),
        ]


async def test_the_bill_is_told_although_nobody_reads_any_more() -> None:
    room = Room()
    async with anyio.create_task_group() as tasks:
        await room.ears.start(PCM_16K, tasks)
        await anyio.sleep(0.01)
        tasks.cancel_scope.cancel()
    await room.ears.aclose()

    assert room.told == [Used("stt", "vendor", "one", {"audio_seconds": 7.0})]


@pytest.mark.parametrize("end", [lambda room: room.listener.partial("one more"), lambda room: room.listener.voice()])
async def test_nothing_fires_after_the_end(end: Callable[[Room], None]) -> None:
    room = Room()
    async with anyio.create_task_group() as tasks:
        await room.ears.start(PCM_16K, tasks)
        end(room)
        await anyio.sleep(0.1)
        await room.ears.aclose()
        before = len(room.told)
        await anyio.sleep(20)

        assert len(room.told) == before
