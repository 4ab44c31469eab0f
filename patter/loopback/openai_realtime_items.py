"""The played realtime server's conversation: its items in order, what was cut of them, and what a model still knows of them.

It owns which item may be created, cut or deleted; it refuses to know events and sockets.
"""

from __future__ import annotations

from binascii import Error as Base64Error
from binascii import a2b_base64
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import anyio

from patter.audio.convert import Converter
from patter.audio.format import PCM_24K
from patter.loopback.openai_realtime_shapes import Refusal, SessionState


@dataclass(eq=False)
class Item:
    """One item. `role`: "user", "assistant", "system", "call" or "output"; `kind` is its content's type in the GA shape."""

    item_id: str
    role: str
    text: str = ""
    kind: str = "input_text"
    shape: str = "ga"
    status: str = "completed"
    pcm: bytes = b""
    ms: float = 0.0
    """How much sound of the assistant's it has."""
    heard_ms: float | None = None
    """Where it was truncated."""
    call_id: str = ""
    name: str = ""
    understood: anyio.Event = field(default_factory=anyio.Event)

    @property
    def remembered(self) -> str:
        """What a model still knows of it: of a truncated answer only what had sounded, word by word."""
        if self.heard_ms is None or not self.ms:
            return self.text
        words = self.text.split()
        return " ".join(words[: round(len(words) * self.heard_ms / self.ms)])

    def told(self) -> dict[str, Any]:
        """The item as the server sends it."""
        made: dict[str, Any] = {"id": self.item_id, "object": "realtime.item", "status": self.status}
        if self.role == "call":
            return made | {
                "type": "function_call", "name": self.name, "call_id": self.call_id, "arguments": self.text,
            }  # fmt: skip
        if self.role == "output":
            return made | {"type": "function_call_output", "call_id": self.call_id, "output": self.text}
        return made | {"type": "message", "role": self.role, "content": self._content()}

    def _content(self) -> list[dict[str, Any]]:
        if self.status == "in_progress":
            return []
        if self.kind == "input_audio":
            return [{"type": "input_audio", "transcript": None}]
        kind = self.kind.removeprefix("output_") if self.shape == "beta" else self.kind
        if self.kind == "output_audio":
            gone = self.heard_ms is not None
            return [{"type": kind, "transcript": "" if gone else self.text}]
        return [{"type": kind, "text": self.text}]


class Conversation:
    """The items of one session."""

    def __init__(self, shape: str) -> None:
        self.items: list[Item] = []
        self.log: list[str] = []
        """What was done to items, in order: "truncate item_3 720", "delete item_4"."""
        self.has_sound = False
        self._shape = shape

    @property
    def last_id(self) -> str | None:
        return self.items[-1].item_id if self.items else None

    def find(self, item_id: str) -> Item | None:
        """The item of that name."""
        return next((item for item in self.items if item.item_id == item_id), None)

    def add(self, item: Item, after: object = None) -> str | None:
        """Put it at the end, or behind the item `after` ("root": at the front). Returns the name of the one before it."""
        item.shape = self._shape
        at = len(self.items)
        if after == "root":
            at = 0
        elif after is not None:
            before = self.find(str(after))
            if before is None:
                raise Refusal("item_not_found", f"Item '{after}' does not exist.", "previous_item_id", grave=True)
            at = self.items.index(before) + 1
        if self.find(item.item_id) is not None:
            raise Refusal("invalid_value", f"Item '{item.item_id}' exists already.", "item.id", grave=True)
        self.items.insert(at, item)
        return self.items[at - 1].item_id if at else None

    def truncate(self, item_id: str, heard_ms: int) -> None:
        """Forget the rest of an answer. Raises Refusal."""
        item = self.find(item_id)
        if item is None or item.role != "assistant" or item.kind != "output_audio":
            raise Refusal("invalid_value", f"There is no audio item '{item_id}' of the assistant.", "item_id")
        if heard_ms > item.ms:
            raise Refusal(
                "invalid_value",
                f"Audio content of {int(item.ms)}ms is already shorter than {heard_ms}ms",
                "audio_end_ms",
            )
        item.heard_ms = heard_ms
        self.log.append(f"truncate {item_id} {heard_ms}")

    def delete(self, item_id: str) -> None:
        """Forget an item. Raises Refusal."""
        item = self.find(item_id)
        if item is None:
            raise Refusal("item_not_found", f"Item '{item_id}' does not exist.", "item_id")
        self.items.remove(item)
        self.log.append(f"delete {item_id}")

    def created(self, given: Any, state: SessionState, name: Callable[[], str]) -> Item:
        """The item that a client creates. Raises Refusal."""
        if not isinstance(given, Mapping):
            raise Refusal("missing_required_parameter", "Missing required parameter: 'item'.", "item", grave=True)
        item_id = str(given.get("id") or name())
        if len(item_id) > 32:
            raise Refusal("string_above_max_length", "An item's id has at most 32 characters.", "item.id", grave=True)
        kind = given.get("type")
        if kind == "function_call":
            return Item(
                item_id, "call", str(given["arguments"]), call_id=str(given["call_id"]), name=str(given["name"])
            )
        if kind == "function_call_output":
            call_id = str(given.get("call_id"))
            if not any(item.role == "call" and item.call_id == call_id for item in self.items):
                raise Refusal(
                    "invalid_tool_call_id", f"Tool call '{call_id}' does not exist.", "item.call_id", grave=True
                )
            if not isinstance(given.get("output"), str):
                raise Refusal("invalid_type", "An output is a string.", "item.output", grave=True)
            return Item(item_id, "output", given["output"], call_id=call_id)
        if kind != "message":
            raise Refusal("invalid_value", f"There is no item {kind!r}.", "item.type", grave=True)
        return _message(item_id, given, state)

    def remembered(self) -> list[Mapping[str, str]]:
        """What a model knows: see `openai_realtime_model.Prompt`."""
        told: list[Mapping[str, str]] = []
        for item in self.items:
            if item.status == "in_progress":
                continue
            entry = {"role": item.role, "text": item.remembered}
            if item.call_id:
                entry |= {"call_id": item.call_id, "name": item.name}
            told.append(entry)
        return told


def _message(item_id: str, given: Mapping[str, Any], state: SessionState) -> Item:
    role, content = str(given.get("role")), given.get("content")
    if not isinstance(content, list) or len(content) != 1 or not isinstance(content[0], Mapping):
        raise Refusal("invalid_value", "A message needs content.", "item.content", grave=True)
    part = content[0]
    kind = str(part.get("type"))
    spoken = "text" if state.shape == "beta" else "output_text"
    allowed = {"user": ("input_text", "input_audio"), "assistant": (spoken,), "system": ("input_text",)}.get(role, ())
    if kind not in allowed:
        raise Refusal(
            "invalid_value", f"A message of the {role} cannot be {kind!r}.", "item.content[0].type", grave=True
        )
    if kind != "input_audio":
        return Item(item_id, role, str(part.get("text", "")), "output_text" if role == "assistant" else "input_text")
    try:
        data = a2b_base64(part["audio"], strict_mode=True)
    except (KeyError, TypeError, ValueError, Base64Error):
        raise Refusal("invalid_value", "Not base64.", "item.content[0].audio", grave=True) from None
    return Item(item_id, role, kind="input_audio", pcm=Converter(state.hears_format, PCM_24K).convert(data))
