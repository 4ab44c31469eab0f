"""OpenAI's own typed models as judges of realtime events: do they know an event, and every field in it?

They own that question; they refuse to know who sends an event, and why.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

from openai.types import realtime as ga
from openai.types.beta import realtime as beta
from pydantic import BaseModel, TypeAdapter

_KINDS: dict[tuple[str, str], Any] = {
    ("ga", "client"): ga.RealtimeClientEvent,
    ("ga", "server"): ga.RealtimeServerEvent,
    ("beta", "client"): beta.RealtimeClientEvent,
    ("beta", "server"): beta.RealtimeServerEvent,
}
TOLD_BUT_UNTYPED = {"session": {"id", "object", "expires_at"}}
"""What live sessions tell beside their typed fields."""


@cache
def _adapter(shape: str, side: str) -> TypeAdapter[Any]:
    return TypeAdapter(_KINDS[shape, side])


def judged(event: Mapping[str, Any], side: str, shape: str = "ga") -> BaseModel:
    """The event as OpenAI's package reads it. Raises if it cannot, or does not know a field that is in it."""
    read = _adapter(shape, side).validate_python(dict(event))
    assert isinstance(read, BaseModel)
    unknown = sorted(_unknown(read, ""))
    assert not unknown, f"{event['type']}: {unknown}"
    return read


def _unknown(value: Any, where: str) -> Iterator[str]:
    if isinstance(value, BaseModel):
        allowed = TOLD_BUT_UNTYPED.get(where, set())
        yield from (f"{where}.{name}" for name in value.model_extra or {} if name not in allowed)
        for name in type(value).model_fields:
            yield from _unknown(getattr(value, name), name if not where else f"{where}.{name}")
    elif isinstance(value, list):
        for item in value:
            yield from _unknown(item, f"{where}[]")
