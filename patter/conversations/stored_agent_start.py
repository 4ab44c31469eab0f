"""What of an agent's definition replaces the stored agent's, and what it means when the vendor does not allow that.

It owns the comparison of the two definitions and the vendor's reasons in plain words; it refuses to know sockets.
Only what the user really set is sent: a stored agent is a choice, and an empty prompt or greeting leaves it as it is.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from patter.builders import fill_variables
from patter.exceptions import ProviderError
from patter.models import Agent
from patter.providers.elevenlabs.account import ELEVENLABS
from patter.wire.elevenlabs_convai import Failure, Initiation, Overrides

_THEIRS = re.compile(r"\{\{.*?\}\}")  # the vendor fills these itself, from the same variables
_FIELDS = {"prompt": "system_prompt", "first_message": "first_message", "language": "language", "voice_id": "voice"}
"""The vendor's name of an override → the agent's field."""
_WORDS = {"prompt": ("prompt",), "first_message": ("first",), "language": ("language",), "voice_id": ("voice",)}
"""How the vendor's sentences speak of them."""

_KINDS: dict[str, tuple[str, str, bool]] = {
    "override_error": ("the stored agent does not allow what this agent replaces", "", False),
    "missing_dynamic_variable": (
        "the stored agent uses a variable that this agent does not give",
        "add it to the agent's variables",
        False,
    ),
    "invalid_message": ("it could not read what it was sent", "", False),
    "missing_fields": ("it misses something in what it was sent", "", False),
    "safety_violation": ("it ended the conversation for its content rules", "", False),
    "llm_timeout": ("the agent's model took longer than 20 s", "choose a faster model for the stored agent", True),
    "llm_error": ("the agent's model failed", "look at the stored agent's model", True),
    "custom_llm_error": ("the agent's own model server failed", "look at the stored agent's custom model", True),
    "cascade_brain_error": ("all of the agent's models failed", "try again later", True),
    "tts_cascade_error": ("all of the agent's voices failed", "look at the stored agent's voice", True),
    "asr_transcription_error": ("it could not transcribe the caller", "try again", True),
    "transport_receive_timeout": ("it heard nothing from the caller's side for 60 s", "check the line", True),
    "max_duration_exceeded": (
        "the stored agent's longest duration is reached",
        "raise it in the stored agent's settings",
        False,
    ),
    "quota": ("no credit left, or not in this plan", f"look at your plan and credit at {ELEVENLABS.title}", False),
    "concurrency": ("too many conversations at once", "raise the limit of the account, or try again later", False),
}
"""The vendor's reason → (what it means, what to do, whether another try may help)."""
_PHRASES = (("override", "override_error"), ("dynamic variable", "missing_dynamic_variable"), ("quota", "quota"),
            ("credit", "quota"), ("concurren", "concurrency"), ("max duration", "max_duration_exceeded"))  # fmt: skip


def prompt_of(agent: Agent) -> str:
    """The agent's system prompt with its variables put in; the vendor's own `{{…}}` stay as they are."""
    return _filled(agent.system_prompt, agent.variables)


async def initiation_of(agent: Agent, voice_id: Callable[[str], Awaitable[str]]) -> Initiation:
    """How a conversation with this agent begins. `voice_id` finds the id of a voice. Raises ProviderError.

    A language or voice that is the API's default counts as not set: the stored agent's stays."""
    prompt, greeting = prompt_of(agent), _filled(agent.first_message, agent.variables)
    language = language_of(agent.language) if agent.language != Agent.language else None
    voice = await voice_id(agent.voice) if agent.voice not in ("", Agent.voice) else None
    overrides = Overrides(prompt if prompt.strip() else None, greeting if greeting.strip() else None, language, voice)
    plain = {key: value if _is_plain(value) else str(value) for key, value in (agent.variables or {}).items()}
    return Initiation(overrides, plain)


def language_of(tag: str) -> str:
    """A BCP-47 tag as the vendor writes languages: "de-AT" → "de", "pt-BR" → "pt-br"."""
    lower = tag.lower()
    return lower if lower == "pt-br" else lower.partition("-")[0]


def _is_plain(value: Any) -> bool:
    return isinstance(value, str | int | float | bool)


def _filled(text: str, variables: Mapping[str, Any] | None) -> str:
    theirs = _THEIRS.findall(text)
    pieces = [fill_variables(piece, variables) for piece in _THEIRS.split(text)]
    return "".join(piece + mark for piece, mark in zip(pieces, [*theirs, ""], strict=True))


def kind_of(failure: Failure) -> str:
    """The vendor's reason, by its word for it or, where it gives only a sentence, by that; "" if it says neither."""
    if failure.kind in _KINDS:
        return failure.kind
    said = f"{failure.kind} {failure.said}".lower()
    return next((kind for kind in _KINDS if kind in said), "") or next(
        (kind for phrase, kind in _PHRASES if phrase in said), ""
    )


def refused_overrides(failure: Failure, sent: Overrides) -> tuple[str, ...]:
    """Which overrides the vendor's sentence speaks of, of those that were `sent`; all of them if it names none."""
    said = failure.said.lower()
    named = tuple(name for name in sent.names if any(word in said for word in _WORDS[name]))
    return named or sent.names


def only_greeting_refused(error: ProviderError, sent: Overrides) -> bool:
    """Whether the vendor would have begun the conversation with its own greeting."""
    told = Failure(error.status, error.code, error.problem)
    return error.code == "override_error" and refused_overrides(told, sent) == ("first_message",)


def explained(error: ProviderError, failure: Failure | None, sent: Overrides) -> ProviderError:
    """The same error in plain words, as far as the vendor told why: by an event before, or in the closing frame."""
    told = failure or Failure(error.status, "", error.code)
    kind = kind_of(told)
    if not kind:
        return error
    problem, fix, again = _KINDS[kind]
    if kind == "override_error":
        fields = ", ".join(_FIELDS[name] for name in refused_overrides(told, sent))
        problem = f"the stored agent does not let a call replace its {fields}"
        fix = f"allow that override in the stored agent's security settings, or leave {fields} empty here"
    if told.said and kind != "override_error":
        problem += f" ({told.said[:200]})"
    return ProviderError(
        problem,
        provider=error.provider,
        stage=error.stage,
        retryable=again,
        fix=fix or error.fix,
        status=error.status or told.code,
        code=kind,
    )
