"""Engines that hear sound themselves: their utterances become turns before, with or without their words."""

from __future__ import annotations

import anyio
import pytest

from patter.events import (
    AgentSaid,
    CallerAcknowledged,
    CallerSaid,
    CallerTranscribed,
    ConnectionUsed,
    Interrupted,
    ReplyPaused,
    ReplyResumed,
    UsageMeasured,
)
from patter.models import Agent
from patter.signals import CallerTranscribed as CallerWords
from patter.signals import ConnectionUsed as Connected
from patter.signals import Faulted, ReplyEnded, ReplyWithdrawn, Used
from tests.call.scripted_engine import play, set_scene
from tests.support.virtual_time import VIRTUAL_BACKEND

pytestmark = pytest.mark.anyio
GREETING = "Hello, this is Riverside Dental, how can I help you today?"


@pytest.fixture
def anyio_backend() -> object:
    return VIRTUAL_BACKEND


def greeting() -> Agent:
    return Agent("Be brief.", first_message=GREETING)


async def test_sound_is_answered_at_once_and_its_words_follow_into_their_place() -> None:
    scene = set_scene()

    async def act() -> None:
        await scene.engine.hears(1.0, "u1")
        assert scene.engine.of("reply") == ["u1"]
        scene.engine.says("We open at eight.")
        await anyio.sleep(0.2)
        assert [entry["text"] for entry in scene.session.history] == [""]
        scene.engine.understands("u1", "when do you open")
        await anyio.sleep(2.0)

    await play(scene, act)
    said = scene.of(CallerSaid, CallerTranscribed)
    assert [(type(event), event.turn, event.text) for event in said] == [
        (CallerSaid, 1, ""),
        (CallerTranscribed, 1, "when do you open"),
    ]
    assert said[0].pending
    assert (said[0].recognition_at, said[0].transcript_at) == (0.0, 0.0)
    assert [(entry["role"], entry["text"]) for entry in scene.session.history] == [
        ("user", "when do you open"),
        ("assistant", "We open at eight."),
    ]
    assert scene.engine.of("read") == []


async def test_a_turn_whose_words_never_come_leaves_no_empty_line_in_the_history() -> None:
    scene = set_scene()

    async def act() -> None:
        await scene.engine.hears(1.0, "u1")
        scene.engine.says("Yes.")
        scene.engine.understands("u1", "")
        await anyio.sleep(2.0)

    await play(scene, act)
    assert [event.text for event in scene.of(CallerTranscribed)] == [""]
    assert [entry["role"] for entry in scene.session.history] == ["assistant"]


async def test_a_vendor_that_answers_by_itself_is_asked_nothing() -> None:
    scene = set_scene()

    async def act() -> None:
        await scene.engine.hears(1.0, text="when do you open", answered=True)
        scene.engine.says("We open at eight.")
        await anyio.sleep(2.0)

    await play(scene, act)
    assert scene.engine.asked == []
    assert [(event.turn, event.text, event.pending) for event in scene.of(CallerSaid)] == [
        (1, "when do you open", False)
    ]
    assert [(event.turn, event.text) for event in scene.of(AgentSaid)] == [(1, "We open at eight.")]


@pytest.mark.parametrize(("words", "why"), [("", "no words"), ("Uh-huh.", "acknowledgement")])
async def test_while_the_agent_speaks_the_words_decide_and_nothing_lets_it_go_on(words: str, why: str) -> None:
    scene = set_scene(greeting())

    async def act() -> None:
        await anyio.sleep(1.0)
        await scene.engine.hears(0.4, "u1")
        assert scene.engine.of("reply") == []
        await anyio.sleep(0.4)
        scene.engine.understands("u1", words)
        await anyio.sleep(4.0)

    await play(scene, act)
    assert [event.why for event in scene.of(ReplyResumed)] == [why]
    assert len(scene.of(CallerAcknowledged)) == (1 if words else 0)
    assert scene.of(CallerSaid) == []
    assert [(event.text, event.interrupted) for event in scene.of(AgentSaid)] == [(GREETING, False)]


async def test_while_the_agent_speaks_real_words_take_the_floor() -> None:
    scene = set_scene(greeting())

    async def act() -> None:
        await anyio.sleep(1.0)
        await scene.engine.hears(0.4, "u1")
        await anyio.sleep(0.4)
        scene.engine.understands("u1", "stop please")
        await anyio.sleep(1.0)

    await play(scene, act)
    cut = scene.of(Interrupted)[0]
    assert f"{cut.heard} {cut.dropped}" == GREETING
    assert scene.engine.asked[1:] == [("interrupt", (1, cut.heard)), ("reply", "u1")]
    assert [(event.text, event.pending) for event in scene.of(CallerSaid)] == [("stop please", False)]
    assert scene.of(CallerSaid)[0].transcript_at > scene.of(CallerSaid)[0].recognition_at


async def test_words_that_never_come_do_not_keep_the_agent_silent() -> None:
    scene = set_scene(greeting())

    async def act() -> None:
        await anyio.sleep(1.0)
        await scene.engine.hears(0.4, "u1")
        await anyio.sleep(6.0)

    await play(scene, act)
    paused, resumed = scene.of(ReplyPaused)[0], scene.of(ReplyResumed)[0]
    assert resumed.at - paused.at < 3.0
    assert [(event.text, event.interrupted) for event in scene.of(AgentSaid)] == [(GREETING, False)]


async def test_words_that_come_after_the_agent_went_on_interrupt_it_all_the_same() -> None:
    scene = set_scene(greeting())

    async def act() -> None:
        await anyio.sleep(0.5)
        await scene.engine.hears(0.4, "u1")
        await anyio.sleep(2.1)
        assert scene.of(ReplyResumed)
        scene.engine.understands("u1", "stop")
        await anyio.sleep(0.5)

    await play(scene, act)
    assert scene.engine.of("reply") == ["u1"]
    assert scene.of(Interrupted)[0].dropped


async def test_voice_that_lasts_takes_the_floor_and_is_a_turn_without_waiting_for_words() -> None:
    scene = set_scene(greeting())

    async def act() -> None:
        await anyio.sleep(0.5)
        await scene.engine.hears(1.4, "u1")
        assert scene.engine.of("reply") == ["u1"]
        assert scene.of(CallerSaid)[0].pending
        await anyio.sleep(0.5)

    await play(scene, act)
    cut, said = scene.of(Interrupted)[0], scene.of(CallerSaid)[0]
    assert cut.at < said.at


async def test_an_engine_that_tells_late_of_a_pause_does_not_make_a_cough_long() -> None:
    """Half a second of voice is known to be over a second after it began: that is no second of voice."""
    scene = set_scene(greeting())

    async def act() -> None:
        await anyio.sleep(0.2)
        await scene.engine.hears(0.3, "u1")
        scene.engine.understands("u1", "")
        await anyio.sleep(0.3)
        await scene.engine.hears(0.6, "u2")
        assert not scene.of(Interrupted)
        scene.engine.understands("u2", "")
        await anyio.sleep(3.0)

    await play(scene, act)
    assert [event.text for event in scene.of(AgentSaid)] == [GREETING]


async def test_a_caller_who_goes_on_is_not_spoken_over_when_the_first_words_were_none() -> None:
    scene = set_scene(greeting())

    async def act() -> None:
        await anyio.sleep(0.5)
        await scene.engine.hears(0.3, "u1")
        async with anyio.create_task_group() as both:
            both.start_soon(scene.engine.hears, 0.8, "u2")
            await anyio.sleep(0.3)
            scene.engine.understands("u1", "")
            await anyio.sleep(0.1)
            assert not scene.of(ReplyResumed)
        scene.engine.understands("u2", "I need help")
        await anyio.sleep(0.5)

    await play(scene, act)
    assert scene.of(ReplyResumed) == []
    assert scene.engine.of("reply") == ["u2"]


@pytest.mark.parametrize("order", [("u1", "u2"), ("u2", "u1")])
async def test_two_short_utterances_are_one_turn_with_the_words_of_both(order: tuple[str, str]) -> None:
    words = {"u1": "no", "u2": "wait please"}
    scene = set_scene(greeting())

    async def act() -> None:
        await anyio.sleep(0.2)
        await scene.engine.hears(0.3, "u1")
        await scene.engine.hears(0.3, "u2")
        for utterance in order:
            scene.engine.understands(utterance, words[utterance])
            await anyio.sleep(0.1)

    await play(scene, act)
    assert scene.engine.of("reply") == [order[0]]
    assert [(event.turn, event.text, event.pending) for event in scene.of(CallerSaid)] == [(1, words[order[0]], True)]
    assert [(event.turn, event.text) for event in scene.of(CallerTranscribed)] == [(1, "no wait please")]
    assert scene.session.history[-1]["text"] == "no wait please"


async def test_words_of_what_was_said_before_a_long_interruption_are_not_lost() -> None:
    scene = set_scene(greeting())

    async def act() -> None:
        await anyio.sleep(0.2)
        await scene.engine.hears(0.3, "u1")
        await scene.engine.hears(1.5, "u2")
        scene.engine.understands("u2", "what about Monday")
        scene.engine.understands("u1", "hello")
        await anyio.sleep(0.1)

    await play(scene, act)
    assert scene.engine.of("reply") == ["u2"]
    assert [event.text for event in scene.of(CallerTranscribed)] == ["hello what about Monday"]


async def test_an_utterance_that_was_never_written_down_keeps_no_later_turn_waiting() -> None:
    scene = set_scene(greeting())

    async def act() -> None:
        await anyio.sleep(0.2)
        await scene.engine.hears(0.3, "u1")
        await anyio.sleep(8.0)
        await scene.engine.hears(0.5, "u2")
        scene.engine.understands("u2", "what about Monday")
        await anyio.sleep(0.1)

    await play(scene, act)
    assert [event.text for event in scene.of(CallerTranscribed)] == ["what about Monday"]


async def test_a_vendors_own_interruption_keeps_what_was_heard() -> None:
    scene = set_scene(greeting())

    async def act() -> None:
        await anyio.sleep(1.0)
        scene.engine.tell(ReplyWithdrawn(1, "caller", scene.clock.now()))
        await anyio.sleep(0.5)

    await play(scene, act)
    cut, said = scene.of(Interrupted)[0], scene.of(AgentSaid)[0]
    assert cut.heard_ms == pytest.approx(1000, abs=20)
    assert f"{cut.heard} {cut.dropped}" == GREETING
    assert (said.text, said.interrupted, said.dropped) == (cut.heard, True, cut.dropped)
    assert scene.engine.of("interrupt") == [(1, cut.heard)]
    assert scene.line.cleared_at


async def test_an_answer_that_has_begun_is_not_dropped_with_the_reply_it_replaces() -> None:
    scene = set_scene(greeting())

    async def act() -> None:
        await anyio.sleep(1.0)
        scene.engine.says("Sorry?")
        scene.engine.tell(ReplyWithdrawn(1, "caller", scene.clock.now()))
        await anyio.sleep(2.0)

    await play(scene, act)
    assert [(event.reply_id, event.interrupted, event.text) for event in scene.of(AgentSaid)][1:] == [
        (2, False, "Sorry?")
    ]
    assert scene.engine.of("interrupt") == [(1, scene.of(AgentSaid)[0].text)]


async def test_what_a_guardrail_takes_back_is_no_interruption_and_what_stood_before_it_goes_on() -> None:
    scene = set_scene()

    async def act() -> None:
        scene.engine.says("One moment please.")
        scene.engine.says("Your diagnosis is bad.", whole=False)
        await anyio.sleep(0.4)
        scene.engine.tell(ReplyWithdrawn(2, "guardrail", scene.clock.now()))
        scene.engine.says("Please ask the doctor.")
        await anyio.sleep(4.0)

    await play(scene, act)
    assert scene.of(Interrupted) == []
    assert [(event.reply_id, event.text, event.dropped) for event in scene.of(AgentSaid)] == [
        (2, "", "Your diagnosis is bad."),
        (1, "One moment please.", ""),
        (3, "Please ask the doctor.", ""),
    ]


async def test_nothing_is_answered_while_the_last_words_are_said() -> None:
    scene = set_scene(greeting())

    async def act() -> None:
        await anyio.sleep(0.5)
        await scene.session.say_goodbye("Goodbye and thank you.", "operator_ended")
        await scene.engine.hears(0.5, "u1")
        scene.engine.understands("u1", "wait")
        await anyio.sleep(2.0)

    await play(scene, act)
    assert scene.engine.of("reply") == []
    assert scene.of(CallerSaid) == []
    assert scene.ended.reason == "operator_ended"


async def test_connections_and_recognition_belong_to_the_turn_that_comes_of_them() -> None:
    scene = set_scene()

    async def act() -> None:
        async with anyio.create_task_group() as both:
            both.start_soon(scene.engine.hears, 1.0, "u1")
            await anyio.sleep(0.6)
            scene.engine.tell(Connected("stt", "acme", False, 42.0), Used("stt", "acme", "m", {"audio_seconds": 1.0}))
            scene.engine.tell(Connected("llm", "acme", True))
        scene.engine.tell(Connected("llm", "acme", True))
        await anyio.sleep(0.5)

    await play(scene, act)
    assert [(e.turn, e.stage, e.reused, e.ms) for e in scene.of(ConnectionUsed)] == [
        (1, "stt", False, 42.0),
        (0, "llm", True, 0.0),
        (1, "llm", True, 0.0),
    ]
    assert [event.turn for event in scene.of(UsageMeasured) if event.stage == "stt"] == [1]


async def test_a_fatal_fault_ends_the_call_with_its_cause() -> None:
    scene = set_scene()

    async def act() -> None:
        scene.engine.tell(Faulted("agent", "acme", "it refuses the key", "check ACME_KEY", fatal=True))
        await anyio.sleep(1.0)

    await play(scene, act)
    assert (scene.ended.reason, scene.ended.detail) == ("failed", "acme: it refuses the key")


async def test_what_the_engine_says_at_its_end_is_still_told() -> None:
    scene = set_scene()
    scene.engine.last = [Used("llm", "acme", "m", {"seconds": 7.0})]

    async def act() -> None:
        await scene.engine.hears(1.0, "u1")
        scene.engine.last.append(CallerWords("u1", "goodbye", scene.clock.now()))

    await play(scene, act)
    assert [event.amounts for event in scene.of(UsageMeasured) if event.stage == "llm"] == [{"seconds": 7.0}]
    assert [event.text for event in scene.of(CallerTranscribed)] == ["goodbye"]
    assert [entry["text"] for entry in scene.session.history] == ["goodbye"]
    assert scene.ended.reason == "caller_hung_up"


async def test_noise_that_cuts_a_goodbye_does_not_keep_the_line_open() -> None:
    scene = set_scene()

    async def act() -> None:
        await scene.engine.hears(1.0, text="that is all")
        scene.engine.says("Goodbye then, see you on Friday at noon, and bring the old papers.", whole=False)
        scene.engine.asks("t1", "end_call")
        await anyio.sleep(0.1)
        scene.engine.tell(ReplyEnded(1, scene.clock.now()))
        await scene.engine.hears(1.6)
        with anyio.fail_after(1.0):
            while not scene.session.over:
                await anyio.sleep(0.1)

    await play(scene, act)
    assert scene.of(Interrupted)
    assert scene.ended.reason == "agent_ended"
