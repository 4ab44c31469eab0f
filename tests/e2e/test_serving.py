"""A stranger's first real call, over a loopback carrier: served from the shell, watched in the workbench, left alone by a
closed terminal, found again, and ended. Nothing inside is replaced; only the carrier is on this machine."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio
import pytest
from anyio.from_thread import BlockingPortal, start_blocking_portal

from patter.audio.convert import Converter
from patter.audio.format import PCM_8K, AudioFormat
from patter.audio.wav import read_wav
from patter.loopback.person import Person, says
from patter.loopback.telnyx_carrier import LoopbackTelnyxCarrier
from patter.loopback.twilio_carrier import LoopbackTwilioCarrier
from patter.server.listener import listen
from tests.support import terminal as tmux
from tests.support.carriers import CARRIERS, OURS, THEIRS, carrier_of, credentials
from tests.support.listening import record_voice
from tests.support.terminal import LOADED_S, Terminal, household, left_behind, own_environment, terminal

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.local,
    pytest.mark.timeout(240),
    pytest.mark.skipif(bool(tmux.missing()), reason=tmux.missing()),
]

AGENT = "riverside-dental"
QUESTION = "How much does a cleaning cost without insurance?"
MESSAGE = "Please call Riverside Dental back."
MACHINE = "+15557770002"


@pytest.fixture(scope="module")
def question(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The caller's question as PCM 8 kHz."""
    [path] = record_voice((QUESTION,), tmp_path_factory.mktemp("voice")).values()
    pcm, rate = read_wav(path)
    converter = Converter(AudioFormat("pcm_s16le", rate), PCM_8K)
    return converter.convert(pcm) + converter.flush()


@dataclass
class Line:
    """A carrier that lives in a thread of its own, and what a shell needs to know of it."""

    carrier: LoopbackTwilioCarrier | LoopbackTelnyxCarrier
    portal: BlockingPortal
    home: Path
    environment: dict[str, str]

    def ring(self, person: Person) -> Any:
        """Somebody calls our number."""
        return self.portal.call(self.carrier.place_call, THEIRS, OURS, person)

    def wait(self, happened: Callable[[], Any], within: float = 60.0) -> None:
        """Wait for an event of the carrier's loop."""

        async def soon() -> None:
            with anyio.fail_after(within):
                await happened()

        self.portal.call(soon)

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        """`patter-tui` with these words."""
        environment = own_environment(self.home) | self.environment
        command = [sys.executable, "-m", "patter_tui", *words]
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=100, check=False)


@contextmanager
def line(name: str, home: Path) -> Iterator[Line]:
    """A carrier with one number of ours and a machine that answers, and a shell that knows it."""
    listener = listen()
    port = listener.getsockname()[1]
    listener.close()
    with start_blocking_portal() as portal, portal.wrap_async_context_manager(carrier_of(name)) as carrier:
        carrier.people[MACHINE] = Person(answers="machine", greeting=b"\x00\x10\x00\xf0" * 8_000)
        given = credentials(carrier)
        host = {"PATTER_WEBHOOK_HOST": f"127.0.0.1:{port}", "PATTER_CARRIER_API": carrier.api_base}
        if name == "twilio":
            keys = {"TWILIO_ACCOUNT_SID": given.account, "TWILIO_AUTH_TOKEN": given.secret, "TWILIO_PHONE_NUMBER": OURS}
        else:
            keys = {
                "TELNYX_API_KEY": given.secret, "TELNYX_CONNECTION_ID": given.account,
                "TELNYX_PUBLIC_KEY": given.public_key, "TELNYX_PHONE_NUMBER": OURS,
            }  # fmt: skip
        yield Line(carrier, portal, home, host | keys | {"PORT": str(port)})


def leave(window: Terminal) -> None:
    """Close the workbench and let everything go on."""
    window.press("C-q")
    window.wait("calls and the line go on")
    window.press("l")
    assert window.ended() == 0


@pytest.mark.parametrize("name", CARRIERS)
def test_calls_are_served_watched_left_and_found_again(name: str, question: bytes, tmp_path: Path) -> None:
    home = tmp_path / "home"
    with household(home), line(name, home) as phone:
        port = phone.environment["PORT"]
        served = phone.run("serve", AGENT, "--port", port, "--detach")
        assert served.returncode == 0, served.stdout + served.stderr
        assert f"{OURS} to {AGENT}" in served.stdout

        leg = phone.ring(Person(mouth=says(question, after_ms=9_000), stays_s=120))
        with terminal(home, **phone.environment) as window:
            window.wait("SERVE" if "SERVE" in window.screen else "Serve", within=LOADED_S)
            window.press("F4")
            window.wait(f"{OURS} to {AGENT}", THEIRS, "in call", within=LOADED_S)
            window.says("agent", "Thank you for calling Riverside Dental")
            window.says("caller", "cleaning cost", within=LOADED_S)
            window.says("agent", "A cleaning costs ninety dollars", within=LOADED_S)
            leave(window)
        assert not leg.over.is_set()

        status = phone.run("serve", "--status")
        assert status.returncode == 0
        assert "in call with +15557770001" in status.stdout
        with terminal(home, columns=80, rows=24, **phone.environment) as window:
            window.wait("Agent", within=LOADED_S)
            window.press("F4")
            window.wait(THEIRS, "in call", "ninety dollars", within=LOADED_S)
            window.press("b")
            window.wait("operator ended", within=LOADED_S)
            phone.wait(leg.over.wait)
            leave(window)

        called = phone.run("call", MACHINE, AGENT, "--voicemail", MESSAGE)
        assert called.returncode == 0, called.stdout + called.stderr
        assert "voicemail left" in called.stdout
        assert phone.run("serve", "--stop").returncode == 0
        phone.run("stop")
        assert left_behind(home) == {}
        assert phone.carrier.violations == []
