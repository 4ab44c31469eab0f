"""What hears a caller: the languages of the settings and of the agent are held against each other before the call."""

from __future__ import annotations

import pytest

from patter.assembly.ears import Ears
from patter.assembly.stock import Stock
from patter.audio.format import MULAW_8K
from patter.builders import Keys
from patter.clock import Clock
from patter.models import Agent, STTConfig

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize(
    ("stt", "language", "told"),
    [
        (STTConfig("deepgram", "k"), "en-GB", False),
        (STTConfig("deepgram", "k"), "de", True),
        (STTConfig("deepgram", "k", "de-AT"), "de", False),
        (STTConfig("deepgram", "k", "multi"), "de", False),
        (STTConfig("deepgram", "k", model="flux-general-multi"), "de", False),
        (STTConfig("deepgram", "k", options={"language": "de"}), "de", False),
        (STTConfig("whisper", "k"), "pt-BR", True),
        (None, "de", False),
    ],
)
async def test_an_agent_of_another_language_than_its_ears_is_noted(
    stt: STTConfig | None, language: str, told: bool
) -> None:
    notes: list[str] = []
    async with Stock(Clock(), Keys(deepgram="k")) as stock:
        Ears(stock).pick(Agent("Be kind.", provider="pipeline", stt=stt, language=language), MULAW_8K, MULAW_8K, notes)
    assert [note for note in notes if "stt settings" in note] == notes
    assert bool(notes) is told
