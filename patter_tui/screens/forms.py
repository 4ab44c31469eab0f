"""Questions with fields that open over the workbench: texts and choices. It owns the fields; what they mean is the asker's.

A form stays open while its answers cannot be used, and says why.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

from textual import events
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.screen import ModalScreen
from textual.widgets import Input

from patter_tui.safe import clean
from patter_tui.views.rows import Row, wrap
from patter_tui.widgets.line_view import LineView

Answers = dict[str, str]
YES_NO = ("no", "yes")


@dataclass(frozen=True)
class Field:
    """One question. With `choices` one of them is chosen, otherwise a text is typed; `hint` stands in an empty text."""

    name: str
    label: str
    value: str = ""
    hint: str = ""
    choices: Sequence[str] = ()


class Choice(LineView, can_focus=True):
    """One of some words; left, right, space or a click choose the next."""

    ALLOW_SELECT = False
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("left", "turn(-1)", show=False),
        Binding("right,space", "turn(1)", show=False),
        Binding("enter", "screen.send", show=False),
    ]

    def __init__(self, field: Field, *, id: str) -> None:
        super().__init__(id=id, classes="field")
        self._choices = tuple(field.choices)
        self._at = self._choices.index(field.value) if field.value in self._choices else 0

    @property
    def value(self) -> str:
        """The chosen word."""
        return self._choices[self._at]

    def on_mount(self) -> None:
        """The first drawing."""
        self._draw()

    def action_turn(self, step: int) -> None:
        """Choose another."""
        self._at = (self._at + step) % len(self._choices)
        self._draw()

    def on_click(self, event: events.Click) -> None:
        """Choose the next."""
        self.action_turn(1)

    def _draw(self) -> None:
        many = len(self._choices) > 1
        left, right = ("< ", " >") if many else ("", "")
        self.show([((left, "muted"), (clean(self.value), "text"), (right, "muted"))])


class Form(ModalScreen[Answers | None]):
    """A titled form. Answers every field by name, or None if it was left; `wrong` says what keeps it open."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "leave", show=False),
        Binding("up", "app.focus_previous", show=False),
        Binding("down", "app.focus_next", show=False),
    ]

    def __init__(
        self, title: str, about: str, fields: Sequence[Field], verb: str, wrong: Callable[[Answers], str] = lambda _: ""
    ) -> None:
        super().__init__()
        self._heading, self._about, self._fields, self._verb, self._wrong = title, about, tuple(fields), verb, wrong
        self._problem = ""

    def compose(self) -> ComposeResult:
        """A sentence, the fields, and room for what is wrong with them."""
        with Vertical(id="box") as box:
            box.border_title = self._heading
            box.border_subtitle = f"enter {self._verb}, tab next, Esc leaves"
            yield LineView(id="page")
            for field in self._fields:
                with Horizontal(classes="question"):
                    yield LineView(id=f"label-{field.name}", classes="label")
                    if field.choices:
                        yield Choice(field, id=f"ask-{field.name}")
                    else:
                        yield Input(
                            field.value, placeholder=field.hint, id=f"ask-{field.name}", compact=True, classes="field"
                        )

    def on_mount(self) -> None:
        """Labels, and the keys to the first empty text."""
        for field in self._fields:
            label = self.query_one(f"#label-{field.name}", LineView)
            label.can_focus = False
            label.show([((field.label, "muted"),)])
        for line in self.query(Input):
            line.cursor_blink = False
        self.query_one("#page", LineView).can_focus = False
        first = next((field for field in self._fields if not field.choices and not field.value), self._fields[0])
        self.query_one(f"#ask-{first.name}").focus()
        self.call_after_refresh(self._tell)

    def on_resize(self) -> None:
        """Wrap again."""
        self.call_after_refresh(self._tell)

    def _tell(self) -> None:
        view = self.query_one("#page", LineView)
        width = max(20, view.text_width)
        rows: list[Row] = wrap(((self._about, "muted"),), width) if self._about else []
        rows += wrap(((clean(self._problem), "warn"),), width) if self._problem else []
        view.styles.height = len(rows) + 1
        view.show(rows)

    def on_input_submitted(self) -> None:
        """Enter sends the whole form."""
        self.action_send()

    def action_send(self) -> None:
        """Give the answers, or say what is wrong with them."""
        answers = {field.name: self._value(field).strip() for field in self._fields}
        self._problem = self._wrong(answers)
        if self._problem:
            self._tell()
        else:
            self.dismiss(answers)

    def _value(self, field: Field) -> str:
        if field.choices:
            return self.query_one(f"#ask-{field.name}", Choice).value
        return self.query_one(f"#ask-{field.name}", Input).value

    def action_leave(self) -> None:
        """Close without answers."""
        self.dismiss(None)
