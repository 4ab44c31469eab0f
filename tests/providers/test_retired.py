"""Retired names are replaced from their last day on, with one warning; everything else is passed on as it is."""

from __future__ import annotations

import logging
from datetime import date, timedelta

import pytest

from patter.providers import retired
from patter.providers.retired import TABLE, living

DAYS = {
    "2026-05-07": ["gpt-4o-realtime-preview", "gpt-4o-mini-realtime-preview"],
    "2026-07-23": ["gpt-4o-mini-realtime-preview-2024-12-17"],
    "2026-10-23": ["gpt-4.1-nano"],
    "2026-12-11": ["gpt-5", "gpt-5-mini", "gpt-5-nano", "o3"],
    "2027-01-06": ["tts-1", "tts-1-hd", "gpt-4o-mini-tts"],
    "2027-01-14": ["gpt-4o", "gpt-4o-mini", "gpt-4.1", "gpt-4.1-mini"],
    "2027-01-20": ["gpt-realtime", "gpt-realtime-mini"],
    "2027-02-26": ["whisper-1", "gpt-4o-transcribe", "gpt-4o-mini-transcribe", "gpt-4o-transcribe-diarize"],
}
"""As the vendor announced them."""


@pytest.fixture(autouse=True)
def unwarned(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retired, "_warned", set())


def test_the_table_is_what_was_announced() -> None:
    assert {name: row.gone.isoformat() for name, row in TABLE.items()} == {
        name: day for day, names in DAYS.items() for name in names
    }


@pytest.mark.parametrize("name", list(TABLE))
def test_a_name_lives_until_its_day(name: str) -> None:
    row = TABLE[name]
    assert living(name, row.gone - timedelta(days=1)) == (name, "")
    used, sentence = living(name, row.gone)
    assert used == (row.successor or name)
    assert name in sentence
    assert row.gone.isoformat() in sentence
    assert row.successor in sentence


@pytest.mark.parametrize("name", [row.successor for row in TABLE.values() if row.successor])
def test_no_successor_is_retired_itself(name: str) -> None:
    assert living(name, date(2030, 1, 1)) == (name, "")


def test_a_snapshot_goes_with_its_family_or_on_its_own_day() -> None:
    day = date(2026, 6, 1)
    assert living("gpt-4o-realtime-preview-2025-06-03", day)[0] == "gpt-realtime-2.1"
    assert living("gpt-4o-mini-realtime-preview", day)[0] == "gpt-realtime-2.1-mini"
    assert living("gpt-4o-mini-realtime-preview-2024-12-17", day) == ("gpt-4o-mini-realtime-preview-2024-12-17", "")
    assert living("gpt-4o-mini-tts-2025-12-15", date(2027, 1, 6))[1].endswith("choose another provider.")


@pytest.mark.parametrize("name", ["", "gpt-6-luna", "llama3.2", "gpt-4o-house-blend", "nova-3-2025-01-01"])
def test_an_unknown_name_passes(name: str) -> None:
    assert living(name, date(2030, 1, 1)) == (name, "")


def test_each_name_is_warned_of_once(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        sentences = {living("gpt-4o-mini-realtime-preview", date(2026, 11, 22))[1] for _ in range(3)}
    assert len(sentences) == 1
    assert [record.getMessage() for record in caplog.records] == list(sentences)
