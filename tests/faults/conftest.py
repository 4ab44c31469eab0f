"""What the fault matrix shares: a certificate that nobody vouches for, and a voice detector that takes tones for voice."""

from __future__ import annotations

import pytest

from patter.assembly import ears
from patter.providers.level_detector import LevelDetector
from tests.providers.conftest import self_signed

__all__ = ["self_signed"]


@pytest.fixture(autouse=True)
def loudness_is_voice(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a machine without the neural detector, to which tones are no voice."""
    monkeypatch.setattr(ears, "SileroDetector", LevelDetector)
