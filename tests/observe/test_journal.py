"""The journal: every fact on disk in order, readable after a crash, and the same numbers when it is replayed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from patter.audio.wav import WavWriter
from patter.bus import Bus
from patter.clock import Clock
from patter.events import (
    AgentSaid,
    CallEnded,
    CallerSaid,
    CallPlaced,
    CallStarted,
    CarrierRecordingSaved,
    Event,
    RecordingSaved,
    ReplyReached,
    ReplyStarted,
    ReplyText,
    TurnMeasured,
    UsageMeasured,
)
from patter.observe.cost import Prices
from patter.observe.journal import Journal, call_folder, read, replay
from patter.observe.journal_writer import OPEN_FILES
from patter.observe.metrics import call_metrics
from patter.observe.reader import MetricsReader
from patter.observe.unfinished import close_unfinished

T0 = 1_700_000_000.0
FDS = Path("/proc/self/fd")


def a_call(call_id: str = "CA1", *, ended: bool = True) -> list[Event]:
    events: list[Event] = [
        CallStarted(call_id=call_id, at=T0, caller="+15551230001", notes=("Ünïcode ☎", "line\nbreak")),
        CallerSaid(
            call_id=call_id,
            at=T0 + 2.1,
            turn=1,
            text="hello",
            speech_ended_at=T0 + 1.7123,
            recognition_at=T0 + 1.9,
            transcript_at=T0 + 2,
        ),
        UsageMeasured(
            call_id=call_id,
            at=T0 + 2.1,
            turn=1,
            stage="stt",
            provider="deepgram",
            model="nova-3",
            amounts={"audio_seconds": 1.7},
        ),
        ReplyStarted(call_id=call_id, at=T0 + 2.1, turn=1, reply_id=1),
        ReplyText(call_id=call_id, at=T0 + 2.2, reply_id=1, text="half a pair: \ud83d"),
        ReplyReached(call_id=call_id, at=T0 + 2.4, reply_id=1, stage="playing", reached_at=T0 + 2.38),
        AgentSaid(call_id=call_id, at=T0 + 4, turn=1, reply_id=1, text="Hi."),
    ]
    return (
        [*events, CallEnded(call_id=call_id, at=T0 + 5, reason="caller_hung_up", duration_s=5.0)] if ended else events
    )


def journaled(home: Path, *events: Event) -> tuple[Path, list[Event]]:
    """Publish on a bus with a journal and metrics; the file and what was published."""
    bus, seen, journal = Bus(Clock()), list[Event](), Journal(home)
    bus.add_sink(MetricsReader(bus, Prices.load()))
    bus.add_sink(journal)
    bus.add_sink(seen.append)
    for event in events:
        bus.publish(event)
    journal.close()
    return journal.path(events[0].call_id), seen


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    path, seen = journaled(tmp_path, *a_call())
    assert read(path) == seen
    assert path == tmp_path / "calls" / "CA1" / "events.jsonl"
    assert all(json.loads(line)["type"] for line in path.read_text("utf-8").splitlines())


def test_measurements_that_follow_the_end_are_kept(tmp_path: Path) -> None:
    path, _ = journaled(tmp_path, *a_call()[:-2], CallEnded(call_id="CA1", at=T0 + 3, reason="caller_hung_up"))
    assert isinstance(read(path)[-1], TurnMeasured)


def test_a_replay_gives_the_same_metrics_to_the_bit(tmp_path: Path) -> None:
    path, seen = journaled(tmp_path, *a_call())
    again: list[Event] = []
    bus = Bus(Clock())
    bus.add_sink(again.append)
    facts = [event for event in read(path) if not isinstance(event, TurnMeasured)]
    replay(facts, MetricsReader(bus, Prices.load()))
    measured = [event for event in seen if isinstance(event, TurnMeasured)]
    assert [(one.segments, one.cost, one.at) for one in again if isinstance(one, TurnMeasured)] == [
        (one.segments, one.cost, one.at) for one in measured
    ]
    assert call_metrics(read(path)) == call_metrics(seen)


def test_each_call_has_its_own_file_and_nothing_without_a_call_is_written(tmp_path: Path) -> None:
    journaled(tmp_path, *a_call("A"), *a_call("B"), UsageMeasured(call_id="", turn=0, stage="llm", provider="x"))
    assert sorted(path.name for path in (tmp_path / "calls").iterdir()) == ["A", "B"]


@pytest.mark.parametrize("call_id", ["../../etc/passwd", "..", ".", "a/b", "a\\b", ".hidden", "x" * 500, "é\0"])
def test_no_call_id_leaves_the_folder(tmp_path: Path, call_id: str) -> None:
    folder = call_folder(tmp_path, call_id)
    assert folder.parent == tmp_path / "calls"
    assert folder.name not in (".", "..")
    journaled(tmp_path, *a_call(call_id))
    assert read(folder / "events.jsonl")


def test_a_torn_last_line_and_unknown_types_are_left_out(tmp_path: Path) -> None:
    path, seen = journaled(tmp_path, *a_call())
    whole = path.read_bytes()
    path.write_bytes(
        whole + b'{"type":"FromTheFuture","call_id":"CA1"}\n[1]\n{"type":"AgentSaid"}\n' + whole[: len(whole) // 9]
    )
    assert read(path)[: len(seen)] == seen
    for cut in range(len(whole) - 40, len(whole)):
        path.write_bytes(whole[:cut])
        assert read(path) in (seen[:-1], seen)


def test_unfinished_calls_are_closed_with_their_cause(tmp_path: Path) -> None:
    journaled(tmp_path, *a_call("done"))
    path, seen = journaled(tmp_path, *a_call("killed", ended=False))
    path.write_bytes(path.read_bytes() + b'{"type":"Agent')  # torn by the kill
    assert close_unfinished(tmp_path, T0 + 999) == ["killed"]
    *before, end = read(path)
    assert before == seen
    assert isinstance(end, CallEnded)
    assert (end.reason, end.duration_s, end.at) == ("engine_died", 4.0, T0 + 4)
    assert end.seq == seen[-1].seq + 1
    assert close_unfinished(tmp_path, T0 + 999) == []


def test_a_call_that_only_rang_is_journaled_and_closed_without_duration(tmp_path: Path) -> None:
    rang = [
        CallPlaced(call_id="R", at=T0, callee="+15551230002"),
        CallEnded(call_id="R", at=T0 + 30, reason="no_answer"),
    ]
    path, seen = journaled(tmp_path, *rang)
    assert read(path) == seen
    rings, _ = journaled(tmp_path, CallPlaced(call_id="K", at=T0))
    assert close_unfinished(tmp_path, T0 + 999) == ["K"]
    end = read(rings)[-1]
    assert isinstance(end, CallEnded)
    assert (end.reason, end.duration_s) == ("engine_died", 0.0)


@pytest.mark.skipif(not FDS.is_dir(), reason="counts what a process of Linux has open")
def test_what_follows_the_ends_of_many_calls_leaves_no_files_open(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    calls = [f"C{number}" for number in range(300)]

    def still_open() -> list[str]:
        links = [link for link in FDS.iterdir() if link.is_symlink()]
        return [str(link) for link in links if os.path.realpath(link).startswith(str(tmp_path.resolve()))]

    for call_id in calls:
        journal(CallPlaced(call_id=call_id))
        journal(CallStarted(call_id=call_id))
        journal(CallEnded(call_id=call_id, reason="caller_hung_up"))
    for call_id in calls:
        journal(CarrierRecordingSaved(call_id=call_id, url="https://a.test/r"))
    journal(CallStarted(call_id="last"))
    while not journal.path("last").exists():
        pass
    assert len(still_open()) <= 2  # one is kept, one may be on its way to the disk
    journal.close()
    assert still_open() == []
    for call_id in calls:
        assert [type(event).__name__ for event in read(journal.path(call_id))] == [
            "CallPlaced", "CallStarted", "CallEnded", "CarrierRecordingSaved",
        ]  # fmt: skip


def test_more_calls_at_once_than_files_are_kept_are_written_whole(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    calls = [f"C{number}" for number in range(OPEN_FILES + 5)]
    for kind in (CallPlaced, CallStarted):
        for call_id in calls:
            journal(kind(call_id=call_id))
    for call_id in calls:
        journal(CallEnded(call_id=call_id, reason="caller_hung_up"))
    journal.close()
    for call_id in calls:
        assert len(read(journal.path(call_id))) == 3


def test_the_recording_of_a_killed_process_is_made_whole_and_says_how_long_the_call_lived(tmp_path: Path) -> None:
    path, seen = journaled(tmp_path, *a_call("killed", ended=False))
    writer = WavWriter(path.with_name("recording.wav"), 8000, channels=2)
    writer.write(bytes(32_000 * 6))
    writer.write(bytes(3_200))  # a tenth of a second that the header does not tell
    assert close_unfinished(tmp_path, T0 + 999) == ["killed"]
    *before, end, saved = read(path)
    assert before == seen
    assert isinstance(end, CallEnded)
    assert isinstance(saved, RecordingSaved)
    assert (end.reason, end.duration_s, saved.duration_s) == ("engine_died", 6.1, 6.1)
    assert (saved.path, saved.seq) == (str(path.with_name("recording.wav")), end.seq + 1)
    assert close_unfinished(tmp_path, T0 + 999) == []
    assert read(path)[-1] == saved
    writer.close()


def test_a_call_that_was_killed_within_its_first_line_leaves_nothing(tmp_path: Path) -> None:
    for name, text in {"torn": b'{"type":"CallSta', "empty": b"", "foreign": b'{"type":"FromTheFuture"}\n'}.items():
        folder = tmp_path / "calls" / name
        folder.mkdir(parents=True)
        (folder / "events.jsonl").write_bytes(text)
    (tmp_path / "calls" / "bare").mkdir()
    assert close_unfinished(tmp_path, T0) == []
    assert [path.name for path in (tmp_path / "calls").iterdir() if path.is_dir()] == ["foreign"]


def test_no_calls_at_all(tmp_path: Path) -> None:
    assert close_unfinished(tmp_path, T0) == []


def test_a_full_disk_is_logged_and_ends_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "calls").write_text("a file where the folder should be")
    journal = Journal(tmp_path)
    journal(a_call()[0])
    journal.close()
    journal.close()
    assert "journal could not be written" in caplog.text


def test_a_killed_process_leaves_every_event_that_it_had_written(tmp_path: Path) -> None:
    script = textwrap.dedent(f"""
        import os, signal, time
        from patter.events import CallStarted, CallerPartial
        from patter.observe.journal import Journal
        journal = Journal({str(tmp_path)!r})
        journal(CallStarted(call_id="K", at=1.0))
        for number in range(50):
            journal(CallerPartial(call_id="K", at=2.0, text=str(number)))
        while not journal.path("K").exists() or journal.path("K").read_bytes().count(b"\\n") < 51:
            time.sleep(0.001)
        os.kill(os.getpid(), signal.SIGKILL)
    """)
    killed = subprocess.run([sys.executable, "-c", script], env={**os.environ}, check=False)
    assert killed.returncode == -9
    assert len(read(call_folder(tmp_path, "K") / "events.jsonl")) == 51
    assert close_unfinished(tmp_path, 9.0) == ["K"]
