"""What every conversation must do, whatever engine is inside. The pipeline passes it with and without sound."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

import anyio
import pytest
from anyio.abc import TaskGroup

from patter.audio.format import PCM_16K, AudioChunk, AudioFormat
from patter.clock import Clock
from patter.conversations.pipeline import Pipeline
from patter.models import Agent
from patter.ports import Brief, CallInfo, Conversation
from patter.signals import (
    ConversationSignal,
    ReplyAudio,
    ReplyEnded,
    ReplyReached,
    ReplyStarted,
    ReplyText,
    SpeechStarted,
    SpeechStopped,
    UtteranceEnded,
)
from tests.support.parts import LOUD, QUIET, LinesResponder, LoudnessDetector, ScriptedTranscriber, ToneSynthesizer
from tests.support.virtual_time import VIRTUAL_BACKEND, virtual_clock

pytestmark = pytest.mark.anyio

Make = Callable[[Clock], Conversation]


@pytest.fixture
def anyio_backend() -> object:
    return VIRTUAL_BACKEND


def pipeline(clock: Clock) -> Conversation:
    return Pipeline(
        responder=LinesResponder("First answer. With two sentences.", "Second answer."),
        clock=clock,
        transcriber=ScriptedTranscriber(clock, ["hello there"]),
        detector=LoudnessDetector(),
        synthesizer=ToneSynthesizer(),
    )


CONVERSATIONS = [pytest.param(pipeline, id="pipeline")]
LINES = [pytest.param(PCM_16K, id="voice"), pytest.param(None, id="text")]


class Talk:
    """A started conversation and everything it has said."""

    def __init__(self, conversation: Conversation, clock: Clock) -> None:
        self.conversation, self.clock = conversation, clock
        self.said: list[ConversationSignal] = []

    async def begin(self, line: AudioFormat | None, tasks: TaskGroup) -> None:
        brief = Brief(CallInfo("CA1"), Agent("p", provider="pipeline"), line, line, lambda _, text: (text, None))
        await self.conversation.start(brief, tasks)
        tasks.start_soon(self._collect)

    async def _collect(self) -> None:
        async for signal in self.conversation.signals():
            self.said.append(signal)

    def of(self, kind: type) -> list[ConversationSignal]:
        return [signal for signal in self.said if isinstance(signal, kind)]


async def talking(make: Make, line: AudioFormat | None) -> AsyncIterator[Talk]:
    clock = virtual_clock()
    talk = Talk(make(clock), clock)
    async with anyio.create_task_group() as tasks:
        await talk.begin(line, tasks)
        yield talk
        await talk.conversation.aclose()
        tasks.cancel_scope.cancel()


@pytest.mark.parametrize("line", LINES)
@pytest.mark.parametrize("make", CONVERSATIONS)
async def test_a_reply_is_announced_made_in_order_and_ended_under_one_id(make: Make, line: AudioFormat | None) -> None:
    async for talk in talking(make, line):
        await talk.conversation.read("hi")
        await anyio.sleep(5)
        kinds = [type(signal) for signal in talk.said if not isinstance(signal, ReplyReached)]
        assert kinds[0] is ReplyStarted
        assert kinds[-1] is ReplyEnded
        assert len({signal.reply_id for signal in talk.said if hasattr(signal, "reply_id")}) == 1
        texts = [signal.text for signal in talk.of(ReplyText) if isinstance(signal, ReplyText)]
        assert " ".join(texts) == "First answer. With two sentences."
        assert bool(talk.of(ReplyAudio)) == (line is not None)
        named = [signal.text for signal in talk.of(ReplyAudio) if isinstance(signal, ReplyAudio) and signal.text]
        assert named == (texts if line else [])


@pytest.mark.parametrize("line", LINES)
@pytest.mark.parametrize("make", CONVERSATIONS)
async def test_every_reply_has_a_new_id_and_they_come_one_after_another(make: Make, line: AudioFormat | None) -> None:
    async for talk in talking(make, line):
        await talk.conversation.read("hi")
        await talk.conversation.speak("By the way.")
        await anyio.sleep(8)
        ended = [signal.reply_id for signal in talk.of(ReplyEnded) if isinstance(signal, ReplyEnded)]
        assert len(ended) == len(set(ended)) == 2
        spoken = [s.reply_id for s in talk.said if isinstance(s, (ReplyText, ReplyAudio))]
        assert spoken == sorted(spoken)


@pytest.mark.parametrize("line", LINES)
@pytest.mark.parametrize("make", CONVERSATIONS)
async def test_an_interrupted_reply_says_no_more(make: Make, line: AudioFormat | None) -> None:
    async for talk in talking(make, line):
        await talk.conversation.read("hi")
        await anyio.sleep(0.05)
        await talk.conversation.interrupt(1, "", 0.0)
        before = len(talk.said)
        await anyio.sleep(5)
        assert not [s for s in talk.said[before:] if isinstance(s, (ReplyText, ReplyAudio))]
        await talk.conversation.read("again")
        await anyio.sleep(5)
        assert talk.of(ReplyText)


@pytest.mark.parametrize("make", CONVERSATIONS)
async def test_speech_is_told_when_it_begins_and_ends_and_as_an_utterance(make: Make) -> None:
    async for talk in talking(make, PCM_16K):
        for frame, count in ((QUIET, 25), (LOUD, 40), (QUIET, 75)):
            for _ in range(count):
                talk.conversation.hear(AudioChunk(frame, PCM_16K))
                await anyio.sleep(0.02)
        began, stopped, utterance = talk.of(SpeechStarted)[0], talk.of(SpeechStopped)[0], talk.of(UtteranceEnded)[0]
        assert isinstance(began, SpeechStarted)
        assert isinstance(stopped, SpeechStopped)
        assert isinstance(utterance, UtteranceEnded)
        assert stopped.ended_at - began.began_at == pytest.approx(0.8, abs=0.04)
        assert utterance.text == "hello there"
        assert began.at < stopped.at <= utterance.transcript_at <= utterance.at


@pytest.mark.parametrize("make", CONVERSATIONS)
async def test_closing_twice_is_closing_once(make: Make) -> None:
    async for talk in talking(make, None):
        await talk.conversation.aclose()
