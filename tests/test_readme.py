"""README's promises: its diagram is drawn from the tables, its code runs, its commands and files exist.

`python -m tests.test_readme` writes the diagram into README.md.
"""

from __future__ import annotations

import ast
import io
import re
import subprocess
import sys
import wave
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from enum import Enum
from pathlib import Path
from typing import Any, TypeVar

import anyio
import pytest
from aiohttp import web

from patter import registry
from patter.agentfile import load, parse
from patter.audio.format import MULAW_8K, AudioChunk, AudioFormat
from patter.builders import PROVIDERS
from patter.clock import Clock
from patter.exceptions import ProviderError
from patter.models import Agent
from patter.providers.bench import Bench
from patter.providers.dialer import Dialer
from patter.providers.vendor_http import new_http
from patter.registry import maker_of
from patter.settings import load as load_settings
from patter.signals import Transcribed, Used
from patter.turns.machine import EAR, FLOOR, REPLY, Caller, Ear, Move

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
BEGIN, END = "<!-- drawn from patter/turns/machine.py by tests/test_readme.py -->", "<!-- end of the drawing -->"
WIDTH = 130

State = TypeVar("State", bound=Enum)


def machine(title: str, table: Mapping[State, Mapping[Move, State]], start: State) -> list[str]:
    """One machine as a Mermaid state diagram: arrows between the same states share a label."""
    arrows: dict[tuple[State, State], list[str]] = {}
    for state, moves in table.items():
        for move, following in moves.items():
            arrows.setdefault((state, following), []).append(move.value)
    lines = [
        "```mermaid",
        "stateDiagram-v2",
        f'    state "{title}" as {type(start).__name__} {{',
        f"        [*] --> {start.value}",
    ]
    lines += [
        f"        {before.value} --> {after.value}: {', '.join(labels)}" for (before, after), labels in arrows.items()
    ]
    return [*lines, "    }", "```"]


def verdicts() -> list[str]:
    """The joint rule as a table: what the caller does, by what sounds in their ear."""
    rows = ["| the caller … | " + " | ".join(f"ear {ear.value}" for ear in Ear) + " |", "|---" * (len(Ear) + 1) + "|"]
    for caller in Caller:
        rows.append(f"| {caller.value} | " + " | ".join(FLOOR[ear, caller].value for ear in Ear) + " |")
    return rows


def drawing() -> str:
    """What stands between the two marks of README.md."""
    reply = machine("the reply being made", REPLY, next(iter(REPLY)))
    ear = machine("the sound in the caller's ear", EAR, next(iter(EAR)))
    return "\n".join([BEGIN, "", *reply, "", *ear, "", *verdicts(), "", END])


def drawn(text: str) -> str:
    """`text` with the drawing of today."""
    before, _, rest = text.partition(BEGIN)
    return before + drawing() + rest.partition(END)[2]


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


def test_the_drawing_is_that_of_the_tables() -> None:
    text = README.read_text(encoding="utf-8")

    assert text == drawn(text), "the tables have changed: run `python -m tests.test_readme`"


def test_every_file_that_is_linked_exists() -> None:
    links = re.findall(r"\]\(([^)#:]+)\)", README.read_text(encoding="utf-8"))

    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []


def test_both_commands_are_one_line_each() -> None:
    commands = [block.strip().splitlines() for block in blocks("sh")]
    [start] = [lines for lines in commands if lines[-1].endswith("patter-tui")]
    [tests] = [lines for lines in commands if lines[-1].endswith("-m tests")]

    assert len(start) == len(tests) == 1
    assert "'.[local]'" in start[0]
    assert (ROOT / "tests" / "__main__.py").exists()


@pytest.mark.parametrize("index", range(len(blocks("python"))))
def test_the_python_can_be_read(index: int) -> None:
    ast.parse(blocks("python")[index])


def test_the_call_in_ten_lines_is_a_call(tmp_path: Path) -> None:
    code = blocks("python")[0]
    assert len([line for line in code.splitlines() if line.strip()]) <= 10
    script = tmp_path / "call.py"
    script.write_text(code, encoding="utf-8")

    done = subprocess.run(
        [sys.executable, str(script)], input="Are you open?\n", capture_output=True, text=True, timeout=50, check=True
    )

    assert "Agent: Riverside Dental, good morning!" in done.stdout
    assert "Agent: You said: Are you open?" in done.stdout
    assert done.stderr == ""


def block_with(words: str) -> str:
    """The one code block that holds `words`."""
    [found] = [block for block in blocks("python") if words in block]
    return found


def test_the_agents_of_every_engine_are_agents() -> None:
    made: dict[str, Any] = {}
    exec(block_with("elevenlabs_convai"), made)
    assert [made[name].provider for name in ("realtime", "stored", "pipeline")] == list(PROVIDERS)
    assert {config.provider for config in made["pipeline"].tts_fallbacks} == {"openai", "embedded"}


def test_the_agent_file_of_the_readme_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEEPGRAM_API_KEY", "dg")
    monkeypatch.setenv("OPENAI_API_KEY", "sk")
    [_, sections] = blocks("toml")
    agent = parse(f'system_prompt = "Be kind."\n{sections}', "agent.toml").agent
    assert agent.stt is not None
    assert agent.tts is not None
    providers = (agent.stt.provider, agent.stt_fallbacks[0].provider, agent.tts.provider)
    assert providers == ("deepgram", "embedded", "openai")


def test_the_settings_of_the_readme_are_taken(tmp_path: Path) -> None:
    (tmp_path / "engine.toml").write_text(blocks("toml")[0], encoding="utf-8")
    settings = load_settings(tmp_path, {})
    assert settings.memory.keep_days == 90
    assert re.fullmatch(settings.memory.mask[0], "AB123456")
    assert (settings.budget.per_call_usd, settings.budget.per_day_usd) == (1.5, 40)


def test_the_own_parts_of_the_readme_make_a_call(tmp_path: Path) -> None:
    script = tmp_path / "parts.py"
    script.write_text(block_with("class OneLiner"), encoding="utf-8")

    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=50, check=True)

    assert done.stdout.splitlines() == [
        "agent: Hello!",
        "caller: Anybody there?",
        "agent: ANYBODY THERE?",
        "handler_ended",
    ]
    assert done.stderr == ""


# --------------------------------------------------------------------------- adding a provider

SPOKEN = b"\x10\x00\xf0\xff" * 1_100


def section(title: str) -> str:
    return README.read_text(encoding="utf-8").partition(f"\n## {title}\n")[2].partition("\n## ")[0]


@asynccontextmanager
async def speech_servers() -> AsyncIterator[tuple[str, list[Any]]]:
    """Servers that answer as those of the recipe do, at one address, and what they were asked."""
    asked: list[Any] = []

    async def piper(request: web.Request) -> web.Response:
        asked.append(await request.json())
        file = io.BytesIO()
        with wave.open(file, "wb") as sound:
            sound.setnchannels(1)
            sound.setsampwidth(2)
            sound.setframerate(22_050)
            sound.writeframes(SPOKEN)
        return web.Response(body=b"hm?" if "nonsense" in asked[-1]["text"] else file.getvalue())

    async def whisper_cpp(request: web.Request) -> web.Response:
        form = await request.post()
        field = form["file"]
        assert isinstance(field, web.FileField)
        with wave.open(io.BytesIO(field.file.read())) as sound:
            asked.append((form["response_format"], sound.getframerate(), sound.getnframes()))
        return web.json_response({"text": " Good morning.\n"})

    app = web.Application()
    app.add_routes([web.post("/", piper), web.post("/inference", whisper_cpp)])
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}", asked
    finally:
        await runner.cleanup()


@asynccontextmanager
async def followed(folder: Path) -> AsyncIterator[tuple[Agent, Bench, list[Any]]]:
    """The recipe, step by step: its file beside an agent file, and its lines in it."""
    recipe = section("Add a provider")
    [file] = re.findall(r"`(\w+\.py)`", recipe.partition("```")[0])
    lines = {stage: line for line, stage in re.findall(r"`(provider = \"[^`]+\")`\s+under `\[(\w+)\]`", recipe)}
    (folder / file).write_text(block_with("class PiperVoice"), encoding="utf-8")
    before = dict(registry.STT), dict(registry.TTS)
    async with speech_servers() as (url, asked), new_http() as http:
        sections = [f'[{stage}]\n{line}\nbase_url = "{url}"\n' for stage, line in lines.items()]
        text = f'system_prompt = "Be kind."\nvoice = "en_US-lessac-medium"\n{"".join(sections)}'
        (folder / "agent.toml").write_text(text, encoding="utf-8")
        agent = load(folder / "agent.toml").agent
        yield agent, Bench(http, Dialer(http), Clock(), hears=MULAW_8K, plays=MULAW_8K), asked
    registry.STT.clear(), registry.TTS.clear()
    registry.STT.update(before[0]), registry.TTS.update(before[1])


def test_the_recipe_is_short() -> None:
    assert len(section("Add a provider").strip().splitlines()) <= 60


@pytest.mark.anyio
async def test_a_text_is_spoken_by_a_voice_that_was_added_as_the_recipe_says(tmp_path: Path) -> None:
    async with followed(tmp_path) as (agent, bench, asked):
        assert agent.tts is not None
        voice = maker_of("tts", agent.tts.provider)(agent.tts, bench)
        await voice.start()
        chunks = [piece async for piece in voice.synthesize("Good morning.") if isinstance(piece, AudioChunk)]
        with pytest.raises(ProviderError, match="piper: its answer cannot be read"):
            [piece async for piece in voice.synthesize("nonsense")]
        await voice.aclose()
    assert b"".join(chunk.data for chunk in chunks) == SPOKEN
    assert {chunk.format for chunk in chunks} == {AudioFormat("pcm_s16le", 22_050)}
    assert asked[0] == {"text": "Good morning.", "voice": agent.tts.voice}
    assert (voice.name, voice.voice) == ("piper", "en_US-lessac-medium")


@pytest.mark.anyio
async def test_an_utterance_is_heard_by_a_recogniser_that_was_added_as_the_recipe_says(tmp_path: Path) -> None:
    async with followed(tmp_path) as (agent, bench, asked):
        assert agent.stt is not None
        ears = maker_of("stt", agent.stt.provider)(agent.stt, bench)
        async with anyio.create_task_group() as tasks:
            await ears.start(tasks)
            ears.begin()
            ears.hear(b"\x00\x10" * 16_000)
            ears.pause()
            with anyio.fail_after(30):
                said = [await anext(signals) for signals in [ears.signals()] for _ in range(2)]
            await ears.aclose()
    assert [signal.text for signal in said if isinstance(signal, Transcribed)] == ["Good morning."]
    assert [signal.amounts for signal in said if isinstance(signal, Used)] == [{"audio_seconds": 1.0}]
    assert asked == [("json", 16_000, 16_000)]


if __name__ == "__main__":
    README.write_text(drawn(README.read_text(encoding="utf-8")), encoding="utf-8")
