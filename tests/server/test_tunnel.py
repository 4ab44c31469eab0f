"""Tunnels by programs that speak like the real ones: small scripts on the PATH, really started and really ended."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import anyio
import pytest

from patter.exceptions import PatterConnectionError, PatterError
from patter.server import tunnel
from patter.server.tunnel import open_tunnel
from tests.support.tunnel_programs import (
    ADDRESS,
    CLOUDFLARED,
    HOST,
    NGROK,
    REGISTERED,
    STARTED,
    STAY,
    Programs,
    lives,
    started,
)

pytestmark = pytest.mark.anyio

SOON_S = 0.8  # a small script has long said all it will say


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Programs:
    """Puts programs on an otherwise empty PATH."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    return Programs(folder)


async def refusal(**values: Any) -> str:
    with pytest.raises(PatterConnectionError) as caught:
        async with open_tunnel(8123, **values):
            raise AssertionError
    return str(caught.value)


async def test_cloudflared_gives_an_address_for_as_long_as_it_is_needed(
    install: Programs, caplog: pytest.LogCaptureFixture
) -> None:
    trace = install("cloudflared", CLOUDFLARED, ADDRESS, REGISTERED, STAY)
    async with open_tunnel(8123) as way:
        assert (way.host, way.program) == (HOST, "cloudflared")
        pid, session, arguments = started(trace)
        assert lives(pid)
        assert session != os.getsid(0), "ctrl+c in our terminal does not reach it"
        assert not way.lost.is_set()
    assert arguments == ["tunnel", "--config", os.devnull, "--no-autoupdate", "--url", "http://127.0.0.1:8123"]
    assert not lives(pid)
    assert not way.lost.is_set(), "it was not lost, it was put away"
    assert [record for record in caplog.records if record.levelname == "WARNING"] == []


async def test_ngrok_serves_where_there_is_no_cloudflared(install: Programs) -> None:
    trace = install("ngrok", NGROK, STARTED, STAY)
    async with open_tunnel(8123) as way:
        assert (way.host, way.program) == ("ab12.ngrok-free.app", "ngrok")
        pid, _, arguments = started(trace)
    assert arguments == ["http", "127.0.0.1:8123", "--log", "stdout", "--log-format", "json"]
    assert not lives(pid)


async def test_cloudflared_comes_first_for_it_needs_no_account(install: Programs) -> None:
    other = install("ngrok", NGROK, STARTED, STAY)
    install("cloudflared", CLOUDFLARED, ADDRESS, REGISTERED, STAY)
    async with open_tunnel(8123) as way:
        assert way.program == "cloudflared"
    assert not other.exists()


async def test_ngrok_stands_in_when_cloudflared_fails(install: Programs) -> None:
    first = install("cloudflared", CLOUDFLARED, "sys.exit('failed to request quick Tunnel: no such host')")
    install("ngrok", NGROK, STARTED, STAY)
    async with open_tunnel(8123) as way:
        assert way.program == "ngrok"
        assert not lives(started(first)[0])


async def test_without_a_program_one_sentence_says_what_to_install(install: Programs) -> None:
    told = await refusal()
    assert "cloudflared" in told
    assert "ngrok" in told
    assert "webhook_url" in told
    assert told.count(". ") == 0


OFFLINE = r"""
sys.exit('failed to request quick Tunnel: Post "https://api.trycloudflare.com/tunnel": dial tcp: lookup x: no such host')
"""
TOO_MANY = r"""
say('Error unmarshaling QuickTunnel response: error code: 1015 status_code="429 Too Many Requests"', "ERR")
sys.exit("failed to unmarshal quick Tunnel: invalid character")
"""
NO_TOKEN = r"""
words = "Usage of ngrok requires a verified account and authtoken."
say(lvl="eror", msg="failed to auth", err="authentication failed: " + words + "\r\n\r\nERR_NGROK_4018\r\n")
print("ERROR:  authentication failed: " + words, flush=True)
sys.exit(1)
"""
WRONG_FLAG = "sys.stdout.write('unknown flag: --log-format'); sys.exit(1)"


@pytest.mark.parametrize(
    ("name", "code", "parts"),
    [
        ("cloudflared", [CLOUDFLARED, OFFLINE], ["cloudflared ended (failed to request quick Tunnel", "DNS"]),
        ("cloudflared", [CLOUDFLARED, TOO_MANY], ["cloudflared ended (failed to unmarshal", "too many quick tunnels"]),
        ("ngrok", [NGROK, NO_TOKEN], ["ngrok ended (authentication failed", "ngrok config add-authtoken"]),
        ("ngrok", [WRONG_FLAG], ["ngrok ended (unknown flag: --log-format)"]),
        ("ngrok", ["sys.exit(0)"], ["ngrok ended"]),
    ],
)
async def test_a_program_that_ends_tells_why(install: Programs, name: str, code: list[str], parts: list[str]) -> None:
    trace = install(name, *code)
    told = await refusal()
    for part in parts:
        assert part in told
    assert "\n" not in told
    assert not lives(started(trace)[0])


async def test_a_program_that_brings_nothing_up_is_ended(install: Programs) -> None:
    trace = install("cloudflared", CLOUDFLARED, STAY)
    assert "brought no tunnel up" in await refusal(start_s=SOON_S)
    assert not lives(started(trace)[0])


async def test_an_address_that_nothing_leads_to_is_not_enough(install: Programs) -> None:
    failed = 'say("Failed to dial a quic connection error=\\"failed to dial to edge with quic: timeout\\"", "ERR")'
    install("cloudflared", CLOUDFLARED, ADDRESS, failed, STAY)
    told = await refusal(start_s=SOON_S)
    assert "failed to dial to edge with quic" in told
    assert "7844" in told


async def test_an_address_without_complaint_is_taken_at_its_word(install: Programs) -> None:
    install("cloudflared", CLOUDFLARED, ADDRESS, STAY)
    async with open_tunnel(8123, start_s=SOON_S) as way:
        assert way.host == HOST


async def test_a_tunnel_whose_program_dies_is_lost(install: Programs, caplog: pytest.LogCaptureFixture) -> None:
    trace = install("cloudflared", CLOUDFLARED, ADDRESS, REGISTERED, STAY)
    async with open_tunnel(8123) as way:
        os.kill(started(trace)[0], 9)
        with anyio.fail_after(5):
            await way.lost.wait()
    assert [record.getMessage() for record in caplog.records if record.levelname == "WARNING"] == ["the tunnel is lost"]


GONE = 'say("Register tunnel error from server side error=\\"Unauthorized: Tunnel not found\\" connIndex=0", "ERR")'


async def test_a_tunnel_that_is_not_known_at_once_gets_its_time(install: Programs) -> None:
    install("cloudflared", CLOUDFLARED, ADDRESS, GONE, REGISTERED, STAY)
    async with open_tunnel(8123) as way:
        assert not way.lost.is_set()


async def test_a_tunnel_that_was_taken_away_is_lost(install: Programs) -> None:
    ready, told = "signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])", "signal.sigwait([signal.SIGUSR1])"
    trace = install("cloudflared", ready, CLOUDFLARED, ADDRESS, REGISTERED, told, GONE, STAY)
    async with open_tunnel(8123) as way:
        os.kill(started(trace)[0], signal.SIGUSR1)
        with anyio.fail_after(5):
            await way.lost.wait()
        pid = started(trace)[0]
        assert lives(pid)
    assert not lives(pid)


async def test_a_program_that_does_not_listen_is_killed(install: Programs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tunnel, "END_S", 0.1)
    deaf = "signal.signal(signal.SIGTERM, signal.SIG_IGN)"
    trace = install("cloudflared", deaf, CLOUDFLARED, ADDRESS, REGISTERED, "while True: signal.pause()")
    async with open_tunnel(8123):
        pid = started(trace)[0]
    assert not lives(pid)


async def test_endless_output_is_no_burden(install: Programs) -> None:
    flood = (
        "sys.stderr.write('x' * (1 << 20)); sys.stderr.write('\\n' + 'y\\xff\\0' * 100_000 + '\\n'); sys.stderr.flush()"
    )
    install("cloudflared", flood, CLOUDFLARED, ADDRESS, flood, REGISTERED, STAY)
    async with open_tunnel(8123) as way:
        assert way.host.endswith(".trycloudflare.com")


async def test_an_error_inside_comes_out_as_it_is_and_leaves_no_child(install: Programs) -> None:
    trace = install("ngrok", NGROK, STARTED, STAY)
    with pytest.raises(PatterError, match=r"^mine$"):
        async with open_tunnel(8123):
            raise PatterError("mine")
    assert not lives(started(trace)[0])


async def test_being_cancelled_while_it_starts_leaves_no_child(install: Programs) -> None:
    trace = install("cloudflared", CLOUDFLARED, STAY)

    async def serve() -> None:
        async with open_tunnel(8123):
            raise AssertionError

    with anyio.fail_after(10):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(serve)
            while not trace.exists():
                await anyio.sleep(0.01)
            tasks.cancel_scope.cancel()
    assert not lives(started(trace)[0])


async def test_a_file_that_cannot_be_started_is_a_failure_with_its_name(install: Programs, tmp_path: Path) -> None:
    script = tmp_path / "bin" / "cloudflared"
    script.write_text("#!/nonexistent/interpreter\n")
    script.chmod(0o755)
    assert (await refusal()).startswith("cloudflared cannot be started")
