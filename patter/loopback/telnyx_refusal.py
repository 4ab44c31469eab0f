"""What Telnyx answers when it does not do what it was asked: its codes, their HTTP status and the body of the answer.

It owns that table; it refuses to know which request was wrong.
"""

from __future__ import annotations

from typing import Any

CODES: dict[str, tuple[int, str]] = {
    "10002": (422, "Invalid phone number"),
    "10004": (422, "Missing required parameter"),
    "10005": (404, "Resource not found"),
    "10009": (401, "Authentication failed"),
    "10011": (429, "Too many requests"),
    "10015": (400, "Bad request"),
    "10016": (422, "Phone number must be in +E.164 format"),
    "10032": (422, "Invalid enumerated value"),
    "90015": (422, "Invalid Call Control ID"),
    "90017": (422, "Invalid client state"),
    "90018": (422, "Call has already ended"),
    "90020": (422, "Recording before audio has started"),
    "90034": (422, "Call has not been answered yet"),
    "90045": (422, "Media streaming already in use"),
    "90048": (422, "Media streaming is not in use"),
    "90057": (422, "Invalid webhook_urls key"),
    "90102": (422, "Answer is not possible on an outbound call"),
}
INNOCENT = frozenset({"90018"})  # a call may end while a command is under way: nobody can prevent that


class Refusal(Exception):
    """A request that is not done. `pointer`: where in the body, as "/to"."""

    def __init__(self, code: str, detail: str, pointer: str = "") -> None:
        super().__init__(f"{code}: {detail}")
        self.code, self.detail, self.pointer = code, detail, pointer
        self.status, self.title = CODES[code]

    @property
    def innocent(self) -> bool:
        """Whether even a faultless program meets it."""
        return self.code in INNOCENT

    def body(self) -> dict[str, Any]:
        """The JSON of the answer."""
        return refusal_body(self.code, self.title, self.detail, self.pointer)


def refusal_body(code: str, title: str, detail: str, pointer: str = "") -> dict[str, Any]:
    """`{"errors": […]}` with one error; `pointer` as "/to" or ""."""
    error: dict[str, Any] = {"code": code, "title": title, "detail": detail}
    if pointer:
        error["source"] = {"pointer": pointer}
    return {"errors": [error]}
