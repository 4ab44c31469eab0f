"""The REST API over a real socket: agents, rehearsals, calls and their control, and what it says to bad requests."""

from __future__ import annotations

import io
import json
from collections.abc import AsyncIterator
from pathlib import Path

import anyio
import pytest

from patter.events import CallEnded, CallStarted
from tests.support.fake_calls import GREETING
from tests.support.serving import AGENT, serving

pytestmark = pytest.mark.anyio


async def test_health_needs_no_token_and_the_engine_tells_who_it_is(tmp_path: Path) -> None:
    async with serving(tmp_path) as rig:
        async with rig.client.get(rig.server.url + "/health", headers={"Authorization": ""}) as answer:
            assert answer.status == 200
            health = await answer.json()
        assert {key: health[key] for key in ("status", "protocol", "engine_id")} == {
            "status": "ok",
            "protocol": 1,
            "engine_id": "e" * 16,
        }
        _, engine = await rig.get("/api/v1/engine")
        assert engine["data"]["agents_dir"] == str(rig.agents)
        assert engine["data"]["calls"] == 0
        assert engine["data"]["rungs"]["llm"]["state"] == "ready"


async def test_a_text_rehearsal_is_a_call_from_its_start_to_the_history(tmp_path: Path) -> None:
    async with serving(tmp_path) as rig:
        events = rig.bus.subscribe()
        answer = await rig.rehearse()
        assert answer["dial"] is None
        assert answer["notes"] == ["There is no model here."]
        call_id = answer["call_id"]
        await rig.seen(CallStarted, events, call_id=call_id)
        _, active = await rig.get("/api/v1/calls/active")
        assert active["count"] == 1
        assert (active["data"][0]["state"], active["data"][0]["line"]) == ("live", "text")
        for verb, body in (("text", {"text": "Hi"}), ("say", {"text": "Word for word"}), ("interrupt", None)):
            status, _ = await rig.post(f"/api/v1/calls/{call_id}/{verb}", body)
            assert status == 200
        session = rig.calls.sessions[call_id]
        assert (session.said, session.interrupted) == (["Word for word"], 1)
        assert await rig.post(f"/api/v1/calls/{call_id}/digits", {"digits": "12#"}) == (200, {"data": {}})
        assert session.digits == ["12#"]
        assert (await rig.post(f"/api/v1/calls/{call_id}/hangup"))[0] == 200
        await rig.seen(CallEnded, events, call_id=call_id, reason="operator_ended")

        _, one = await rig.get(f"/api/v1/calls/{call_id}")
        row = one["data"]
        assert [(line["role"], line["text"]) for line in row["transcript"]] == [
            ("assistant", GREETING),
            ("user", "Hi"),
            ("assistant", "You said Hi"),
        ]
        assert (row["state"], row["reason"], len(row["turns"])) == ("ended", "operator_ended", 1)
        assert row["duration_s"] == 1.5
        status, refused = await rig.post(f"/api/v1/calls/{call_id}/hangup")
        assert (status, refused) == (409, {"error": "This call is over."})


async def test_history_survives_the_engine_and_comes_in_pages_newest_first(tmp_path: Path) -> None:
    async with serving(tmp_path) as rig:
        events = rig.bus.subscribe()
        ids = []
        for _ in range(3):
            ids.append(await rig.text_call())
            await rig.post(f"/api/v1/calls/{ids[-1]}/text", {"text": "Hello"})
            await rig.post(f"/api/v1/calls/{ids[-1]}/hangup")
            await rig.seen(CallEnded, events, call_id=ids[-1])
        _, now = await rig.get("/api/v1/calls")
    async with serving(tmp_path) as rig:
        _, later = await rig.get("/api/v1/calls")
        assert later == now
        assert [row["call_id"] for row in later["data"]] == ids[::-1]
        assert later["pagination"] == {"limit": 50, "offset": 0, "count": 3, "total": 3}
        _, page = await rig.get("/api/v1/calls?limit=1&offset=1")
        assert [row["call_id"] for row in page["data"]] == [ids[1]]
        _, empty = await rig.get("/api/v1/calls?limit=5&offset=9")
        assert (empty["data"], empty["pagination"]["total"]) == ([], 3)
        _, told = await rig.get(f"/api/v1/calls/{ids[0]}/events")
        types = [event["type"] for event in told["data"]]
        wanted = ["CallStarted", "AgentSaid", "CallerSaid", "AgentSaid", "TurnMeasured", "CallEnded"]
        assert [kind for kind in types if kind in wanted and kind != "TurnMeasured"] == [*wanted[:4], "CallEnded"]
        assert "TurnMeasured" in types
        _, one = await rig.get(f"/api/v1/calls/{ids[0]}")
        assert one["data"]["transcript"][1]["text"] == "Hello"


async def test_a_torn_journal_is_still_a_call(tmp_path: Path) -> None:
    place = tmp_path / "calls" / "CAtorn"
    place.mkdir(parents=True)
    (place / "events.jsonl").write_text(
        json.dumps({"type": "CallStarted", "call_id": "CAtorn", "seq": 1, "at": 5.0, "agent": "desk"})
        + '\nnot json\n{"type": "CallerSaid", "call_id": "CAtorn", "turn": 1, "text": "Hi", "at": 6.0}\n{"type": "Call'
    )
    (tmp_path / "calls" / "empty").mkdir()
    (tmp_path / "calls" / "bad id").mkdir()
    async with serving(tmp_path) as rig:
        _, calls = await rig.get("/api/v1/calls")
        assert [(row["call_id"], row["agent"], row["turns"]) for row in calls["data"]] == [("CAtorn", "desk", 1)]


async def test_a_dialled_rehearsal_says_how_to_dial(tmp_path: Path) -> None:
    async with serving(tmp_path) as rig:
        first, again, wide = [(await rig.rehearse(line))["dial"] for line in ("phone", "phone", "wideband")]
        assert first["webhook_url"] == f"{rig.server.url}/webhooks/twilio/voice"
        assert first["account_sid"].startswith("AC")
        assert len(first["account_sid"]) == 34
        assert first == again
        assert wide["to"] != first["to"]
        assert wide["line"] == "wideband"
        assert first["to"].startswith("+1500556")


async def test_agents_are_listed_opened_and_validated(tmp_path: Path) -> None:
    async with serving(tmp_path) as rig:
        other = tmp_path / "elsewhere.toml"
        other.write_text('system_prompt = "x"\n[rehearsal]\ncaller = ["One", {say = "Two", after_ms = 5}]\n')
        status, opened = await rig.post("/api/v1/agents/open", {"path": str(other)})
        assert status == 200
        assert opened["data"]["name"] == "elsewhere"
        assert opened["data"]["caller"] == ["One", {"say": "Two", "after_ms": 5}]
        _, agents = await rig.get("/api/v1/agents")
        assert [(row["name"], row["ok"], row["first_message"]) for row in agents["data"]] == [
            ("desk", True, "Hello, you."),
            ("elsewhere", True, ""),
        ]
        text = AGENT + "nonsense = 1\n[stt]\nprovider = 3\n"
        _, found = await rig.post("/api/v1/agents/validate", {"text": text, "path": str(rig.agents / "desk.toml")})
        assert found["data"]["ok"] is False
        assert [problem["line"] for problem in found["data"]["problems"]] == [7]
        _, good = await rig.post("/api/v1/agents/validate", {"text": AGENT, "path": str(rig.agents / "desk.toml")})
        assert good["data"] == {"ok": True, "problems": []}
        _, empty = await rig.post("/api/v1/agents/validate", {"text": "", "path": str(rig.agents / "desk.toml")})
        assert "system_prompt is missing" in empty["data"]["problems"][0]["problem"]


async def test_a_rehearsal_of_a_path_opens_the_file(tmp_path: Path) -> None:
    async with serving(tmp_path) as rig:
        other = tmp_path / "elsewhere.toml"
        other.write_text(AGENT)
        assert (await rig.rehearse(agent=str(other)))["call_id"]
        assert str(other) in [row["path"] for row in rig.server.agents.rows()]


async def test_agents_that_cannot_be_run_are_told_before_a_call_exists(tmp_path: Path) -> None:
    async with serving(tmp_path) as rig:
        rig.calls.refusal = "the realtime engine is not in this version"
        status, answer = await rig.post("/api/v1/rehearsals", {"agent": "desk", "line": "text"})
        assert status == 422
        assert "not in this version" in answer["error"]
        (rig.agents / "broken.toml").write_text("system_prompt = 3\n")
        await rig.post("/api/v1/agents/open", {"path": str(rig.agents / "broken.toml")})
        status, answer = await rig.post("/api/v1/rehearsals", {"agent": "broken", "line": "text"})
        assert status == 422
        assert "broken.toml:1" in answer["error"]
        assert rig.server.desk.count == 0


async def test_two_files_of_one_name_need_the_path(tmp_path: Path) -> None:
    async with serving(tmp_path) as rig:
        other = tmp_path / "desk.toml"
        other.write_text(AGENT)
        await rig.post("/api/v1/agents/open", {"path": str(other)})
        status, answer = await rig.post("/api/v1/rehearsals", {"agent": "desk", "line": "text"})
        assert status == 409
        assert str(other) in answer["error"]
        assert (await rig.rehearse(agent=str(other)))["call_id"]


@pytest.mark.parametrize(
    ("path", "body", "status", "words"),
    [
        ("/api/v1/rehearsals", {"agent": "nobody"}, 404, "there are: desk"),
        ("/api/v1/rehearsals", {"agent": "/nowhere/x.toml"}, 404, "no agent"),
        ("/api/v1/rehearsals", {"agent": "desk", "line": "fax"}, 422, '"line" must be'),
        ("/api/v1/rehearsals", {"agent": 3}, 422, '"agent" must be a text'),
        ("/api/v1/rehearsals", {}, 422, '"agent" is missing: it must be a text'),
        ("/api/v1/rehearsals", {"agent": " "}, 422, '"agent" is empty'),
        ("/api/v1/rehearsals", {"agent": "x" * 5000}, 422, "longer than"),
        ("/api/v1/rehearsals", {"agent": "a\0b"}, 422, "characters that no text has"),
        ("/api/v1/rehearsals", {"agent": "\ud800"}, 422, "characters that no text has"),
        ("/api/v1/rehearsals", [1], 400, "must be a JSON object"),
        ("/api/v1/agents/open", {"path": "relative.toml"}, 422, "full path"),
        ("/api/v1/agents/open", {"path": "/etc/passwd"}, 422, "ends in .toml"),
        ("/api/v1/agents/open", {"path": "/nowhere/x.toml"}, 404, "no agent file"),
        ("/api/v1/agents/validate", {"text": "x", "path": 7}, 422, '"path" must be'),
        ("/api/v1/agents/validate", {"text": "x" * 300_000, "path": "/x.toml"}, 422, "longer than"),
        ("/api/v1/calls/CAnone/hangup", None, 404, "no such call"),
        ("/api/v1/calls/..%2f..%2fetc/hangup", None, 404, "no such call"),
        ("/api/v1/shutdown", {"when": "later"}, 422, '"when" must be'),
        ("/api/v1/nothing", {}, 404, "nothing at"),
        ("/api/v1/agents", {}, 405, "takes GET"),
    ],
)
async def test_bad_requests_get_a_sentence(path: str, body: object, status: int, words: str, tmp_path: Path) -> None:
    async with serving(tmp_path) as rig:
        got, answer = await rig.post(path, body)
        assert (got, list(answer)) == (status, ["error"])
        assert words in answer["error"]


@pytest.mark.parametrize("query", ["limit=-1", "limit=101", "limit=x", "offset=1e3", "offset=" + "9" * 40, "limit=٣"])
async def test_bad_pages_are_refused(query: str, tmp_path: Path) -> None:
    async with serving(tmp_path) as rig:
        assert (await rig.get(f"/api/v1/calls?{query}"))[0] == 400


async def test_verbs_check_what_they_are_given(tmp_path: Path) -> None:
    async with serving(tmp_path) as rig:
        call = f"/api/v1/calls/{await rig.text_call()}"
        for verb, body in (
            ("say", {"text": ""}),
            ("text", {"text": None}),
            ("digits", {"digits": "12x"}),
            ("transfer", {"number": "911"}),
        ):
            status, answer = await rig.post(f"{call}/{verb}", body)
            assert (status, list(answer)) == (422, ["error"])
        assert (await rig.post(f"{call}/transfer", {"number": "+15551234567"}))[0] == 200


@pytest.mark.parametrize(
    ("raw", "status"),
    [(b"{", 400), (b"\xff", 400), (b"[" * 100_000, 400), (b" " * 2_000_000, 413), (b"", 422)],
    ids=["half", "binary", "deep", "giant", "empty"],
)
async def test_bodies_that_are_no_json_or_too_large_are_refused(raw: bytes, status: int, tmp_path: Path) -> None:
    async with serving(tmp_path) as rig:
        url = rig.server.url + "/api/v1/rehearsals"
        async with rig.client.post(url, data=io.BytesIO(raw)) as answer:
            assert answer.status == status
            assert "error" in await answer.json()


async def test_a_body_without_a_length_is_limited_too(tmp_path: Path) -> None:
    async def endless() -> AsyncIterator[bytes]:
        for _ in range(40):
            yield b" " * 65_536

    async with (
        serving(tmp_path) as rig,
        rig.client.post(
            rig.server.url + "/api/v1/rehearsals", data=endless(), headers={"Connection": "close"}
        ) as answer,
    ):
        assert answer.status == 413


async def test_the_limit_of_calls_is_told(tmp_path: Path) -> None:
    async with serving(tmp_path, capacity=1) as rig:
        await rig.text_call()
        status, answer = await rig.post("/api/v1/rehearsals", {"agent": "desk", "line": "text"})
        assert status == 409
        assert "limit" in answer["error"]


async def test_shutdown_when_idle_waits_for_the_last_call_and_takes_no_new_one(tmp_path: Path) -> None:
    async with serving(tmp_path) as rig:
        call_id = await rig.text_call()
        assert (await rig.post("/api/v1/shutdown", {"when": "idle"}))[0] == 202
        assert (await rig.post("/api/v1/rehearsals", {"agent": "desk", "line": "text"}))[0] == 409
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(rig.server.wait_stopped)
            assert (await rig.post(f"/api/v1/calls/{call_id}/hangup"))[0] == 200


async def test_shutdown_without_a_body_is_now(tmp_path: Path) -> None:
    async with serving(tmp_path) as rig:
        async with rig.client.post(rig.server.url + "/api/v1/shutdown") as answer:
            assert answer.status == 202
        with anyio.fail_after(5):
            await rig.server.wait_stopped()


async def test_leaving_ends_live_calls_with_a_reason(tmp_path: Path) -> None:
    async with serving(tmp_path) as rig:
        events = rig.bus.subscribe()
        call_id = await rig.text_call()
    ended = await rig.seen(CallEnded, events, call_id=call_id)
    assert isinstance(ended, CallEnded)
    assert (ended.reason, ended.detail) == ("engine_stopped", "The engine was stopped.")


async def test_a_session_that_breaks_still_ends_and_takes_no_other_call_with_it(tmp_path: Path) -> None:
    async with serving(tmp_path) as rig:
        events = rig.bus.subscribe()
        broken, well = await rig.text_call(), await rig.text_call()
        await rig.seen(CallStarted, events, call_id=well)
        rig.calls.sessions[broken].breaks = True
        await rig.post(f"/api/v1/calls/{broken}/hangup")
        ended = await rig.seen(CallEnded, events, call_id=broken)
        assert isinstance(ended, CallEnded)
        assert ended.reason == "failed"
        assert (await rig.post(f"/api/v1/calls/{well}/text", {"text": "Still there?"}))[0] == 200
