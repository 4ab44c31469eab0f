"""What goes wrong with a conversation at the vendor, and what is told and done about it; and strict scripts of good ones."""

from __future__ import annotations

from typing import Any

import pytest

from patter.audio.format import MULAW_8K
from patter.conversations import stored_agent_link
from patter.exceptions import ProviderError
from patter.loopback import elevenlabs_convai_events as vendor
from patter.loopback.elevenlabs_convai import CONVERSATION, SIGNED_URL, LoopbackConvai, StoredAgent
from patter.loopback.stage import Stage, closed_port
from patter.loopback.stage_faults import CutAfter, Fault, Garbled, Hangup, Refuse, Silent
from patter.loopback.stage_http import Answer, Exchange
from patter.loopback.stage_script import Abort, Audio, Bye, Close, Expect, Garbage, Script, Send, Step
from patter.signals import (
    CallerPartial,
    ConnectionUsed,
    Faulted,
    ReplyAudio,
    ReplyEnded,
    ReplyStarted,
    ReplyText,
    ReplyWithdrawn,
    ToolAsked,
    UtteranceEnded,
)
from tests.conversations.stored_agent_call import AGENT_ID, KEY, door_to, stored, talking
from tests.support import traces

pytestmark = pytest.mark.anyio

SOUND = MULAW_8K.quiet(40)
BEGIN = {"type": "conversation_initiation_client_data"}


def scripted(stage: Stage, *scripts: list[Step]) -> None:
    """The vendor, playing these conversations one after the other."""
    for number, steps in enumerate(scripts):
        url = f"{stage.ws}{CONVERSATION}?agent_id={AGENT_ID}&conversation_signature=s{number}"
        stage.exchanges(
            "GET", SIGNED_URL, Exchange(Answer(body={"signed_url": url}), {"agent_id": AGENT_ID}, {"xi-api-key": KEY})
        )
        query = {"agent_id": AGENT_ID, "conversation_signature": f"s{number}"}
        stage.script(CONVERSATION, Script(steps, query=query, is_audio=vendor.is_audio))


def greeting(text: str = "Hello.") -> list[Step]:
    return [Expect(BEGIN), Send(vendor.metadata()), *reply(text, 1)]


def reply(text: str, number: int) -> list[Step]:
    return [
        Send(vendor.agent_response(text, number)),
        Send(vendor.audio(SOUND, number, vendor.alignment(text, 40.0))),
    ]


async def refused(base_url: str, *, connect_s: float = 5.0, **fields: Any) -> ProviderError:
    """Why a conversation does not begin."""
    with pytest.raises(ExceptionGroup) as group:
        async with talking(base_url, stored(**fields), connect_s=connect_s):
            pytest.fail("it began all the same")
    error = group.value.exceptions[0]
    assert isinstance(error, ProviderError), error
    return error


# ---------------------------------------------------------------------------------------------------- golden conversations


def steps_of(name: str) -> list[Step]:
    """A golden trace as a script."""
    steps: list[Step] = []
    for row in traces.rows("elevenlabs_convai", name):
        if "vendor" in row:
            steps.append(Send(row["vendor"]))
        elif "client" in row:
            steps.append(Audio() if vendor.is_audio(row["client"]) else Expect(row["client"]))
        else:
            steps.append(Close(row["vendor_closes"]))
    return steps


async def test_the_golden_interruption_is_played_to_its_last_row() -> None:
    guest = stored(first_message="Hello {guest}, this is the front desk.", variables={"guest": "Noor"})
    async with Stage() as stage:
        scripted(stage, steps_of("interruption"))
        async with talking(stage.http, guest) as talk:
            await talk.until(ReplyAudio)
            talk.feed(MULAW_8K.quiet(20))
            await talk.until(ReplyWithdrawn)
            ended = await talk.until(UtteranceEnded)
            assert ended.text == "I need late checkout."
            assert talk.of(ReplyText)[0].text == "Hello Noor, this is the front desk."


async def test_the_golden_tool_and_goodbye_are_played_to_their_last_row() -> None:
    async with Stage() as stage:
        scripted(stage, [Expect(BEGIN), Send(vendor.metadata()), *steps_of("tool_then_end")])
        async with talking(stage.http) as talk:
            tool = await talk.until(ToolAsked)
            assert (tool.name, tool.arguments) == ("extend_stay", '{"room": 412, "until": "14:00"}')
            await talk.conversation.answer(tool.tool_id, '{"ok":true}')
            assert (await talk.until(ToolAsked, 2)).name == "end_call"
            await talk.until(ReplyEnded)


async def test_the_golden_wideband_conversation_is_played_to_its_last_row() -> None:
    agent = stored(system_prompt="Du bist an der Rezeption.", language="de-DE", voice="EXAVITQu4vr4xnSDxMaL")
    async with Stage() as stage:
        steps = [
            step for step in steps_of("wideband_typed_turn") if not isinstance(step, Expect) or not _of_a_guest(step)
        ]
        scripted(stage, steps)
        async with talking(stage.http, agent) as talk:
            await talk.until(UtteranceEnded)
            await talk.until(ReplyEnded)
            await talk.conversation.read("Und Frühstück?")
            await talk.until(ToolAsked)
            assert [said.text for said in talk.of(ReplyText)] == ["Gern.", "Von sieben bis zehn."]
            assert talk.of(CallerPartial)[0].text == "Ich hätte"
            assert [len(talk.sound(number)) for number in (1, 2)] == [960, 960]


def _of_a_guest(step: Expect) -> bool:
    """What our conversation has no reason to send."""
    return isinstance(step.check, dict) and step.check.get("type") in ("user_activity", "contextual_update")


# ---------------------------------------------------------------------------------------------------- it does not begin


@pytest.mark.parametrize(
    ("fault", "says"),
    [
        (Refuse(401, {"detail": {"status": "invalid_api_key", "message": "no"}}), "ELEVENLABS_API_KEY"),
        (Refuse(402, {"detail": {"code": "payment_required", "message": "pay"}}), "credit"),
        (Refuse(404, {"detail": {"status": "document_not_found", "message": "?"}}), AGENT_ID),
        (Refuse(429, {}, retry_after="30"), "too many requests"),
        (Refuse(503), "try again later"),
        (Hangup(), "broke off"),
    ],
)
async def test_a_vendor_that_gives_no_address_says_why(fault: Fault, says: str) -> None:
    async with LoopbackConvai() as played:
        played.stage.faults.keep(SIGNED_URL, fault)
        error = await refused(played.stage.http)
    assert says in str(error)


async def test_an_unknown_agent_is_named() -> None:
    async with LoopbackConvai() as played:
        error = await refused(played.stage.http, agent_id="agent_unknown")
    assert "agent_unknown" in error.problem


@pytest.mark.parametrize("fields", [{"agent_id": ""}, {"agent_id": "", "model": "gpt-4o-mini-realtime-preview"}])
async def test_without_an_agents_id_it_says_where_to_put_it(fields: dict[str, str]) -> None:
    async with LoopbackConvai() as played:
        with pytest.raises(ExceptionGroup) as group:
            async with talking(played.stage.http, stored(**fields)):
                pytest.fail("it began all the same")
    assert isinstance(group.value.exceptions[0], ValueError)
    assert "agent_id" in str(group.value.exceptions[0])


async def test_the_model_may_be_the_agents_id() -> None:
    async with LoopbackConvai() as played, talking(played.stage.http, stored(agent_id="", model=AGENT_ID)) as talk:
        await talk.until(ReplyText)


async def test_nobody_there_is_told() -> None:
    assert "cannot be reached" in (await refused(f"http://127.0.0.1:{closed_port()}")).problem


@pytest.mark.parametrize("fault", [Silent(), Garbled(), CutAfter(received=1)])
async def test_a_socket_that_says_nothing_of_use_is_given_up(fault: Fault, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stored_agent_link, "START_S", 0.3)
    async with LoopbackConvai() as played:
        played.stage.faults.keep(CONVERSATION, fault)  # what may pass is tried once more
        error = await refused(played.stage.http, connect_s=0.3)
    assert error.retryable


@pytest.mark.parametrize(
    ("code", "reason", "says"),
    [
        (1008, "Override for field 'prompt' is not allowed by config.", "replace its system_prompt"),
        (1008, "Missing required dynamic variables in tools: {'room'}", "variables"),
        (1002, "This request exceeds your quota limit.", "no credit left"),
        (1008, "something new", "something new"),
        (1000, "", "closed the connection"),
    ],
)
async def test_a_conversation_that_is_closed_at_once_says_why(code: int, reason: str, says: str) -> None:
    async with Stage() as stage:
        scripted(stage, [Expect(BEGIN), Close(code, reason)])
        error = await refused(stage.http, system_prompt="Be brief.", language="de")
    assert says in str(error)


async def test_the_error_that_was_told_before_explains_the_close() -> None:
    event = vendor.error(1008, "override_error", "Overriding the prompt is not permitted")
    async with Stage() as stage:
        scripted(stage, [Expect(BEGIN), Send(event), Close(1008)])
        error = await refused(stage.http, system_prompt="Be brief.", first_message="Hi.", language="de")
    assert error.problem.endswith("replace its system_prompt")


# ---------------------------------------------------------------------------------------------------- it is lost


@pytest.mark.parametrize(
    "end",
    [Abort(), Close(1011), Close(1002, "llm_timeout"), Garbage(frame=True)],
    ids=["broken", "internal", "llm_timeout", "garbage"],
)
async def test_a_lost_conversation_is_taken_up_again_with_what_was_said(end: Step) -> None:
    question = vendor.user_transcript("What time is it?", 3)
    context = {"type": "contextual_update", "text": lambda text: "Caller: What time" in text and "You: Hello." in text}
    silent = {"conversation_config_override": {"agent": {"first_message": "", "prompt": {"prompt": "Be brief."}}}}
    async with Stage() as stage:
        scripted(
            stage,
            [*greeting(), Expect(vendor.is_audio), Send(question), end],
            [Expect(BEGIN | silent), Send(vendor.metadata(hears="pcm_16000")), Expect(context),
             Expect({"type": "user_message", "text": "What time is it?"}), Send(vendor.interruption(2)),
             *reply("Noon.", 2), Audio(5)],
        )  # fmt: skip
        async with talking(stage.http, stored(system_prompt="Be brief.", first_message="Hello.")) as talk:
            talk.feed(MULAW_8K.quiet(20))
            await talk.until(Faulted)
            talk.feed(MULAW_8K.quiet(100))
            await talk.until(ReplyText, fits=lambda said: said.text == "Noon.")
            fault = talk.of(Faulted)[0]
            assert (fault.fatal, fault.fix) == (False, "it is opened once more")
            talk.feed(MULAW_8K.quiet(100))
            await talk.until(ReplyEnded, 2)
        assert talk.sound(2) == SOUND


async def test_the_stored_greeting_of_the_second_conversation_is_not_heard_again() -> None:
    async with Stage() as stage:
        question: list[Step] = [
            Send(vendor.user_transcript("So?", 2)),
            Send(vendor.audio(SOUND, 1)),
            *reply("Noon.", 3),
        ]
        second: list[Step] = [Expect({"type": "contextual_update"}), *reply("Hello.", 1), *question]
        scripted(stage, [*greeting(), Abort()], [Expect(BEGIN), Send(vendor.metadata()), *second])
        async with talking(stage.http) as talk:
            await talk.until(ReplyText, 2)
            assert [said.text for said in talk.of(ReplyText)] == ["Hello.", "Noon."]
            await talk.until(ReplyEnded, 2)
            assert talk.sound(2) == SOUND


async def test_new_instructions_what_was_to_be_said_and_a_tools_result_survive_the_loss() -> None:
    async with Stage() as stage:
        tool = vendor.client_tool_call("tc_1", "look_up", {}, 2)
        asked = Expect({"type": "user_message", "text": lambda text: text.endswith("A person joins.")})
        kind = Expect(
            {"type": "contextual_update", "context_id": "instructions", "text": lambda text: "Be kind." in text}
        )
        result = Expect({"type": "contextual_update", "text": lambda text: "look_up" in text and "found" in text})
        scripted(
            stage,
            [*greeting(), Send(tool), kind, asked, Abort()],
            [Expect(BEGIN), Send(vendor.metadata()), kind, Expect({"context_id": "so_far"}), asked,
             *reply("A person joins.", 1), result],
        )  # fmt: skip
        async with talking(stage.http, stored(first_message="Hello.")) as talk:
            asked_for = await talk.until(ToolAsked)
            await talk.until(ReplyEnded)
            talk.conversation.update(stored(system_prompt="Be kind."))
            await talk.conversation.speak("A person joins.")
            await talk.until(ReplyEnded, 2)
            assert [said.kind for said in talk.of(ReplyStarted)] == ["greeting", "say"]
            await talk.conversation.answer(asked_for.tool_id, "found")
            await talk.conversation.answer(asked_for.tool_id, "twice is once")
        assert [fault.stage for fault in talk.of(Faulted)] == ["llm"]


async def test_a_half_open_socket_is_noticed_and_replaced() -> None:
    quiet = StoredAgent(AGENT_ID, first_message="")
    async with LoopbackConvai(quiet) as played, talking(played.stage.http, heartbeat_s=0.2) as talk:
        played.stage.peers[0].freeze()
        assert not (await talk.until(Faulted)).fatal
        await talk.until(ConnectionUsed, 2)
        await talk.conversation.read("Hello?")
        await talk.until(ReplyText)


async def test_a_conversation_that_is_lost_again_at_once_ends_the_call() -> None:
    async with Stage() as stage:
        scripted(stage, [*greeting(), Abort()], [Expect(BEGIN), Send(vendor.metadata()), Abort()])
        async with talking(stage.http) as talk:
            fault = await talk.until(Faulted, fits=lambda said: said.fatal)
            assert fault.provider == "elevenlabs"
            assert len(talk.of(Faulted)) == 2


async def test_a_vendor_that_does_not_come_back_ends_the_call() -> None:
    async with LoopbackConvai(StoredAgent(AGENT_ID, first_message="")) as played, talking(played.stage.http) as talk:
        played.stage.faults.put(SIGNED_URL, Refuse(401))
        played.stage.cut_all()
        fault = await talk.until(Faulted, fits=lambda said: said.fatal)
        assert "refuses the key" in fault.problem


@pytest.mark.parametrize(
    ("code", "kind", "sentence", "says"),
    [
        (1002, "safety_violation", "Policy", "content rules"),
        (1008, "invalid_message", "Bad frame", "could not read"),
        (1002, "", "Quota exceeded", "no credit left"),
    ],
)
async def test_what_another_try_cannot_mend_ends_the_call(code: int, kind: str, sentence: str, says: str) -> None:
    async with LoopbackConvai(StoredAgent(AGENT_ID, first_message="")) as played, talking(played.stage.http) as talk:
        await played.talks[0].fail(code, kind, sentence, told=bool(kind))
        fault = await talk.until(Faulted)
        assert fault.fatal
        assert says in fault.problem


async def test_frames_that_cannot_be_read_are_passed_over_and_told_once() -> None:
    async with Stage() as stage:
        nonsense: list[Step] = [
            Garbage(), Send(b"\x00"), Send({"type": "audio"}), Send(vendor.audio(b"", 1) | {"type": "new_event"}),
            Send({"type": "audio", "audio_event": {"audio_base_64": "???", "event_id": 1}}),
        ]  # fmt: skip
        scripted(stage, [Expect(BEGIN), Send(vendor.metadata()), *nonsense, *reply("Hello.", 1), Audio()])
        async with talking(stage.http) as talk:
            await talk.until(ReplyEnded)
            talk.feed(MULAW_8K.quiet(20))
            assert [fault.fatal for fault in talk.of(Faulted)] == [False]


async def test_a_server_of_nothing_but_nonsense_is_left() -> None:
    async with Stage() as stage:
        nonsense: list[Step] = [*[Garbage()] * 21, Bye()]
        again: list[Step] = [Expect(BEGIN), Send(vendor.metadata()), Expect({"type": "contextual_update"}), *nonsense]
        scripted(stage, [*greeting(), *nonsense], again)
        async with talking(stage.http) as talk:
            await talk.until(Faulted, fits=lambda said: said.fatal)


async def test_words_that_were_still_to_be_said_when_the_vendor_left_are_told_as_unsaid() -> None:
    async with Stage() as stage:
        scripted(stage, [Expect(BEGIN), Send(vendor.metadata()), Expect({"type": "user_message"}), Close(1000)])
        async with talking(stage.http) as talk:
            await talk.conversation.speak("Goodbye.")
            fault = await talk.until(Faulted)
            assert (fault.stage, fault.fatal) == ("tts", False)


async def test_a_typed_turn_after_the_vendor_left_ends_the_call_instead_of_silence() -> None:
    async with Stage() as stage:
        scripted(stage, [Expect(BEGIN), Send(vendor.metadata()), Close(1000)])
        async with talking(stage.http) as talk:
            await talk.until(ToolAsked)
            await talk.conversation.read("One more thing.")
            assert (await talk.until(Faulted)).fatal


# ---------------------------------------------------------------------------------------------------- the way in


async def test_an_address_that_was_fetched_ahead_is_used_and_a_spoilt_one_replaced() -> None:
    async with LoopbackConvai() as played, door_to(played.stage.http) as door:
        await door.warm(stored())
        await (await door.open(AGENT_ID)).aclose()
        assert len(played.stage.visits) == 1
        await door.warm(stored(voice="sarah"))
        played.stage.faults.put(CONVERSATION, Refuse(403))
        await (await door.open(AGENT_ID)).aclose()
        assert [visit.path for visit in played.stage.visits].count(SIGNED_URL) == 3


async def test_warming_tells_what_is_in_the_way() -> None:
    async with LoopbackConvai(api_key="sk_another_0123456789") as played, door_to(played.stage.http) as door:
        with pytest.raises(ProviderError, match="refuses the key"):
            await door.warm(stored())
    async with LoopbackConvai() as played, door_to(played.stage.http) as door:
        with pytest.raises(ProviderError, match="rachel"):
            await door.warm(stored(voice="rachel"))
        with pytest.raises(ValueError, match="agent_id"):
            await door.warm(stored(agent_id=""))


async def test_a_conversation_that_never_began_can_be_closed() -> None:
    async with LoopbackConvai() as played:
        with pytest.raises(ExceptionGroup):
            async with talking(played.stage.http, stored(agent_id="agent_unknown")):
                pytest.fail("it began all the same")
