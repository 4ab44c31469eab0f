"""Words of strangers wherever they land: TwiML, log, journal, event socket, plain terminals and the workbench's panes."""

from __future__ import annotations

import dataclasses
import io
import json
import logging
import re
import time
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

import pytest
from hypothesis import given
from hypothesis import strategies as st

from patter import events as ev
from patter.observe.journal import CALLS, Journal, call_folder, read
from patter.server.log import ALIKE, Calm, LineFormatter, start_log, stop_log
from patter.terminal.page import JsonPage, TextPage
from patter.wire import twiml
from patter_tui.headless import pages
from patter_tui.headless.listing import line_of
from patter_tui.line import PhoneLine
from patter_tui.store import CallRow, Phone, State, apply
from patter_tui.views import calls, cost, line, live, phone, transcript, turns
from patter_tui.views.glyphs import UNICODE
from patter_tui.views.rows import Row, plain
from tests.hostile.doors import BOTH, FORM, Place, TelnyxPlace, hostile, place
from tests.hostile.words import NASTY, is_plain
from tests.support import telnyx_house
from tests.support.serving import serving

CALL = "CA" + "1" * 32
words = st.sampled_from(NASTY) | st.text(st.characters(exclude_categories=["Cs"]), max_size=30)


# --------------------------------------------------------------------------- TwiML


@hostile
@given(said=words, address=words)
def test_what_is_said_to_a_caller_is_one_sentence_of_twiml(said: str, address: str) -> None:
    for text, verbs in (
        (twiml.say_and_hang_up(said), ("Say", "Hangup")),
        (twiml.say_and_redirect(said, address), ("Say", "Redirect")),
        (twiml.dial(said), ("Dial",)),
        (twiml.join_conference(said), ("Dial",)),
        (twiml.connect_stream("wss://a.test/x", {address: said} if len(address + said) < 500 else {}), ("Connect",)),
    ):
        document = twiml.read(text)
        assert document.verbs == verbs
        inside = [verb for step in document.steps for verb in step.inside]
        assert len(inside) == (1 if verbs in (("Dial",), ("Connect",)) else 0)


# --------------------------------------------------------------------------- the log


@hostile
@given(said=words, why=words)
def test_a_record_of_the_log_is_one_line_without_control_characters(said: str, why: str) -> None:
    record = logging.LogRecord("patter.x", logging.WARNING, "x.py", 1, "a thing: %s", (said,), None)
    record.why = record.call_id = record.route = why
    line = LineFormatter().format(record)
    assert is_plain(line)
    assert "\n" not in line


def test_what_failed_is_told_in_lines_that_no_stranger_began() -> None:
    try:
        raise OSError(5, "gone\r\n2026-01-01 00:00:00,000 ERROR patter: forged\x1b[2J")
    except OSError as error:
        record = logging.LogRecord(
            "patter.x", logging.ERROR, "x.py", 1, "it failed", (), (OSError, error, error.__traceback__)
        )
    for told in LineFormatter().format(record).split("\n")[1:]:
        assert told.startswith("  ")
        assert is_plain(told)


@pytest.mark.anyio
@pytest.mark.parametrize("name", BOTH)
async def test_nothing_a_stranger_sends_forges_a_line_of_the_log(name: str, tmp_path: Path) -> None:
    evil = "x\r\n2026-01-01 00:00:00,000 ERROR patter: forged\x1b[2J\x9b\u202e"
    handler = start_log(tmp_path / "engine.log")
    try:
        async with place(name) as here:
            await here.answer_to(b"GET /\r\n\x1b[2J HTTP/1.1\r\nA\nB: \x00\x1b\r\n\r\n", eof=True)
            await here.answer_to(
                b"POST " + here.hook.encode() + b" HTTP/1.1\r\nHost: \x1b\r\nContent-Length: x\x1b\n\r\n\r\n", eof=True
            )
            for path in ("/%0d%0a%1b[2J", here.hook + "?a=%0d%0aforged"):
                async with here.house.client.post(here.address + path, data=evil.encode()) as answer:
                    assert answer.status < 500
            if isinstance(here, TelnyxPlace):
                body = here.house.event("call.initiated", telnyx_house.leg(1), direction="incoming", to=evil)
                assert await here.house.post(body) == 200
                body = here.house.event("streaming.failed", telnyx_house.leg(1), failure_reason=evil)
                assert await here.house.post(body) == 200
            ring = await here.ring(2)
            async with here.socket(ring) as socket:
                await socket.send_str(json.dumps({"event": evil}))
                await socket.send_str(
                    json.dumps({"event": "start", "start": {"mediaFormat": {"encoding": evil}}, "streamSid": evil})
                )
                await socket.receive()
            await here.give_up(2)
            async with here.talking(3) as (call, _):
                await call.send_str(
                    json.dumps({"event": "error", "payload": {"code": evil, "title": evil, "detail": evil}})
                )
                await call.send_str(json.dumps({"event": "dtmf", "dtmf": {"digit": evil}}))
                await here.serves(4)
    finally:
        stop_log(handler)
    told = (tmp_path / "engine.log").read_text()
    assert told
    for each in told.rstrip("\n").split("\n"):
        assert is_plain(each), ascii(each)
        assert re.match(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} [A-Z]+ [\w.]+: |  ", each), ascii(each)
        assert not each.startswith("2026-01-01 00:00:00,000 ERROR patter: forged")


async def knocked(here: Place, times: int) -> None:
    for _ in range(times):
        async with here.house.client.post(
            here.address + here.hook, data=b"AccountSid=AC", headers={"Content-Type": FORM}
        ):
            pass


@pytest.mark.anyio
@pytest.mark.parametrize("name", BOTH)
async def test_strangers_who_knock_all_day_wash_nothing_out_of_the_log(name: str, tmp_path: Path) -> None:
    handler = start_log(tmp_path / "engine.log")
    try:
        async with place(name) as here:
            await knocked(here, ALIKE + 50)
            logging.getLogger("patter.engine").warning("something else")
    finally:
        stop_log(handler)
    told = (tmp_path / "engine.log").read_text()
    assert told.count("a webhook was refused") == ALIKE
    assert told.count("something else") == 1


def test_what_was_left_out_of_the_log_is_counted() -> None:
    calm = Calm()
    records = [logging.LogRecord("patter.x", logging.WARNING, "x.py", 1, "refused", (), None) for _ in range(ALIKE + 7)]
    for record in records:
        record.created = 1_000.0
    assert [calm.filter(record) for record in records].count(True) == ALIKE
    records[0].created = 1_061.0
    assert calm.filter(records[0])
    assert LineFormatter().format(records[0]).endswith("refused left_out=7")


# --------------------------------------------------------------------------- every event, every field


def nasty_events(word: str) -> Iterator[ev.Event]:
    """One event of every kind, with the word in each of its texts."""
    for kind in vars(ev).values():
        if isinstance(kind, type) and issubclass(kind, ev.Event) and kind is not ev.Event:
            hints = get_type_hints(kind)
            values = {item.name: worded(hints[item.name], word) for item in dataclasses.fields(kind) if item.init}
            yield kind(**values | {"call_id": CALL, "seq": 1, "at": 1_790_000_000.0})


def worded(hint: Any, word: str) -> Any:
    """A value of this type with the word in it."""
    origin, inside = get_origin(hint), get_args(hint)
    if hint is str:
        return word
    if origin is Literal:
        return inside[0]
    if hint in (int, float, bool):
        return hint(1)
    if origin is tuple:
        return (worded(inside[0], word),)
    if origin is list:
        return [worded(inside[0], word)]
    if origin is dict or "Mapping" in str(origin):
        return {worded(inside[0], word): worded(inside[1], word)}
    if origin is types.UnionType or "Union" in str(origin):
        return worded(inside[0], word)
    return word


every = pytest.mark.parametrize("word", NASTY, ids=lambda word: ascii(word)[:24])


@every
def test_a_plain_terminal_shows_no_strangers_codes(word: str) -> None:
    for page_of in (
        lambda out: TextPage(out, prompts=False),
        lambda out: TextPage(out, prompts=True),
        lambda out: JsonPage(out, io.StringIO()),
        lambda out: pages.TextPage(out, numbered=True),
        lambda out: pages.JsonPage(out),
    ):
        out = io.StringIO()
        page = page_of(out)
        for event in nasty_events(word):
            if isinstance(event, ev.LineChanged) and isinstance(page, TextPage | JsonPage):
                continue
            page.event(event)
        if isinstance(page, TextPage):
            page.notice(word)
            page.history(word, [{"role": word, "text": word}])
        for each in out.getvalue().split("\n"):
            assert is_plain(each), (type(page), ascii(each))


@every
def test_the_list_of_calls_shows_no_strangers_codes(word: str) -> None:
    fields = {name: word for name, value in dataclasses.asdict(CallRow("")).items() if isinstance(value, str)}
    for state in ("ringing", "live", "ended"):
        for direction in ("inbound", "outbound", word):
            row = CallRow(**fields | {"state": state, "direction": direction, "call_id": CALL})
            assert is_plain(line_of(row, time.time()))


def panes(word: str) -> Iterator[Row]:
    """All rows of all panes that show calls, with the word wherever somebody outside could have put it."""
    state = State()
    for event in nasty_events(word):
        if not isinstance(event, ev.LineChanged):
            apply(state, event)
        call = state.calls.get(CALL)
        if call is not None:
            yield phone.floor(call, Phone(), time.time(), UNICODE)
    usage = ev.UsageMeasured(call_id=CALL, turn=1, stage="llm", provider=word, model=word, amounts={word: 5.0})
    apply(state, dataclasses.replace(usage, seq=2))
    call = state.calls[CALL]
    listed = list(state.rows.values())
    fields = {name: word for name, value in dataclasses.asdict(CallRow("")).items() if isinstance(value, str)}
    for number, kind in enumerate(("ringing", "live", "ended")):
        listed.append(CallRow(**fields | {"call_id": f"{word}{number}", "state": kind, "direction": "inbound"}))
    state.rows |= {row.call_id: row for row in listed}
    now = time.time()
    for width in (40, 80, 140):
        for entry in call.entries:
            yield from transcript.entry_rows(entry, width, UNICODE)
        yield from transcript.trace_rows(call, width, 20)
        yield from calls.rows(state, 0, width, now, UNICODE)
        yield from live.rows(listed, 0, width, now, UNICODE)
        yield from phone.panel(call, Phone(problem=word, fix=word, state="off"), width, now, UNICODE)
        yield phone.line(call, Phone(problem=word, fix=word, state="off"), width, now, UNICODE)
        yield from cost.rows(call, width, now)
        rows, head, foot = turns.table(call, 0, width, UNICODE)
        yield from (*rows, head, foot)
        for turn in call.turns:
            yield from turns.waterfall(turn, width, UNICODE)
            yield turns.summary(turn, call, width, UNICODE)
        texts = dict.fromkeys(("problem", "fix", "number", "public_url", "agent", "voice_url_before"), word)
        for kind in ("off", "starting", "open", "closing", "problem"):
            shown = PhoneLine(state=kind, carrier="twilio", routes=((word, word),), notes=(word,), **texts)
            yield from line.rows(shown, width, now, UNICODE, word, word)
            yield from live.empty(shown, word, width)


@every
def test_the_workbench_shows_no_strangers_codes(word: str) -> None:
    for row in panes(word):
        assert is_plain(plain(row)), ascii(plain(row))


@every
def test_a_copied_transcript_is_safe_to_paste(word: str) -> None:
    state = State()
    for event in nasty_events(word):
        if not isinstance(event, ev.LineChanged):
            apply(state, event)
    for each in transcript.text_of_call(state.calls[CALL]).split("\n"):
        assert is_plain(each), ascii(each)


# --------------------------------------------------------------------------- journal and event socket


@hostile
@given(call_id=words)
def test_no_id_leaves_the_folder_of_calls(call_id: str) -> None:
    folder = call_folder("/home/of/patter", call_id)
    assert folder.parent == Path("/home/of/patter") / CALLS
    assert folder.name not in ("", ".", "..")
    assert is_plain(folder.name)


@pytest.mark.parametrize("word", [*NASTY, "\ud800", "a\udfff"], ids=lambda word: ascii(word)[:24])
def test_a_journal_keeps_every_word_on_its_line(word: str, tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    told = [event for event in nasty_events(word) if not isinstance(event, ev.CallEnded)]
    for event in told:
        journal(event)
    journal.close()
    kept = read(journal.path(CALL))
    assert [type(event) for event in kept] == [type(event) for event in told]


@pytest.mark.anyio
@pytest.mark.parametrize("word", ["\ud800", "a\udfff", "\x1b[2J", "\u2028"], ids=ascii)
async def test_half_a_character_breaks_no_reader_of_events(word: str, tmp_path: Path) -> None:
    async with serving(tmp_path) as rig:
        address = rig.server.url.replace("http", "ws", 1) + "/api/v1/events/ws?after=0"
        for event in nasty_events(word):
            rig.bus.publish(event)
        async with rig.client.ws_connect(address) as socket:
            kinds = [json.loads((await socket.receive(5)).data).get("type") for _ in range(6)]
            assert len([kind for kind in kinds if kind]) == 5
        for path in ("/api/v1/calls", f"/api/v1/calls/{CALL}", f"/api/v1/calls/{CALL}/events"):
            status, _ = await rig.get(path)
            assert status == 200, path
