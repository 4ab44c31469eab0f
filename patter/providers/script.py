"""The script responder: answers from an agent's own rules, without any model. The same words always get the same answer.

It owns matching, its few built-in answers and the tool calls of rules; it refuses to pretend: it says that it is no model.
"""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

from patter.builders import fill_variables
from patter.models import ScriptRule
from patter.ports import Ask
from patter.providers import slots
from patter.signals import Message, ResponderPiece, TextDelta, ToolRequest

NO_MODEL = (
    "I am a script without a language model, so I only know a few phrases. "
    "To connect a model, start Ollama on this machine or give an OpenAI key."
)
NOT_UNDERSTOOD = "I'm sorry, I did not understand that."
TOOL_FAILED = "I'm sorry, that did not work just now."
TRANSFER, HANG_UP = "transfer_call", "end_call"

_GREETINGS = ("hello", "hi", "hey", "good morning", "good afternoon", "good evening")
_GOODBYES = ("bye", "goodbye", "bye bye", "that's all", "that is all", "hang up", "nothing else")
_THANKS = ("thank you", "thanks")
_REPEATS = ("repeat that", "say that again", "repeat", "pardon", "come again", "what did you say", "once more")
_SMALL_TALK = 6  # words: in a longer sentence "hi" or "thanks" is not what it is about
_MEMORY = 8  # questions in a row that belong to one wish


@dataclass(frozen=True, slots=True)
class _Plan:
    """What a rule wants to do now: ask for something it lacks, or run its tool, or say its line."""

    rule: ScriptRule
    arguments: dict[str, Any]
    question: str = ""


class ScriptResponder:
    """A Responder over `agent.script`. Shared by calls: everything it needs stands in the context it is asked with.

    The rule with the longest phrase found in the caller's words answers, case and punctuation aside; with several as long,
    the one with more of its phrases, then the first. Values that a rule's tool needs are taken from the caller's words
    where they are obvious and asked for, one at a time, where they are required."""

    name = "script"
    model = "no model"

    async def respond(self, ask: Ask) -> AsyncIterator[ResponderPiece]:
        """The answer to the last words of the caller, or to the results of the tools that a rule called."""
        messages, results = _without_results(ask.messages)
        said = _texts(messages, "user")
        if not said:
            return
        plan = _plan(ask, messages)
        for piece in _with_rule(ask, plan, results) if plan else _without_rule(ask, messages, said[-1], results):
            yield piece

    async def aclose(self) -> None:
        """Nothing to close."""


def _with_rule(ask: Ask, plan: _Plan, results: dict[str, str]) -> list[ResponderPiece]:
    """What a matching rule does next."""
    rule = plan.rule
    known = {**(ask.agent.variables or {}), **plan.arguments}
    hang_up: list[ResponderPiece] = [_request(HANG_UP, {"reason": "the script's goodbye"})] if rule.hang_up else []
    if results:
        if any(_failure(output) for output in results.values()):
            return [TextDelta(TOOL_FAILED)]
        if rule.tool not in results or not results.keys().isdisjoint((TRANSFER, HANG_UP)):
            return []  # the call is being handed on or ended: everything has been said
        return [*_line(fill_variables(_with_result(rule.say, results[rule.tool]), known)), *hang_up]
    if plan.question:
        return [TextDelta(plan.question)]
    line = fill_variables(rule.say, known)
    if rule.tool in (TRANSFER, HANG_UP):  # said before it happens: afterwards nobody would hear it
        return [*_line(line), _request(rule.tool, plan.arguments)]
    if rule.tool:
        return [_request(rule.tool, plan.arguments)]
    return [*_line(line), *hang_up]


def _without_rule(ask: Ask, messages: Sequence[Message], text: str, results: dict[str, str]) -> list[ResponderPiece]:
    """The built-in answers, the script's own line for everything else, or the truth about what this is."""
    fallback = next((rule for rule in ask.agent.script if not rule.when), None)
    if results:
        return _with_rule(ask, _Plan(fallback, dict(fallback.arguments)), results) if fallback else []
    words = _words(text)
    short = len(words) <= _SMALL_TALK
    if short and _longest(_GOODBYES, words):
        return [TextDelta("Goodbye."), _request(HANG_UP, {"reason": "the caller said goodbye"})]
    if _longest(_REPEATS, words) and short:
        earlier = [line for line in _texts(messages, "assistant") if line.strip()]
        return [TextDelta(earlier[-1] if earlier else "I have not said anything yet.")]
    if short and _longest(_THANKS, words):
        return [TextDelta("You're welcome. Is there anything else?")]
    if short and _longest(_GREETINGS, words):
        return [TextDelta("Hello! How can I help you?")]
    if fallback is not None:
        return _with_rule(ask, _Plan(fallback, dict(fallback.arguments)), {})
    if ask.agent.script:
        return [TextDelta(f"{NOT_UNDERSTOOD} {_offer(ask.agent.script)}")]
    told = any(NO_MODEL[:40] in line for line in _texts(messages, "assistant"))
    return [TextDelta(f"You said: {text.strip()}" + ("" if told else f" {NO_MODEL}"))]


def _plan(ask: Ask, messages: Sequence[Message]) -> _Plan | None:
    """The rule for the last words, or the one whose question they answer."""
    users = _texts(messages, "user")
    best = _best(ask.agent.script, users[-1], ask.agent.language)
    asked = _open_question(ask, messages)
    if asked is not None and best in (None, asked.rule):
        return asked
    return _step(ask, best, users[-1], dict(best.arguments)) if best else None


def _step(ask: Ask, rule: ScriptRule, text: str, arguments: dict[str, Any]) -> _Plan:
    """Fill what `text` gives; if something required is still missing, the plan is to ask for it."""
    schema = _schema(ask, rule)
    filled = slots.fill(schema, text, arguments)
    lacking = slots.missing(schema, filled)
    return _Plan(rule, filled, _question(schema, lacking[0]) if lacking else "")


def _open_question(ask: Ask, messages: Sequence[Message]) -> _Plan | None:
    """If the agent's last lines were questions of a rule: that rule again, with the answers since."""
    talk = [message for message in messages if message["role"] in ("user", "assistant") and message.get("content")]
    asked: list[tuple[str, str]] = []  # (question, answer), oldest first
    while len(talk) >= 3 and talk[-1]["role"] == "user" and talk[-2]["role"] == "assistant" and len(asked) < _MEMORY:
        asked.insert(0, (str(talk[-2]["content"]), str(talk[-1]["content"])))
        talk = talk[:-2]
        opening = str(talk[-1]["content"])
        rule = _best(ask.agent.script, opening, ask.agent.language)
        plan = _answered(ask, _step(ask, rule, opening, dict(rule.arguments)), asked) if rule else None
        if plan is not None:
            return plan
    return None


def _answered(ask: Ask, plan: _Plan, asked: Sequence[tuple[str, str]]) -> _Plan | None:
    """The plan after its questions were answered; None if these were not its questions."""
    schema = _schema(ask, plan.rule)
    for question, answer in asked:
        if not plan.question or not _asks(question, plan.question):
            return None
        name = slots.missing(schema, plan.arguments)[0]
        value = slots.find(name, schema.get("properties", {}).get(name, {}), answer, asked=True)
        given = plan.arguments if value is None else plan.arguments | {name: value}
        plan = _step(ask, plan.rule, answer, given)
    return plan


def _asks(heard: str, question: str) -> bool:
    """Whether what was heard is that question, or the part of it that was heard before the caller answered."""
    return bool(heard.strip()) and question.startswith(heard.strip())


def _question(schema: Mapping[str, Any], name: str) -> str:
    """How a script asks for a property: by its description if there is one."""
    described = str(schema.get("properties", {}).get(name, {}).get("description", "")).strip()
    what = described if described else name.replace("_", " ")
    return described if described.endswith("?") else f"Please tell me: {what.rstrip('.')}."


def _schema(ask: Ask, rule: ScriptRule) -> dict[str, Any]:
    for tool in ask.tools:
        if tool.get("name") == rule.tool:
            return dict(tool.get("parameters") or {})
    return {}


# ------------------------------------------------------------------------------------------------------ matching


def _best(rules: Sequence[ScriptRule], text: str, language: str) -> ScriptRule | None:
    """The most specific rule that `text` matches."""
    english = language.lower().startswith("en")
    words = [_stem(word) for word in _words(text)] if english else _words(text)
    found: tuple[tuple[int, int, int], ScriptRule] | None = None
    for rule in rules:
        phrases = [[_stem(word) for word in _words(phrase)] if english else _words(phrase) for phrase in rule.when]
        held = [phrase for phrase in phrases if phrase and _inside(phrase, words)]
        if not held:
            continue
        longest = max(held, key=lambda phrase: (len(phrase), sum(map(len, phrase))))
        rank = (len(longest), len(held), sum(map(len, longest)))
        if found is None or rank > found[0]:
            found = (rank, rule)
    return found[1] if found else None


def _longest(phrases: Sequence[str], words: list[str]) -> bool:
    return any(_inside(_words(phrase), words) for phrase in phrases)


def _inside(phrase: list[str], words: list[str]) -> bool:
    size = len(phrase)
    return any(words[start : start + size] == phrase for start in range(len(words) - size + 1))


def _words(text: str) -> list[str]:
    """Words in lower case, without punctuation; "o'clock" and "what's" stay one word."""
    return re.findall(r"\w+(?:'\w+)*", text.casefold().replace("’", "'"))


def _stem(word: str) -> str:
    """An English word without the endings that do not change what it is about ("bookings", "opened", "prices")."""
    if word.endswith("'s"):
        word = word[:-2]
    if len(word) > 3 and word.endswith("s") and not word.endswith("ss"):
        word = word[:-1]
    if len(word) > 5 and word.endswith("ing"):
        word = word[:-3]
    elif len(word) > 4 and word.endswith("ed"):
        word = word[:-2]
    if len(word) > 3 and word[-1] == word[-2]:
        word = word[:-1]
    return word[:-1] if len(word) > 3 and word.endswith("e") else word


def _offer(rules: Sequence[ScriptRule]) -> str:
    """What can be asked, by the first phrase of each rule."""
    known = [rule.when[0] for rule in rules if rule.when][:4]
    if not known:
        return ""
    spoken = ", ".join(known[:-1]) + (" or " if len(known) > 1 else "") + known[-1]
    return f"You can ask me about {spoken}."


# ------------------------------------------------------------------------------------------------ context and results


def _without_results(messages: Sequence[Message]) -> tuple[Sequence[Message], dict[str, str]]:
    """The context up to the caller's last words, and the results since by tool name; no results if the caller spoke last."""
    last = max((at for at, message in enumerate(messages) if message["role"] == "user"), default=-1)
    names: dict[str, str] = {}
    results: dict[str, str] = {}
    for message in messages[last + 1 :]:
        for call in message.get("tool_calls") or ():
            names[call["id"]] = call["function"]["name"]
        if message["role"] == "tool":
            results[names.get(message.get("tool_call_id", ""), "")] = str(message.get("content", ""))
    return messages[: last + 1], results


def _texts(messages: Sequence[Message], role: str) -> list[str]:
    return [str(message["content"]) for message in messages if message["role"] == role and message.get("content")]


def _line(text: str) -> list[ResponderPiece]:
    return [TextDelta(text)] if text.strip() else []


def _request(name: str, arguments: Mapping[str, Any]) -> ToolRequest:
    return ToolRequest(f"script_{uuid4().hex[:12]}", name, json.dumps(dict(arguments), ensure_ascii=False))


def _failure(output: str) -> bool:
    """Whether a tool's result is an error."""
    data = _parsed(output)
    return isinstance(data, dict) and set(data) == {"error"}


def _with_result(line: str, output: str) -> str:
    """The line with `{result}` and the result's own fields (`{slots}`) filled in."""
    data = _parsed(output)
    if isinstance(data, dict):
        line = fill_variables(line, {key: _spoken(value) for key, value in data.items() if key != "result"})
    result = data.get("result", data) if isinstance(data, dict) else data
    return line.replace("{result}", _spoken(result))


def _spoken(value: Any) -> str:
    """A value as one would say it: lists with commas, objects by their values."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        parts = [_spoken(part) for part in value]
        return ", ".join(parts[:-1]) + (" and " if len(parts) > 1 else "") + parts[-1] if parts else "none"
    return "nothing" if value is None else str(value)


def _parsed(output: str) -> Any:
    """The result as data; a handler's plain words are a string."""
    try:
        return json.loads(output)
    except ValueError:
        return output
