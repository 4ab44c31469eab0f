"""Names of vendors' models that are gone, and what answers in their place: dated, so that a name is kept while it lives.

It owns the table; it refuses to know who asks. An unknown name is nobody's business but the vendor's.
"""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass
from datetime import date

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Retired:
    """From `gone` on, `successor` is used ("" = there is none). `source`: where the vendor says so."""

    gone: date
    successor: str
    source: str


OPENAI = "OpenAI, Deprecations"
TABLE: dict[str, Retired] = {
    "gpt-4o-realtime-preview": Retired(date(2026, 5, 7), "gpt-realtime-2.1", OPENAI),
    "gpt-4o-mini-realtime-preview": Retired(date(2026, 5, 7), "gpt-realtime-2.1-mini", OPENAI),
    "gpt-4o-mini-realtime-preview-2024-12-17": Retired(date(2026, 7, 23), "gpt-realtime-2.1-mini", OPENAI),
    "gpt-realtime": Retired(date(2027, 1, 20), "gpt-realtime-2.1", OPENAI),
    "gpt-realtime-mini": Retired(date(2027, 1, 20), "gpt-realtime-2.1-mini", OPENAI),
    "gpt-4o": Retired(date(2027, 1, 14), "gpt-6-luna", OPENAI),
    "gpt-4o-mini": Retired(date(2027, 1, 14), "gpt-6-luna", OPENAI),
    "gpt-4.1": Retired(date(2027, 1, 14), "gpt-6-luna", OPENAI),
    "gpt-4.1-mini": Retired(date(2027, 1, 14), "gpt-6-luna", OPENAI),
    "gpt-4.1-nano": Retired(date(2026, 10, 23), "gpt-6-luna", OPENAI),
    "gpt-5": Retired(date(2026, 12, 11), "gpt-6.1-sol", OPENAI),
    "gpt-5-mini": Retired(date(2026, 12, 11), "gpt-6.1-terra", OPENAI),
    "gpt-5-nano": Retired(date(2026, 12, 11), "gpt-6-luna", OPENAI),
    "o3": Retired(date(2026, 12, 11), "gpt-6.1-sol", OPENAI),
    "whisper-1": Retired(date(2027, 2, 26), "gpt-transcribe", OPENAI),
    "gpt-4o-transcribe": Retired(date(2027, 2, 26), "gpt-transcribe", OPENAI),
    "gpt-4o-mini-transcribe": Retired(date(2027, 2, 26), "gpt-transcribe", OPENAI),
    "gpt-4o-transcribe-diarize": Retired(date(2027, 2, 26), "gpt-transcribe", OPENAI),
    "tts-1": Retired(date(2027, 1, 6), "", OPENAI),
    "tts-1-hd": Retired(date(2027, 1, 6), "", OPENAI),
    "gpt-4o-mini-tts": Retired(date(2027, 1, 6), "", OPENAI),
}
_DATED = re.compile(r"-\d{4}-\d{2}-\d{2}$")
_warned: set[str] = set()


def living(model: str, today: date | None = None) -> tuple[str, str]:
    """(the name to use, a sentence for the user or ""): `model` itself, or its successor once it is gone.

    A dated snapshot goes with its family, unless it has a date of its own. A process warns of each name once in its log."""
    found = TABLE.get(model) or TABLE.get(_DATED.sub("", model))
    if found is None or (today or date.today()) < found.gone:
        return model, ""
    if not found.successor:
        sentence = f"The model {model} ended on {found.gone.isoformat()} and has no successor: choose another provider."
    else:
        sentence = f"The model {model} ended on {found.gone.isoformat()}: {found.successor} is used instead."
    if model not in _warned:
        _warned.add(model)
        log.warning("%s", sentence)
    return found.successor or model, sentence
