"""A sound server of one's own with a virtual speaker and a virtual microphone, for tests of the sound card's path.

It owns the server's processes and their end; it refuses to know what is played and said.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

PROGRAMS = ("pulseaudio", "pactl", "pacat", "parec", "paplay")
RAW = ("--raw", "--rate=48000", "--channels=1", "--format=s16le")
UP_WITHIN_S = 10.0


def missing() -> str:
    """Why there can be no virtual sound here; "" if there can."""
    absent = [program for program in PROGRAMS if shutil.which(program) is None]
    return f"not installed: {', '.join(absent)} (apt-get install pulseaudio pulseaudio-utils)" if absent else ""


@dataclass(frozen=True)
class VirtualAudio:
    """A running server. What is played into the sink "micfeed" comes out of the microphone "mic"."""

    environment: dict[str, str]

    def run(self, *command: str) -> str:
        """Run a client program of the server and return what it prints."""
        done = subprocess.run(command, env=self.environment, check=True, capture_output=True, text=True, timeout=20)
        return done.stdout.strip()

    def start(self, *command: str, **how: object) -> subprocess.Popen[bytes]:
        """Start a client program that goes on; the caller ends it."""
        return subprocess.Popen(command, env=self.environment, stderr=subprocess.DEVNULL, **how)  # type: ignore[call-overload,no-any-return]


@contextmanager
def virtual_audio() -> Iterator[VirtualAudio]:
    """The server for as long as the block lasts; this process' environment points to it meanwhile."""
    with tempfile.TemporaryDirectory(prefix="patter-sound-") as folder:
        own = {
            "PULSE_SERVER": f"unix:{folder}/native",
            "PULSE_COOKIE": f"{folder}/cookie",
            **dict.fromkeys(("XDG_RUNTIME_DIR", "PULSE_RUNTIME_PATH", "PULSE_STATE_PATH"), folder),
        }
        kept = {name: os.environ.get(name) for name in own}
        server = _server(Path(folder), os.environ | own)
        sound = VirtualAudio(os.environ | own)
        players: list[subprocess.Popen[bytes]] = []
        os.environ.update(own)
        try:
            _wait(lambda: _is_up(sound))
            sound.run("pactl", "set-default-sink", "speaker")
            sound.run("pactl", "set-default-source", "mic")
            with open("/dev/zero", "rb") as silence:
                # an idle null sink falls back to buffers of seconds: with something always playing, streams open at once
                for sink in ("speaker", "micfeed"):
                    command = ("pacat", "--playback", f"--device={sink}", "--latency-msec=50", *RAW)
                    players.append(sound.start(*command, stdin=silence, stdout=subprocess.DEVNULL))
            _wait(lambda: sound.run("pactl", "list", "short", "sinks").count("RUNNING") == 2)
            yield sound
        finally:
            for process in (*players, server):
                process.terminate()
            for process in (*players, server):
                process.wait(10)
            for name, value in kept.items():
                os.environ.pop(name, None)
                if value is not None:
                    os.environ[name] = value


def _server(folder: Path, environment: dict[str, str]) -> subprocess.Popen[bytes]:
    modules = (
        f"module-native-protocol-unix auth-anonymous=1 socket={folder}/native",
        "module-null-sink sink_name=speaker rate=48000 channels=1",
        "module-null-sink sink_name=micfeed rate=48000 channels=1",
        "module-remap-source source_name=mic master=micfeed.monitor",
    )
    options = ("-n", "--daemonize=no", "--exit-idle-time=-1", "--use-pid-file=no", "--realtime=no", "--high-priority=no",
               "--log-level=error", f"--log-target=newfile:{folder}/log")  # fmt: skip
    command = ("pulseaudio", *options, *(f"--load={module}" for module in modules))
    return subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def _is_up(sound: VirtualAudio) -> bool:
    try:
        return bool(sound.run("pactl", "info"))
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired):
        return False


def _wait(done: Callable[[], bool]) -> None:
    until = time.monotonic() + UP_WITHIN_S
    while not done():
        if time.monotonic() > until:
            raise RuntimeError("the virtual sound server did not come up")
        time.sleep(0.05)
