"""A stranger's first rehearsal, by voice, in a real terminal: what is spoken into a (virtual) microphone is understood, answered
aloud, interrupted and hung up, and leaves its files. Nothing inside is replaced; only the room is virtual."""

from __future__ import annotations

import json
import time
import wave
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support import terminal as tmux
from tests.support import virtual_audio as audio
from tests.support.listening import Listener, listening, record_voice, words_in
from tests.support.terminal import LOADED_S, Terminal, heard_so_far, household, left_behind, terminal
from tests.support.virtual_audio import VirtualAudio, virtual_audio

pytestmark = [pytest.mark.e2e, pytest.mark.audio, pytest.mark.local, pytest.mark.timeout(180)]

PRICE = "How much does a cleaning cost without insurance?"
HOURS = "What time do you open on Saturday morning?"
WAIT = "Wait, where can I park the car?"
AUDIBLE_DBFS = -40.0
STOPS_WITHIN_S = (
    1.0  # 0.3 s is the bar on a machine of one's own; this one has other work, and sound cards on both ends
)

LONG_TALKER = '''
system_prompt = "You like to talk."
first_message = """Thank you for calling Riverside Dental, the friendly practice on the river with its own garden. \
Before we begin, let me tell you what is new this month. We have moved the waiting room to the first floor, and the lift is \
beside the door. Parking behind the house is free for two hours. What can I do for you?"""
[stt]
provider = "embedded"
[tts]
provider = "embedded"
[[script]]
when = ["park"]
say = "The garage behind the house is free."
[[script]]
when = []
say = """We are open from eight until six on weekdays, and from nine until one on Saturdays. We are closed on Sundays and on \
public holidays, and for two weeks in August, when the whole town is at the sea. Please call again any time you like."""
'''


@pytest.fixture(scope="module")
def sound() -> Iterator[VirtualAudio]:
    reason = tmux.missing() or audio.missing()
    if reason:
        pytest.skip(reason)
    pytest.importorskip("sounddevice")
    with virtual_audio() as server:
        yield server


@pytest.fixture(scope="module")
def voice(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The caller's sentences as files."""
    return record_voice((PRICE, HOURS, WAIT), tmp_path_factory.mktemp("voice"))


@contextmanager
def speaking(sound: VirtualAudio, clip: Path) -> Iterator[None]:
    """Say a clip into the microphone; what the block waits for happens meanwhile."""
    player = sound.start("paplay", "--device=micfeed", "--latency-msec=200", str(clip))
    try:
        yield
    finally:
        assert player.wait(30) == 0


def the_call(home: Path) -> Path:
    """The folder of the only call."""
    (folder,) = (path for path in (home / "calls").iterdir() if path.is_dir())
    return folder


def journal(home: Path, kind: str = "") -> list[dict[str, Any]]:
    """The only call's events, all or of one kind. A line that is being written does not count yet."""
    lines = (the_call(home) / "events.jsonl").read_text().split("\n")[:-1]
    events = [json.loads(line) for line in lines]
    return [event for event in events if kind in ("", event["type"])]


def has_answered(home: Path, *words: str) -> bool:
    """Whether a reply with these words has been heard to its end."""
    return any(
        all(word in said["text"] for word in words) and not said["interrupted"] for said in journal(home, "AgentSaid")
    )


def dial(window: Terminal) -> None:
    """From the start page into a call with the own voice."""
    window.wait("✓ whisper-base", "✓ hibari", "call it yourself", within=LOADED_S)
    window.press("d")
    window.wait("in call", within=LOADED_S)


def sides(recording: Path) -> np.ndarray[Any, Any]:
    """The loudness of each side of a recording, in dBFS."""
    with wave.open(str(recording), "rb") as file:
        assert (file.getnchannels(), file.getsampwidth()) == (2, 2)
        both = np.frombuffer(file.readframes(file.getnframes()), np.int16).reshape(-1, 2) / 32768
    return np.asarray(20 * np.log10(np.sqrt((both**2).mean(axis=0)) + 1e-9))


def test_a_rehearsal_by_voice_from_the_first_key_to_the_last(
    sound: VirtualAudio, voice: dict[str, Path], tmp_path: Path
) -> None:
    home = tmp_path / "home"
    with household(home), listening(sound, "speaker.monitor") as ear, listening(sound, "micfeed.monitor") as mouth:
        with terminal(home) as window:
            dial(window)
            window.says("agent", "Thank you for calling Riverside Dental", "help you today?")
            window.until(lambda: has_answered(home, "help you today?"), "the greeting's end")

            asked = time.time()
            with speaking(sound, voice[PRICE]):
                window.says("caller", "how much", "cleaning cost", "without insurance")
            window.says("agent", "A cleaning costs ninety dollars", "Most plans cover it.")
            window.until(lambda: has_answered(home, "Most plans cover it."), "the answer's end")
            answered = time.time()

            interrupted = _interrupt_a_long_answer(window, sound, voice, home, ear, mouth)
            window.says("agent", "twelve River Street")
            window.until(lambda: has_answered(home, "River Street"), "the answer after the interruption")

            window.press("b")
            window.wait("call ended: caller hung up")
            call_id = the_call(home).name
            window.press("F5")
            window.wait("riverside-dental", "phone", "✓ caller hung up")
            window.press("C-q")
            assert window.ended() == 0
        assert left_behind(home) == {}

    answer = words_in(ear.between(asked, answered))
    assert {"cleaning", "insurance", "plans", "cover"} <= set(answer.lower().replace(".", "").split())
    assert interrupted < STOPS_WITHIN_S
    events = journal(home)
    ended, saved = events[-2:]
    assert (events[0]["type"], ended["type"], saved["type"]) == ("CallStarted", "CallEnded", "RecordingSaved")
    assert (ended["reason"], ended["call_id"]) == ("caller_hung_up", call_id)
    assert [event["problem"] for event in events if event["type"] == "FaultOccurred"] == []
    assert Path(saved["path"]) == the_call(home) / "recording.wav"
    assert (sides(Path(saved["path"])) > AUDIBLE_DBFS).all()


def _interrupt_a_long_answer(
    window: Terminal, sound: VirtualAudio, voice: dict[str, Path], home: Path, ear: Listener, mouth: Listener
) -> float:
    """Cut off the opening hours; returns the seconds from the caller's first sound to the agent's last."""
    with speaking(sound, voice[HOURS]):
        window.says("caller", "what time do you open")
    window.wait("agent speaking")
    window.until(lambda: "from eight" in heard_so_far(window.transcript()[-1].text), "the answer's first words heard")
    before = time.time()
    with speaking(sound, voice[WAIT]):
        window.says("agent", "We are open from eight", "✗", "closed on Sundays")
        window.says("", "interrupted at", "unspoken")
        window.says("caller", "park")
    (cut,) = journal(home, "Interrupted")
    assert cut["heard"]
    assert "Sundays" in cut["dropped"]
    began = mouth.first_sound(before, time.time())
    assert began is not None
    answer = ear.first_sound(cut["at"] + STOPS_WITHIN_S, time.time()) or time.time()
    stopped = ear.last_sound(before, answer)
    assert stopped is not None
    print(f"the agent fell silent {1000 * (stopped - began):.0f} ms after the caller began")
    return stopped - began


def test_the_agents_own_echo_never_interrupts_it_and_the_caller_still_does(
    sound: VirtualAudio, voice: dict[str, Path], tmp_path: Path
) -> None:
    """The loudspeaker is heard by the microphone, 80 ms later and 12 dB softer."""
    home, agent = tmp_path / "home", tmp_path / "talker.toml"
    agent.write_text(LONG_TALKER)
    with household(home), room(sound), listening(sound, "mic") as mouth:
        with terminal(home, str(agent)) as window:
            dial(window)
            window.wait("AEC on")
            began = time.time()
            window.until(lambda: has_answered(home, "What can I do for you?"), "the long greeting's end", within=60)
            assert mouth.loudest(began, time.time()) > AUDIBLE_DBFS, "there was no echo to cancel"
            assert signs_of_an_interruption(home) == []

            with speaking(sound, voice[HOURS]):
                window.says("caller", "what time do you open")
            window.until(
                lambda: "weekdays" in heard_so_far(window.transcript()[-1].text), "the answer's first words heard"
            )
            with speaking(sound, voice[WAIT]):
                window.says("", "interrupted at")
            window.says("agent", "The garage behind the house is free.")
            window.press("C-q")
            window.wait("1 call is in progress")
            window.press("k")
            assert window.ended() == 0
        assert left_behind(home) == {}


@contextmanager
def room(sound: VirtualAudio) -> Iterator[None]:
    """The loudspeaker reaches the microphone."""
    module = sound.run(
        "pactl", "load-module", "module-loopback", "source=speaker.monitor", "sink=micfeed", "latency_msec=80"
    )
    try:
        sound.run("pactl", "set-sink-input-volume", _loopback(sound), "-12dB")
        yield
    finally:
        sound.run("pactl", "unload-module", module)


def _loopback(sound: VirtualAudio) -> str:
    """The sink input by which the loudspeaker enters the microphone."""
    inputs = json.loads(sound.run("pactl", "--format=json", "list", "sink-inputs"))
    (found,) = (entry["index"] for entry in inputs if "loopback" in entry["properties"].get("media.name", "").lower())
    return str(found)


def signs_of_an_interruption(home: Path) -> list[str]:
    """What would show that the agent was disturbed."""
    return [event["type"] for event in journal(home) if event["type"] in ("ReplyPaused", "Interrupted", "CallerSaid")]
