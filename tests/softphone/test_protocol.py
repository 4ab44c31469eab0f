"""Commands and reports of the softphone's pipes."""

from __future__ import annotations

import io
import json
import os
import threading

import pytest

from patter.softphone import protocol
from patter.softphone.protocol import BadCommand, CallerLine, PlaceCall, Reports, read_command, read_lines

DIAL = {"webhook_url": "http://127.0.0.1:1/v", "account_sid": "AC1", "auth_token": "t", "from": "+1", "to": "+2"}


def test_a_dial_carries_the_device_and_the_callers_lines() -> None:
    command = read_command(
        json.dumps(
            {"do": "dial", "dial": DIAL, "device": "simulated", "wav_out": "o.wav", "input": None,
             "caller": ["Hello.", {"say": "Wait!", "after_ms": 1200}]}
        )
    )  # fmt: skip
    assert isinstance(command, PlaceCall)
    assert command.caller == (CallerLine("Hello."), CallerLine("Wait!", 1200))
    assert (command.device, command.wav_out, command.input, command.dial.callee) == ("simulated", "o.wav", None, "+2")


@pytest.mark.parametrize(
    ("line", "command"),
    [
        ('{"do":"digit","digit":"#"}', protocol.PressKey("#")),
        ('{"do":"mute","on":false}', protocol.Mute(False)),
        ('{"do":"mute"}', protocol.Mute(True)),
        ('{"do":"say","text":"Hi"}', protocol.Say("Hi")),
        ('{"do":"hang_up"}', protocol.HangUp()),
        ('{"do":"devices"}', protocol.ListDevices()),
        ('{"do":"quit"}', protocol.Quit()),
    ],
)
def test_the_other_commands(line: str, command: protocol.Command) -> None:
    assert read_command(line) == command


@pytest.mark.parametrize(
    ("data", "why"),
    [
        ("hello", "not a JSON line"),
        (b"\xff", "not a JSON line"),
        ([1], "not a JSON object"),
        ({"do": "dance"}, "no command 'dance'"),
        ({}, "no command None"),
        ({"do": "digit", "digit": "12"}, "not a key"),
        ({"do": "digit"}, "not a key"),
        ({"do": "say", "text": "  "}, "no words"),
        ({"do": "dial"}, "dial is missing"),
        ({"do": "dial", "dial": {}}, "lacks webhook_url"),
        ({"do": "dial", "dial": DIAL, "device": "tin can"}, "must be one of sound, wav, simulated"),
        ({"do": "dial", "dial": DIAL, "device": "wav"}, "needs wav_in"),
        ({"do": "dial", "dial": DIAL, "caller": "Hello"}, "not a list"),
        ({"do": "dial", "dial": DIAL, "caller": [{"say": "Hi", "after_ms": "soon"}]}, "after_ms"),
        ({"do": "dial", "dial": DIAL, "caller": [{"after_ms": 2}]}, "no words"),
    ],
)
def test_a_bad_command_says_what_is_wrong(data: object, why: str) -> None:
    with pytest.raises(BadCommand, match=why):
        read_command(data if isinstance(data, str | bytes) else json.dumps(data))


def test_reports_are_lines_in_order() -> None:
    stream = io.StringIO()
    reports = Reports(stream)
    reports("ringing")
    reports("in_call", call_id="CA1")
    reports.close()
    assert [json.loads(line) for line in stream.getvalue().splitlines()] == [
        {"is": "ringing"},
        {"is": "in_call", "call_id": "CA1"},
    ]


def test_a_parent_that_does_not_read_loses_levels_and_nothing_else() -> None:
    gate = threading.Event()

    class Slow(io.StringIO):
        def write(self, text: str) -> int:
            gate.wait(10)
            return super().write(text)

    stream = Slow()
    reports = Reports(stream)
    for number in range(protocol.BACKLOG * 2):
        reports("levels", mic=number)
    reports("ended", reason="hung_up")
    gate.set()
    reports.close()
    kinds = [json.loads(line)["is"] for line in stream.getvalue().splitlines()]
    assert kinds[-1] == "ended"
    assert len(kinds) <= protocol.BACKLOG + 3


def test_commands_are_read_until_the_pipe_ends() -> None:
    ours, theirs = os.pipe()
    taken: list[bytes | None] = []
    over = threading.Event()

    def take(line: bytes | None) -> None:
        taken.append(line)
        if line is None:
            over.set()

    with open(ours, "rb", buffering=0) as stream:
        read_lines(stream, take)
        os.write(theirs, b'{"do":"hang_up"}\n\n{"do":')
        os.write(theirs, b'"quit"}\n')
        os.close(theirs)
        assert over.wait(10)
    assert taken == [b'{"do":"hang_up"}\n', b'{"do":"quit"}\n', None]
