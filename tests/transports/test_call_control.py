"""What can be done to a call besides talking: keys, hand-over, hanging up; each the way its carrier needs it."""

from __future__ import annotations

import anyio
import pytest

from patter.audio.dtmf import KeyDetector
from patter.exceptions import PatterError
from patter.signals import HungUp, MachineDetected, PlayoutEnded, PlayoutStarted
from patter.wire.stream import Play
from tests.support.lines import LINES, TELNYX, TWILIO, LineKind
from tests.support.stream_call import Call, Rest
from tests.support.virtual_time import VIRTUAL_BACKEND

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> object:
    return VIRTUAL_BACKEND


def played(call: Call) -> bytes:
    return b"".join(message.sound for message in call.take() if isinstance(message, Play))


def answer_marks(call: Call) -> None:
    """The carrier has played all that it was given, and says so."""
    for name in call.marks():
        call.transport.feed(call.chair.mark(name))


# --------------------------------------------------------------------------- keys


@pytest.mark.parametrize("line", [line for line in LINES if line.name.startswith("twilio")], ids=str)
@pytest.mark.parametrize("rest", [None, Rest()], ids=["rehearsal", "with a carrier"])
async def test_where_no_request_presses_keys_they_are_played_as_tones(line: LineKind, rest: Rest | None) -> None:
    call = Call(line, rest)
    assert call.transport.abilities.digits_out
    await call.transport.send_digits("1w2#")
    assert KeyDetector(line.plays).hear(played(call)) == "12#"
    assert rest is None or rest.asked == []


async def test_tones_wait_for_what_is_being_said_and_belong_to_no_reply() -> None:
    call = Call()
    call.play(300)
    await call.transport.send_digits("5")
    call.transport.finish(1)
    assert call.sizes() == [60, "mark", 240, 160, "mark", 40, "mark"]
    await anyio.sleep(0.4)
    assert call.transport.heard_ms(1) == pytest.approx(60)  # no mark has come back yet


async def test_tones_are_dropped_by_a_clear_and_do_not_count_as_heard() -> None:
    call = Call()
    call.play(300)
    call.transport.finish(1)
    answer_marks(call)
    await call.transport.send_digits("555")
    call.take()
    await anyio.sleep(0.1)
    assert call.transport.clear() == pytest.approx(300)
    assert call.sizes() == ["clear"]
    assert call.transport.heard_ms(1) == pytest.approx(300)


async def test_nobody_is_told_that_a_tone_was_heard() -> None:
    call = Call()
    await call.transport.send_digits("5")
    await anyio.sleep(0.5)
    answer_marks(call)
    call.play(100)
    call.transport.finish(1)
    await anyio.sleep(0.1)
    answer_marks(call)
    told = [signal for signal in await call.said() if isinstance(signal, (PlayoutStarted, PlayoutEnded))]
    assert [(type(signal), signal.reply_id) for signal in told] == [(PlayoutStarted, 1), (PlayoutEnded, 1)]


async def test_where_the_carrier_presses_keys_it_is_asked_to() -> None:
    rest = Rest()
    call = Call(TELNYX, rest)
    await call.transport.send_digits("1w2#")
    assert rest.asked == [("digits", "1w2#")]
    assert call.take() == []


async def test_what_is_no_key_is_refused() -> None:
    with pytest.raises(ValueError, match="'x' is not a key"):
        await Call().transport.send_digits("1x")


async def test_a_line_without_a_carrier_behind_it_says_what_it_cannot_do() -> None:
    call = Call(TELNYX)
    assert not call.transport.abilities.transfer
    assert not call.transport.abilities.announce
    assert not call.transport.abilities.digits_out
    with pytest.raises(PatterError, match="cannot transfer"):
        await call.transport.transfer("+14155550123")
    with pytest.raises(PatterError, match="cannot send digits"):
        await call.transport.send_digits("1")
    with pytest.raises(PatterError, match="cannot speak"):
        await call.transport.announce("Goodbye.")


# --------------------------------------------------------------------------- hanging up


async def test_a_call_that_ends_with_its_stream_is_hung_up_by_closing_it() -> None:
    rest = Rest()
    call = Call(TWILIO, rest)
    await call.transport.hang_up()
    await call.transport.aclose()
    assert (call.socket.closed, rest.asked) == (1, [])


async def test_a_call_that_outlives_its_stream_is_hung_up_at_the_carrier() -> None:
    rest = Rest()
    call = Call(TELNYX, rest)
    call.play(1_000)
    call.take()
    await call.transport.hang_up()
    assert rest.asked == [("hang up",)]
    assert call.sizes() == ["clear"]
    assert call.socket.closed == 1
    assert await call.said() == [HungUp("agent_ended")]


async def test_a_line_that_was_lost_is_hung_up_at_the_carrier_all_the_same() -> None:
    rest = Rest()
    call = Call(TELNYX, rest)
    call.transport.lost()
    await call.transport.hang_up()
    assert rest.asked == [("hang up",)]
    assert (call.socket.closed, call.take()) == (0, [])


async def test_a_caller_who_has_hung_up_is_not_hung_up_again() -> None:
    rest = Rest()
    call = Call(TELNYX, rest)
    call.transport.feed(call.chair.stop())
    await call.transport.hang_up()
    assert rest.asked == []


async def test_a_carrier_that_does_not_hang_up_is_logged_and_the_stream_is_closed(
    caplog: pytest.LogCaptureFixture,
) -> None:
    call = Call(TELNYX, Rest(refuses="Telnyx is down."))
    await call.transport.hang_up()
    assert call.socket.closed == 1
    assert caplog.records[0].why == "Telnyx is down."


async def test_hanging_up_that_is_given_up_on_still_closes_the_stream() -> None:
    call = Call(TELNYX, Rest(takes_s=60))
    with anyio.move_on_after(5):
        await call.transport.hang_up()
    assert call.socket.closed == 1


# --------------------------------------------------------------------------- handing the call over


@pytest.mark.parametrize("line", [TWILIO, TELNYX], ids=str)
async def test_a_call_that_was_handed_over_is_left_alone(line: LineKind) -> None:
    rest = Rest()
    call = Call(line, rest)
    assert call.transport.abilities.transfer
    await call.transport.transfer("+14155550123", "Wants a refund.")
    await call.transport.hang_up()
    assert rest.asked == [("transfer", "+14155550123", "Wants a refund.")]
    assert call.socket.closed == 1


@pytest.mark.parametrize("line", [TWILIO, TELNYX], ids=str)
async def test_an_announcement_is_not_cut_by_hanging_up(line: LineKind) -> None:
    rest = Rest()
    call = Call(line, rest)
    assert call.transport.abilities.announce
    await call.transport.announce("Please call us back.")
    await call.transport.hang_up()
    assert rest.asked == [("announce", "Please call us back.")]


async def test_a_transfer_that_failed_leaves_the_call_with_us() -> None:
    rest = Rest(refuses="Nobody answered.")
    call = Call(TELNYX, rest)
    with pytest.raises(PatterError, match="Nobody answered"):
        await call.transport.transfer("+14155550123")
    call.play(100)
    assert call.sizes() == [60, "mark", 40]
    call.transport.feed(call.chair.stop())
    assert await call.said() == [HungUp("caller_hung_up")]


@pytest.mark.parametrize("line", [TWILIO, TELNYX], ids=str)
async def test_a_stream_that_ends_before_the_transfer_is_answered_leaves_the_call_alone(line: LineKind) -> None:
    rest = Rest(takes_s=0.5)
    call = Call(line, rest)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(call.transport.transfer, "+14155550123")
        await anyio.sleep(0.2)
        call.transport.lost()
    await call.transport.hang_up()
    assert rest.asked == [("transfer", "+14155550123", "")]


# --------------------------------------------------------------------------- who answered


async def test_the_carriers_verdict_on_who_answered_is_a_signal() -> None:
    call = Call()
    call.transport.machine_detected("machine", ready=False)
    call.transport.machine_detected("machine")
    call.transport.lost()
    call.transport.machine_detected("human")
    *verdicts, _ = await call.said()
    assert verdicts == [MachineDetected("machine", False), MachineDetected("machine", True)]
