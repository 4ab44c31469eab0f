"""Where OpenAI's realtime sessions are opened, under which model name, and what their refusals mean in plain words.

It owns the address, the headers and the reading of errors; it refuses to know what is said over the socket.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from typing import Final
from urllib.parse import quote

from patter.exceptions import ProviderError
from patter.providers.address import as_socket, checked_base
from patter.providers.dialer import Target
from patter.providers.openai_account import BASE, OPENAI
from patter.providers.retired import living
from patter.wire.openai_realtime import Shape

STAGE: Final = "llm"
BETA_GONE = "beta_api_shape_disabled"
_STATUS = {
    "invalid_api_key": 401,
    "model_not_found": 404,
    "rate_limit_exceeded": 429,
    "server_error": 500,
    "internal_error": 500,
    "session_expired": 503,
}
"""Inside a session there are no statuses: what they would be, so that the same trouble is told in the same words."""


def model_for(model: str, shape: Shape = "ga") -> tuple[str, str]:
    """(the model to ask for, a sentence for the user or ""): a name that is gone gives its successor.

    Servers that speak the beta shape are old themselves: they get the name as it is."""
    return (model, "") if shape == "beta" else living(model)


def realtime_target(key: str, model: str, base_url: str = "", shape: Shape = "ga") -> Target:
    """Where a session with `model` (as the agent names it) is opened; the same for equal arguments, so that it can be
    warmed. Raises ValueError for a `base_url` that is no address or would send the key unencrypted."""
    base = checked_base(base_url, "realtime.base_url") if base_url else BASE
    name, _ = model_for(model, shape)
    headers = [("Authorization", f"Bearer {key}")] if key else []
    if shape == "beta":
        headers.append(("OpenAI-Beta", "realtime=v1"))
    url = f"{as_socket(base)}/realtime?model={quote(name, safe='')}"
    return Target(OPENAI, STAGE, url, tuple(headers), what=f"the model {name!r}")


def failure(kind: str, code: str, message: str, *, secrets: Collection[str] = (), what: str = "") -> ProviderError:
    """The error for an `error` event or a failed response."""
    word = code or kind
    if word == BETA_GONE:
        return ProviderError(
            "it no longer speaks the first form (beta) of its realtime protocol",
            provider=OPENAI.name,
            stage=STAGE,
            fix='set the agent\'s realtime shape to "ga"',
            code=word,
        )
    status = _STATUS.get(word) or _STATUS.get(kind) or (400 if kind == "invalid_request_error" else 500)
    body = json.dumps({"error": {"code": word, "message": message}}).encode()
    return OPENAI.refused(STAGE, status, body, secrets=secrets, what=what)


def unanswered(what: str) -> ProviderError:
    """The error for a session that is open and says nothing."""
    return ProviderError(
        f"it did not {what} in time", provider=OPENAI.name, stage=STAGE, retryable=True, fix="try again", code="timeout"
    )


def hung_up() -> ProviderError:
    """The error for a session that the server ended in good order in the middle of a call."""
    return OPENAI.closed(STAGE, 1000, "in the middle of the call")


def garbled(what: str) -> ProviderError:
    """The error for a message that cannot be read."""
    return OPENAI.garbled(STAGE, what)
