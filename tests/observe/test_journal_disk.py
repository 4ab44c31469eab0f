"""A disk that refuses: calls go on, lines wait in order, it is told once, and the journal catches up by itself."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import anyio
import anyio.to_thread
import pytest

from patter.bus import Bus
from patter.clock import Clock
from patter.events import CallEnded, CallerPartial, CallStarted, Event, MemoryChanged, ReplyStarted, ReplyText
from patter.observe import journal_writer
from patter.observe.journal import Journal, call_folder, read

pytestmark = pytest.mark.anyio


class House:
    """A bus with a journal, and what it has told."""

    def __init__(self, home: Path) -> None:
        self.bus = Bus(Clock())
        self.seen: list[Event] = []
        self.told: list[MemoryChanged] = []
        self.journal = Journal(home, told=self.bus.publish)
        self.bus.add_sink(self.journal)
        self.bus.add_sink(self._note)

    def _note(self, event: Event) -> None:
        if isinstance(event, MemoryChanged):
            self.told.append(event)
        else:
            self.seen.append(event)

    def call(self, call_id: str, pieces: int = 20) -> None:
        """Everything that a call says."""
        self.bus.publish(CallStarted(call_id=call_id))
        for number in range(pieces):
            self.bus.publish(CallerPartial(call_id=call_id, text="x" * number))
            self.bus.publish(ReplyText(call_id=call_id, reply_id=1, text=f"piece {number} "))
        self.bus.publish(CallEnded(call_id=call_id, reason="caller_hung_up"))

    async def until_told(self, count: int) -> None:
        """Return when the journal has spoken so often."""
        with anyio.fail_after(30):
            while len(self.told) < count:
                await anyio.sleep(0.01)

    async def close(self) -> None:
        await anyio.to_thread.run_sync(self.journal.close)


async def test_what_cannot_be_written_waits_in_order_and_is_told_once(tmp_path: Path) -> None:
    calls = tmp_path / "calls"
    calls.write_text("a file where the folder should be")
    house = House(tmp_path)
    house.call("A")
    await house.until_told(1)
    house.call("B")
    house.bus.publish(CallStarted(call_id="C"))
    await anyio.sleep(0.3)  # some tries fail
    calls.unlink()
    await house.until_told(2)
    house.bus.publish(ReplyStarted(call_id="C", turn=1, reply_id=1))
    await house.close()
    assert [news.state for news in house.told] == ["behind", "current"]
    behind = house.told[0]
    assert (behind.keeper, behind.call_id, bool(behind.fix)) == ("journal", "", True)
    assert "written" in behind.problem
    for call_id in "ABC":
        mine = [event for event in house.seen if event.call_id == call_id]
        assert read(house.journal.path(call_id)) == mine


async def test_one_file_that_refuses_holds_up_no_other(tmp_path: Path) -> None:
    blocked = call_folder(tmp_path, "A")
    blocked.parent.mkdir()
    blocked.write_text("in the way")
    house = House(tmp_path)
    house.call("A")
    await house.until_told(1)
    house.call("B")
    with anyio.fail_after(30):
        while not house.journal.path("B").exists() or b"CallEnded" not in house.journal.path("B").read_bytes():
            await anyio.sleep(0.01)
    assert len(house.told) == 1
    blocked.unlink()
    await house.until_told(2)
    assert read(house.journal.path("A")) == [event for event in house.seen if event.call_id == "A"]
    await house.close()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="has no disk that is always full")
async def test_a_full_disk_says_what_to_do(tmp_path: Path) -> None:
    folder = call_folder(tmp_path, "A")
    folder.mkdir(parents=True)
    (folder / "events.jsonl").symlink_to("/dev/full")
    house = House(tmp_path)
    house.call("A")
    await house.until_told(1)
    assert "No space left" in house.told[0].problem
    assert "Free some space" in house.told[0].fix
    (folder / "events.jsonl").unlink()
    await house.until_told(2)
    await house.close()
    assert read(house.journal.path("A")) == house.seen


async def test_when_the_memory_is_full_what_may_be_missed_goes_first_and_a_loss_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal_writer, "HELD_BYTES", 4_000)
    (tmp_path / "calls").write_text("a file where the folder should be")
    house = House(tmp_path)
    house.call("A", pieces=8)  # too much only with its partials
    await house.until_told(1)
    house.call("A2", pieces=12)
    await anyio.sleep(0.1)
    assert len(house.told) == 1
    for number in range(100):
        house.call(f"B{number}", pieces=1)
    await house.until_told(2)
    assert "lost" in house.told[1].problem
    (tmp_path / "calls").unlink()
    await house.until_told(3)
    assert house.told[2].state == "current"
    assert "could not be kept" in house.told[2].problem
    await house.close()
    for call_id in ("A", "A2"):
        mine = [event for event in house.seen if event.call_id == call_id and not isinstance(event, CallerPartial)]
        assert [event for event in read(house.journal.path(call_id)) if not isinstance(event, CallerPartial)] == mine


@pytest.mark.skipif(os.name != "posix", reason="limits of POSIX")
def test_half_a_line_is_cut_back_before_it_is_written_again(tmp_path: Path) -> None:
    script = textwrap.dedent(f"""
        import resource, signal, time
        from patter.events import CallStarted, ReplyText
        from patter.observe.journal import Journal
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
        resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, hard))  # the system writes up to here, half a line too
        journal = Journal({str(tmp_path)!r})
        journal(CallStarted(call_id="K", at=1.0))
        for number in range(500):
            journal(ReplyText(call_id="K", at=2.0, seq=number, reply_id=1, text="some words " * (number % 9)))
        path = journal.path("K")
        while not path.exists() or path.stat().st_size < 10_000:
            time.sleep(0.001)
        time.sleep(0.25)
        torn = path.read_bytes()
        resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
        journal.close()
        print(len(torn), torn.endswith(b"\\n"))
    """)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=50)
    size, whole = done.stdout.split()
    assert (int(size), whole) == (10_000, "False")
    lines = (call_folder(tmp_path, "K") / "events.jsonl").read_bytes().splitlines()
    events = read(call_folder(tmp_path, "K") / "events.jsonl")
    assert len(lines) == len(events) == 501
    assert [event.seq for event in events[1:]] == list(range(500))


def test_lines_that_the_disk_took_and_lost_are_written_again(tmp_path: Path) -> None:
    sheet = journal_writer._Sheet(tmp_path / "K" / "events.jsonl")
    for number in range(3):
        sheet.waiting.append(b"line %d\n" % number)
        sheet.write()
    sheet.on_disk(14)
    sheet.waiting.append(b"line 3\n")
    sheet.not_on_disk()
    assert sheet.waiting == [b"line 2\n", b"line 3\n"]
    sheet.path.write_bytes(b"line 0\nline 1\n\0\0\0\0\0\0\0")  # what a system shows of such a file
    sheet.write()
    sheet.close()
    assert sheet.path.read_bytes() == b"line 0\nline 1\nline 2\nline 3\n"


def test_nothing_is_written_of_a_call_that_is_forgotten(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    journal(CallStarted(call_id="A"))
    journal(CallStarted(call_id="B"))
    journal.forget(["A"])
    assert journal.path("A").exists()  # what came before is written; deleting it is for others
    journal.path("A").unlink()
    journal(ReplyText(call_id="A", reply_id=1, text="late"))
    journal(ReplyText(call_id="B", reply_id=1, text="in time"))
    journal.close()
    assert not journal.path("A").exists()
    assert len(read(journal.path("B"))) == 2
