"""What the model is told of the call so far: caller's words, what was *heard* of the agent's, tool calls and results.

It owns the order that chat protocols demand (every tool call followed by its result); it refuses to know who asks or when.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from patter.signals import Message, ToolRequest

PENDING = '{"status": "still running; its result will follow"}'


@dataclass(slots=True)
class _Entry:
    role: str
    text: str = ""
    reply_id: int = 0
    calls: list[ToolRequest] = field(default_factory=list)
    results: dict[str, str] = field(default_factory=dict)


class Context:
    """The entries of one call, in order."""

    def __init__(self) -> None:
        self._entries: list[_Entry] = []

    def caller(self, text: str) -> None:
        """The caller's turn."""
        self._entries.append(_Entry("user", text))

    def agent(self, reply_id: int, text: str) -> None:
        """More text of a reply; joined to the same reply's text before it (unless tools came between)."""
        last = self._entries[-1] if self._entries else None
        if last is not None and last.role == "assistant" and last.reply_id == reply_id and not last.calls:
            last.text = f"{last.text} {text}".strip()
        else:
            self._entries.append(_Entry("assistant", text, reply_id))

    def asked(self, reply_id: int, calls: list[ToolRequest]) -> None:
        """The model asked for tools; they belong to what it said just before, if anything."""
        last = self._entries[-1] if self._entries else None
        if last is not None and last.role == "assistant" and last.reply_id == reply_id and not last.calls:
            last.calls = calls
        else:
            self._entries.append(_Entry("assistant", "", reply_id, calls))

    def answered(self, tool_id: str, output: str) -> None:
        """A tool's result, kept even when its reply has been interrupted meanwhile."""
        for entry in reversed(self._entries):
            if any(call.tool_id == tool_id for call in entry.calls):
                entry.results[tool_id] = output
                return

    def cut(self, reply_id: int, heard: str) -> None:
        """The caller heard only `heard` of this reply: the rest was never said."""
        left = heard
        for entry in [entry for entry in self._entries if entry.reply_id == reply_id and entry.role == "assistant"]:
            if left.startswith(entry.text):
                left = left[len(entry.text) :].lstrip()
                continue
            entry.text, left = left, ""
        if left:
            self.agent(reply_id, left)
        self._entries = [entry for entry in self._entries if entry.role == "user" or entry.text or entry.calls]

    def messages(self, *, likely: str = "") -> list[Message]:
        """The context in chat form; consecutive turns of the caller are one message.

        `likely`: as if the caller had said this as well."""
        messages: list[Message] = []
        for entry in [*self._entries, _Entry("user", likely)] if likely else self._entries:
            if entry.role == "user":
                if messages and messages[-1]["role"] == "user":
                    messages[-1] = {"role": "user", "content": f"{messages[-1]['content']} {entry.text}"}
                else:
                    messages.append({"role": "user", "content": entry.text})
                continue
            message: Message = {"role": "assistant", "content": entry.text or None}
            if entry.calls:
                message["tool_calls"] = [
                    {
                        "id": call.tool_id,
                        "type": "function",
                        "function": {"name": call.name, "arguments": call.arguments},
                    }
                    for call in entry.calls
                ]
            messages.append(message)
            messages += [
                {"role": "tool", "tool_call_id": call.tool_id, "content": entry.results.get(call.tool_id, PENDING)}
                for call in entry.calls
            ]
        return messages
