"""Small limits for the whole folder, so that no test has to wait for a real one."""

from __future__ import annotations

import pytest

from patter.server import answers, crowd, front_door, listener, media_socket


@pytest.fixture(autouse=True)
def small_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(front_door, "LAST_WORD_S", 0.0)
    monkeypatch.setattr(listener, "LINGER_S", 0.1)
    monkeypatch.setattr(listener, "GOODBYE_S", 0.2)
    monkeypatch.setattr(crowd, "UNREAD_S", 0.2)
    monkeypatch.setattr(media_socket, "CLOSE_S", 0.2)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """For what is slow on purpose. Other tests may not have it: a busy machine is slow, too."""
    monkeypatch.setattr(listener, "IDLE_CONNECTION_S", 0.3)
    monkeypatch.setattr(answers, "BODY_SECONDS", 0.3)
    monkeypatch.setattr(media_socket, "START_SECONDS", 0.3)
