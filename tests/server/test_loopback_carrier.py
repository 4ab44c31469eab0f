"""The shipped carrier of this machine and the server's front door fit: calls come in, sound goes both ways, nobody mixes."""

from __future__ import annotations

from pathlib import Path

import aiohttp
import anyio
import pytest

from patter.clock import Clock
from patter.events import CallEnded, CallStarted
from patter.exceptions import PatterConnectionError
from patter.loopback.twilio import CallOver, Dial, LoopbackTwilio
from tests.support.serving import Rig, serving

pytestmark = pytest.mark.anyio


class Telephone:
    """Somebody who says one sample all the time."""

    def __init__(self, dial: Dial, session: aiohttp.ClientSession, sample: int) -> None:
        self.frame = bytes([sample]) * dial.format.bytes_for(20)
        self.carrier = LoopbackTwilio(dial, session, Clock(), lambda: self.frame, lambda frame: None)
        self.over: CallOver | None = None

    async def call(self) -> None:
        self.over = await self.carrier.call()


async def dial(rig: Rig, line: str = "phone") -> Dial:
    return Dial.from_json((await rig.rehearse(line))["dial"])


@pytest.mark.parametrize("line", ["phone", "wideband"])
async def test_many_telephones_call_at_once(line: str, tmp_path: Path) -> None:
    async with serving(tmp_path) as rig, aiohttp.ClientSession() as session:
        events = rig.bus.subscribe()
        phones = [Telephone(await dial(rig, line), session, sample) for sample in range(1, 9)]
        async with anyio.create_task_group() as tasks:
            for phone in phones:
                tasks.start_soon(phone.call)
            for _ in phones:
                await rig.seen(CallStarted, events)
            calls = [rig.calls.sessions[phone.carrier.call_sid] for phone in phones]
            with anyio.fail_after(20):
                while not all(len(call.heard) > 5 for call in calls):
                    await anyio.lowlevel.checkpoint()
            for call in calls[::2]:
                await call.say("Hello")
                await rig.post(f"/api/v1/calls/{call.call.call_id}/hangup")
            for phone in phones[1::2]:
                phone.carrier.hang_up()
        assert [phone.over.reason for phone in phones if phone.over] == ["agent_hung_up", "hung_up"] * 4
        for phone, call in zip(phones, calls, strict=True):
            assert set(call.heard) == {phone.frame}
            assert phone.carrier.violations == []
            ended = await rig.seen(CallEnded, rig.everything(), call_id=call.call.call_id)
            assert isinstance(ended, CallEnded)
            assert ended.reason in ("operator_ended", "caller_hung_up")


async def test_a_number_nobody_answers_is_told_to_the_dialler(tmp_path: Path) -> None:
    async with serving(tmp_path) as rig, aiohttp.ClientSession() as session:
        known = (await rig.rehearse("phone"))["dial"]
        phone = Telephone(Dial.from_json(known | {"to": "+15005569999"}), session, 1)
        with pytest.raises(PatterConnectionError, match="No agent answers"):
            await phone.call()
