"""Every provider × every fault, seen from a call: what the caller hears, how it ends, who is billed, and what is told."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator

import pytest

from patter import events
from patter.models import LLMConfig, STTConfig, TTSConfig
from patter.vendors.house import VendorHouse
from tests.faults.matrix import CUT, FAULTS, FINAL, HANGING, PASSING, PROVIDERS, REFUSED, SHORT_MS, TLS, Case, all_of
from tests.faults.room import (
    ANSWER,
    APOLOGY,
    GOODBYE,
    LIMIT_MS,
    OTHERS_ANSWER,
    VOICE_ID,
    Scene,
    calling,
    keys_for,
    no_tasks_left,
    pipeline,
    secrets_in,
    vendors,
)

pytestmark = pytest.mark.anyio

AT_ONCE = (*FINAL, *PASSING)
EARS = [name for name, provider in PROVIDERS.items() if provider.stage == "stt"]
STREAMS = [name for name in EARS if name != "transcriptions"]  # which find out before anybody has said a word
VOICES = [name for name, provider in PROVIDERS.items() if provider.stage == "tts"]
ENGINES = ["realtime", "stored agent"]


@pytest.fixture
async def good(caplog: pytest.LogCaptureFixture) -> AsyncIterator[VendorHouse]:
    """Vendors that work. At the end no task is left, and no log shows a key."""
    before = asyncio.all_tasks()
    async with vendors(OTHERS_ANSWER) as house:
        yield house
    await no_tasks_left(before)
    assert not secrets_in(caplog.text)


def test_no_fault_is_left_out() -> None:
    assert {*FINAL, *PASSING, *HANGING, "garbage"} == {*FAULTS, REFUSED, TLS}


def heard(scene: Scene, words: str) -> bool:
    return not scene.line.playing and scene.line.words.endswith(words)


def answered(case: Case, scene: Scene) -> bool:
    return heard(scene, OTHERS_ANSWER) or heard(scene, ANSWER)


def never(case: Case, scene: Scene) -> bool:
    return False


def billed(case: Case, scene: Scene) -> set[tuple[str, str]]:
    return {(who, model) for stage, who, model in scene.used if stage == PROVIDERS[case.provider].stage}


def goes_on(case: Case, scene: Scene) -> list[str]:
    """The caller got an answer, and the bill names who earned it."""
    found = [] if answered(case, scene) else ["no answer"]
    provider = PROVIDERS[case.provider]
    expected = provider.others if case.how == "with another" else provider.used
    if expected not in billed(case, scene):
        found.append(f"{expected} is not billed, but {billed(case, scene)}")
    nothing_done = case.fault in AT_ONCE and case.fault != "frames"  # a socket that opened has got some sound
    if case.how == "with another" and nothing_done and provider.used in billed(case, scene):
        found.append("who failed is billed")
    return found + ([] if scene.ended.reason == "caller_hung_up" else [f"ended as {scene.ended}"])


def ends(case: Case, scene: Scene) -> list[str]:
    """The call failed, and says why."""
    return [] if scene.ended.reason == "failed" else [f"ended as {scene.ended}"]


def ends_with_goodbye(case: Case, scene: Scene) -> list[str]:
    return ends(case, scene) + ([] if heard(scene, GOODBYE) else ["no goodbye"])


def apologises(case: Case, scene: Scene) -> list[str]:
    return [] if heard(scene, APOLOGY) else ["no apology"]


# ------------------------------------------------------------------------------------------------------------ for good


async def test_a_call_that_nobody_hears_ends_with_the_agents_goodbye(
    good: VendorHouse, self_signed: ssl.SSLContext
) -> None:
    cases = [Case(name, fault) for name in STREAMS for fault in AT_ONCE]
    cases += [Case(name, "silent", limit_ms=2_000) for name in STREAMS]
    await all_of(cases, self_signed, good, never, ends_with_goodbye)


async def test_lost_words_are_apologised_for_and_a_hopeless_recogniser_ends_the_call(
    good: VendorHouse, self_signed: ssl.SSLContext
) -> None:
    hopeless = [fault for fault in FINAL if not fault.startswith("429")]

    def hoped(case: Case, scene: Scene) -> bool:
        return case.fault not in hopeless and heard(scene, APOLOGY)

    def check(case: Case, scene: Scene) -> list[str]:
        return ends_with_goodbye(case, scene) if case.fault in hopeless else apologises(case, scene)

    await all_of([Case("transcriptions", fault) for fault in AT_ONCE], self_signed, good, hoped, check)


async def test_a_model_that_fails_is_apologised_for(good: VendorHouse, self_signed: ssl.SSLContext) -> None:
    cases = [Case("chat", fault) for fault in [*AT_ONCE, "garbage", CUT]]  # not for the silence
    cases += [Case("chat", fault, limit_ms=SHORT_MS) for fault in HANGING]
    await all_of(cases, self_signed, good, lambda case, scene: heard(scene, APOLOGY), apologises)


async def test_a_call_without_a_voice_ends_with_its_cause(good: VendorHouse, self_signed: ssl.SSLContext) -> None:
    def check(case: Case, scene: Scene) -> list[str]:
        most = 3 * case.limit_ms / 1000 + 5  # apology, end, goodbye; and the caller speaks for a while
        return ends(case, scene) + (["it stayed silent for too long"] if scene.ended.duration_s > most else [])

    cases = [Case(name, fault) for name in VOICES for fault in AT_ONCE]
    cases += [Case(name, fault, limit_ms=SHORT_MS) for name in VOICES for fault in [*HANGING, "garbage"]]
    await all_of(cases, self_signed, good, never, check)


async def test_an_engine_that_does_not_begin_ends_the_call_with_its_cause(
    good: VendorHouse, self_signed: ssl.SSLContext
) -> None:
    cases = [Case(name, fault) for name in ENGINES for fault in AT_ONCE]
    cases += [Case(name, fault, limit_ms=SHORT_MS) for name in ENGINES for fault in [*HANGING, "garbage"]]
    await all_of(cases, self_signed, good, never, ends)


@pytest.mark.parametrize("engine", ["pipeline", *ENGINES])
async def test_without_a_voice_the_carriers_says_goodbye(engine: str, good: VendorHouse) -> None:
    async with vendors() as bad:
        for path in (
            *PROVIDERS["voice by socket"].paths,
            *(path for name in ENGINES for path in PROVIDERS[name].paths),
        ):
            bad.stage.faults.keep(path, FAULTS["401"])
        name = "voice by socket" if engine == "pipeline" else engine
        agent = PROVIDERS[name].of(bad.stage.http, fallback=False)
        async with calling(agent, keys_for(bad.stage.http), announces=True) as scene:
            await scene.over()
    assert scene.line.announced == [f"{GOODBYE}."]
    assert scene.ended.reason == "failed"
    assert "refuses the key" in scene.ended.detail


# -------------------------------------------------------------------------------------------------------- with another


async def test_another_provider_takes_over(good: VendorHouse, self_signed: ssl.SSLContext) -> None:
    cases = [Case(name, fault, "with another") for name in STREAMS for fault in AT_ONCE]
    broken = [*AT_ONCE, "garbage", CUT]
    cases += [Case(name, fault, "with another") for name in ("chat", *VOICES) for fault in broken]
    await all_of(cases, self_signed, good, answered, goes_on)


async def test_who_hangs_is_found_out_and_another_one_takes_over(
    good: VendorHouse, self_signed: ssl.SSLContext
) -> None:
    pairs = [(name, fault) for name in (*VOICES, "chat") for fault in HANGING]
    pairs += [(name, fault) for name in ("nova", "flux") for fault in ("half-open", "garbage")]
    cases = [Case(name, fault, "with another", 2 * LIMIT_MS) for name, fault in pairs]
    cases += [Case(name, "silent", "with another") for name in STREAMS]
    await all_of(cases, self_signed, good, answered, goes_on)


async def test_they_take_over_in_the_order_of_the_agent(good: VendorHouse) -> None:
    async with vendors() as bad:
        for path in ("/v1/listen", "/v2/listen", "/v1/chat/completions", "/v1/audio/speech"):
            bad.stage.faults.keep(path, FAULTS["503"])
        root = bad.stage.http
        agent = pipeline(
            stt=STTConfig("deepgram", "", base_url=root),
            stt_fallbacks=(STTConfig("deepgram", "", model="flux-general-en", base_url=root), STTConfig("whisper", "")),
            llm=LLMConfig("first", f"{root}/v1", "k"),
            llm_fallbacks=(LLMConfig("second", f"{root}/v1", "k"), LLMConfig("gpt-4o-mini")),
            tts=TTSConfig("openai", "", base_url=f"{root}/v1"),
            tts_fallbacks=(
                TTSConfig("openai", "", base_url=f"{root}/v1", voice="nova"),
                TTSConfig("elevenlabs", "", voice=VOICE_ID),
            ),
        )
        async with calling(agent, keys_for(good.stage.http)) as scene:
            await scene.until(events.AgentSaid)
            await scene.line.say("alpha")
            await scene.until(events.AgentSaid, lambda said: said.kind == "answer")
    assert heard(scene, OTHERS_ANSWER)
    assert {used for used in scene.used if used[0] != "telephony"} == {
        ("stt", "openai", "gpt-transcribe"), ("llm", "openai", "gpt-4o-mini"), ("tts", "elevenlabs", "eleven_flash_v2_5"),
    }  # fmt: skip
    models = [fault.problem for fault in scene.faults if fault.stage == "llm"]
    assert len(models) == 2  # one each, and the answer is the third one's


# ---------------------------------------------------------------------------------------------------------------- once


async def test_what_fails_once_costs_no_words(good: VendorHouse, self_signed: ssl.SSLContext) -> None:
    again = ("429", "503", "frames", "hangup")
    cases = [Case(name, fault, "once") for name in (*EARS, "chat", *ENGINES) for fault in again]
    cases += [Case(name, "garbage", "once") for name in ("transcriptions", "chat", "realtime")]
    cases += [Case(name, CUT, "once") for name in PROVIDERS]
    await all_of(cases, self_signed, good, answered, goes_on)


async def test_reconnecting_takes_half_a_second_at_most(good: VendorHouse, self_signed: ssl.SSLContext) -> None:
    names = (*STREAMS, *VOICES)
    took: dict[str, list[float]] = {name: [] for name in names}

    def check(case: Case, scene: Scene) -> list[str]:
        stage = PROVIDERS[case.provider].stage
        lost = next(fault.at for fault in scene.faults if fault.stage == stage)
        anew = [used.at for used in scene.of(events.ConnectionUsed) if used.stage == stage and used.at >= lost]
        took[case.provider] += [at - lost for at in anew[:1]]
        return goes_on(case, scene)

    for _ in range(3):  # a busy machine may spoil one
        await all_of([Case(name, CUT, "once") for name in names], self_signed, good, answered, check)
        if all(min(times) <= 0.5 for times in took.values()):
            return
    raise AssertionError(f"seconds without a connection: {took}")
