"""People and machines at a telephone: what they say, frame by frame, and what they keep of what they hear."""

from __future__ import annotations

from patter.audio.format import MULAW_8K, PCM_8K, PCM_16K
from patter.audio.g711 import mulaw_decode, mulaw_encode
from patter.audio.level import rms_dbfs
from patter.loopback.person import Handset, Person, says
from patter.loopback.tones import hum, tone

LOUD = mulaw_encode(tone(400, 20))
QUIET = MULAW_8K.quiet(20)


def test_somebody_says_what_they_have_to_say_once_in_whole_frames() -> None:
    handset = Handset(Person(mouth=says(tone(400, 50))), MULAW_8K)
    frames = [handset.mouth() for _ in range(4)]
    assert {len(frame) for frame in frames} == {160}
    levels = [rms_dbfs(mulaw_decode(frame)) for frame in frames]
    assert min(levels[:2]) > -20
    assert frames[3] == QUIET


def test_somebody_may_wait_before_they_speak() -> None:
    handset = Handset(Person(mouth=says(tone(400, 20), after_ms=40)), MULAW_8K)
    levels = [rms_dbfs(mulaw_decode(handset.mouth())) for _ in range(3)]
    assert levels[:2] == [-96.0, -96.0]
    assert levels[2] > -20


def test_a_wideband_line_carries_the_same_words() -> None:
    handset = Handset(Person(mouth=says(tone(400, 40))), PCM_16K)
    assert rms_dbfs(handset.mouth()) > -20
    assert len(handset.mouth()) == 640


def test_what_is_heard_is_kept() -> None:
    extra: list[bytes] = []
    handset = Handset(Person(ear=lambda _: extra.append), MULAW_8K)
    handset.ear(LOUD)
    handset.ear(QUIET)
    assert bytes(handset.heard) == LOUD + QUIET
    assert extra == [LOUD, QUIET]


def test_a_machine_greets_beeps_and_keeps_only_what_comes_after() -> None:
    machine = Handset(Person(answers="machine", greeting=tone(300, 1000)), MULAW_8K)
    spoken = b""
    while not machine.greeted.is_set():
        spoken += machine.mouth()
        machine.ear(LOUD)
    assert 1660 <= MULAW_8K.ms_of(len(spoken)) <= 1740
    beep = mulaw_decode(spoken[MULAW_8K.bytes_for(1320) : MULAW_8K.bytes_for(1660)])
    assert rms_dbfs(beep) > -15
    machine.ear(QUIET)
    assert bytes(machine.heard) == LOUD + QUIET


def test_a_machine_without_a_beep_falls_silent() -> None:
    machine = Handset(Person(answers="machine", greeting=tone(300, 100), beep=False), MULAW_8K)
    frames = [machine.mouth() for _ in range(30)]
    assert machine.greeted.is_set()
    assert frames[10:] == [QUIET] * 20


def test_somebody_leaves_when_nothing_is_heard_for_long_enough() -> None:
    handset = Handset(Person(silence_s=0.1), MULAW_8K)
    for frame in [QUIET] * 4 + [LOUD] + [QUIET] * 4:
        handset.ear(frame)
    assert not handset.leaves.is_set()
    handset.ear(QUIET)
    assert handset.leaves.is_set()


def test_what_a_carrier_takes_somebody_for() -> None:
    assert Person().taken_for == "human"
    assert Person(answers="machine").taken_for == "machine"
    assert Person(judged_as="fax").taken_for == "fax"


def test_a_hum_is_as_long_as_the_words() -> None:
    assert PCM_8K.ms_of(len(hum("Hello there."))) == 720
