"""The tools of one agent: their checked arguments, their handlers, webhooks and servers, and results as text for the model.

It owns validation, time limits and retries, and turns every failure into a result the model can talk about; it refuses to
know when a tool is asked for or what becomes of the answer.
"""

from __future__ import annotations

import inspect
import json
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import anyio
import anyio.to_thread
import referencing
from jsonschema import Draft202012Validator
from jsonschema.exceptions import SchemaError
from referencing.exceptions import Unresolvable

from patter.exceptions import ProviderError
from patter.providers.webhook import Webhooks

log = logging.getLogger(__name__)

TIMEOUT_S = 30.0  # longer than this no caller waits; the model can still say that it did not work
ATTEMPTS = 3
RETRY_S = 0.5
NO_PARAMETERS: dict[str, Any] = {"type": "object", "properties": {}}

TRANSFER_CALL: dict[str, Any] = {
    "name": "transfer_call",
    "description": "Hand the caller over to a person at another telephone number. Tell the caller first.",
    "parameters": {
        "type": "object",
        "properties": {
            "number": {"type": "string", "description": "Where to, in E.164 form such as +15551234567"},
            "summary": {
                "type": "string",
                "description": "Who calls and why, in a sentence or two. If given, that person is called first and hears it "
                "before the two are joined; you go on talking with the caller until then.",
            },
        },
        "required": ["number"],
    },
}
END_CALL: dict[str, Any] = {
    "name": "end_call",
    "description": "Hang up once the conversation is over. Say goodbye first.",
    "parameters": {
        "type": "object",
        "properties": {"reason": {"type": "string", "description": "Why the call is over, in a few words"}},
    },
}
SYSTEM_TOOLS = (TRANSFER_CALL, END_CALL)
"""Every agent has these; the session carries them out."""


@dataclass(frozen=True, slots=True)
class ToolResult:
    """What the model is told. `output` is JSON, or the very words of a handler that returned a str."""

    ok: bool
    output: str


class ToolSource(Protocol):
    """Tools that somebody else runs. `specs` are as the model is told of them; `call` raises ProviderError."""

    @property
    def specs(self) -> Sequence[Mapping[str, Any]]: ...

    async def call(self, name: str, arguments: dict[str, Any]) -> str: ...


@dataclass(frozen=True, slots=True)
class _Tool:
    spec: dict[str, Any]
    validator: Any
    handler: Callable[..., Any] | None = None
    webhook_url: str = ""
    source: ToolSource | None = None
    filler: str = ""


class Toolbox:
    """An agent's tools, made ready once: schemas compiled, names checked. Holds no state of a call.

    `tools` are dicts as of `Patter.tool()`; those of `sources` come after them. Raises ValueError for a tool without a name,
    with neither handler nor webhook, with a name given twice or reserved, or with parameters that are no JSON Schema. A
    source's tool that cannot be used is left out with a warning."""

    def __init__(
        self,
        tools: Iterable[Mapping[str, Any]] | None,
        *,
        webhooks: Webhooks | None = None,
        sources: Iterable[ToolSource] = (),
        timeout_s: float = TIMEOUT_S,
        retry_s: float = RETRY_S,
    ) -> None:
        self._webhooks = webhooks
        self._timeout_s, self._retry_s = timeout_s, retry_s
        self._tools: dict[str, _Tool] = {}
        for entry in tools or ():
            tool = _tool(entry)
            name = tool.spec["name"]
            if name in self._tools or name in (system["name"] for system in SYSTEM_TOOLS):
                raise ValueError(
                    f"there are two tools named {name!r}: rename one (every agent has transfer_call, end_call)"
                )
            if tool.webhook_url and webhooks is None and tool.handler is None:
                raise ValueError(f"tool {name!r} has a webhook, but webhooks are not available here")
            self._tools[name] = tool
        for source in sources:
            self._take(source)
        self.specs: tuple[dict[str, Any], ...] = (*(tool.spec for tool in self._tools.values()), *SYSTEM_TOOLS)
        """What the model is told of the tools, system tools included: name, description, parameters."""

    def _take(self, source: ToolSource) -> None:
        reserved = {system["name"] for system in SYSTEM_TOOLS}
        for spec in source.specs:
            name = str(spec["name"])
            if name in self._tools or name in reserved:
                log.warning("a server's tool is left out: there is another one of that name", extra={"tool": name})
                continue
            try:
                validator = _validator(name, dict(spec["parameters"]))
            except ValueError as error:
                log.warning("a server's tool is left out", extra={"tool": name, "problem": str(error)})
                continue
            self._tools[name] = _Tool(dict(spec), validator, source=source)

    def filler(self, name: str) -> str:
        """What is said while this tool keeps the caller waiting; "" = nothing."""
        tool = self._tools.get(name)
        return tool.filler if tool is not None else ""

    async def run(self, name: str, arguments: str, context: Mapping[str, Any]) -> ToolResult:
        """Run a tool with the model's `arguments` (JSON text; "" means none). Never raises: failures are results.

        A handler gets `(arguments, context)`, sync ones in a thread; a webhook gets one JSON object."""
        tool = self._tools.get(name)
        if tool is None:
            known = ", ".join(spec["name"] for spec in self.specs)
            return _problem(f"there is no tool named {name!r}; the tools are: {known}")
        try:
            given = json.loads(arguments) if arguments.strip() else {}
        except ValueError:
            return _problem("the arguments are not valid JSON; call the tool again with a JSON object")
        if wrong := _violations(tool.validator, given):
            return _problem(f"the arguments do not fit: {wrong}")
        try:
            with anyio.fail_after(self._timeout_s):
                return ToolResult(True, _text(await self._call(tool, given, context)))
        except TimeoutError:
            log.warning("a tool took too long", extra={"tool": name, "seconds": self._timeout_s})
            return _problem(f"the tool did not answer within {self._timeout_s:g} s")
        except ProviderError as error:
            log.warning("a tool's server failed", extra={"tool": name, "problem": error.problem})
            return _problem(error.problem)
        except Exception as error:
            log.exception("a tool failed", extra={"tool": name})
            return _problem(f"the tool failed: {error}" if str(error) else f"the tool failed: {type(error).__name__}")

    async def _call(self, tool: _Tool, arguments: dict[str, Any], context: Mapping[str, Any]) -> Any:
        if tool.source is not None:
            return await tool.source.call(tool.spec["name"], arguments)
        if tool.handler is None:
            return await self._call_webhook(tool, arguments, context)
        given = (arguments, dict(context))
        if _is_async(tool.handler):
            return await tool.handler(*given)
        result = await anyio.to_thread.run_sync(partial(tool.handler, *given), abandon_on_cancel=True)
        return await result if inspect.isawaitable(result) else result

    async def _call_webhook(self, tool: _Tool, arguments: dict[str, Any], context: Mapping[str, Any]) -> Any:
        assert self._webhooks is not None
        who = {key: context.get(key, "") for key in ("call_id", "caller", "callee")}
        for attempt in range(1, ATTEMPTS + 1):
            payload = {"tool": tool.spec["name"], "arguments": arguments, **who, "attempt": attempt}
            try:
                return await self._webhooks.post(tool.webhook_url, payload)
            except ProviderError as error:
                if attempt == ATTEMPTS or not error.retryable:
                    raise
            await anyio.sleep(self._retry_s)
        raise AssertionError("unreachable")


def _tool(entry: Mapping[str, Any]) -> _Tool:
    """One tool's dict, checked and with its schema compiled."""
    name, handler, webhook_url = str(entry.get("name") or ""), entry.get("handler"), str(entry.get("webhook_url") or "")
    if not name:
        raise ValueError("a tool needs a name: Patter.tool(name=..., handler=...)")
    if handler is None and not webhook_url:
        raise ValueError(f"tool {name!r} needs a handler or a webhook_url")
    if handler is not None and not callable(handler):
        raise ValueError(f"tool {name!r}: handler must be a function of (arguments, context)")
    parameters = entry.get("parameters") or NO_PARAMETERS
    spec = {"name": name, "description": str(entry.get("description") or ""), "parameters": dict(parameters)}
    filler = str(entry.get("filler") or "").strip()
    return _Tool(spec, _validator(name, parameters), handler, webhook_url, filler=filler)


def _validator(name: str, parameters: Mapping[str, Any]) -> Any:
    """A schema made ready. Its references may point into itself only: nothing is fetched while somebody waits."""
    try:
        Draft202012Validator.check_schema(parameters)
    except SchemaError as error:
        raise ValueError(f"tool {name!r}: parameters are no valid JSON Schema: {error.message}") from error
    return Draft202012Validator(parameters, registry=referencing.Registry())


def _violations(validator: Any, arguments: Any) -> str:
    """What is wrong with the arguments, in words a model can act on; "" if nothing."""
    if not isinstance(arguments, dict):
        return "they must be one JSON object"
    try:
        found = sorted(validator.iter_errors(arguments), key=lambda error: list(map(str, error.absolute_path)))
    except Unresolvable as error:
        log.warning("a tool's schema points outside itself", extra={"reference": error.ref})
        return "this tool cannot be used: its parameters point to a schema that is not there"
    return "; ".join(
        ".".join(map(str, error.absolute_path)) + (": " if error.absolute_path else "") + error.message
        for error in found[:3]
    )


def _is_async(handler: Callable[..., Any]) -> bool:
    inner = handler.func if isinstance(handler, partial) else handler
    return inspect.iscoroutinefunction(inner) or inspect.iscoroutinefunction(getattr(inner, "__call__", None))  # noqa: B004


def _text(result: Any) -> str:
    """A tool's result as the model reads it."""
    if isinstance(result, str):
        return result
    if result is None:
        return json.dumps({"status": "done"})
    return json.dumps(result, ensure_ascii=False, default=str)


def _problem(problem: str) -> ToolResult:
    return ToolResult(False, json.dumps({"error": problem}, ensure_ascii=False))
