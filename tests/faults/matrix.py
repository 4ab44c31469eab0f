"""The faults, the providers they happen to, and calls that live through one of them, many at the same time.

It owns what a fault is and what is true of every call that met one; it refuses to know what a call should make of it.
"""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any, Literal

import anyio

from patter import events
from patter.loopback.stage import closed_port
from patter.loopback.stage_faults import CutAfter, Fault, Garbled, HalfOpen, Hangup, Refuse, Silent
from patter.models import Agent, LLMConfig, STTConfig, TTSConfig
from patter.vendors.house import VendorHouse
from tests.faults.room import ASKED, KEYS, LIMIT_MS, VOICE_ID, Scene, calling, keys_for, pipeline, secrets_in, vendors

How = Literal["always", "once", "with another"]
"""Whether the fault stays, happens once, or stays and there is another provider."""


def _refuse(status: int, code: str, retry_after: str = "") -> Refuse:
    """A vendor that repeats the keys it was shown."""
    said = f"no, not with {' nor '.join(KEYS.values())}"
    return Refuse(status, {"error": {"message": said, "code": code}}, retry_after=retry_after)


REFUSED, TLS, CUT = "refused", "tls", "cut"
FAULTS: dict[str, Fault] = {
    "401": _refuse(401, "invalid_api_key"),
    "403": _refuse(403, "forbidden"),
    "402": _refuse(402, "insufficient_quota"),
    "404": _refuse(404, "model_not_found"),
    "429": _refuse(429, "rate_limit_exceeded", "0.3"),
    "429 for long": _refuse(429, "rate_limit_exceeded", "60"),
    "503": Refuse(503, "down"),
    "silent": Silent(),
    "half-open": HalfOpen(),
    "garbage": Garbled(),
    "frames": Garbled(frame=True),
    "hangup": Hangup(),
}
PROBLEMS = {
    REFUSED: ("cannot be reached", "nothing answers"),
    TLS: ("no secure connection",),
    CUT: ("broke off",),
    "401": ("refuses the key",),
    "403": ("key",),
    "402": ("no credit",),
    "404": ("does not know",),
    "429": ("too many requests",),
    "429 for long": ("too many requests",),
    "503": ("status 503",),
    "silent": ("in time", "not ready within", "said nothing", "not ready in time", "no answer was heard"),
    "half-open": (
        "in time",
        "not ready within",
        "said nothing",
        "not ready in time",
        "no answer was heard",
        "says nothing",
    ),
    "garbage": ("cannot be read", "neither a stream", "says nothing", "not ready within"),
    "frames": ("cannot be read",),
    "hangup": ("broke off",),
}
"""One of these is said of the fault, in plain words."""
FINAL = ("401", "403", "402", "404", "429 for long", TLS)
"""Another try does not help."""
PASSING = ("429", "503", "frames", "hangup", REFUSED)
"""Another try may help, and the failure is known at once."""
HANGING = ("silent", "half-open")
SHORT_MS = 1200  # the agent's limit where nothing but this limit ends the silence
AT_A_TIME = 32  # calls: more of them would make each other late


@dataclass(frozen=True)
class Provider:
    """`paths`: where it is met, the main one first. `broken(root)`: the agent's fields that lead there; `other`: those of
    another provider, `used` and `others` how either one's usage is billed. `cut`: a break in the middle."""

    stage: str
    paths: tuple[str, ...]
    broken: Callable[[str], dict[str, Any]] | None
    used: tuple[str, str]
    cut: CutAfter
    other: dict[str, Any] | None = None
    others: tuple[str, str] = ("", "")
    agent: dict[str, Any] | None = None

    def of(self, root: str, *, fallback: bool) -> Agent:
        """The agent whose provider is at `root`."""
        changes = (self.broken(root) if self.broken else {}) | (self.agent or {})
        return pipeline(**changes, **((self.other or {}) if fallback else {}))


def _stt(provider: str, suffix: str = "", **settings: Any) -> Callable[[str], dict[str, Any]]:
    return lambda root: {"stt": STTConfig(provider, "", base_url=root + suffix, **settings)}


def _tts(provider: str, suffix: str = "", **settings: Any) -> Callable[[str], dict[str, Any]]:
    return lambda root: {"tts": TTSConfig(provider, "", base_url=root + suffix, **settings)}


_WHISPER = {"stt_fallbacks": (STTConfig("whisper", ""),)}
_NOVA = {"stt_fallbacks": (STTConfig("deepgram", ""),)}
_BY_ITSELF: dict[str, Any] = {"stt": None, "llm": None, "tts": None}
_TRANSCRIBED, _LIVE = (
    ("local", "gpt-transcribe"),
    ("local", "gpt-live-transcribe"),
)  # an address in the settings is no account
_DEEPGRAM, _ELEVEN = ("deepgram", "nova-3"), ("elevenlabs", "eleven_flash_v2_5")
_SPEECH, _WRITTEN = ("openai", "gpt-4o-mini-tts"), ("openai", "gpt-transcribe")

PROVIDERS = {
    "nova": Provider(
        "stt", ("/v1/listen",), _stt("deepgram"), _DEEPGRAM, CutAfter(received=40), _WHISPER, _WRITTEN
    ),
    "flux": Provider(
        "stt", ("/v2/listen",), _stt("deepgram", model="flux-general-en"), ("deepgram", "flux-general-en"),
        CutAfter(received=15), _WHISPER, _WRITTEN,
    ),
    "transcriptions": Provider(
        "stt", ("/v1/audio/transcriptions",), _stt("whisper", "/v1"), _TRANSCRIBED, CutAfter(bytes=10), _NOVA, _DEEPGRAM
    ),
    "live utterances": Provider(
        "stt", ("/v1/realtime",), _stt("whisper", "/v1", model="gpt-live-transcribe"), _LIVE, CutAfter(received=20),
        _NOVA, _DEEPGRAM,
    ),
    "live transcription": Provider(
        "stt", ("/v1/realtime",), _stt("whisper", "/v1", options={"realtime": True}), _TRANSCRIBED,
        CutAfter(received=40), _NOVA, _DEEPGRAM,
    ),
    "chat": Provider(
        "llm", ("/v1/chat/completions",), lambda root: {"llm": LLMConfig("gpt-4.1-mini", f"{root}/v1", KEYS["openai"])},
        ("local", "gpt-4.1-mini"), CutAfter(bytes=0), {"llm_fallbacks": (LLMConfig("gpt-4o-mini"),)},
        ("openai", "gpt-4o-mini"),
    ),
    "voice by socket": Provider(
        "tts", ("/v1/text-to-speech/{voice_id}/multi-stream-input",), _tts("elevenlabs", voice=VOICE_ID), _ELEVEN,
        CutAfter(sent=1), {"tts_fallbacks": (TTSConfig("openai", ""),)}, _SPEECH,
    ),
    "voice by requests": Provider(
        "tts", ("/v1/text-to-speech/{voice_id}/stream",), _tts("elevenlabs", voice=VOICE_ID, streaming="http"), _ELEVEN,
        CutAfter(bytes=900), {"tts_fallbacks": (TTSConfig("openai", ""),)}, _SPEECH,
    ),
    "speech": Provider(
        "tts", ("/v1/audio/speech",), _tts("openai", "/v1"), ("local", "gpt-4o-mini-tts"), CutAfter(bytes=2000),
        {"tts_fallbacks": (TTSConfig("elevenlabs", "", voice=VOICE_ID),)}, _ELEVEN,
    ),
    "realtime": Provider(
        "llm", ("/v1/realtime",), None, ("openai", "gpt-realtime-2.1-mini"), CutAfter(received=40),
        agent=_BY_ITSELF | {"provider": "openai_realtime", "model": "gpt-realtime-2.1-mini"},
    ),
    "stored agent": Provider(
        "llm", ("/v1/convai/conversation", "/v1/convai/conversation/get-signed-url"), None, ("elevenlabs", "convai"),
        CutAfter(received=20), agent=_BY_ITSELF | {"provider": "elevenlabs_convai", "agent_id": "agent_of_a_test"},
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Case:
    """What happens to whom."""

    provider: str
    fault: str
    how: How = "always"
    limit_ms: int = LIMIT_MS

    def __str__(self) -> str:
        return f"{self.provider}, {self.fault}, {self.how}"


@asynccontextmanager
async def bad_day(case: Case, tls: ssl.SSLContext, good: VendorHouse) -> AsyncIterator[tuple[Agent, str]]:
    """The agent of this case, and the address of all vendors that are not broken. At its end nobody is connected."""
    provider = PROVIDERS[case.provider]
    async with AsyncExitStack() as stack:
        root = f"http://127.0.0.1:{closed_port()}"
        if case.fault != REFUSED:
            house = await stack.enter_async_context(vendors(tls=tls if case.fault == TLS else None))
            root = house.stage.http
            if case.fault != TLS:
                fault: Fault = provider.cut if case.fault == CUT else FAULTS[case.fault]
                if case.how == "once":
                    house.stage.faults.put(provider.paths[0], fault)
                for path in provider.paths if case.how != "once" else ():
                    house.stage.faults.keep(path, fault)
        agent = provider.of(root, fallback=case.how == "with another")
        agent = replace(agent, recovery=replace(agent.recovery, silence_limit_ms=case.limit_ms))
        yield agent, root if provider.broken is None else good.stage.http
        if case.fault != REFUSED:
            with anyio.fail_after(5):
                while house.stage.open_sockets and case.fault != "half-open":
                    await anyio.sleep(0.01)


async def live(case: Case, tls: ssl.SSLContext, good: VendorHouse, hoped: Callable[[Scene], bool]) -> Scene:
    """A call: the caller asks something when greeted (or not), and stays until what is hoped for was heard, or the end."""
    async with (
        bad_day(case, tls, good) as (agent, root),
        calling(agent, keys_for(root)) as scene,
        anyio.create_task_group() as tasks,
    ):
        tasks.start_soon(_talk, scene)
        with anyio.move_on_after(3 * case.limit_ms / 1000 + 12):
            await scene.happens(lambda: hoped(scene))
        tasks.cancel_scope.cancel()
    return scene


async def _talk(scene: Scene) -> None:
    with anyio.move_on_after(1.5):
        await scene.happens(lambda: any(said.kind == "greeting" for said in scene.of(events.AgentSaid)))
    while True:  # who gets no answer asks again
        await scene.line.say(*ASKED.split())
        with anyio.move_on_after(3.4):
            await scene.line.hum()


def wrong(case: Case, scene: Scene) -> list[str]:
    """What no call may look like, whatever happened to it."""
    found = []
    ended = scene.ended
    if not ended.reason or (ended.reason == "failed" and not ended.detail):
        found.append(f"ended as {ended.reason!r} with {ended.detail!r}")
    if secrets := secrets_in(repr(scene.events)):
        found.append(f"shows {secrets}")
    quiet = case.how == "once" and case.fault == "hangup"  # the client asks again by itself when nothing was answered
    if not quiet and not any(_tells(case, fault) for fault in scene.faults):
        found.append("no fault tells of it")
    if any(not (fault.stage and fault.provider and fault.problem) for fault in scene.faults):
        found.append("a fault does not say whose it is")
    if ended.reason == "failed" and case.fault not in HANGING and not any(fault.fix for fault in scene.faults):
        found.append("no fault says what to do")
    return found


def _tells(case: Case, fault: events.FaultOccurred) -> bool:
    return any(words in fault.problem for words in PROBLEMS[case.fault])


async def all_of(
    cases: Sequence[Case],
    tls: ssl.SSLContext,
    good: VendorHouse,
    hoped: Callable[[Case, Scene], bool],
    check: Callable[[Case, Scene], list[str]],
) -> None:
    """Live through all cases at once. AssertionError with every one that went wrong, and how."""
    failures: list[str] = []

    room = anyio.CapacityLimiter(AT_A_TIME)

    async def one(case: Case) -> None:
        try:
            async with room:
                scene = await live(case, tls, good, lambda scene: hoped(case, scene))
        except Exception as error:  # the others shall be seen, too
            failures.append(f"{case}: {error!r}")
            return
        if found := [*wrong(case, scene), *check(case, scene)]:
            failures.append("\n  ".join([f"{case}: {'; '.join(found)}; heard {scene.line.words!r}", *scene.told[-14:]]))

    async with anyio.create_task_group() as tasks:
        for case in cases:
            tasks.start_soon(one, case)
    assert not failures, "\n".join(failures)
