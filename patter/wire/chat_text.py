"""What of a model's text is to be spoken: not its thoughts, and not a tool call written out as text.

It owns the few notations in which local models do that; it refuses to know streams, tools or voices.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection
from typing import Any

_TAGS = {"<think>": "</think>", "<tool_call>": "</tool_call>"}
_FENCE = re.compile(r"^```(?:json)?\s*|\s*```$")


class SpokenText:
    """Passes text on as it comes and holds back what may turn out not to be speech. `tools` are the names that exist."""

    def __init__(self, tools: Collection[str] = ()) -> None:
        self._tools = frozenset(tools)
        self._buffer = ""
        self._inside = ""
        self._begun = False
        self._held = ""
        self._calls: list[tuple[str, str]] = []

    def feed(self, text: str) -> str:
        """The part of the text so far that is certainly speech and was not given yet."""
        self._buffer += text
        spoken = ""
        while self._buffer:
            if self._inside:
                end = self._buffer.find(_TAGS[self._inside])
                if end < 0:
                    break
                self._leave(self._buffer[:end])
                self._buffer = self._buffer[end + len(_TAGS[self._inside]) :]
                self._inside = ""
                continue
            before, tag, rest = self._split()
            spoken += self._speech(before)
            self._buffer = rest
            if not tag:
                break
            self._inside = tag
        return spoken

    def close(self) -> tuple[str, list[tuple[str, str]]]:
        """The rest of the speech, and the tool calls that stood in the text as (name, arguments as JSON)."""
        rest = self._buffer
        if self._inside == "<tool_call>":
            self._leave(rest)
        spoken = "" if self._inside else self._speech(rest)
        self._buffer = ""
        if self._held:
            calls = self._read(_FENCE.sub("", self._held.strip()))
            if calls:
                self._calls += calls
            else:
                spoken = self._held + spoken
            self._held = ""
        return spoken, self._calls

    def _split(self) -> tuple[str, str, str]:
        """(text before the first tag, the tag, what follows); a tag that may just have begun stays in what follows."""
        found = min(((at, tag) for tag in _TAGS if (at := self._buffer.find(tag)) >= 0), default=None)
        if found is not None:
            at, tag = found
            return self._buffer[:at], tag, self._buffer[at + len(tag) :]
        start = self._buffer.rfind("<")
        if start >= 0 and any(tag.startswith(self._buffer[start:]) for tag in _TAGS):
            return self._buffer[:start], "", self._buffer[start:]
        return self._buffer, "", ""

    def _speech(self, text: str) -> str:
        """Hold everything from a first brace or fence on if tools exist: it may be a call."""
        if self._held:
            self._held += text
            return ""
        if not self._begun:
            text = text.lstrip()
            self._begun = bool(text)
            if self._tools and text.startswith(("{", "[{", "`")):
                self._held = text
                return ""
        return text

    def _leave(self, inside: str) -> None:
        if self._inside == "<tool_call>":
            self._calls += self._read(inside.strip())

    def _read(self, text: str) -> list[tuple[str, str]]:
        """The calls in `text` if it is nothing else: one object or a list, each with a known name."""
        try:
            data = json.loads(text)
        except ValueError:
            return []
        calls = [self._call(entry) for entry in (data if isinstance(data, list) else [data])]
        return [call for call in calls if call] if all(calls) else []

    def _call(self, entry: Any) -> tuple[str, str] | None:
        if not isinstance(entry, dict):
            return None
        inner = entry.get("function", entry)
        if not isinstance(inner, dict) or inner.get("name") not in self._tools:
            return None
        arguments = inner.get("arguments", inner.get("parameters", {}))
        return inner["name"], arguments if isinstance(arguments, str) else json.dumps(arguments)
