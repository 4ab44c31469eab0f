"""Many calls at once on one shared voice, some of them interrupted, some cut: nobody ever hears what another call says."""

from __future__ import annotations

import random
from contextlib import aclosing
from dataclasses import dataclass, field

import anyio
import pytest

from patter.audio.format import MULAW_8K, PCM_8K, AudioChunk
from patter.clock import Clock
from patter.exceptions import ProviderError
from patter.loopback.elevenlabs_tts import SARAH, LoopbackElevenLabsTTS
from patter.loopback.tones import as_line
from patter.models import TTSConfig
from patter.ports import Synthesizer
from patter.providers.bench import Bench
from patter.providers.dialer import Dialer
from patter.providers.elevenlabs.maker import make
from patter.providers.vendor_http import new_http

pytestmark = pytest.mark.anyio

TEXTS = [f"Call number {number} is about something else." for number in range(24)]
CALLS, SENTENCES = 16, 6


def noise(text: str) -> bytes:
    """Half a second or so that no other text sounds like."""
    return random.Random(text.strip()).randbytes(PCM_8K.bytes_for(500))


@dataclass
class Tally:
    whole: int = 0
    wrong: list[str] = field(default_factory=list)
    broken: int = 0


async def call(voice: Synthesizer, dice: random.Random, tally: Tally) -> None:
    for _ in range(SENTENCES):
        text, heard = dice.choice(TEXTS), b""
        sound = as_line(noise(text), MULAW_8K)
        with anyio.move_on_after(dice.choice([20.0, 20.0, 0.0, dice.random() * 0.05])):
            try:
                async with aclosing(voice.synthesize(text)) as pieces:  # type: ignore[type-var]
                    async for piece in pieces:
                        heard += piece.data if isinstance(piece, AudioChunk) else b""
                        await anyio.sleep(dice.choice([0.0, 0.0, 0.005]))
            except ProviderError:
                tally.broken += 1
        tally.whole += heard == sound
        if not sound.startswith(heard):
            tally.wrong.append(text)


@pytest.mark.parametrize("cuts", [0, 3], ids=["calm", "cut"])
@pytest.mark.parametrize("way", ["websocket", "websocket unattended", "http"])
async def test_nobody_hears_what_another_call_says(way: str, cuts: int) -> None:
    tally, dice = Tally(), random.Random(f"{way}{cuts}")
    vendor = LoopbackElevenLabsTTS(key="k", voice=noise, chunk_ms=40, between_s=0.003)
    with anyio.fail_after(40):
        async with vendor, anyio.create_task_group() as tasks, new_http() as http:
            dialer, attended = Dialer(http), "unattended" not in way
            bench = Bench(
                http, dialer, Clock(), "k", vendor.base_url, plays=MULAW_8K, tasks=tasks if attended else None
            )
            voice = make(TTSConfig("elevenlabs", "", SARAH, streaming=way.split()[0]), bench)
            async with anyio.create_task_group() as calls:
                for _ in range(CALLS):
                    calls.start_soon(call, voice, random.Random(dice.random()), tally)
                for _ in range(cuts):
                    await anyio.sleep(0.1)
                    vendor.stage.cut_all()
            await voice.aclose()
            await dialer.aclose()
            tasks.cancel_scope.cancel()
    assert tally.wrong == []
    assert tally.whole >= CALLS
    assert tally.broken == 0 or cuts
