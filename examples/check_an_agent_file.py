"""A regression test of an agent file without sound: pipe the caller's lines in, read the call's events as JSON.

    python examples/check_an_agent_file.py

The same events are what the workbench shows and what every call's journal keeps.
"""

import json
import subprocess
import sys
from pathlib import Path

AGENT = Path(__file__).with_name("pizza.toml")
CALLER = ["What do you have?", "I would like a funghi", "That is all, bye"]


def rehearse(agent: Path, lines: list[str]) -> list[dict]:
    """One call by text; returns every event in order."""
    command = [sys.executable, "-m", "patter.console", str(agent), "--json"]
    done = subprocess.run(command, input="\n".join(lines), capture_output=True, text=True, check=True, timeout=60)
    return [json.loads(line) for line in done.stdout.splitlines()]


def main() -> None:
    """Call, look, complain."""
    events = rehearse(AGENT, CALLER)
    said = [event["text"] for event in events if event["type"] == "AgentSaid"]
    tools = [event for event in events if event["type"] == "ToolReturned"]
    turns = [event for event in events if event["type"] == "TurnMeasured" and event["closed"] and event["turn"]]

    assert said[0] == "Luigi's, what can I get you?", said
    assert [(tool["name"], tool["ok"]) for tool in tools] == [("place_order", True), ("end_call", True)], tools
    assert "margherita" in said[1], said
    assert "ready in 20 minutes" in said[2], said
    assert [event["reason"] for event in events if event["type"] == "CallEnded"] == ["agent_ended"], events
    print(f"{len(turns)} turns as expected, the slowest after {max(turn['total_ms'] for turn in turns):.0f} ms")


if __name__ == "__main__":
    main()
