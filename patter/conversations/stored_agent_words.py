"""What a stored agent is told in sentences of ours, because its vendor has no message for it.

It owns their wording, and reads ours; it refuses to know when they are sent.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

from patter.signals import Message

STORY_LIMIT = 6_000  # characters of what was said that a new conversation is told


def asking(text: str) -> str:
    """A typed turn that makes the agent say `text`."""
    return f"Say the following to me now, word for word and nothing else: {text}"


def changed(prompt: str) -> str:
    """New instructions, in the middle of a conversation."""
    return f"Your instructions have changed. From now on, follow these instead of the former ones:\n{prompt}"


def resumed(messages: Sequence[Message]) -> str:
    """What was said so far (its end, if it is long), for a conversation that follows a lost one; "" for nothing."""
    story = "\n".join(
        f"{'Caller' if message['role'] == 'user' else 'You'}: {message['content']}"
        for message in messages
        if message["content"]
    )
    if not story:
        return ""
    return (
        "The connection was lost for a moment; this is the same conversation. "
        f"So far:\n{story[-STORY_LIMIT:]}\nGo on from here."
    )


def late_result(name: str, output: str) -> str:
    """The result of a tool that was asked for in a conversation that was lost."""
    return f"The tool {name}, which you used before, has answered: {output}"


def is_error(output: str) -> bool:
    """Whether a tool's output is the report of its failure."""
    try:
        data = json.loads(output)
    except ValueError:
        return False
    return isinstance(data, dict) and set(data) == {"error"}
