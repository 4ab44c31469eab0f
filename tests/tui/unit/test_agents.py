"""Agent files: saved whole or not at all, and unsaved text never lost."""

from __future__ import annotations

from pathlib import Path

import pytest

from patter_tui import agents, paths, settings


def test_saving_replaces_the_whole_file_and_keeps_its_permissions(tmp_path: Path) -> None:
    file = tmp_path / "a.toml"
    file.write_text("old")
    file.chmod(0o600)
    agent = agents.open_file(file)
    agents.save(agent, "new\ntext")
    assert file.read_text() == "new\ntext"
    assert file.stat().st_mode & 0o777 == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["a.toml"]


def test_a_failed_save_leaves_the_old_file_and_no_rubbish(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "a.toml"
    file.write_text("old")
    agent = agents.open_file(file)

    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space left"):
        agents.save(agent, "new")
    assert file.read_text() == "old"
    assert len(list(tmp_path.iterdir())) == 1


def test_a_link_to_a_file_stays_a_link(tmp_path: Path) -> None:
    file, link = tmp_path / "real.toml", tmp_path / "link.toml"
    file.write_text("old")
    link.symlink_to(file)
    agents.save(agents.open_file(link), "new")
    assert link.is_symlink()
    assert file.read_text() == "new"


def test_a_draft_lives_until_it_is_saved(tmp_path: Path) -> None:
    file, drafts = tmp_path / "a.toml", tmp_path / "drafts"
    file.write_text("saved")
    agent = agents.open_file(file)
    agents.keep_draft(drafts, agent, "typed but not saved")
    assert agents.draft_of(drafts, agents.open_file(file)) == "typed but not saved"
    agents.keep_draft(drafts, agent, "saved")
    assert agents.draft_of(drafts, agent) is None
    assert list(drafts.iterdir()) == []


def test_two_agents_of_the_same_name_have_two_drafts(tmp_path: Path) -> None:
    one, two = agents.AgentText(tmp_path / "x" / "a.toml", ""), agents.AgentText(tmp_path / "y" / "a.toml", "")
    agents.keep_draft(tmp_path, one, "first")
    agents.keep_draft(tmp_path, two, "second")
    assert agents.draft_of(tmp_path, one) == "first"


def test_the_difference_names_changed_lines_only() -> None:
    assert agents.difference("a\nb\nc", "a\nB\nc") == ["- b", "+ B"]
    assert agents.difference("same", "same") == []


def test_caller_lines_of_whole_and_of_broken_files() -> None:
    text = '[rehearsal]\ncaller = ["hello", {say = "wait", after_ms = 900}, 7]'
    assert agents.caller_lines(text) == ["hello", {"say": "wait", "after_ms": 900}]
    assert agents.caller_lines("rehearsal = 3") == []
    assert agents.caller_lines("= broken") == []


def test_the_demo_agent_is_laid_down_once_and_never_over_anything(tmp_path: Path) -> None:
    places = paths.find(str(tmp_path / "home"))
    paths.prepare(places)
    file = places.agents / "riverside.toml"
    assert len(agents.caller_lines(file.read_text())) >= 5
    file.write_text("mine")
    paths.prepare(places)
    assert file.read_text() == "mine"
    assert places.home.stat().st_mode & 0o777 == 0o700


def test_no_demo_where_there_are_agents_already(tmp_path: Path) -> None:
    places = paths.find(str(tmp_path))
    places.agents.mkdir()
    (places.agents / "mine.toml").write_text("")
    paths.prepare(places)
    assert [path.name for path in places.agents.iterdir()] == ["mine.toml"]


def test_settings_are_remembered_and_a_broken_file_is_said(tmp_path: Path) -> None:
    settings.save(tmp_path, settings.Settings(theme="patter-light", agent="a"))
    assert settings.load(tmp_path) == (settings.Settings(theme="patter-light", agent="a"), "")
    (tmp_path / settings.FILE).write_text("{broken")
    remembered, problem = settings.load(tmp_path)
    assert remembered == settings.Settings()
    assert "default settings" in problem
