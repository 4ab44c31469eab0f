"""The engine's phone line by its API: opened, shown, refused, closed, and calls placed over it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from patter.bus import Subscription
from patter.events import LineChanged
from tests.support.fake_line import FakeCarrier
from tests.support.serving import Rig, serving

SID, TOKEN = "AC" + "1" * 32, "a-very-secret-auth-token"
WANTED: dict[str, Any] = {
    "agent": "desk", "carrier": "twilio", "account": SID, "secret": TOKEN, "number": "+15551230000", "host": "voice.example",
}  # fmt: skip


async def opened(rig: Rig, wanted: dict[str, Any] = WANTED) -> Subscription:
    """Open the line and return once it is."""
    seen = rig.bus.subscribe()
    status, answer = await rig.post("/api/v1/line", wanted)
    assert status == 202, answer
    await rig.seen(LineChanged, seen, state="open")
    return seen


@pytest.mark.anyio
async def test_a_line_is_opened_shown_and_closed(tmp_path: Path) -> None:
    carrier = FakeCarrier()
    async with serving(tmp_path, join=carrier.join) as rig:
        assert (await rig.get("/api/v1/line"))[1]["data"]["state"] == "off"

        seen = await opened(rig, WANTED | {"restore": True, "routes": {"+15559990000": "desk"}})
        _, shown = await rig.get("/api/v1/line")
        assert shown["data"] | {"since": 0} == {
            "state": "open", "problem": "", "fix": "", "carrier": "twilio", "number": "+15551230000",
            "public_url": "https://voice.example", "tunnel": False, "recording": False, "agent": "desk",
            "routes": [{"number": "+15551230000", "agent": "desk"}, {"number": "+15559990000", "agent": "desk"}],
            "voice_url_before": "elsewhere.example", "notes": ["The number led to elsewhere.example."],
            "since": 0,
        }  # fmt: skip
        assert carrier.pointed == [carrier.public] == ["https://voice.example"]
        assert rig.server.desk.route_of("+15559990000") is not None

        assert (await rig.delete("/api/v1/line"))[0] == 202
        await rig.seen(LineChanged, seen, state="off")
        assert carrier.put_back_to == ["https://elsewhere.example/voice"]
        assert rig.server.desk.route_of("+15559990000") is None


@pytest.mark.anyio
async def test_no_answer_and_no_event_holds_a_secret(tmp_path: Path) -> None:
    async with serving(tmp_path, join=FakeCarrier().join) as rig:
        await opened(rig)
        answers = [
            await rig.get("/api/v1/line"),
            await rig.post("/api/v1/line", WANTED),
            await rig.delete("/api/v1/line"),
        ]
        told = [str(event) for event in rig.bus.since(0) or []]

    assert TOKEN not in str(answers) + str(told)


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("change", "status", "says"),
    [
        ({"agent": "nobody"}, 404, "there are: desk"),
        ({"carrier": "pigeon"}, 422, '"twilio" or "telnyx"'),
        ({"number": "555"}, 422, "E.164"),
        ({"number": ""}, 422, "phone_number is missing"),
        ({"secret": ""}, 422, "twilio_token"),
        ({"host": ""}, 422, "public host is missing"),
        ({"host": "https://voice.example/x"}, 422, "without scheme"),
        ({"port": True}, 422, "port"),
        ({"tunnel": "yes"}, 422, "true or false"),
        ({"routes": {"0800": "desk"}}, 422, "E.164"),
        ({"routes": {"+15559990000": "nobody"}}, 404, "there are: desk"),
        ({"codec": "MP3"}, 422, "PCMU"),
        ({"api_base": "http://carrier.example"}, 422, "https://"),
    ],
)
async def test_a_line_that_cannot_work_is_refused_with_a_sentence(
    tmp_path: Path, change: dict[str, Any], status: int, says: str
) -> None:
    async with serving(tmp_path, join=FakeCarrier().join) as rig:
        got, answer = await rig.post("/api/v1/line", WANTED | change)
        assert (got, rig.server.line.in_use) == (status, False)

    assert says in answer["error"]
    assert TOKEN not in answer["error"]


@pytest.mark.anyio
async def test_a_carrier_that_refuses_is_a_problem_with_its_fix(tmp_path: Path) -> None:
    carrier = FakeCarrier(refusal="the credentials are wrong")
    async with serving(tmp_path, join=carrier.join) as rig:
        seen = rig.bus.subscribe()
        await rig.post("/api/v1/line", WANTED)
        told = await rig.seen(LineChanged, seen, state="problem")
        assert isinstance(told, LineChanged)
        assert (told.problem, told.fix) == ("the credentials are wrong", "Check the keys.")
        assert rig.server.line.in_use is False

        carrier.refusal = ""
        await opened(rig)


@pytest.mark.anyio
async def test_a_port_that_is_taken_is_a_problem(tmp_path: Path) -> None:
    async with serving(tmp_path, join=FakeCarrier().join) as rig:
        seen = rig.bus.subscribe()
        await rig.post("/api/v1/line", WANTED | {"port": rig.server.port})
        told = await rig.seen(LineChanged, seen, state="problem")

    assert str(rig.server.port) in str(told)


@pytest.mark.anyio
async def test_the_same_wish_twice_is_one_line_and_another_is_refused(tmp_path: Path) -> None:
    carrier = FakeCarrier()
    async with serving(tmp_path, join=carrier.join) as rig:
        await opened(rig)
        assert (await rig.post("/api/v1/line", WANTED))[0] == 202
        status, answer = await rig.post("/api/v1/line", WANTED | {"number": "+15551230001"})

    assert (status, len(carrier.pointed)) == (409, 1)
    assert "stop serving first" in answer["error"]


@pytest.mark.anyio
async def test_a_call_is_placed_with_what_was_asked(tmp_path: Path) -> None:
    carrier = FakeCarrier()
    async with serving(tmp_path, join=carrier.join) as rig:
        await opened(rig, WANTED | {"voicemail": "Please call back."})
        body = {"agent": "desk", "to": "+15557654321", "first_message": "Good evening.", "ring_timeout_s": 12}
        status, answer = await rig.post("/api/v1/calls", body)
        assert (status, answer["data"]) == (201, {"call_id": "call-1"})
        [order] = carrier.orders

        carrier.refusal = "the number cannot be reached"
        refused, sentence = await rig.post("/api/v1/calls", body)

    assert (order.to, order.caller, order.ring_timeout_s) == ("+15557654321", "+15551230000", 12.0)
    assert (order.file.agent.first_message, order.voicemail, order.detects) == (
        "Good evening.",
        "Please call back.",
        True,
    )
    assert (refused, "cannot be reached" in sentence["error"]) == (502, True)


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("body", "status", "says"),
    [
        ({"agent": "desk", "to": "+15557654321"}, 409, "start serving first"),
        ({"agent": "desk", "to": "911"}, 422, "E.164"),
        ({"agent": "desk", "to": "+15557654321", "from": "me"}, 422, "E.164"),
        ({"agent": "nobody", "to": "+15557654321"}, 404, "there are: desk"),
        ({"agent": "desk", "to": "+15557654321", "ring_timeout_s": 1}, 422, "5 to 600"),
        ({"to": "+15557654321"}, 422, '"agent"'),
    ],
)
async def test_an_order_that_cannot_work_is_refused(
    tmp_path: Path, body: dict[str, Any], status: int, says: str
) -> None:
    async with serving(tmp_path, join=FakeCarrier().join) as rig:
        got, answer = await rig.post("/api/v1/calls", body)

    assert got == status
    assert says in answer["error"]


@pytest.mark.anyio
async def test_closing_gives_up_what_still_rings(tmp_path: Path) -> None:
    carrier = FakeCarrier()
    async with serving(tmp_path, join=carrier.join) as rig:
        seen = await opened(rig)
        await rig.post("/api/v1/calls", {"agent": "desk", "to": "+15557654321"})
        await rig.delete("/api/v1/line?when=now")
        await rig.seen(LineChanged, seen, state="off")
        assert (await rig.delete("/api/v1/line?when=later"))[0] == 400

    assert carrier.cancelled == ["call-1"]


@pytest.mark.anyio
async def test_hanging_up_gives_up_a_call_that_rings(tmp_path: Path) -> None:
    carrier = FakeCarrier()
    async with serving(tmp_path, join=carrier.join) as rig:
        await opened(rig)
        await rig.post("/api/v1/calls", {"agent": "desk", "to": "+15557654321"})
        status, _ = await rig.post("/api/v1/calls/call-1/hangup", {})
        again, _ = await rig.post("/api/v1/calls/call-1/hangup", {})

    assert (status, again) == (200, 404)  # it rings no more, and there never was a conversation
    assert carrier.cancelled == ["call-1"]


@pytest.mark.anyio
async def test_a_server_that_stops_closes_its_line(tmp_path: Path) -> None:
    carrier = FakeCarrier()
    async with serving(tmp_path, join=carrier.join) as rig:
        await opened(rig, WANTED | {"restore": True})

    assert carrier.put_back_to == ["https://elsewhere.example/voice"]
