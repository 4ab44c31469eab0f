"""All vendors in one house: its brain, its senses, who answers where paths are shared, its bad days, and the program."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import urllib.request
from datetime import datetime
from pathlib import Path
from typing import Any

import aiohttp
import anyio
import pytest

from patter.audio.format import MULAW_8K, PCM_16K, PCM_24K
from patter.loopback.openai_chat_living import COMPLETIONS, Call, Tools
from patter.loopback.stage import Stage
from patter.loopback.stage_faults import Refuse, Silent
from patter.models import Agent, ScriptRule
from patter.vendors.__main__ import main
from patter.vendors.brain import Brain, clock_words
from patter.vendors.days import DOORS, FAULTS, spoil
from patter.vendors.house import Delays, exchange, gathered
from patter.vendors.senses import counted, hummed
from tests.support.vendor_house import Mind, keys_of, vendor_house

pytestmark = pytest.mark.anyio

FOUR_PAST_FOUR = datetime(2026, 3, 1, 16, 4)
ORDER = {
    "name": "place_order",
    "description": "Sends an order to the kitchen.",
    "parameters": {
        "type": "object",
        "required": ["pizza"],
        "properties": {"pizza": {"type": "string", "enum": ["funghi"]}},
    },
}
HOURS = {"name": "opening_hours", "description": "When the shop is open.", "parameters": {"type": "object"}}
END = {"name": "end_call", "description": "Ends the call.", "parameters": {"type": "object"}}


async def answer(brain: Brain, *said: str, tools: Tools = (), results: tuple[str, ...] = ()) -> tuple[str, list[Call]]:
    """Its answer to the last of these, which the caller and the agent said in turn."""
    roles = ("user", "assistant")
    messages: list[Any] = [{"role": roles[at % 2], "content": text} for at, text in enumerate(said)]
    if results:
        _, calls = await gathered(brain.answer(messages, tools))
        messages += exchange(calls, results)
    return await gathered(brain.answer(messages, tools))


@pytest.fixture
def brain() -> Brain:
    return Brain(now=lambda: FOUR_PAST_FOUR)


# ---------------------------------------------------------------------------------------------------------- the brain


async def test_it_greets_tells_the_time_and_repeats_what_it_does_not_know(brain: Brain) -> None:
    assert await answer(brain, "Good morning!") == ("Hello! How can I help you?", [])
    assert (await answer(brain, "What time is it, please?"))[0] == "It is 4:04 p.m."
    assert (await answer(brain, "My {cat} is ill."))[0].startswith("You said: My (cat) is ill. Is there anything else")
    assert clock_words(FOUR_PAST_FOUR.replace(hour=0)) == "12:04 a.m."


@pytest.mark.parametrize("said", ["I'd like to place an order.", "Two orders please"])
async def test_a_tool_that_fits_the_words_is_used_when_it_has_what_it_needs(brain: Brain, said: str) -> None:
    text, calls = await answer(brain, said, tools=[HOURS, ORDER])
    assert text.startswith("Please tell me")  # its required value
    assert calls == []
    text, calls = await answer(brain, said, text, "The funghi.", tools=[HOURS, ORDER])
    assert [(call.name, json.loads(call.arguments)) for call in calls] == [("place_order", {"pizza": "funghi"})]
    told, calls = await answer(brain, f"{said} A funghi.", tools=[HOURS, ORDER], results=('{"minutes": 20}',))
    assert "20" in told
    assert calls == []


async def test_no_tool_is_used_that_is_not_offered_or_does_not_fit(brain: Brain) -> None:
    assert (await answer(brain, "I would like to order a funghi."))[1] == []
    assert (await answer(brain, "Tell me about the weather.", tools=[HOURS, ORDER]))[1] == []
    assert (await answer(brain, "Is the shop open?", tools=[ORDER, HOURS]))[1][0].name == "opening_hours"
    assert (await answer(brain, "What are your opening hours?", tools=[ORDER, HOURS]))[1][0].name == "opening_hours"


async def test_it_hangs_up_after_a_goodbye_where_it_can(brain: Brain) -> None:
    text, calls = await answer(brain, "Thanks, bye.", tools=[END])
    assert (text, [call.name for call in calls]) == ("Goodbye.", ["end_call"])
    assert await answer(brain, "Goodbye.") == ("Goodbye.", [])


async def test_an_agents_own_rules_are_the_brain() -> None:
    agent = Agent("x", script=(ScriptRule(("opening",), "At nine."), ScriptRule((), "I sell books.")))
    assert (await answer(Brain(agent), "When is the opening?"))[0] == "At nine."
    assert (await answer(Brain(agent), "What is the weather like?"))[0] == "I sell books."
    assert (await answer(Brain(Agent("no rules")), "A sunny day."))[0].startswith("You said: A sunny day")


# --------------------------------------------------------------------------------------------------------- its senses


async def test_the_stand_ins_are_plain_and_say_more_for_more() -> None:
    shorter, longer = [await counted(PCM_16K.quiet(seconds * 1000)) for seconds in (1, 3)]
    assert (shorter, longer) == ("one two", "one two three four five six seven eight")
    assert len(await hummed("a longer text")) > len(await hummed("a text")) > PCM_24K.bytes_for(100)


# ---------------------------------------------------------------------------------------------------------- the house


def polite(said: str, results: Any) -> str:
    return f"You said {said or 'nothing'}."


async def test_vendors_that_share_a_path_each_get_their_own_visitors() -> None:
    async with vendor_house(Mind(polite)) as house, aiohttp.ClientSession(house.stage.http) as http:
        as_openai, as_elevenlabs = {"Authorization": "Bearer loopback"}, {"xi-api-key": "loopback"}
        async with http.get("/v1/models", headers=as_openai) as models:
            assert (await models.json())["object"] == "list"
        async with http.get("/v1/models", headers=as_elevenlabs) as models:
            assert (await models.json())[0]["can_do_text_to_speech"]
        async with http.get("/v1/models") as models:
            assert models.status == 401
        async with http.ws_connect("/v1/realtime?intent=transcription", headers=as_openai) as live:
            assert (await live.receive_json())["session"]["type"] == "transcription"
        async with http.ws_connect("/v1/realtime?model=any-name", headers=as_openai) as talk:
            assert (await talk.receive_json())["session"]["type"] == "realtime"


async def test_every_name_of_a_model_a_voice_or_a_stored_agent_is_good() -> None:
    async with vendor_house(Mind(polite)) as house, aiohttp.ClientSession(house.stage.http) as http:
        async with http.get("/v1/models/gpt-of-tomorrow", headers={"Authorization": "Bearer loopback"}) as found:
            assert found.status == 200
        key = {"xi-api-key": "loopback"}
        path = "/v1/text-to-speech/a-voice-of-mine/stream?output_format=ulaw_8000"
        body = {"text": "alpha bravo", "model_id": "eleven_flash_v2_5"}
        async with http.post(path, headers=key, json=body) as spoken:
            assert len(await spoken.read()) == pytest.approx(MULAW_8K.bytes_for(480), rel=0.02)
        url = "/v1/convai/conversation/get-signed-url?agent_id=agent_of_mine"
        async with http.get(url, headers=key) as signed:
            address = (await signed.json())["signed_url"]
        async with http.ws_connect(address, protocols=("convai",)) as talk:
            await talk.send_json({"type": "conversation_initiation_client_data"})
            assert (await talk.receive_json())["type"] == "conversation_initiation_metadata"


async def test_its_environment_leads_to_it() -> None:
    async with vendor_house(Mind(polite)) as house:
        keys = keys_of(house)
        assert keys.url_of("whisper") == f"{house.stage.http}/v1"
        assert keys.url_of("deepgram") == keys.url_of("elevenlabs") == house.stage.http
        assert keys.of("deepgram") == "loopback"


async def test_each_stage_can_be_late() -> None:
    late = Delays(llm=0.3)
    async with vendor_house(Mind(polite), delays=late) as house, aiohttp.ClientSession(house.stage.http) as http:
        began = anyio.current_time()
        body = {"model": "x", "messages": [{"role": "user", "content": "Hi"}]}
        async with http.post(COMPLETIONS, headers={"Authorization": "Bearer loopback"}, json=body) as answered:
            assert (await answered.json())["choices"][0]["message"]["content"] == "You said Hi."
        assert anyio.current_time() - began >= 0.3


async def test_what_it_keeps_does_not_grow() -> None:
    async with vendor_house(Mind(polite)) as house:
        house.voices.spoken += ["x"] * 100
        house.forget()
        assert len(house.voices.spoken) == 20


# ---------------------------------------------------------------------------------------------------------- bad days


@pytest.mark.parametrize("name", FAULTS)
async def test_every_door_that_a_bad_day_names_is_a_door_of_the_house(name: str) -> None:
    async with vendor_house(Mind(polite)) as house:
        known = {route.path for routes in house.stage._routes.values() for route in routes}
        spoil(house.stage.faults, name)
        assert set(house.stage.faults._always) <= known
        assert {path for paths in DOORS.values() for path in paths} <= set(house.stage.faults._always)


async def test_a_bad_day_of_one_stage_leaves_the_others_alone() -> None:
    stage = Stage()
    spoil(stage.faults, "rate-limit=llm")
    spoil(stage.faults, "silent=tts")
    assert isinstance(stage.faults.take(COMPLETIONS), Refuse)
    assert isinstance(stage.faults.take("/v1/audio/speech"), Silent)
    assert stage.faults.take("/v1/listen") is None
    for wrong in ("thunder", "cut=kitchen"):
        with pytest.raises(ValueError, match="choose"):
            spoil(stage.faults, wrong)


async def test_a_wrong_key_is_refused_in_every_vendors_words() -> None:
    async with vendor_house(Mind(polite)) as house, aiohttp.ClientSession(house.stage.http) as http:
        spoil(house.stage.faults, "wrong-key")
        for path in ("/v1/models", "/v1/voices", "/v1/auth/token"):
            async with http.get(path) as refused:
                body = await refused.json()
                assert refused.status == 401
                assert body["error"]["code"] == body["detail"]["status"] == body["err_code"]


# --------------------------------------------------------------------------------------------------------- the program


@pytest.mark.e2e
def test_the_program_plays_them_until_a_signal_and_keeps_keys_to_itself(tmp_path: Path) -> None:
    secret = "sk-proj-0123456789abcdefghijklmnopqrstuvwxyz"
    line = [sys.executable, "-m", "patter_tui", "vendors", "--json", "--delay-ms", "llm=1", "--fault", "cut=tts"]
    environment = os.environ | {"PATTER_STT_MODEL": str(tmp_path)}  # no model is there: the stand-in hears
    with subprocess.Popen(line, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            told = json.loads(process.stdout.readline())
            url = f"{told['environment']['OPENAI_BASE_URL']}/models"
            assert url.startswith(f"http://127.0.0.1:{told['port']}/")
            request = urllib.request.Request(url, headers={"Authorization": f"Bearer {secret}"})
            with urllib.request.urlopen(request, timeout=20) as answered:
                assert json.load(answered)["object"] == "list"
        finally:
            process.send_signal(signal.SIGTERM)
        out, errors = process.communicate(timeout=40)
    assert process.returncode == 0, errors
    assert errors.count("looks real") == 1
    assert secret not in out + errors
    assert "counts words" in told["hears"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--fault", "thunder"], "choose rate-limit"),
        (["--delay-ms", "llm=soon"], "llm=800"),
        (["--port", "70000"], "65535"),
    ],
)
def test_wrong_arguments_are_told(arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        main(arguments)
    assert left.value.code == 2
    assert said in capsys.readouterr().err


def test_a_file_that_cannot_be_used_and_a_port_that_is_taken_are_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--agent", str(tmp_path / "nobody.toml")]) == 2
    assert "nobody.toml" in capsys.readouterr().err
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        assert main(["--port", str(taken.getsockname()[1])]) == 2
    assert "Leave --port out" in capsys.readouterr().err


@pytest.mark.e2e
def test_the_workbenchs_command_hands_over() -> None:
    line = [sys.executable, "-m", "patter_tui", "vendors", "--help"]
    told = subprocess.run(line, check=True, capture_output=True, text=True).stdout
    assert "patter-tui vendors" in told
    assert all(name in told for name in FAULTS)
