"""The sound card's path: what goes wrong without one, and the real path through a virtual microphone and speaker."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import anyio
import numpy as np
import pytest
import soxr

from patter.audio.format import MULAW_8K, PCM_16K
from patter.audio.level import rms_dbfs
from patter.audio.pacing import Pacer
from patter.clock import Clock
from patter.exceptions import ProviderError
from patter.loopback.twilio import Dial
from patter.ports import Synthesizer
from patter.softphone import devices
from patter.softphone.device import LOUD_DBFS, DeviceProblem
from patter.softphone.devices import SoundDevice, chosen, load_sounddevice, quiet_stderr
from patter.softphone.echo import EchoGuard
from patter.softphone.phone import Softphone
from patter.softphone.protocol import HangUp, PlaceCall, Quit
from tests.softphone.office import open_office
from tests.support.listening import record_voice
from tests.support.virtual_audio import RAW, VirtualAudio, missing, virtual_audio


class NoCard(Exception):
    """What PortAudio raises."""


def library(**how: Any) -> SimpleNamespace:
    return SimpleNamespace(PortAudioError=NoCard, _terminate=lambda: None, _initialize=lambda: None, **how)


def failing(error: Exception) -> Any:
    def fail(*_: Any, **__: Any) -> Any:
        raise error

    return fail


def test_a_missing_package_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sounddevice", None)
    with pytest.raises(DeviceProblem, match=r"pip install"):
        load_sounddevice()


def test_a_missing_portaudio_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    (tmp_path / "sounddevice.py").write_text("raise OSError('PortAudio library not found')")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "sounddevice", raising=False)
    with pytest.raises(DeviceProblem, match="libportaudio2"):
        load_sounddevice()


@pytest.mark.parametrize(
    ("error", "name", "sentence"),
    [
        (NoCard("Error querying device -1"), None, "This machine has no microphone"),
        (ValueError("No input device matching 'nope'"), "nope", "no microphone called 'nope'"),
        (NoCard("Invalid number of channels"), None, "cannot be used: Invalid number of channels"),
    ],
)
def test_a_machine_without_a_card_is_told_from_a_wrong_name(
    monkeypatch: pytest.MonkeyPatch, error: Exception, name: str | None, sentence: str
) -> None:
    monkeypatch.setitem(sys.modules, "sounddevice", library(query_devices=failing(error)))
    with pytest.raises(DeviceProblem, match=sentence):
        chosen(name, None)


class Card:
    """A card that takes streams of some rates and keeps them, for the test to be its clock."""

    def __init__(self, rates: tuple[int, ...]) -> None:
        self.rates = rates
        self.streams: list[SimpleNamespace] = []

    def stream(self, **how: Any) -> SimpleNamespace:
        if how["samplerate"] not in self.rates:
            raise NoCard("Invalid sample rate")
        made = SimpleNamespace(**how | {"latency": 0.04}, start=lambda: None, close=lambda: how["finished_callback"]())
        self.streams.append(made)
        return made

    def library(self) -> SimpleNamespace:
        return library(
            RawInputStream=self.stream, RawOutputStream=self.stream, query_devices=lambda *_: {"name": "card"}
        )


@pytest.mark.parametrize("rate", [16_000, 48_000])
def test_blocks_of_the_card_become_frames_of_the_line_and_back(monkeypatch: pytest.MonkeyPatch, rate: int) -> None:
    card = Card((rate,))
    monkeypatch.setitem(sys.modules, "sounddevice", card.library())
    device = SoundDevice(MULAW_8K, guard=EchoGuard())
    device.open(lambda: b"\x40" * 160)
    microphone, speaker = card.streams
    size = rate // 50 * 2
    said = (np.sin(np.arange(rate // 50) / 9) * 8000).astype(np.int16).tobytes()
    out = bytearray(size)
    fine = SimpleNamespace(output_underflow=False)
    assert device.mouth() == b""
    for _ in range(5):
        speaker.callback(out, size // 2, None, fine)
        microphone.callback(said, size // 2, None, fine)
    assert len(device.mouth()) == 160
    assert rms_dbfs(bytes(out)) > -40
    mic, heard = device.levels()
    assert mic > -20
    assert heard > -40
    assert device.ear_delay_s == pytest.approx(0.06)
    assert device.problem() is None
    device.close()
    assert device.problem() is None


def test_a_microphone_that_runs_faster_than_us_loses_its_oldest_sound(monkeypatch: pytest.MonkeyPatch) -> None:
    card = Card((16_000,))
    monkeypatch.setitem(sys.modules, "sounddevice", card.library())
    device = SoundDevice(MULAW_8K, guard=EchoGuard())
    device.open(bytes)
    for _ in range(devices.LONGEST_WAIT + 3):
        card.streams[0].callback(bytes(640), 320, None, None)
    assert device.dropped == 3
    device.close()


def test_the_sound_of_a_stall_does_not_become_a_lasting_delay(monkeypatch: pytest.MonkeyPatch) -> None:
    card = Card((16_000,))
    monkeypatch.setitem(sys.modules, "sounddevice", card.library())
    device = SoundDevice(MULAW_8K, guard=EchoGuard())
    device.open(bytes)
    for _ in range(6):
        card.streams[0].callback(bytes(640), 320, None, None)
    for _ in range(60):
        device.mouth()
        card.streams[0].callback(bytes(640), 320, None, None)
    assert device.dropped == 6 - devices.CUSHION
    device.close()


def test_a_card_that_stops_calling_back_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    card = Card((16_000,))
    monkeypatch.setitem(sys.modules, "sounddevice", card.library())
    device = SoundDevice(MULAW_8K, guard=EchoGuard())
    device.open(bytes)
    now = devices.time.monotonic()
    monkeypatch.setattr(devices.time, "monotonic", lambda: now + devices.OPENING_S - 0.1)
    assert device.problem() is None
    monkeypatch.setattr(devices.time, "monotonic", lambda: now + devices.OPENING_S + 0.1)
    card.streams[0].callback(bytes(640), 320, None, None)
    problem = device.problem()
    assert problem is not None
    assert "speaker stopped working" in problem.problem
    device.close()


def test_a_stream_that_ends_by_itself_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    card = Card((16_000,))
    monkeypatch.setitem(sys.modules, "sounddevice", card.library())
    device = SoundDevice(MULAW_8K, guard=EchoGuard())
    device.open(bytes)
    card.streams[0].finished_callback()
    assert device.problem() is not None
    device.close()


def test_a_card_that_takes_no_rate_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sounddevice", Card(()).library())
    with pytest.raises(DeviceProblem, match="Invalid sample rate"):
        SoundDevice(MULAW_8K, guard=EchoGuard()).open(bytes)


def test_what_libraries_print_from_c_does_not_reach_the_terminal() -> None:
    code = (
        "import os; from patter.softphone.devices import quiet_stderr\n"
        "with quiet_stderr(): os.write(2, b'noise')\n"
        "os.write(2, b'after')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, cwd=os.getcwd())
    assert done.stderr == b"after"
    with quiet_stderr():
        pass


# ------------------------------------------------------------------- with a sound server


@pytest.fixture(scope="module")
def sound() -> Iterator[VirtualAudio]:
    reason = missing()
    if reason:
        pytest.skip(reason)
    with virtual_audio() as server:
        yield server


def no_voice() -> Synthesizer:
    raise ProviderError("not needed here", provider="none")


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A sentence in the embedded voice, as a file: noise suppression takes anything simpler for noise."""
    pytest.importorskip("hibari")
    sentence = "Hello, I would like to book an appointment."
    return str(record_voice([sentence], tmp_path_factory.mktemp("voice"))[sentence])


@pytest.mark.audio
@pytest.mark.local
@pytest.mark.anyio
async def test_a_call_through_the_virtual_microphone_and_speaker(sound: VirtualAudio, words: str) -> None:
    """The agent's greeting comes out of the speaker, what is said into the microphone is answered."""
    reports: list[dict[str, Any]] = []
    news = [anyio.Event()]

    def report(kind: str, **fields: Any) -> None:
        reports.append({"is": kind} | fields)
        news[0].set()

    async def until(found: Any) -> None:
        while not any(found(item) for item in reports):
            news[0] = anyio.Event()
            await news[0].wait()

    async with open_office(greeting_ms=600, answer_ms=200) as office:
        phone = Softphone(report, Clock(), no_voice)
        listener = sound.start("parec", "--device=speaker.monitor", *RAW, stdout=subprocess.PIPE)
        with anyio.fail_after(40):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(phone.run)
                phone.commands.put(PlaceCall(Dial.from_json(office.dial()), "sound"))
                await until(lambda item: item["is"] == "levels" and item["speaker"] > -30)
                await anyio.sleep(1.5)  # past the greeting: the echo guard is deaf while the speaker plays
                speaker = sound.start("paplay", "--device=micfeed", "--latency-msec=200", words)
                await office.answered.wait()
                await until(lambda item: item["is"] == "levels" and item["mic"] > -40)
                phone.commands.put(HangUp())
                await until(lambda item: item["is"] == "ended")
                phone.commands.put(Quit())
        speaker.wait(10)
        listener.terminate()
        heard = listener.communicate(timeout=10)[0]
    assert reports[0]["sound"] is True
    assert not [item for item in reports if item["is"] in ("error", "device_lost")]
    assert office.caller_loud_frames > 40  # of about 70
    assert office.playouts[:2] == ["started 1", "ended 1"]
    assert rms_dbfs(heard) > -60


class Witness(EchoGuard):
    """Notes how loud the microphone was before it was cleaned."""

    def __init__(self, guard: EchoGuard) -> None:
        super().__init__(canceller=guard._canceller)
        self.loudest = -96.0

    def clean(self, near: bytes, far: bytes) -> bytes:
        self.loudest = max(self.loudest, rms_dbfs(near))
        return super().clean(near, far)


@pytest.mark.audio
@pytest.mark.local
@pytest.mark.anyio
async def test_the_speaker_heard_by_the_microphone_stays_below_speech(sound: VirtualAudio) -> None:
    """The whole acoustic path: speaker → 80 ms and −12 dB of room → microphone, with the agent's voice in it."""
    pytest.importorskip("pywebrtc_audio")
    hibari = pytest.importorskip("hibari")
    text = "Thank you for calling Riverside Dental. We are open Monday to Friday, from eight until five, and Saturday until noon."
    spoken = soxr.resample(np.asarray(hibari.Hibari()(text), np.float64).ravel(), 24_000, 16_000)
    pcm = (np.clip(spoken / np.sqrt(np.mean(spoken**2)) * 0.1, -1, 1) * 32767).astype(np.int16).tobytes()
    frames = iter([pcm[at : at + 640].ljust(640, b"\0") for at in range(0, len(pcm), 640)])
    room = sound.run(
        "pactl", "load-module", "module-loopback", "source=speaker.monitor", "sink=micfeed", "latency_msec=80"
    )
    sound.run("pactl", "set-sink-volume", "micfeed", "63%")  # −12 dB
    guard = Witness(EchoGuard.best())
    device = SoundDevice(PCM_16K, guard=guard)
    cleaned: list[float] = []
    try:
        device.open(lambda: next(frames, bytes(640)))
        pacer = Pacer(anyio.current_time())
        while len(cleaned) < len(pcm) // 640:
            await anyio.sleep(pacer.wait(anyio.current_time()))
            cleaned.append(rms_dbfs(device.mouth()))
            pacer.sent(anyio.current_time())
    finally:
        device.close()
        sound.run("pactl", "unload-module", room)
        sound.run("pactl", "set-sink-volume", "micfeed", "100%")
    assert device.aec == "on"
    assert guard.loudest > -35  # the echo was there
    assert max(cleaned) < LOUD_DBFS
