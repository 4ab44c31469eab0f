from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as some

from patter import builders
from patter.builders import Keys, check_agent, choose_carrier, fill_variables, is_e164, tool
from patter.keys import VARIABLES
from patter.models import (
    Agent,
    Guardrail,
    LLMConfig,
    McpServer,
    RealtimeConfig,
    Recovery,
    ScriptRule,
    STTConfig,
    TTSConfig,
    TurnTaking,
)

EMBEDDED: dict[str, Any] = {
    "system_prompt": "Be kind.",
    "provider": "pipeline",
    "stt": builders.embedded_stt(),
    "tts": builders.embedded_tts(),
}
REALTIME = {"provider": "openai_realtime"}


def find_slots(arguments: dict[str, Any], context: dict[str, Any]) -> str:
    return "9 am"


# --------------------------------------------------------------------------- variables


def test_variables_replace_their_placeholders() -> None:
    assert fill_variables("Hello {name}, {name}!", {"name": "Ada"}) == "Hello Ada, Ada!"


def test_an_unknown_placeholder_stays_as_written() -> None:
    assert fill_variables('{clinic} {"json": 1} {}', {"name": "Ada"}) == '{clinic} {"json": 1} {}'


def test_a_value_is_not_searched_for_placeholders() -> None:
    assert fill_variables("{a} {b}", {"a": "{b}", "b": "{a}"}) == "{b} {a}"


def test_a_value_is_cut_at_500_characters() -> None:
    assert fill_variables("{a}", {"a": "x" * 501}) == "x" * 500


def test_a_value_may_be_a_number() -> None:
    assert fill_variables("{n} chairs", {"n": 4}) == "4 chairs"


@given(some.text(), some.dictionaries(some.text(), some.text()))
def test_text_without_braces_never_changes(text: str, variables: dict[str, str]) -> None:
    plain = text.replace("{", "").replace("}", "")

    assert fill_variables(plain, variables) == plain


# --------------------------------------------------------------------------- numbers


@pytest.mark.parametrize("number", ["+15551234567", "+4930123456", "+12", "+123456789012345"])
def test_e164_numbers(number: str) -> None:
    assert is_e164(number)


@pytest.mark.parametrize(
    "number",
    [
        "",
        "15551234567",
        "+0123",
        "+1",
        "+1234567890123456",
        "+1 555 123",
        "+1555123456x",
        "+1٣٤٥",
        "+15551234567\n",
        None,
        15,
    ],
)
def test_other_numbers_are_not_e164(number: object) -> None:
    assert not is_e164(number)
    with pytest.raises(ValueError, match=r"to must be an E\.164 number"):
        builders.check_number(number, "to")


# --------------------------------------------------------------------------- tools and guardrails


def test_a_tool_carries_what_it_was_given() -> None:
    schema = {"type": "object", "properties": {"day": {"type": "string"}}}

    made = tool("find_slots", "Free times of a day.", schema, find_slots)

    assert made == {
        "name": "find_slots",
        "description": "Free times of a day.",
        "parameters": schema,
        "handler": find_slots,
    }
    assert tool("notify", webhook_url="https://example.com/hook")["webhook_url"] == "https://example.com/hook"


@pytest.mark.parametrize(
    ("arguments", "error", "says"),
    [
        ({"name": "find_slots"}, ValueError, "needs a handler or a webhook_url"),
        ({"name": "", "handler": find_slots}, ValueError, "no name"),
        ({"name": "find slots", "handler": find_slots}, ValueError, "letters, digits"),
        ({"name": "end_call", "handler": find_slots}, ValueError, "has that tool already"),
        ({"name": "x", "handler": "module:function"}, TypeError, "must be a function"),
        ({"name": "x", "webhook_url": "ftp://example.com"}, ValueError, "http:// or https://"),
        ({"name": "x", "handler": find_slots, "parameters": ["day"]}, TypeError, "JSON Schema as a dict"),
        ({"name": "x", "handler": find_slots, "parameters": {"type": "objekt"}}, ValueError, "no valid JSON Schema"),
    ],
)
def test_a_tool_that_cannot_work_is_refused(arguments: dict[str, Any], error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says):
        tool(**arguments)


def test_a_guardrail_carries_what_it_was_given() -> None:
    made = builders.guardrail("no prices", ["price"], replacement="Ask at the desk.")

    assert made == {"name": "no prices", "blocked_terms": ["price"], "check": None, "replacement": "Ask at the desk."}


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"name": ""}, ValueError),
        ({"name": "x", "blocked_terms": "price"}, TypeError),
        ({"name": "x", "check": "price"}, TypeError),
    ],
)
def test_a_guardrail_that_cannot_work_is_refused(arguments: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error):
        builders.guardrail(**arguments)


# --------------------------------------------------------------------------- agents


def test_an_embedded_agent_needs_no_key() -> None:
    check_agent(Keys(), Agent(**EMBEDDED, first_message="Hello!", script=(ScriptRule((), "Sorry?"),)))


@pytest.mark.parametrize(
    ("keys", "changes", "says"),
    [
        (Keys(), {"provider": "magic"}, "unknown provider 'magic'"),
        (Keys(), {"provider": "openai_realtime"}, "openai_key"),
        (Keys(), {"provider": "elevenlabs_convai"}, "elevenlabs_key"),
        (Keys(elevenlabs="k"), {"provider": "elevenlabs_convai"}, r'give it as agent\(agent_id="agent_'),
        (Keys(elevenlabs="k"), {"provider": "elevenlabs_convai", "agent_id": "a b/../c"}, "agent_id is made of"),
        (Keys(openai="k"), REALTIME | {"realtime": RealtimeConfig(turn_detection="vad")}, "turn_detection"),
        (Keys(openai="k"), REALTIME | {"realtime": RealtimeConfig(eagerness="very")}, "eagerness"),
        (Keys(openai="k"), REALTIME | {"realtime": RealtimeConfig(shape="v1")}, "shape"),
        (Keys(openai="k"), REALTIME | {"realtime": RealtimeConfig(noise_reduction="on")}, "noise_reduction"),
        (Keys(openai="k"), REALTIME | {"realtime": RealtimeConfig(silence_ms=5)}, "silence_ms must be from"),
        (Keys(openai="k"), REALTIME | {"realtime": RealtimeConfig(threshold=1.5)}, "threshold"),
        (Keys(openai="k"), REALTIME | {"realtime": RealtimeConfig(base_url="http://a.example.com")}, "unencrypted"),
        (Keys(), {"recovery": Recovery(silence_limit_ms=500)}, "silence_limit_ms must be from"),
        (Keys(), {"stt": STTConfig("deepgram", "k", base_url="ws://127.0.0.1")}, "base_url of stt"),
        (Keys(), {"stt": STTConfig("deepgram", "k", base_url="http://127.0.0.1:x")}, "base_url of stt"),
        (Keys(), {"tts": TTSConfig("openai", "k", base_url="https://u:p@a.example.com")}, "password"),
        (Keys(), {"tts": TTSConfig("elevenlabs", "k", streaming="carrier pigeon")}, "streaming of tts"),
        (Keys(), {"llm": LLMConfig(base_url="localhost:8080")}, "base_url of llm"),
        (Keys(), {"stt_fallbacks": (STTConfig("ears", "k"),)}, "unknown stt fallback 1 provider 'ears'"),
        (
            Keys(),
            {"tts_fallbacks": (TTSConfig("embedded", ""), TTSConfig("openai", ""))},
            "tts fallback 2 provider 'openai'",
        ),
        (Keys(), {"llm_fallbacks": (LLMConfig("gpt-x"),)}, "llm fallback 1 needs a base_url"),
        (Keys(), {"mcp": (McpServer("a b", "https://a.example.com/mcp"),)}, "name of an mcp server"),
        (Keys(), {"mcp": (McpServer("a"),)}, "mcp server 'a' needs either a url or a command"),
        (Keys(), {"mcp": (McpServer("a", "https://x.example.com", ("run",)),)}, "either a url or a command"),
        (Keys(), {"mcp": (McpServer("a", "http://x.example.com", headers={"K": "v"}),)}, "unencrypted"),
        (Keys(), {"mcp": (McpServer("a", command=("run",), headers={"K": "v"}),)}, "give it env instead"),
        (Keys(), {"mcp": (McpServer("a", command=("run",)),) * 2}, "two mcp servers are called 'a'"),
        (Keys(), {"stt": None}, "speech-to-text"),
        (Keys(deepgram="k"), {"stt": None, "tts": None}, "text-to-speech"),
        (Keys(), {"stt": STTConfig("ears", "k")}, "unknown stt provider 'ears'"),
        (Keys(), {"tts": TTSConfig("mouth", "k")}, "unknown tts provider 'mouth'"),
        (Keys(), {"stt": STTConfig("whisper", "")}, "stt provider 'whisper' needs an api_key"),
        (Keys(), {"tools": [{"handler": find_slots}]}, "no name"),
        (Keys(), {"tools": [{"name": "x"}]}, "handler or a webhook_url"),
        (Keys(), {"tools": [tool("x", handler=find_slots)] * 2}, "two tools are called 'x'"),
        (Keys(), {"guardrails": [{"blocked_terms": ["x"]}]}, "no name"),
        (Keys(), {"turn_taking": TurnTaking(min_silence_ms=900, max_silence_ms=800)}, "min_silence_ms"),
        (Keys(), {"script": (ScriptRule(tool="find_slots"),)}, "does not have"),
    ],
)
def test_what_cannot_work_is_a_value_error(keys: Keys, changes: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        check_agent(keys, Agent(**(EMBEDDED | changes)))


@pytest.mark.parametrize(
    "changes",
    [
        {"tools": {"name": "x"}},
        {"tools": ("x",)},
        {"tools": ["x"]},
        {"variables": [("a", "b")]},
        {"guardrails": "no swearing"},
        {"guardrails": ["no swearing"]},
        {"stt": "embedded"},
        {"tts": "embedded"},
        {"llm": "llama"},
        {"turn_taking": 400},
        {"script": ("hello",)},
        {"script": None},
        {"system_prompt": None},
        {"first_message": 3},
        {"realtime": {"silence_ms": 300}},
        {"recovery": "sorry"},
        {"recovery": Recovery(apology=None)},  # type: ignore[arg-type]
        {"stt_fallbacks": [STTConfig("deepgram", "k")]},
        {"stt_fallbacks": ("deepgram",)},
        {"tts_fallbacks": (STTConfig("deepgram", "k"),)},
        {"llm_fallbacks": ("gpt-x",)},
        {"stt": STTConfig("deepgram", "k", keyterms=("",))},
        {"stt": STTConfig("deepgram", "k", options=[("a", 1)])},  # type: ignore[arg-type]
        {"mcp": ("calendar",)},
        {"mcp": (McpServer("a", command="run me"),)},  # type: ignore[arg-type]
        {"agent_id": None},
        {"tools": [tool("x", handler=find_slots) | {"filler": 3}]},
    ],
)
def test_the_wrong_kind_of_thing_is_a_type_error(changes: dict[str, Any]) -> None:
    with pytest.raises(TypeError):
        check_agent(Keys(), Agent(**(EMBEDDED | changes)))


@pytest.mark.parametrize(
    ("keys", "changes"),
    [
        (Keys(openai="k"), {"provider": "openai_realtime"}),
        (Keys(elevenlabs="k"), {"provider": "elevenlabs_convai", "agent_id": "J3Pbu5gP6NNKBscdCdwB"}),
        (Keys(elevenlabs="k"), {"provider": "elevenlabs_convai", "model": "agent_01jz"}),
        (Keys(openai="k"), REALTIME | {"realtime": RealtimeConfig("semantic_vad", eagerness="low", shape="beta")}),
        (Keys(), {"stt_fallbacks": (STTConfig("whisper", "k", base_url="http://127.0.0.1:1/v1"),)}),
        (Keys(openai="k"), {"llm_fallbacks": (LLMConfig("gpt-x"),), "tts_fallbacks": (TTSConfig("openai", ""),)}),
        (Keys(), {"mcp": (McpServer("a", "http://10.0.0.1/mcp"), McpServer("b", command=("run", "it")))}),
        (Keys(), {"mcp": (McpServer("a", "https://x.example.com"),), "script": (ScriptRule(tool="of_the_server"),)}),
        (Keys(), {"recovery": Recovery("", "", 0)}),
        (Keys(deepgram="k", elevenlabs="k"), {"stt": None, "tts": None}),
        (Keys(openai="k"), {"stt": STTConfig("whisper", ""), "tts": TTSConfig("openai", "")}),
        (Keys(), {"guardrails": [Guardrail("x", blocked_terms=["y"]), builders.guardrail("z")]}),
        (Keys(), {"script": (ScriptRule(("bye",), "Goodbye.", "end_call"),)}),
        (Keys(), {"llm": LLMConfig("llama3.2", "http://127.0.0.1:11434/v1")}),
    ],
)
def test_what_can_work_is_accepted(keys: Keys, changes: dict[str, Any]) -> None:
    check_agent(keys, Agent(**(EMBEDDED | changes)))


# --------------------------------------------------------------------------- settings


def test_settings_carry_what_they_were_given() -> None:
    assert builders.deepgram("k", model="flux-general-en", keyterms=["Riverside"], eager=True) == STTConfig(
        "deepgram", "k", model="flux-general-en", keyterms=("Riverside",), eager=True
    )
    assert builders.whisper("k", "de", base_url="https://a.example.com/v1").base_url == "https://a.example.com/v1"
    assert builders.elevenlabs("k", model="m", streaming="http", options={"speed": 1.1}) == TTSConfig(
        "elevenlabs", "k", "rachel", model="m", streaming="http", options={"speed": 1.1}
    )
    assert builders.openai_tts("k", options={"instructions": "Slowly."}).options == {"instructions": "Slowly."}
    assert builders.mcp_server("a", command=["run", "it"], only=["x"]) == McpServer(
        "a", command=("run", "it"), only=("x",)
    )
    with pytest.raises(TypeError, match="a list of texts"):
        builders.deepgram("k", keyterms="Riverside")
    with pytest.raises(ValueError, match="either a url or a command"):
        builders.mcp_server("a")


def test_a_pipeline_without_settings_uses_the_vendors_whose_keys_there_are() -> None:
    keys = Keys(
        deepgram="dg", elevenlabs="el", deepgram_url="http://127.0.0.1:9", elevenlabs_url="https://eu.example.com/"
    )
    agent = Agent("Be kind.", provider="pipeline", language="de")
    assert builders.stt_of(agent, keys) == STTConfig("deepgram", "dg", "de", base_url="http://127.0.0.1:9")
    assert builders.tts_of(agent, keys) == TTSConfig("elevenlabs", "el", "rachel", base_url="https://eu.example.com")
    assert builders.tts_of(Agent("x", voice="george"), keys).voice == "george"
    assert builders.stt_of(agent, Keys()).provider == builders.tts_of(agent, Keys()).provider == "embedded"


def test_what_settings_say_themselves_counts_before_the_keys() -> None:
    keys = Keys(openai="common", openai_url="https://proxy.example.com/v1")
    agent = Agent(
        "x", stt=builders.whisper("own", base_url="https://own.example.com/v1"), tts=builders.openai_tts(""),
        stt_fallbacks=(builders.whisper(""),),
    )  # fmt: skip
    assert (builders.stt_of(agent, keys).api_key, builders.stt_of(agent, keys).base_url) == (
        "own",
        "https://own.example.com/v1",
    )
    assert (builders.tts_of(agent, keys).api_key, builders.tts_of(agent, keys).base_url) == ("common", keys.openai_url)
    [fallback], others = builders.fallbacks_of(agent, keys)
    assert (fallback.api_key, others) == ("common", ())


def test_keys_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, variable in VARIABLES.items():
        monkeypatch.setenv(
            variable, {"webhook_reach": "loopback"}.get(name, f"https://{name.replace('_', '-')}.example.com/")
        )
    keys = Keys.of_environment()
    assert keys.of("deepgram") == keys.deepgram == "https://deepgram.example.com/"
    assert keys.of("whisper") == keys.of("openai") == keys.openai
    assert keys.url_of("whisper") == keys.openai_url == "https://openai-url.example.com"
    assert keys.url_of("elevenlabs") == "https://elevenlabs-url.example.com"
    assert (keys.of("embedded"), keys.url_of("nobody"), keys.webhook_reach) == ("", "", "loopback")
    monkeypatch.setenv("DEEPGRAM_BASE_URL", "http://deepgram.example.com")
    with pytest.raises(ValueError, match="deepgram_url would send the key unencrypted"):
        Keys.of_environment()


@pytest.mark.parametrize(
    "url", ["deepgram.example.com", "https://", "https://a b.example.com", "https://a.example.com/?k=v"]
)
def test_an_address_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="openai_url must be an address"):
        Keys(openai_url=url)


def test_keys_are_never_shown() -> None:
    assert "secret" not in repr(Keys("secret", "secret", "secret", webhook_secret="secret"))
    assert "secret" not in repr(choose_carrier("local", "AC1", "secret", "", "", "+15551234567", ""))


# --------------------------------------------------------------------------- carriers

PHONE = {"phone_number": "+15551234567"}
NONE = {
    "mode": "local", "twilio_sid": "", "twilio_token": "", "telnyx_key": "", "telnyx_connection_id": "",
    "phone_number": "", "webhook_url": "",
}  # fmt: skip


def test_without_credentials_there_is_no_carrier() -> None:
    assert choose_carrier(**NONE).name == ""


def test_credentials_choose_the_carrier() -> None:
    assert choose_carrier(**NONE | PHONE | {"twilio_sid": "AC1", "twilio_token": "t"}).name == "twilio"
    assert choose_carrier(**NONE | PHONE | {"telnyx_key": "K1"}).name == "telnyx"


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"mode": "cloud"}, "unknown mode 'cloud'"),
        ({"twilio_sid": "AC1", **PHONE}, "twilio_token"),
        ({"twilio_token": "t", **PHONE}, "twilio_sid"),
        ({"telnyx_connection_id": "7", **PHONE}, "telnyx_key"),
        ({"twilio_sid": "AC1", "twilio_token": "t"}, "phone_number is missing"),
        ({"telnyx_key": "K1"}, "phone_number is missing"),
        ({"twilio_sid": "AC1", "twilio_token": "t", "telnyx_key": "K1", **PHONE}, "two carriers"),
        ({"phone_number": "555"}, "phone_number must be an E.164"),
        ({"webhook_url": "https://voice.example.com"}, "host without scheme"),
    ],
)
def test_contradictory_or_missing_credentials_are_refused(given: dict[str, str], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        choose_carrier(**NONE | given)
