"""What a tool, a guardrail and a script rule must be like for a call to use them.

It owns these rules and the builders of the first two; it refuses to run any of them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from patter.models import Guardrail, ScriptRule

SYSTEM_TOOLS = ("transfer_call", "end_call")

_TOOL_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")  # what the chat protocols accept as a function's name


def guardrail(
    name: str,
    blocked_terms: list[str] | None = None,
    check: Callable[[str], bool] | None = None,
    replacement: str = "I'm sorry, I can't respond to that.",
) -> dict[str, Any]:
    """An output guardrail for `agent(guardrails=[...])`. Raises ValueError without a name, TypeError for wrong types."""
    made = {"name": name, "blocked_terms": blocked_terms, "check": check, "replacement": replacement}
    check_guardrail(made)
    return made


def tool(
    name: str,
    description: str = "",
    parameters: dict[str, Any] | None = None,
    handler: object = None,
    webhook_url: str = "",
    *,
    filler: str = "",
) -> dict[str, Any]:
    """A tool for `agent(tools=[...])`; `parameters` is the JSON Schema of its arguments.

    `filler` is said ("One moment, I'm looking.") when the tool is slow.

    Raises ValueError if neither `handler` nor `webhook_url` is given, or if the name or the schema cannot be used.
    """
    made: dict[str, Any] = {
        "name": name,
        "description": description,
        "parameters": {"type": "object", "properties": {}} if parameters is None else parameters,
    }
    if handler is not None:
        made["handler"] = handler
    if webhook_url:
        made["webhook_url"] = webhook_url
    if filler:
        made["filler"] = filler
    check_tool(made)
    return made


def check_tool(tool: Mapping[str, Any]) -> None:
    """Raise ValueError or TypeError, naming the tool, unless a call could use it."""
    name = tool.get("name")
    if not name:
        raise ValueError("a tool has no name: give it one, the model calls it by that")
    if not isinstance(name, str) or not _TOOL_NAME.fullmatch(name):
        raise ValueError(f"tool name {name!r} cannot be used: up to 64 letters, digits, _ and - only")
    if name in SYSTEM_TOOLS:
        raise ValueError(f"tool name {name!r} is taken: every agent has that tool already")
    handler, webhook_url = tool.get("handler"), tool.get("webhook_url")
    if handler is None and not webhook_url:
        raise ValueError(f"tool {name!r} needs a handler or a webhook_url")
    if handler is not None and not callable(handler):
        raise TypeError(f"the handler of tool {name!r} must be a function, not {type(handler).__name__}")
    if webhook_url and not str(webhook_url).startswith(("http://", "https://")):
        raise ValueError(f"the webhook_url of tool {name!r} must begin with http:// or https://")
    if not isinstance(tool.get("filler", ""), str):
        raise TypeError(f"the filler of tool {name!r} must be a text to speak, not {type(tool['filler']).__name__}")
    _check_schema(name, tool.get("parameters"))


def _check_schema(name: str, schema: object) -> None:
    import jsonschema  # takes longer to import than all of patter

    if schema is None:
        return
    if not isinstance(schema, dict):
        raise TypeError(f"the parameters of tool {name!r} must be a JSON Schema as a dict, not {type(schema).__name__}")
    try:
        jsonschema.Draft202012Validator.check_schema(schema)
    except jsonschema.SchemaError as error:
        raise ValueError(f"the parameters of tool {name!r} are no valid JSON Schema: {error.message}") from None


def check_guardrail(item: object) -> None:
    """Raise TypeError or ValueError unless `item` is a Guardrail, or the dict of one, that can trip."""
    if isinstance(item, Guardrail):
        name, terms, check = item.name, item.blocked_terms, item.check
    elif isinstance(item, Mapping):
        name, terms, check = item.get("name", ""), item.get("blocked_terms"), item.get("check")
    else:
        raise TypeError(f"a guardrail must be a Guardrail or Patter.guardrail(...), not {type(item).__name__}")
    if not name:
        raise ValueError("a guardrail has no name: give it one, the log names it when it trips")
    if terms is not None and (isinstance(terms, str) or not isinstance(terms, Sequence)):
        raise TypeError(f"blocked_terms of guardrail {name!r} must be a list of words, not {type(terms).__name__}")
    if check is not None and not callable(check):
        raise TypeError(f"check of guardrail {name!r} must be a function of the text, not {type(check).__name__}")


def check_tools(tools: list[dict[str, Any]]) -> None:
    """Raise TypeError or ValueError unless a call could use all of them beside each other."""
    seen: set[str] = set()
    for item in tools:
        if not isinstance(item, Mapping):
            raise TypeError(f"a tool must be a dict, as Patter.tool(...) makes it, not {type(item).__name__}")
        check_tool(item)
        if item["name"] in seen:
            raise ValueError(f"two tools are called {item['name']!r}: the model could not tell them apart")
        seen.add(item["name"])


def check_script(script: Sequence[ScriptRule], tools: list[dict[str, Any]], *, more: bool = False) -> None:
    """Raise TypeError or ValueError unless every rule is one and uses tools that the agent has.

    With `more`, it may have others, whose names are known only when their servers have been asked."""
    names = {item["name"] for item in tools} | set(SYSTEM_TOOLS)
    for rule in script:
        if not isinstance(rule, ScriptRule):
            raise TypeError(f"a script is made of ScriptRule, not {type(rule).__name__}")
        if rule.tool and rule.tool not in names and not more:
            raise ValueError(f"a script rule calls the tool {rule.tool!r}, which the agent does not have")
