"""The brain that all played vendors share: the script rules of an agent file, or rules made up from what it is asked.

It owns what is answered; it refuses to know by which vendor. The same words get the same answer, except for the time.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

from patter.loopback.openai_chat_living import Call, Messages, Tools, text_of
from patter.models import Agent, ScriptRule
from patter.ports import Ask, CallInfo
from patter.providers.script import HANG_UP, TRANSFER, ScriptResponder
from patter.signals import TextDelta, ToolRequest

TIME = ("what time is it", "the time", "what's the time", "how late is it")
_WORD = re.compile(r"[^\W\d_]+")
_VAGUE = frozenset(
    "a an and any are at be book by call can check do does fetch find for from get give has have how i in into is it its list"
    " look lookup make me my new of on or our place please put say search send set so tell that the their them this to up what"
    " when where which who will with you your".split()
)
"""Words that do not tell what a tool is about."""


def _now() -> datetime:
    return datetime.now().astimezone()


class Brain:
    """`answer` is an `openai_chat_living.Answer`. `agent`: whose script rules it goes by, if it has any."""

    def __init__(self, agent: Agent | None = None, now: Callable[[], datetime] = _now) -> None:
        self._agent = agent if agent is not None and agent.script else None
        self._now = now
        self._script = ScriptResponder()

    async def answer(self, messages: Messages, tools: Tools) -> AsyncIterator[str | Call]:
        """Words one by one, and calls of tools that are among `tools`."""
        plain = [{**message, "content": text_of(message.get("content"))} for message in messages]
        agent = self._agent or improvised(plain, tools, self._now())
        offered = {str(tool.get("name")) for tool in tools}
        async for piece in self._script.respond(
            Ask(CallInfo("rehearsal"), agent, "", plain, [dict(one) for one in tools])
        ):
            if isinstance(piece, TextDelta):
                for word in re.findall(r"\S+\s*", piece.text):
                    yield word
            elif isinstance(piece, ToolRequest) and piece.name in offered:
                yield Call(piece.name, piece.arguments)


def improvised(messages: Sequence[Mapping[str, Any]], tools: Tools, now: datetime) -> Agent:
    """An agent with rules for this conversation: the time, the tools whose words were said, and an echo for the rest."""
    said = [str(message["content"]) for message in messages if message["role"] == "user" and message["content"]]
    rules = [ScriptRule(TIME, f"It is {clock_words(now)}")]
    for tool in tools:
        fitting = tuple(text for text in said if _best(text, tools) is tool)
        if fitting:
            rules.append(ScriptRule(fitting, "Here is what I found: {result}.", str(tool.get("name"))))
    if said:
        echo = said[-1].strip().rstrip(".!?").translate({ord("{"): "(", ord("}"): ")"})
        rules.append(ScriptRule((), f"You said: {echo}. Is there anything else I can do for you?"))
    return Agent("", script=tuple(rules))


def clock_words(now: datetime) -> str:
    """The time as one says it."""
    return f"{now.hour % 12 or 12}:{now.minute:02} {'a.m.' if now.hour < 12 else 'p.m.'}"


def _best(text: str, tools: Tools) -> Mapping[str, Any] | None:
    """The tool that a sentence is about: by a word of its name, or two of its description."""
    words = _content(text)
    scores = [(_fit(words, tool), at) for at, tool in enumerate(tools) if tool.get("name") not in (TRANSFER, HANG_UP)]
    score, at = max(scores, key=lambda pair: (pair[0], -pair[1]), default=(0, 0))
    return tools[at] if score >= 2 else None


def _fit(words: set[str], tool: Mapping[str, Any]) -> int:
    return 2 * len(words & _content(str(tool.get("name")))) + len(words & _content(str(tool.get("description"))))


def _content(text: str) -> set[str]:
    """The words that matter, without their plural."""
    return {word.removesuffix("s") for word in _WORD.findall(text.replace("_", " ").casefold()) if word not in _VAGUE}
