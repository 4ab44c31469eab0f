"""The played realtime server: its manners as the vendor's, every event judged by OpenAI's own types, in both shapes."""

from __future__ import annotations

import math
import struct
from base64 import b64decode, b64encode
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import anyio
import pytest

from patter.audio.g711 import mulaw_encode
from patter.loopback.openai_realtime import Line, LoopbackRealtime, Manners, Prompt
from patter.loopback.stage_script import ScriptBroken
from tests.support.realtime_judge import judged

# ruff: noqa: PT012 -- leaving the vendor is what raises, so the vendor stands inside

pytestmark = pytest.mark.anyio

LOUD = b64encode(mulaw_encode(b"".join(struct.pack("<h", int(9000 * math.sin(at / 3))) for at in range(800)))).decode()
QUIET = b64encode(b"\xff" * 800).decode()  # 100 ms each
VAD = {"type": "server_vad", "threshold": 0.5, "prefix_padding_ms": 300, "silence_duration_ms": 400}
BETA_TEXT = [{"type": "text", "text": "x"}]
MODELS = {"ga": "gpt-realtime-2.1", "beta": "gpt-4o-realtime-preview"}
GA = {
    "type": "realtime",
    "output_modalities": ["audio"],
    "audio": {
        "input": {
            "format": {"type": "audio/pcmu"},
            "turn_detection": VAD,
            "transcription": {"model": "gpt-transcribe"},
        },
        "output": {"format": {"type": "audio/pcmu"}, "voice": "cedar"},
    },
}
BETA = {
    "modalities": ["text", "audio"],
    "input_audio_format": "g711_ulaw",
    "output_audio_format": "g711_ulaw",
    "turn_detection": VAD,
    "input_audio_transcription": {"model": "whisper-1"},
    "voice": "sage",
}


class Client:
    """A client that judges all it gets."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse, shape: str) -> None:
        self.socket, self.shape = socket, shape
        self.got: list[dict[str, Any]] = []

    async def say(self, kind: str, **fields: Any) -> None:
        await self.socket.send_json({"type": kind} | fields)

    async def next(self) -> dict[str, Any]:
        with anyio.fail_after(10):
            event: dict[str, Any] = await self.socket.receive_json()
        judged(event, "server", self.shape)
        self.got.append(event)
        return event

    async def until(self, kind: str) -> dict[str, Any]:
        while (event := await self.next())["type"] != kind:
            pass
        return event

    async def sound(self, *pieces: str) -> None:
        for piece in pieces:
            await self.say("input_audio_buffer.append", audio=piece)

    def kinds(self) -> list[str]:
        return [event["type"] for event in self.got]


@asynccontextmanager
async def client(vendor: LoopbackRealtime, shape: str = "ga", **headers: str) -> AsyncIterator[Client]:
    beta = {"OpenAI-Beta": "realtime=v1"} if shape == "beta" else {}
    async with (
        aiohttp.ClientSession() as http,
        http.ws_connect(f"{vendor.base_url}/realtime?model={MODELS[shape]}", headers=beta | headers) as ws,
    ):
        yield Client(ws, shape)


async def understood(pcm: bytes) -> str:
    return "are you open"


def vendor_of(*lines: Line, **manners: Any) -> LoopbackRealtime:
    left = list(lines)

    async def answer(prompt: Prompt) -> Line:
        return left.pop(0) if left else Line(f"You said: {prompt.last_words}.")

    given = {"shapes": ("ga", "beta")} | manners
    return LoopbackRealtime(answer=answer, transcribe=understood, manners=Manners(**given), record=True)


@pytest.mark.parametrize("shape", ["ga", "beta"])
async def test_a_turn_by_voice_goes_as_the_vendor_documents_it(shape: str) -> None:
    async with vendor_of(words_ahead_ms=100) as vendor, client(vendor, shape) as one:
        assert (await one.next())["type"] == "session.created"
        await one.say("session.update", session=GA if shape == "ga" else BETA)
        assert (await one.next())["type"] == "session.updated"
        await one.sound(*[QUIET] * 10, *[LOUD] * 6, *[QUIET] * 5)
        began = await one.until("input_audio_buffer.speech_started")
        assert began["audio_start_ms"] == 700  # where the voice is, less the padding
        ended = await one.until("input_audio_buffer.speech_stopped")
        assert (ended["audio_end_ms"], ended["item_id"]) == (2000, began["item_id"])
        assert (await one.until("input_audio_buffer.committed"))["item_id"] == began["item_id"]
        done = await one.until("response.done")
        sound = "response.output_audio" if shape == "ga" else "response.audio"
        words = f"{sound}_transcript"
        order = [kind for kind in dict.fromkeys(one.kinds()) if kind.startswith("response.")]
        assert order == [
            "response.created", "response.output_item.added", "response.content_part.added", f"{words}.delta", f"{sound}.delta",
            f"{sound}.done", f"{words}.done", "response.content_part.done", "response.output_item.done", "response.done",
        ]  # fmt: skip
        text = "".join(event["delta"] for event in one.got if event["type"] == f"{words}.delta")
        assert text == "You said: are you open."
        length = sum(len(b64decode(event["delta"])) for event in one.got if event["type"] == f"{sound}.delta")
        assert length == pytest.approx(len(text) * 60 * 8, abs=100)
        assert done["response"]["status"] == "completed"
        assert done["response"]["usage"]["input_token_details"]["audio_tokens"] > 0
        assert (
            "conversation.item.added" not in one.kinds() if shape == "beta" else "conversation.item.done" in one.kinds()
        )
        if "conversation.item.input_audio_transcription.completed" not in one.kinds():
            await one.until("conversation.item.input_audio_transcription.completed")


@pytest.mark.parametrize("shape", ["ga", "beta"])
async def test_tools_several_in_one_response(shape: str) -> None:
    async with vendor_of(
        Line("One moment.", [("price_of", '{"stems": 12, "colour": "red"}'), ("slots", "{}")])
    ) as vendor:
        async with client(vendor, shape) as one:
            await one.say("response.create")
            done = await one.until("response.done")
            calls = [item for item in done["response"]["output"] if item["type"] == "function_call"]
            assert [(call["name"], call["arguments"]) for call in calls] == [
                ("price_of", '{"stems": 12, "colour": "red"}'),
                ("slots", "{}"),
            ]
            pieces = [event["delta"] for event in one.got if event["type"] == "response.function_call_arguments.delta"]
            assert "".join(pieces) == '{"stems": 12, "colour": "red"}{}'
            for call in calls:
                item = {"type": "function_call_output", "call_id": call["call_id"], "output": "18"}
                await one.say("conversation.item.create", item=item)
            await one.say("response.create")
            await one.until("response.done")
        assert [item["role"] for item in vendor.seen.prompts[1].items] == [
            "assistant",
            "call",
            "call",
            "output",
            "output",
        ]


@pytest.mark.parametrize(("flag", "itself"), [(True, False), (False, False), (False, True)])
async def test_it_answers_by_itself_unless_it_is_asked_not_to(flag: bool, itself: bool) -> None:
    async with vendor_of(answers_itself=itself) as vendor, client(vendor) as one:
        hearing = GA["audio"] | {"input": GA["audio"]["input"] | {"turn_detection": VAD | {"create_response": flag}}}  # type: ignore[operator,index]
        await one.say("session.update", session=GA | {"audio": hearing})
        await one.sound(*[LOUD] * 3, *[QUIET] * 4)
        await one.until("conversation.item.input_audio_transcription.completed")
        await one.say("response.create", event_id="mine")
        event = await one.until("error" if flag or itself else "response.done")
        if flag or itself:
            assert event["error"]["code"] == "conversation_already_has_active_response"
            assert event["error"]["event_id"] == "mine"
            await one.until("response.done")


@pytest.mark.parametrize("flag", [True, False])
async def test_speech_stops_an_answer_unless_it_is_asked_not_to(flag: bool) -> None:
    async with vendor_of(Line("A long story. " * 20), pause_s=0.01) as vendor, client(vendor) as one:
        detection = VAD | {"create_response": False, "interrupt_response": flag}
        hearing = GA["audio"] | {"input": GA["audio"]["input"] | {"turn_detection": detection}}  # type: ignore[operator,index]
        await one.say("session.update", session=GA | {"audio": hearing})
        await one.say("response.create")
        await one.until("response.output_audio.delta")
        await one.sound(*[LOUD] * 3)
        await one.until("input_audio_buffer.speech_started")
        done = await one.until("response.done")
        assert done["response"]["status"] == ("cancelled" if flag else "completed")
        if flag:
            assert done["response"]["status_details"]["reason"] == "turn_detected"


async def test_stopping_and_cutting_an_answer() -> None:
    async with vendor_of(Line("We are open until seven today. " * 9), pause_s=0.01) as vendor, client(vendor) as one:
        await one.say("session.update", session=GA)
        await one.say("response.cancel")
        assert (await one.until("error"))["error"]["code"] == "response_cancel_not_active"
        await one.say("response.create")
        for _ in range(3):
            item_id = (await one.until("response.output_audio.delta"))["item_id"]
        await one.say("response.cancel")
        done = await one.until("response.done")
        assert done["response"]["status_details"] == {"type": "cancelled", "reason": "client_cancelled"}
        assert done["response"]["usage"]["output_tokens"] > 0
        await one.say("conversation.item.truncate", item_id=item_id, content_index=0, audio_end_ms=999_999)
        assert "already shorter than 999999ms" in (await one.until("error"))["error"]["message"]
        await one.say("conversation.item.truncate", item_id="item_none", content_index=0, audio_end_ms=1)
        assert (await one.until("error"))["error"]["param"] == "item_id"
        await one.say("conversation.item.truncate", item_id=item_id, content_index=0, audio_end_ms=300)
        assert (await one.until("conversation.item.truncated"))["audio_end_ms"] == 300
        await one.say("response.create")
        await one.until("response.done")
        remembered = vendor.seen.prompts[1].items[0]["text"]
        assert 0 < len(remembered) < 30
        await one.say("conversation.item.delete", item_id=item_id)
        assert (await one.until("conversation.item.deleted"))["item_id"] == item_id
        await one.say("conversation.item.delete", item_id=item_id)
        assert (await one.until("error"))["error"]["code"] == "item_not_found"


async def test_items_stand_where_they_are_put() -> None:
    async with vendor_of() as vendor, client(vendor) as one:
        for name, after in (("b", None), ("d", None), ("c", "b"), ("a", "root")):
            content = [{"type": "input_text", "text": name}]
            item = {"id": name, "type": "message", "role": "user", "content": content}
            where = {} if after is None else {"previous_item_id": after}
            await one.say("conversation.item.create", item=item, **where)
            await one.until("conversation.item.done")
        await one.say("conversation.item.create", item={"type": "message", "role": "user", "content": [
            {"type": "input_audio", "audio": b64encode(bytes(4800)).decode()}]})  # fmt: skip
        await one.say("response.create", response={"instructions": "Be brief."})
        await one.until("response.done")
        assert [item["text"] for item in vendor.seen.prompts[0].items] == ["a", "b", "c", "d", "are you open"]
        assert vendor.seen.prompts[0].instructions == "Be brief."


async def test_a_buffer_can_be_committed_and_cleared_by_hand() -> None:
    async with vendor_of() as vendor, client(vendor) as one:
        manual = GA | {"audio": {"input": {"turn_detection": None, "format": {"type": "audio/pcmu"}}}}
        await one.say("session.update", session=manual)
        await one.say("input_audio_buffer.commit")
        assert (await one.until("error"))["error"]["code"] == "input_audio_buffer_commit_empty"
        await one.sound(LOUD, LOUD)
        await one.say("input_audio_buffer.commit")
        await one.until("input_audio_buffer.committed")
        await one.sound(LOUD, LOUD)
        await one.say("input_audio_buffer.clear")
        await one.until("input_audio_buffer.cleared")
        await one.say("input_audio_buffer.commit")
        await one.until("error")


async def test_failures_and_answers_cut_short() -> None:
    async with (
        vendor_of(
            Line(failure=("rate_limit_exceeded", "Slow down.")), Line("We", cut_short="max_output_tokens")
        ) as vendor,
        client(vendor) as one,
    ):
        await one.say("response.create")
        failed = (await one.until("response.done"))["response"]
        assert (failed["status"], failed["status_details"]["error"]["code"]) == ("failed", "rate_limit_exceeded")
        assert failed["usage"]["total_tokens"] == 0
        await one.say("response.create")
        short = (await one.until("response.done"))["response"]
        assert (short["status"], short["status_details"]["reason"]) == ("incomplete", "max_output_tokens")


async def test_text_only_sessions_write() -> None:
    async with vendor_of(Line("Hi there.")) as vendor, client(vendor) as one:
        await one.say("session.update", session={"type": "realtime", "output_modalities": ["text"]})
        await one.say("response.create")
        await one.until("response.done")
        text = "".join(event["delta"] for event in one.got if event["type"] == "response.output_text.delta")
        assert text == "Hi there."


async def test_a_session_ends_when_its_time_is_over() -> None:
    async with vendor_of(lasts_s=0.05) as vendor, client(vendor) as one:
        assert (await one.until("error"))["error"]["code"] == "session_expired"
        assert (await one.socket.receive()).type is aiohttp.WSMsgType.CLOSE


async def test_the_first_shape_is_switched_off_as_it_is_today() -> None:
    async with LoopbackRealtime() as vendor, client(vendor, "beta") as one:
        assert (await one.next())["error"]["code"] == "beta_api_shape_disabled"
        await one.socket.receive()
        assert one.socket.close_code == 4000


async def test_keys_and_models_are_looked_at() -> None:
    async with vendor_of(key="sk-right", models=("gpt-realtime-2",)) as vendor:
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            async with client(vendor, Authorization="Bearer sk-wrong"):
                pass
        assert refused.value.status == 401
        async with client(vendor, Authorization="Bearer sk-right") as one:
            assert (await one.next())["error"]["code"] == "model_not_found"


async def test_a_voice_stays_once_it_has_spoken() -> None:
    async with vendor_of() as vendor, client(vendor) as one:
        await one.say("session.update", session=GA)
        await one.say("response.create")
        await one.until("response.done")
        await one.say("session.update", session={"type": "realtime", "audio": {"output": {"voice": "ash"}}})
        assert (await one.until("error"))["error"]["code"] == "cannot_update_voice"


@pytest.mark.parametrize(
    "event",
    [
        {"type": "session.update", "session": {"instructions": "no kind"}},
        {"type": "session.update", "session": {"type": "realtime", "temperature": 0.8}},
        {"type": "session.update", "session": {"type": "realtime", "audio": {"output": {"format": "g711_ulaw"}}}},
        {"type": "session.update", "session": {"type": "realtime", "output_modalities": ["text", "audio"]}},
        {"type": "session.update"},
        {"type": "input_audio_buffer.append", "audio": "*"},
        {"type": "transcription_session.update"},
        {
            "type": "conversation.item.create",
            "item": {"type": "message", "role": "assistant", "content": BETA_TEXT},
        },
        {
            "type": "conversation.item.create",
            "item": {"type": "function_call_output", "call_id": "none", "output": "x"},
        },
        {"type": "conversation.item.create", "item": {"type": "message", "role": "user"}, "previous_item_id": "none"},
        {"type": "conversation.item.truncate", "item_id": "x"},
    ],
    ids=str,
)
async def test_what_no_client_may_send_breaks_the_stage(event: dict[str, Any]) -> None:
    with pytest.raises(ScriptBroken):
        async with vendor_of() as vendor, client(vendor) as one:
            await one.socket.send_json(event)
            await one.until("error")


async def test_text_that_is_no_event_breaks_the_stage() -> None:
    with pytest.raises(ScriptBroken):
        async with vendor_of() as vendor, client(vendor) as one:
            await one.socket.send_str("hello")
            await one.until("error")
