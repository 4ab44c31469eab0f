"""What a reader of the text test is told of transfers and of who answered."""

from __future__ import annotations

import io

import pytest

from patter.events import Event, MachineDetected, TransferFailed, TransferRequested
from patter.terminal.page import TextPage

NUMBER = "+15551234567"


@pytest.mark.parametrize(
    ("event", "line"),
    [
        (TransferRequested(call_id="c", number=NUMBER, by="agent"), f"[transfer to {NUMBER}, asked for by the agent]"),
        (
            TransferRequested(call_id="c", number=NUMBER, by="operator", warm=True),
            f"[transfer with a summary to {NUMBER}, asked for by the operator]",
        ),
        (
            TransferFailed(call_id="c", number=NUMBER, problem="Nobody answered."),
            f"[no transfer to {NUMBER}: Nobody answered.]",
        ),
        (MachineDetected(call_id="c", answered_by="machine", ready=False), "[answered by: machine]"),
    ],
)
def test_it_is_told_beside_the_conversation(event: Event, line: str) -> None:
    out = io.StringIO()
    TextPage(out, prompts=False).event(event)
    assert out.getvalue() == f"  {line}\n"
