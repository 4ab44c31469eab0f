"""Engines, providers, fallbacks and tool servers in an agent file: each becomes its settings, each mistake has line and fix."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from patter import registry
from patter.agentfile import check, load, parse
from patter.exceptions import AgentFileError
from patter.keys import VARIABLES
from patter.models import Budget, LLMConfig, McpServer, RealtimeConfig, Recovery, STTConfig, TTSConfig

MINIMAL = 'system_prompt = "You answer the phone."\n'

PIPELINE = """\
system_prompt = "You answer the phone."
language = "de"
voice = "george"

[stt]
provider = "deepgram"
model = "flux-general-multi"
keyterms = ["Riverside", "Zoë"]
eager = true
base_url = "http://127.0.0.1:8088/"
options = { smart_format = true }

[[stt.fallback]]
provider = "whisper"
api_key = { env = "WHISPER_KEY" }
language = "en"

[[stt.fallback]]

[tts]
provider = "elevenlabs"
model = "eleven_flash_v2_5"
streaming = "websocket"
options = { voice_settings = { speed = 1.1 } }

[[tts.fallback]]
provider = "openai"
api_key = { env = "WHISPER_KEY" }
voice = "alloy"

[llm]
model = "gpt-x"

[[llm.fallback]]
base_url = "http://127.0.0.1:11434/v1"
model = "llama3.2"

[recovery]
apology = "Sorry, once more?"
silence_limit_ms = 6000

[budget]
per_call_usd = 0.5
farewell = "Time is up."

[[mcp]]
name = "calendar"
url = "https://tools.example.com/mcp"
headers = { Authorization = { env = "CALENDAR_KEY" }, X-Team = "desk" }
only = ["find_slots"]

[[mcp]]
name = "files"
command = ["npx", "-y", "server"]
env = { ROOT = "/srv", API_TOKEN = { env = "CALENDAR_KEY" } }

[[tools]]
name = "look_up"
webhook_url = "https://example.com/look-up"
filler = "One moment, I'm looking."

[[script]]
when = ["free"]
tool = "find_slots"
say = "{result}"
"""


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for variable in VARIABLES.values():
        monkeypatch.delenv(variable, raising=False)
    before = dict(registry.TTS)
    yield
    registry.TTS.clear()
    registry.TTS.update(before)


KEYED = {"Authorization": "ck", "X-Team": "desk"}


def test_every_section_of_a_pipeline_becomes_its_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEEPGRAM_API_KEY", "dg")
    monkeypatch.setenv("ELEVENLABS_API_KEY", "el")
    monkeypatch.setenv("WHISPER_KEY", "wk")
    monkeypatch.setenv("CALENDAR_KEY", "ck")
    agent = parse(PIPELINE, tmp_path / "agent.toml").agent
    assert agent.stt == STTConfig(
        "deepgram", "", "de", model="flux-general-multi", keyterms=("Riverside", "Zoë"), eager=True,
        base_url="http://127.0.0.1:8088", options={"smart_format": True},
    )  # fmt: skip
    assert agent.stt_fallbacks == (STTConfig("whisper", "wk", "en"), STTConfig("embedded", "", "de"))
    assert agent.tts == TTSConfig(
        "elevenlabs", "", "george", model="eleven_flash_v2_5", streaming="websocket",
        options={"voice_settings": {"speed": 1.1}},
    )  # fmt: skip
    assert agent.tts_fallbacks == (TTSConfig("openai", "wk", "alloy"),)
    assert agent.llm == LLMConfig("gpt-x")
    assert agent.llm_fallbacks == (LLMConfig("llama3.2", "http://127.0.0.1:11434/v1"),)
    assert agent.recovery == Recovery(apology="Sorry, once more?", silence_limit_ms=6000)
    assert agent.budget == Budget(per_call_usd=0.5, farewell="Time is up.")
    assert agent.mcp == (
        McpServer(
            "calendar",
            "https://tools.example.com/mcp",
            headers={"Authorization": "ck", "X-Team": "desk"},
            only=("find_slots",),
        ),
        McpServer("files", command=("npx", "-y", "server"), env={"ROOT": "/srv", "API_TOKEN": "ck"}),
    )
    assert agent.tools is not None
    assert agent.tools[0]["filler"] == "One moment, I'm looking."
    assert agent.script[0].tool == "find_slots"


def test_a_speech_to_speech_engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk")
    text = MINIMAL + 'provider = "openai_realtime"\n[realtime]\nturn_detection = "semantic_vad"\neagerness = "low"\n'
    agent = parse(text + 'threshold = 1\nnoise_reduction = "near_field"\nshape = "beta"\n', tmp_path / "a.toml").agent
    assert agent.provider == "openai_realtime"
    assert agent.realtime == RealtimeConfig(
        "semantic_vad", eagerness="low", threshold=1.0, noise_reduction="near_field", shape="beta"
    )


def test_an_agent_that_is_stored_at_the_vendor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ELEVENLABS_API_KEY", "el")
    text = MINIMAL + 'provider = "elevenlabs_convai"\n'
    assert parse(text + 'agent_id = "J3Pbu5gP6NN"\n', tmp_path / "a.toml").agent.agent_id == "J3Pbu5gP6NN"
    assert parse(text + 'model = "agent_01jz"\n', tmp_path / "a.toml").agent.model == "agent_01jz"


STT, TTS, LLM = "[stt]\nprovider = 'deepgram'\n", "[tts]\nprovider = 'elevenlabs'\n", "[llm]\nmodel = 'm'\n"
SECRET = "api_key = { env = 'SET' }\n"
MCP = "[[mcp]]\nname = 'a'\n"


@pytest.mark.parametrize(
    ("text", "line", "problem", "fix"),
    [
        ("provider = 'openai_realtime'\n", 2, '"openai_realtime" needs a key', "export OPENAI_API_KEY=…"),
        ("provider = 'elevenlabs_convai'\n", 2, '"elevenlabs_convai" needs a key', "export ELEVENLABS_API_KEY=…"),
        (STT, 3, '"deepgram" needs a key', "export DEEPGRAM_API_KEY=…, or write api_key = {"),
        (TTS, 3, '"elevenlabs" needs a key', "export ELEVENLABS_API_KEY=…, or write"),
        ("[stt]\nprovider = 'deepgramm'\n", 3, 'must be one of "deepgram", "whisper"', 'did you mean "deepgram"?'),
        ("[stt]\nprovider = 'acme'\n", 3, 'must be one of "deepgram", "whisper"', '"module:function"'),
        ("[stt]\nprovider = 'nowhere:make'\n", 3, 'there is no module "nowhere"', "put nowhere.py beside"),
        ("[tts]\nprovider = 'parts:missing'\n", 3, 'parts.py has no function "missing"', "it has: make"),
        ("[tts]\nprovider = 'parts:one'\n", 3, "cannot be called with 2 argument(s)", ""),
        (STT + SECRET + "keyterms = 'x'\n", 5, "keyterms must be a list", ""),
        (STT + SECRET + "keyterms = ['x', 3]\n", 5, "list of texts; one of them is a whole number", ""),
        (STT + SECRET + "eager = 'yes'\n", 5, "eager must be true or false", ""),
        (STT + SECRET + "base_url = 'http://a.example.com'\n", 5, "would send the key unencrypted", ""),
        (STT + SECRET + "base_url = 'a.example.com'\n", 5, "base_url must be an address", ""),
        (STT + SECRET + "options = 3\n", 5, "options must be a table", ""),
        (STT + SECRET + "voice = 'x'\n", 5, 'unknown key "voice" in [stt]', ""),
        (STT + SECRET + "fallback = 3\n", 5, "fallback must be a list", "[[stt.fallback]]"),
        (STT + SECRET + "[[stt.fallback]]\nmodle = 'x'\n", 6, 'unknown key "modle" in stt fallback 1', '"model"'),
        (STT + SECRET + "[[stt.fallback]]\nprovider = 'whisper'\n", 6, '"whisper" needs a key', "OPENAI_API_KEY"),
        (TTS + SECRET + "streaming = 'sse'\n", 5, 'streaming must be one of "websocket", "http"', ""),
        (TTS + SECRET + "[[tts.fallback]]\nfallback = []\n", 6, 'unknown key "fallback" in tts fallback 1', ""),
        (LLM + "[[llm.fallback]]\nmodel = 'x'\n", 4, "llm fallback 1 has no model server", "base_url ="),
        ("[realtime]\nturn_detection = 'server'\n", 3, 'must be one of "server_vad", "semantic_vad"', 'mean "server_vad"?'),
        ("[realtime]\nthreshold = '1'\n", 3, "threshold must be a number, not text", ""),
        ("[realtime]\nthreshold = 2\n", 3, "threshold must be from 0 to 1", ""),
        ("[realtime]\nsilence_ms = 20\n", 3, "silence_ms must be from 100 to 10000", ""),
        ("[realtime]\nsilence = 20\n", 3, 'unknown key "silence"', "silence_ms"),
        ("[recovery]\nsilence_limit_ms = 20\n", 3, "silence_limit_ms must be from 1000", "or 0 for no limit"),
        ("[recovery]\napology = 3\n", 3, "apology must be text", ""),
        ("[budget]\nper_call_usd = -1\n", 3, "per_call_usd must be from 0 to 100000", ""),
        ('[budget]\nper_day_usd = "5"\n', 3, "per_day_usd must be a number, not text", ""),
        ("[budget]\nper_call = 1\n", 3, 'unknown key "per_call" in [budget]', 'did you mean "per_call_usd"?'),
        ('[budget]\nfarewell = " "\n', 3, "farewell is empty", ""),
        ("agent_id = ''\n", 2, "agent_id is empty", ""),
        ("[[mcp]]\nurl = 'https://x.example.com'\n", 2, "name is missing in mcp server 1", 'write name = "calendar"'),
        (MCP, 2, "mcp server 1 needs either url or command", "command = ["),
        (MCP + "url = 'x'\n", 4, "url must be an http", ""),
        (MCP + "url = 'https://x'\ncommand = ['y']\n", 2, "needs either url or command", ""),
        (MCP + "url = 'https://x'\n" + MCP + "command = ['y']\n", 6, 'two mcp servers called "a"', "another name"),
        (MCP + "command = ['y']\nheaders = { a = 'b' }\n", 2, "give it env instead", ""),
        (MCP + "url = 'https://x'\nheaders = { Authorization = 'k' }\n", 5, "Authorization holds the secret itself", "env ="),
        (MCP + "url = 'https://x'\nheaders = { a = { env = 'NOT_SET' } }\n", 5, "variable NOT_SET (for a) is not set", "export"),
        ("[[mcp]]\nname = 'a b'\nurl = 'https://x'\n", 3, "letters, digits, _ and -", ""),
        ("[[tools]]\nname='x'\nwebhook_url='https://x'\nfiller = ' '\n", 5, "filler is empty", ""),
    ],
)  # fmt: skip
def test_each_mistake_has_its_line_and_its_fix(
    text: str, line: int, problem: str, fix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SET", "s3cret")
    (tmp_path / "parts.py").write_text("def make(config, bench): ...\ndef one(config): ...\n")
    [found] = check(MINIMAL + text, tmp_path / "agent.toml")
    assert found.line == line, str(found)
    assert problem in found.problem
    assert fix in found.fix
    assert "s3cret" not in str(found)


def test_an_engine_without_its_stored_agent_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ELEVENLABS_API_KEY", "el")
    text = MINIMAL + "provider = 'elevenlabs_convai'\n"
    [found] = check(text, tmp_path / "a.toml")
    assert (found.line, found.fix) == (2, 'write agent_id = "agent_…"')
    [found] = check(text + "agent_id = 'a/b'\n", tmp_path / "a.toml")
    assert (found.line, "agent_id is made of" in found.problem) == (3, True)


def test_a_variable_that_cannot_be_used_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", "http://proxy.example.com/v1")
    [found] = check(MINIMAL, tmp_path / "a.toml")
    assert found.problem.startswith("the environment variable OPENAI_BASE_URL cannot be used: openai_url would send")


# --------------------------------------------------------------------------- providers beside the file


def test_a_provider_beside_the_file_is_read_anew_when_it_was_edited(tmp_path: Path) -> None:
    file = tmp_path / "agent.toml"
    file.write_text(MINIMAL + '[tts]\nprovider = "parrot:make"\nvoice = "polly"\noptions = { pitch = 2 }\n')
    (tmp_path / "parrot.py").write_text("def make(config, bench):\n    return 'one'\n")
    read = load(file)
    assert read.agent.tts == TTSConfig("parrot:make", "", "polly", options={"pitch": 2})
    assert read.sources == {tmp_path / "parrot.py"}
    first = registry.maker_of("tts", "parrot:make")
    load(file)
    assert registry.maker_of("tts", "parrot:make") is first
    (tmp_path / "parrot.py").write_text("def make(config, bench):\n    return 'two'\n")
    load(file)
    assert registry.maker_of("tts", "parrot:make")(None, None) == "two"
    (tmp_path / "parrot.py").write_text("def make(config, bench:\n")
    with pytest.raises(AgentFileError, match=r"parrot\.py line 1 is no Python"):
        load(file)
    assert registry.maker_of("tts", "parrot:make")(None, None) == "two"


def test_two_folders_may_have_a_provider_of_the_same_name(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "parrot.py").write_text(f"def make(config, bench):\n    return {name!r}\n")
        (tmp_path / name / "agent.toml").write_text(MINIMAL + '[tts]\nprovider = "parrot:make"\n')
    configs = [load(tmp_path / name / "agent.toml").agent.tts for name in ("one", "two", "one")]
    assert [registry.maker_of("tts", config.provider)(None, None) for config in configs if config] == [
        "one",
        "two",
        "one",
    ]
