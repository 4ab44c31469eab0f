"""A home has one engine at a time; what a dead one left behind is adopted over."""

from __future__ import annotations

import json
import logging
import os
import stat
from pathlib import Path

import pytest

from patter.exceptions import AgentFileError
from patter.server.home import Home, HomeTaken, HomeUnusable
from patter.server.log import start_log, stop_log


def test_a_second_engine_is_told_who_lives_there(tmp_path: Path) -> None:
    first, second = Home(tmp_path / "home"), Home(tmp_path / "home")
    first.take()
    with pytest.raises(HomeTaken, match="just starting"):
        second.take()
    first.announce({"pid": 12, "port": 34, "token": "secret"})
    with pytest.raises(HomeTaken, match="process 12, port 34") as told:
        second.take()
    assert "secret" not in str(told.value)
    first.release()
    assert not (tmp_path / "home" / "engine.json").exists()
    second.take()
    second.release()


def test_a_stale_file_is_adopted_over(tmp_path: Path) -> None:
    (tmp_path / "engine.json").write_text(json.dumps({"pid": os.getpid(), "port": 1, "token": "old"}))
    home = Home(tmp_path)
    home.take()
    assert not (tmp_path / "engine.json").exists()
    home.release()


@pytest.mark.skipif(os.name != "posix", reason="permissions of POSIX")
def test_the_token_is_for_the_users_eyes_only(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        home = Home(tmp_path / "home")
        home.take()
        home.announce({"token": "secret"})
        info = tmp_path / "home" / "engine.json"
        assert stat.S_IMODE(info.stat().st_mode) == 0o600
        assert stat.S_IMODE((tmp_path / "home").stat().st_mode) == 0o700
        assert json.loads(info.read_text()) == {"token": "secret"}
        assert sorted(item.name for item in (tmp_path / "home").iterdir()) == ["engine.json", "engine.lock"]
        home.release()
    finally:
        os.umask(before)


def test_a_home_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(HomeUnusable, match="cannot be used"):
        Home(tmp_path / "file" / "home").take()


def test_the_log_keeps_words_and_secrets_out(tmp_path: Path) -> None:
    handler = start_log(tmp_path / "engine.log")
    log = logging.getLogger("patter.test")
    try:
        log.info("a call began", extra={"call_id": "CA1", "text": "my card is 4111", "token": "s3cret"})
        try:
            try:
                raise KeyError("my card is 4111")
            except KeyError as inner:
                raise RuntimeError("caller said: my card is 4111") from inner
        except RuntimeError:
            log.exception("a tool failed")
        try:
            raise ExceptionGroup("my card is 4111", [AgentFileError("unknown key", line=3), OSError(2, "No such file")])
        except ExceptionGroup:
            log.exception("two things failed")
        logging.getLogger("some.library").info("my card is 4111")
    finally:
        stop_log(handler)
        logging.getLogger("patter").setLevel(logging.NOTSET)
        logging.getLogger().setLevel(logging.WARNING)
    text = (tmp_path / "engine.log").read_text()
    assert "4111" not in text
    assert "s3cret" not in text
    assert "a call began call_id='CA1'" in text
    for known in ("RuntimeError", "caused by", "KeyError", "test_home.py:", "unknown key", "No such file"):
        assert known in text
    if os.name == "posix":
        assert stat.S_IMODE((tmp_path / "engine.log").stat().st_mode) == 0o600
