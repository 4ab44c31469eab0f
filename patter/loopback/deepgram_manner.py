"""How a played Deepgram behaves: its timing, and who turns sound into words.

It owns the settings; it refuses to act on them.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

Transcribe = Callable[[bytes], "str | Awaitable[str]"]
"""PCM 16 kHz of a stretch of speech → its words; "" for none."""


@dataclass(frozen=True, slots=True)
class Manner:
    """Times named `_ms` are of the audio heard, those named `_s` real seconds.

    `onset_ms` of voice are needed for a SpeechStarted. Version 1 sends provisional words every `interim_ms` and final ones
    after `final_ms` at the latest; version 2 an update every `update_ms`, and is as sure as its threshold that a turn is over
    after `end_of_turn_ms` of silence. `answer_s` is how long the vendor thinks before it says anything. `idle_s`: it closes a
    stream that says nothing for so long. `placed_words`: whether version 2 tells where words are."""

    onset_ms: float = 100.0
    interim_ms: float = 1000.0
    final_ms: float = 3500.0
    update_ms: float = 250.0
    end_of_turn_ms: float = 400.0
    answer_s: float = 0.0
    idle_s: float = 10.0
    loud_dbfs: float = -45.0
    placed_words: bool = True
