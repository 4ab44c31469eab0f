"""Providers by name: added from outside, made when asked for, and read anew from files that were edited."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from patter import registry
from patter.builders import Keys, check_agent, embedded_stt
from patter.models import Agent, TTSConfig


@pytest.fixture(autouse=True)
def forgotten() -> Iterator[None]:
    """What a test adds is gone afterwards."""
    before = [(stage, dict(stage)) for stage in (registry.STT, registry.TTS)]
    yield
    for stage, known in before:
        stage.clear()
        stage.update(known)


def make(config: object, bench: object) -> str:
    return "made"


def make_other(config: object, bench: object) -> str:
    return "made otherwise"


def test_an_added_provider_can_be_named_in_settings() -> None:
    agent = Agent("x", provider="pipeline", stt=embedded_stt(), tts=TTSConfig("parrot", ""))
    with pytest.raises(
        ValueError, match="unknown tts provider 'parrot': choose one of elevenlabs, openai, embedded, or add"
    ):
        check_agent(Keys(), agent)
    registry.add_provider("tts", "parrot", make)
    check_agent(Keys(), agent)
    assert "parrot" in registry.names("tts")
    assert registry.maker_of("tts", "parrot") is make
    assert registry.entry_of("stt", "parrot") is None


def test_a_provider_may_use_a_vendors_key() -> None:
    registry.add_provider("tts", "parrot", make, key="openai")
    agent = Agent("x", provider="pipeline", stt=embedded_stt(), tts=TTSConfig("parrot", ""))
    with pytest.raises(ValueError, match=r"tts provider 'parrot' needs an api_key: .* Patter\(openai_key="):
        check_agent(Keys(), agent)
    check_agent(Keys(openai="k"), agent)
    assert Keys(openai="k").of("parrot") == "k"


def test_a_maker_may_be_named_and_is_imported_when_it_is_asked_for() -> None:
    registry.add_provider("stt", "later", "patter.builders:whisper")
    assert registry.maker_of("stt", "later").__name__ == "whisper"
    with pytest.raises(KeyError):
        registry.maker_of("stt", "never")


@pytest.mark.parametrize(
    ("stage", "name", "key", "says"),
    [("tts", "openai", "", "already"), ("llm", "mine", "", "stage must be"), ("stt", "mine", "acme", "key must be")],
)
def test_what_cannot_be_added_is_refused(stage: registry.Stage, name: str, key: str, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        registry.add_provider(stage, name, make, key=key)


def test_adding_the_same_again_is_no_mistake() -> None:
    registry.add_provider("tts", "parrot", make)
    registry.add_provider("tts", "parrot", make)
    with pytest.raises(ValueError, match="already"):
        registry.add_provider("tts", "parrot", make_other)


def test_a_maker_from_a_file_stays_until_it_is_edited() -> None:
    assert registry.add_from_file("tts", "voice:make", make, "/one/voice.py", "d1") == "voice:make"
    registry.add_from_file("tts", "voice:make", make_other, "/one/voice.py", "d1")
    assert registry.maker_of("tts", "voice:make") is make
    registry.add_from_file("tts", "voice:make", make_other, "/one/voice.py", "d2")
    assert registry.maker_of("tts", "voice:make") is make_other


def test_files_of_two_agents_may_have_the_same_name() -> None:
    assert registry.add_from_file("tts", "voice:make", make, "/one/voice.py", "d1") == "voice:make"
    assert registry.add_from_file("tts", "voice:make", make_other, "/two/voice.py", "d1") == "voice:make#2"
    assert registry.add_from_file("tts", "voice:make", make, "/one/voice.py", "d1") == "voice:make"
    assert registry.maker_of("tts", "voice:make") is make
    assert registry.maker_of("tts", "voice:make#2") is make_other
