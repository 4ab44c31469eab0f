"""What the text test prints: words for people, or one JSON object a line for programs.

It owns the wording and the line breaks; it refuses to know who types. An output that is gone is remembered, not raised.
"""

from __future__ import annotations

import json
from typing import Any, TextIO

from patter.builders import SYSTEM_TOOLS
from patter.events import (
    AgentSaid,
    CallEnded,
    CallStarted,
    Event,
    FaultOccurred,
    GuardrailTripped,
    MachineDetected,
    ReplyText,
    ToolCalled,
    ToolReturned,
    TransferFailed,
    TransferRequested,
    TurnMeasured,
    to_json,
)

COMMANDS = "/quit  /hangup  /transfer <number>  /history"


class Page:
    """Where lines go. `gone` is True once nobody reads them any more."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self.gone = False

    def put(self, text: str) -> None:
        """Write now: a reader at the other end of a pipe must not wait for a buffer to fill.

        Nothing but line ends steers the terminal, whoever the words are from."""
        if self.gone:
            return
        try:
            self._out.write("".join(letter if letter.isprintable() or letter == "\n" else " " for letter in text))
            self._out.flush()
        except (OSError, ValueError):  # a broken pipe, or a closed stream
            self.gone = True


class JsonPage(Page):
    """Every event of the call in the form of `events.to_json`, one a line; sentences go to `errors`."""

    def __init__(self, out: TextIO, errors: TextIO) -> None:
        super().__init__(out)
        self._errors = Page(errors)

    def event(self, event: Event) -> None:
        """One fact."""
        self._object(to_json(event))

    def history(self, call_id: str, entries: list[dict[str, Any]]) -> None:
        """The conversation so far."""
        self._object({"type": "History", "call_id": call_id, "history": entries})

    def notice(self, sentence: str) -> None:
        """Something for whoever typed."""
        self._errors.put(f"{sentence}\n")

    def prompt(self) -> None:
        """Programs need no prompt."""

    def typed(self) -> None:
        """A line was typed: nothing to mend."""

    def _object(self, data: dict[str, Any]) -> None:
        text = json.dumps(data, ensure_ascii=False, default=str)
        self.put("".join(letter if letter.isprintable() else json.dumps(letter)[1:-1] for letter in text) + "\n")


class TextPage(Page):
    """The call as a conversation; `prompts` asks for each line, as a terminal does and a pipe does not."""

    def __init__(self, out: TextIO, *, prompts: bool) -> None:
        super().__init__(out)
        self._prompts = prompts
        self._reply = 0  # whose text the open line is
        self._open = False  # the cursor stands behind text
        self._turns = 0
        self._cost = 0.0

    def event(self, event: Event) -> None:
        """One fact, if a reader of the conversation wants it."""
        match event:
            case CallStarted():
                self._banner(event)
            case ReplyText(reply_id=reply_id, text=text):
                self._stream(reply_id, text)
            case AgentSaid(interrupted=interrupted):
                self._end_reply(interrupted)
            case ToolCalled(name=name) | ToolReturned(name=name) if name in SYSTEM_TOOLS:
                pass  # what they do is told by the events that follow
            case ToolCalled(name=name, arguments=arguments):
                self._aside(f"tool {name} {arguments}")
            case ToolReturned(name=name, ok=ok, output=output, ms=ms):
                self._aside(f"tool {name} {'gave' if ok else 'failed:'} {output} ({ms:.0f} ms)")
            case GuardrailTripped(guardrail=guardrail):
                self._aside(f"guardrail {guardrail} replaced the reply")
            case FaultOccurred(provider=provider, problem=problem, fix=fix):
                self._aside(f"{provider}: {problem}" + (f". {fix}" if fix else ""))
            case TransferRequested(number=number, by=by, warm=warm):
                how = "transfer with a summary" if warm else "transfer"
                self._aside(f"{how} to {number}, asked for by the {by}")
            case TransferFailed(number=number, problem=problem):
                self._aside(f"no transfer to {number}: {problem}")
            case MachineDetected(answered_by=answered_by):
                self._aside(f"answered by: {answered_by}")
            case TurnMeasured(turn=turn, cost_so_far=cost):
                self._turns, self._cost = max(self._turns, turn), cost
            case CallEnded():
                self._farewell(event)

    def history(self, call_id: str, entries: list[dict[str, Any]]) -> None:
        """The conversation so far, as it was heard."""
        for entry in entries:
            self._line(f"  {entry['role']}: {entry['text']}")
        if not entries:
            self._line("  (nothing has been said yet)")

    def notice(self, sentence: str) -> None:
        """Something for whoever typed."""
        self._line(sentence)

    def prompt(self) -> None:
        """The next line, please."""
        if self._prompts and not self._open:
            self.put("You: ")
            self._open = True

    def typed(self) -> None:
        """The terminal has shown the typed line and its end."""
        self._open = self._open and not self._prompts

    def _banner(self, event: CallStarted) -> None:
        self._line(
            f"Patter text test · agent {event.agent or 'without a name'} · {event.provider_mode} · {event.call_id}"
        )
        if event.llm:
            self._line(f"Answers come from: {event.llm}")
        for note in event.notes:
            self._line(note)
        if self._prompts:
            self._line(COMMANDS)
        self._line("")

    def _stream(self, reply_id: int, text: str) -> None:
        if self._open and reply_id == self._reply:
            self.put(text)
            return
        self._fresh_line()
        self.put(f"Agent: {text.lstrip()}")
        self._reply, self._open = reply_id, True

    def _end_reply(self, interrupted: bool) -> None:
        if self._open and self._reply:
            self.put(" [interrupted]\n" if interrupted else "\n")
            self._open = False
        self._reply = 0

    def _farewell(self, event: CallEnded) -> None:
        why = event.reason.replace("_", " ") + (f" ({event.detail})" if event.detail else "")
        turns = "1 turn" if self._turns == 1 else f"{self._turns} turns"
        self._line("")
        self._line(f"Call ended: {why} · {event.duration_s:.1f} s · {turns} · ${self._cost:.4f}")

    def _aside(self, text: str) -> None:
        self._line(f"  [{text}]")

    def _line(self, text: str) -> None:
        self._fresh_line()
        self.put(f"{text}\n")

    def _fresh_line(self) -> None:
        if self._open:
            self.put("\n")
            self._open = False
