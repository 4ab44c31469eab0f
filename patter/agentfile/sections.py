"""The sections of an agent file: each table becomes the value of `patter.models` that it describes.

It owns which keys a section has and what they may hold; it refuses to read files or to replace `{names}`.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator
from dataclasses import fields, replace
from typing import Any

from jsonschema import Draft202012Validator

from patter.agentfile.engines import read_engines
from patter.agentfile.modules import LookupFailed, Modules
from patter.agentfile.table import Table
from patter.builders import SYSTEM_TOOLS
from patter.engine_rules import BUDGET_USD
from patter.models import Agent, Budget, Guardrail, ScriptRule, TurnTaking

_TOOL_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")  # what every model's interface takes as a function name
_LANGUAGE = re.compile(r"[A-Za-z]{2,3}([-_][A-Za-z0-9]{2,8})*|multi|auto")


def read_agent(top: Table, name: str, modules: Modules) -> Agent:
    """The agent of the whole document; what is wrong is noted and left at its default."""
    agent = Agent(system_prompt=top.need("system_prompt", 'write system_prompt = "You are …"'), name=name)
    language = top.text("language", agent.language)
    if not _LANGUAGE.fullmatch(language):
        top.add("language", 'language must be a code such as "en" or "pt-BR"')
    tools = _tools(top, modules)
    agent = replace(
        agent,
        voice=top.text("voice", agent.voice, filled=True),
        model=top.text("model", agent.model, filled=True),
        language=language,
        first_message=top.text("first_message"),
        variables=_variables(top),
        turn_taking=_turn_taking(top),
        budget=_budget(top),
        tools=tools or None,
        guardrails=_guardrails(top, modules) or None,
        script=_script(top, [*SYSTEM_TOOLS, *(tool["name"] for tool in tools)]),
    )
    return read_engines(top, agent, modules)


def _variables(top: Table) -> dict[str, Any] | None:
    table = top.table("variables", "[variables]")
    if table is None:
        return None
    for key, value in table.data.items():
        if not isinstance(value, (str, int, float)):
            table.add(key, f"the variable {key} must be a text, a number or true/false")
    return dict(table.data)


def _turn_taking(top: Table) -> TurnTaking:
    table = top.table("turn_taking", "[turn_taking]")
    if table is None:
        return TurnTaking()
    names = [item.name for item in fields(TurnTaking)]
    table.only(names)
    usual = TurnTaking()
    times = {name: table.whole(name, getattr(usual, name), 0, 60_000) for name in names if name.endswith("_ms")}
    if times["max_silence_ms"] < times["min_silence_ms"]:
        key = "max_silence_ms" if "max_silence_ms" in table else "min_silence_ms"
        table.add(key, "max_silence_ms is shorter than min_silence_ms", "make it at least as long")
    words = table.texts("acknowledgements") if "acknowledgements" in table else usual.acknowledgements
    return TurnTaking(**times, turn_model=table.flag("turn_model"), acknowledgements=words)


def _budget(top: Table) -> Budget:
    table = top.table("budget", "[budget]")
    usual = Budget()
    if table is None:
        return usual
    table.only(Budget.__dataclass_fields__)

    def limit(key: str) -> float | None:
        return table.number(key, 0.0, 0.0, BUDGET_USD) if key in table else None

    farewell = table.text("farewell", usual.farewell, filled=True)
    return Budget(per_call_usd=limit("per_call_usd"), per_day_usd=limit("per_day_usd"), farewell=farewell)


def _tools(top: Table, modules: Modules) -> list[dict[str, Any]]:
    made: list[dict[str, Any]] = []
    for table in top.tables("tools", "tool"):
        table.only(("name", "description", "handler", "webhook_url", "parameters", "filler"))
        name = table.need("name", 'write name = "find_slots"')
        if name and not _TOOL_NAME.fullmatch(name):
            table.add("name", "a tool's name is made of letters, digits, _ and -, 64 at most")
        if name in SYSTEM_TOOLS:
            table.add("name", f"every agent has the tool {name} already", "give yours another name")
        if name and any(tool["name"] == name for tool in made):
            table.add("name", f'there are two tools called "{name}"', "give one of them another name")
        tool: dict[str, Any] = {
            "name": name,
            "description": table.text("description"),
            "parameters": _parameters(table),
        }
        if ("handler" in table) == ("webhook_url" in table):
            table.add("", f"{table.title} needs either handler or webhook_url", 'write handler = "module:function"')
        if "handler" in table:
            tool["handler"] = _function(table, "handler", modules, 2)
        if "webhook_url" in table:
            tool["webhook_url"] = table.url("webhook_url")
        if "filler" in table:
            tool["filler"] = table.text("filler", filled=True)
        made.append(tool)
    return made


def _parameters(tool: Table) -> dict[str, Any]:
    usual: dict[str, Any] = {"type": "object", "properties": {}}
    if "parameters" not in tool:
        return usual
    schema = tool.plain("parameters")
    where = (*tool.path, "parameters")
    if schema.get("type", "object") != "object":
        tool.problems.add((*where, "type"), "the parameters of a tool are an object", 'write type = "object"')
    for error in Draft202012Validator(Draft202012Validator.META_SCHEMA).iter_errors(schema):
        at = ".".join(str(step) for step in error.absolute_path) or "parameters"
        rule = (
            f"{error.validator} {error.validator_value}" if error.validator in ("type", "minimum") else error.validator
        )
        tool.problems.add((*where, *error.absolute_path), f'"{at}" breaks a rule of JSON Schema ({rule})')
    for path, reference in _references(schema, where):
        if not reference.startswith("#"):
            tool.problems.add(path, "$ref may only point into the same schema", 'write "#/…"')
    return usual | schema


def _references(value: Any, path: tuple[str | int, ...]) -> Iterator[tuple[tuple[str | int, ...], str]]:
    if isinstance(value, dict):
        for key, item in value.items():
            if key in ("$ref", "$dynamicRef") and isinstance(item, str):
                yield (*path, key), item
            yield from _references(item, (*path, key))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _references(item, (*path, index))


def _guardrails(top: Table, modules: Modules) -> list[Any]:
    made = []
    for table in top.tables("guardrails", "guardrail"):
        table.only(("name", "blocked_terms", "replacement", "check"))
        name = table.need("name", 'write name = "no prices"')
        usual = Guardrail(name)
        if "blocked_terms" not in table and "check" not in table:
            table.add("", f"{table.title} blocks nothing", 'write blocked_terms = ["…"] or check = "module:function"')
        check = _function(table, "check", modules, 1) if "check" in table else None
        terms = list(table.texts("blocked_terms")) if "blocked_terms" in table else None
        made.append(Guardrail(name, check, terms, table.text("replacement", usual.replacement, filled=True)))
    return made


def _function(table: Table, key: str, modules: Modules, arguments: int) -> object:
    reference = table.text(key, filled=True)
    if not reference.strip():
        return None
    try:
        return modules.function(reference, (arguments,))
    except LookupFailed as failure:
        table.add(key, f"{key} of {table.title}: {failure.problem}", failure.fix)
        return None


def _script(top: Table, tools: list[str]) -> tuple[ScriptRule, ...]:
    made = []
    for table in top.tables("script", "script rule"):
        table.only(("when", "say", "tool", "arguments", "hang_up"))
        tool = table.text("tool", filled=True)
        if tool and tool not in tools and "mcp" not in top:  # a server's tools are known when it has been asked
            close = difflib.get_close_matches(tool, tools, n=1)
            fix = f'did you mean "{close[0]}"?' if close else "define it under [[tools]]"
            table.add("tool", f"{table.title} uses a tool that is not defined", fix)
        if "arguments" in table and "tool" not in table:
            table.add("arguments", f"{table.title} has arguments but no tool", 'write tool = "…"')
        if not ({"say", "tool", "hang_up"} & set(table.data)):
            table.add("", f"{table.title} does nothing", 'write say = "…"')
        rule = ScriptRule(
            when=table.texts("when"),
            say=table.text("say"),
            tool=tool,
            arguments=table.plain("arguments"),
            hang_up=table.flag("hang_up"),
        )
        made.append(rule)
    return tuple(made)
