"""Good agent files become agents; each mistake is told by its line, what it is and how to fix it."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from patter.agentfile import CallerLine, check, load, parse
from patter.exceptions import AgentFileError
from patter.keys import VARIABLES
from patter.models import LLMConfig, ScriptRule, STTConfig, TTSConfig, TurnTaking

MINIMAL = 'system_prompt = "You answer the phone."\n'

WHOLE = """\
name = "riverside-dental"
system_prompt = "You are the receptionist of {clinic}."
first_message = "Hello, this is {clinic}."
language = "en"
voice = "heart"
model = "m"
provider = "pipeline"
on_message = "brain:answer"

[variables]
clinic = "Riverside Dental"
rooms = 3

[stt]
provider = "deepgram"
api_key = { env = "DEEPGRAM_API_KEY" }

[tts]
provider = "embedded"

[llm]
base_url = "http://127.0.0.1:11434/v1"
model = "llama3.2"

[turn_taking]
min_silence_ms = 500
acknowledgements = ["sure"]

[[tools]]
name = "find_slots"
description = "Free appointments of a day"
handler = "brain:find_slots"
[tools.parameters]
required = ["day"]
[tools.parameters.properties.day]
type = "string"

[[tools]]
name = "notify"
webhook_url = "https://example.test/notify"

[[guardrails]]
name = "no prices"
blocked_terms = ["dollar"]
replacement = "I cannot quote prices."
check = "brain:blocked"

[[script]]
when = ["book", "appointment"]
say = "We have {result}."
tool = "find_slots"
arguments = { day = "Monday" }

[[script]]
say = "Goodbye."
hang_up = true

[rehearsal]
caller = ["I want to book", {say = "wait", after_ms = 1200}]
"""

BRAIN = """\
import words_of_brain

async def answer(data, control):
    return words_of_brain.WORD

def find_slots(arguments, context):
    return words_of_brain.WORD

def blocked(text):
    return False

def of_three(a, b, c):
    return None

not_callable = 3
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for variable in VARIABLES.values():
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("DEEPGRAM_API_KEY", "dg-secret-value")
    (tmp_path / "brain.py").write_text(BRAIN)
    (tmp_path / "words_of_brain.py").write_text('WORD = "one"\n')
    return tmp_path


def problem_of(text: str, folder: Path) -> AgentFileError:
    with pytest.raises(AgentFileError) as caught:
        parse(text, folder / "agent.toml")
    assert caught.value.path == str(folder / "agent.toml")
    return caught.value


def test_a_whole_file_becomes_an_agent(folder: Path) -> None:
    (folder / "agent.toml").write_text(WHOLE)
    file = load(folder / "agent.toml")
    agent = file.agent
    assert (file.name, agent.name, file.text) == ("riverside-dental", "riverside-dental", WHOLE)
    assert agent.system_prompt == "You are the receptionist of {clinic}."
    assert agent.variables == {"clinic": "Riverside Dental", "rooms": 3}
    assert agent.stt == STTConfig("deepgram", "dg-secret-value", "en")
    assert agent.tts == TTSConfig("embedded", "", "heart")
    assert agent.llm == LLMConfig("llama3.2", "http://127.0.0.1:11434/v1")
    assert agent.turn_taking == TurnTaking(min_silence_ms=500, acknowledgements=("sure",))
    assert agent.tools is not None
    assert [tool["name"] for tool in agent.tools] == ["find_slots", "notify"]
    assert agent.tools[0]["handler"]({}, {}) == "one"
    assert agent.tools[0]["parameters"]["type"] == "object"
    assert agent.tools[1] == {
        "name": "notify",
        "description": "",
        "parameters": {"type": "object", "properties": {}},
        "webhook_url": "https://example.test/notify",
    }
    assert agent.guardrails is not None
    assert agent.guardrails[0].check("x") is False
    assert agent.script[0] == ScriptRule(("book", "appointment"), "We have {result}.", "find_slots", {"day": "Monday"})
    assert agent.script[1] == ScriptRule(say="Goodbye.", hang_up=True)
    assert file.caller_lines == (CallerLine("I want to book"), CallerLine("wait", 1200))
    assert [line.to_json() for line in file.caller_lines] == ["I want to book", {"say": "wait", "after_ms": 1200}]
    assert callable(file.on_message)
    assert file.sources == {folder / "brain.py", folder / "words_of_brain.py"}


def test_the_smallest_file_needs_a_prompt_only(folder: Path) -> None:
    file = parse(MINIMAL, folder / "front-desk.toml")
    assert (file.name, file.agent.provider, file.agent.tools, file.on_message) == ("front-desk", "pipeline", None, None)
    assert (file.agent.stt, file.agent.tts) == (STTConfig("embedded", ""), TTSConfig("embedded", "", "heart"))


def test_the_version_follows_the_text(folder: Path) -> None:
    one, two = parse(MINIMAL, folder / "a.toml"), parse(MINIMAL + "\n", folder / "a.toml")
    assert len(one.version) == 8
    assert one.version != two.version
    assert one.version == parse(MINIMAL, folder / "b.toml").version


@pytest.mark.parametrize(
    ("text", "line", "problem", "fix"),
    [
        ('first_message = "x"\n', 0, "system_prompt is missing", "write system_prompt"),
        ('system_prompt = " "\n', 1, "system_prompt is empty", "system_prompt"),
        (MINIMAL + 'frist_message = "x"\n', 2, 'unknown key "frist_message"', 'did you mean "first_message"?'),
        (MINIMAL + "\n[stt]\nprovidr = 1\n", 4, 'unknown key "providr" in [stt]', 'did you mean "provider"?'),
        (MINIMAL + "[zzz]\n", 2, 'unknown key "zzz"', "known here:"),
        (MINIMAL + "first_message = 3\n", 2, "first_message must be text, not a whole number", ""),
        (MINIMAL + "tools = 3\n", 2, "tools must be a list, not a whole number", "[[tools]]"),
        (MINIMAL + "stt = 'embedded'\n", 2, "stt must be a table, not text", "[stt]"),
        (MINIMAL + "tools = ['x']\n", 2, "tool 1 must be a table", "[[tools]]"),
        (MINIMAL + "provider = 'pipelin'\n", 2, "provider must be one of", 'did you mean "pipeline"?'),
        (MINIMAL + "[turn_taking]\nmin_silence_ms = -1\n", 3, "must be from 0 to 60000", ""),
        (MINIMAL + "[turn_taking]\nmin_silence_ms = true\n", 3, "must be a whole number, not true or false", ""),
        (MINIMAL + "[turn_taking]\nmax_silence_ms = 100\n", 3, "shorter than min_silence_ms", ""),
        (MINIMAL + "[variables]\nx = [1]\n", 3, "the variable x must be", ""),
        (MINIMAL + "[variables]\nx = 1979-05-27\n", 3, "the variable x must be", ""),
        (MINIMAL + "language = '!'\n", 2, "language must be a code", ""),
        (MINIMAL + "name = 'a/b'\n", 2, "without slashes", ""),
        (MINIMAL + "[llm]\nbase_url = 'ftp://x'\n", 3, "base_url must be an http", ""),
        (MINIMAL + "[llm]\nbase_url = 'http://[x'\n", 3, "base_url must be an http", ""),
        (MINIMAL + "[tts]\nprovider = 'openai'\n", 3, 'the provider "openai" needs a key', "export OPENAI_API_KEY="),
        (MINIMAL + "[[tools]]\nname = 'x'\n", 2, "needs either handler or webhook_url", "module:function"),
        (MINIMAL + "[[tools]]\nhandler = 'brain:find_slots'\n", 2, "name is missing in tool 1", "name ="),
        (MINIMAL + "[[tools]]\nname = 'a b'\nhandler='brain:find_slots'\n", 3, "a tool's name is made of", ""),
        (MINIMAL + "[[tools]]\nname = 'end_call'\nhandler='brain:find_slots'\n", 3, "has the tool end_call already", ""),
        (MINIMAL + "[[tools]]\nname='x'\nhandler = 'brain:find_slot'\n", 4, 'brain.py has no function "find_slot"', "find_slots"),
        (MINIMAL + "[[tools]]\nname='x'\nhandler = 'brian:x'\n", 4, 'there is no module "brian"', "brian.py beside"),
        (MINIMAL + "[[tools]]\nname='x'\nhandler = 'brain.x'\n", 4, 'must be written as "module:function"', "example"),
        (MINIMAL + "[[tools]]\nname='x'\nhandler = 'brain:not_callable'\n", 4, "is no function", ""),
        (MINIMAL + "[[tools]]\nname='x'\nhandler = 'brain:of_three'\n", 4, "cannot be called with 2 argument", ""),
        (MINIMAL + "[[guardrails]]\nname='x'\ncheck = 'brain:of_three'\n", 4, "cannot be called with 1 argument", ""),
        (MINIMAL + "[[guardrails]]\nname='x'\n", 2, "guardrail 1 blocks nothing", ""),
        (MINIMAL + "[[guardrails]]\nname='x'\nblocked_terms = ['a', 2]\n", 4, "one of them is a whole number", ""),
        (MINIMAL + "on_message = 'brain:of_three'\n", 2, "cannot be called with 2 or 1 argument", ""),
        (MINIMAL + "[[script]]\nsay = 'x'\ntool = 'find'\n", 4, "uses a tool that is not defined", ""),
        (MINIMAL + "[[script]]\nwhen = ['x']\n", 2, "script rule 1 does nothing", ""),
        (MINIMAL + "[[script]]\nsay='x'\narguments={a=1}\n", 4, "has arguments but no tool", ""),
        (MINIMAL + "[rehearsal]\ncaller = 'x'\n", 3, "caller must be a list", ""),
        (MINIMAL + "[rehearsal]\ncaller = [\n'x',\n3]\n", 5, "caller line 2 must be a text", ""),
        (MINIMAL + "[rehearsal]\ncaller = [{after_ms = 3}]\n", 3, "say is missing in caller line 1", ""),
    ],
)  # fmt: skip
def test_each_mistake_has_its_line_and_its_fix(text: str, line: int, problem: str, fix: str, folder: Path) -> None:
    error = problem_of(text, folder)
    assert problem in error.problem
    assert error.line == line
    assert fix in error.fix


@pytest.mark.parametrize(
    ("schema", "line", "words"),
    [
        ("type = 'string'\n", 5, "the parameters of a tool are an object"),
        ("[tools.parameters.properties.day]\n\ntype = 'strnig'\n", 7, "breaks a rule of JSON Schema"),
        ("required = 'day'\n", 5, "breaks a rule of JSON Schema"),
        (
            "[tools.parameters.properties.day]\n'$ref' = 'https://example.test/x'\n",
            6,
            "only point into the same schema",
        ),
        ("[tools.parameters.properties.day]\nconst = 1979-05-27\n", 4, "JSON has no word for"),
    ],
)
def test_a_parameter_schema_is_checked(schema: str, line: int, words: str, folder: Path) -> None:
    text = f"{MINIMAL}[[tools]]\nname='x'\n[tools.parameters]\n{schema}"
    errors = [error for error in check(text, folder / "agent.toml") if words in error.problem]
    assert [error.line for error in errors] == [line]


@pytest.mark.parametrize(
    ("text", "line", "column"),
    [
        (MINIMAL + "name = unquoted\n", 2, 8),
        (MINIMAL + 'name = "open\nlanguage = "en"\n', 2, 13),
        (MINIMAL + "name = 'x'\nname = 'y'\n", 3, 11),
        (MINIMAL + "[stt\n", 2, 5),
        (MINIMAL + "x = '''never closed\n\n", 2, 0),
        (MINIMAL + "x = " + "9" * 5000, 2, 0),
        (MINIMAL + "x = " + "[" * 5000, 2, 0),
    ],
)
def test_broken_toml_has_its_place(text: str, line: int, column: int, folder: Path) -> None:
    error = problem_of(text, folder)
    assert "no valid TOML" in error.problem
    assert (error.line, error.column) == (line, column)


def test_a_missing_variable_is_named_with_its_line(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = MINIMAL + "[stt]\nprovider = 'deepgram'\napi_key = { env = 'DEEPGRAM_API_KEY' }\n"
    monkeypatch.delenv("DEEPGRAM_API_KEY")
    error = problem_of(text, folder)
    assert error.line == 4
    assert "DEEPGRAM_API_KEY" in error.problem
    assert "export DEEPGRAM_API_KEY" in error.fix
    monkeypatch.setenv("DEEPGRAM_API_KEY", "")
    assert "empty" in problem_of(text, folder).problem


@pytest.mark.parametrize(
    "text",
    [
        "[stt]\nprovider = 'deepgram'\napi_key = 'hunter2-hunter2'\n",
        "[llm]\napi_key = { env = 'hunter2-hunter2' }\n",
        "[llm]\napi_key = { value = 'hunter2-hunter2' }\n",
        "[llm]\napi_key = ['hunter2-hunter2']\n",
        "[llm]\nbase_url = 'http://user:hunter2-hunter2@example.test/'\n",
        "openai_key = 'hunter2-hunter2'\n",
        "provider = 'hunter2-hunter2'\n",
        "language = 'hunter2-hunter2!'\n",
        "first_message = ['hunter2-hunter2']\n",
        "name = hunter2-hunter2\n",
        "name = 'hunter2-hunter2\n",
    ],
)
def test_no_message_shows_a_secret(text: str, folder: Path) -> None:
    errors = check(MINIMAL + text, folder / "agent.toml")
    assert errors
    for error in errors:
        assert "hunter2" not in str(error) + error.problem + error.fix
        assert error.line >= 2


def test_all_problems_are_told_in_order(folder: Path) -> None:
    text = "frist = 1\n" + "\n" * 3 + "[tts]\nvoise = 2\n[stt]\nprovider = 3\n"
    errors = check(text, folder / "agent.toml")
    assert [error.line for error in errors] == [0, 1, 6, 8]
    assert check(MINIMAL, folder / "agent.toml") == []


def test_an_edited_module_is_read_again_and_nothing_stays_behind(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    text = MINIMAL + "[[tools]]\nname='x'\nhandler='brain:find_slots'\n"
    path, words = list(sys.path), folder / "words_of_brain.py"
    written = words.stat()

    def answer() -> object:
        tools = parse(text, folder / "a.toml").agent.tools
        assert tools is not None
        return tools[0]["handler"]({}, {})

    assert answer() == "one"
    words.write_text('WORD = "two"\n')
    os.utime(words, ns=(written.st_atime_ns, written.st_mtime_ns))  # same size, same second: bytecode would miss it
    assert answer() == "two"
    assert not {"brain", "words_of_brain"} & set(sys.modules)
    assert sys.path == path
    assert not (folder / "__pycache__").exists()


def test_two_agents_may_have_modules_of_the_same_name(folder: Path) -> None:
    other = folder / "other"
    other.mkdir()
    (other / "brain.py").write_text("def find_slots(arguments, context):\n    return 'other'\n")
    text = MINIMAL + "[[tools]]\nname='x'\nhandler='brain:find_slots'\n"
    one, two = (parse(text, place / "a.toml").agent.tools for place in (folder, other))
    assert one is not None
    assert two is not None
    assert (one[0]["handler"]({}, {}), two[0]["handler"]({}, {})) == ("one", "other")


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("import os\n1 / 0\n", "broken.py line 2 fails when it is imported: ZeroDivisionError"),
        ("def x(:\n", "broken.py line 1 is no Python"),
        ("import nowhere_to_be_found\n", "broken.py line 1 fails when it is imported: ModuleNotFoundError"),
        ("raise SystemExit(3)\n", "broken.py line 1 fails when it is imported: SystemExit"),
    ],
)
def test_a_failing_import_has_its_own_line_and_cause(source: str, words: str, folder: Path) -> None:
    (folder / "broken.py").write_text(source)
    error = problem_of(MINIMAL + "[[tools]]\nname='x'\nhandler='broken:x'\n", folder)
    assert error.line == 4
    assert words in error.problem


def test_installed_modules_are_found_too_and_the_standard_library_is_not_hidden(folder: Path) -> None:
    text = MINIMAL + "[[guardrails]]\nname='x'\ncheck='{}'\n"
    file = parse(text.format("os.path:exists"), folder / "a.toml")
    assert file.agent.guardrails is not None
    assert file.agent.guardrails[0].check("/") is True
    (folder / "json.py").write_text("def loads(text):\n    return 1\n")
    assert "has the name of a module of Python" in problem_of(text.format("json:loads"), folder).problem


def test_packages_beside_the_file_work(folder: Path) -> None:
    (folder / "kit").mkdir()
    (folder / "kit" / "__init__.py").write_text("")
    (folder / "kit" / "deep.py").write_text("from . import helper\ndef ok(text):\n    return helper.OK\n")
    (folder / "kit" / "helper.py").write_text("OK = 5\n")
    file = parse(MINIMAL + "[[guardrails]]\nname='x'\ncheck='kit.deep:ok'\n", folder / "a.toml")
    assert file.agent.guardrails is not None
    assert file.agent.guardrails[0].check("x") == 5


def test_files_that_cannot_be_read_are_told(tmp_path: Path) -> None:
    with pytest.raises(AgentFileError, match="no such file"):
        load(tmp_path / "none.toml")
    with pytest.raises(AgentFileError, match="cannot be read"):
        load(tmp_path)
    (tmp_path / "a.toml").write_bytes(b"x = 1\ny = '\xff'\n")
    with pytest.raises(AgentFileError, match="not UTF-8") as caught:
        load(tmp_path / "a.toml")
    assert caught.value.line == 2
    (tmp_path / "a.toml").write_bytes(b"#" * 300_000)
    with pytest.raises(AgentFileError, match="larger than 256 KiB"):
        load(tmp_path / "a.toml")
    (tmp_path / "a.toml").write_bytes(b"\xef\xbb\xbf" + MINIMAL.replace("\n", "\r\n").encode())
    assert load(tmp_path / "a.toml").agent.system_prompt == "You answer the phone."
