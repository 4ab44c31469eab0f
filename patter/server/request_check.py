"""Whether a request's query and body have the shapes that the API's table promises, and the sentence if they have not.

It owns the compiled schemas and the wording; it refuses to know what the values mean.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aiohttp import web
from jsonschema import Draft202012Validator, ValidationError
from jsonschema.exceptions import best_match

from patter.server.answers import Handler, Refused, json_body
from patter.server.schemas import Schema

_KINDS = {
    "string": "a text",
    "integer": "a whole number",
    "number": "a number",
    "boolean": "true or false",
    "object": "an object",
    "array": "a list",
}


class RequestCheck:
    """Compiled once for an entry. `strict`: a query may hold nothing else, since a filter that is mistyped would let all in."""

    def __init__(self, query: Mapping[str, Schema], body: Schema | None, *, strict: bool = False) -> None:
        self._query = dict(query)
        self._strict = strict
        self._body = None if body is None else Draft202012Validator(body)

    def before(self, handler: Handler) -> Handler:
        """The handler, which is asked only if the request has the right shape."""
        if not self._query and self._body is None and not self._strict:
            return handler

        async def checked(request: web.Request) -> web.StreamResponse:
            if self._strict and request.query_string:
                self._check_names(request)
            for name, schema in self._query.items():
                if name in request.query and (sentence := _query_problem(name, request.query[name], schema)):
                    raise Refused(400, sentence)
            if self._body is not None:
                found = best_match(self._body.iter_errors(await json_body(request)), key=_order)
                if found is not None:
                    raise Refused(422, _sentence(found))
            return await handler(request)

        return checked

    def _check_names(self, request: web.Request) -> None:
        names = [name for name, _ in request.query.items()]
        if unknown := [name for name in names if name not in self._query]:
            known = f"known are {', '.join(self._query)}" if self._query else "there are none here"
            raise Refused(400, f'There is no parameter "{unknown[0][:64]}" of the query: {known}.')
        if twice := [name for name in self._query if names.count(name) > 1]:
            raise Refused(400, f"{twice[0]} stands in the query more than once.")


def _order(error: ValidationError) -> tuple[int, int]:
    """What is wrong near the top comes first; what is missing after what is wrong."""
    return -len(error.path), -(error.validator == "required")


def _query_problem(name: str, given: str, schema: Schema) -> str:
    if schema.get("type") == "integer":
        least, most = schema.get("minimum", 0), schema.get("maximum", 10**15)
        if not (given.isascii() and given.isdigit() and len(given) < 16 and least <= int(given) <= most):
            return f"{name} must be a whole number from {least} to {most}."
    elif "enum" in schema and given not in schema["enum"]:
        return f"{name} must be {_or(schema['enum'])}."
    elif len(given) > schema.get("maxLength", 4_000):
        return f"{name} is longer than {schema.get('maxLength', 4_000):,} characters."
    elif "\0" in given or any("\ud800" <= letter <= "\udfff" for letter in given):
        return f"{name} holds characters that no text has."
    return ""


def _sentence(error: ValidationError) -> str:
    """What is wrong with a body."""
    schema: dict[str, Any] = error.schema if isinstance(error.schema, dict) else {}
    if error.validator == "required":
        missing = next(name for name in schema["required"] if name not in error.instance)  # type: ignore[operator]
        wanted = schema.get("properties", {}).get(missing, {})
        return f'"{_place(error, missing)}" is missing: it {_must(wanted)}.'
    name = f'"{_place(error)}"' if error.path else "The body"
    match error.validator:
        case "pattern" if "x-must" not in schema:
            return f"{name} is empty."
        case "maxLength":
            return f"{name} is longer than {error.validator_value:,} characters."
        case "maxItems" | "maxProperties":
            return f"{name} has more than {error.validator_value:,} entries."
        case "additionalProperties":
            return f"{name} has a field that is not known here."
    return f"{name} {_must(schema)}."


def _place(error: ValidationError, *more: str) -> str:
    return ".".join(str(part) for part in (*error.absolute_path, *more))


def _must(schema: Mapping[str, Any]) -> str:
    """What a value of this schema must be."""
    if "x-must" in schema:
        return str(schema["x-must"])
    if "enum" in schema:
        return f"must be {_or(schema['enum'])}"
    kind = _KINDS.get(str(schema.get("type")), "of another form")
    if "minimum" in schema and "maximum" in schema:
        return f"must be {kind} from {schema['minimum']:g} to {schema['maximum']:g}"
    return f"must be {kind}"


def _or(values: list[str]) -> str:
    quoted = [f'"{value}"' for value in values]
    return f"{', '.join(quoted[:-1])} or {quoted[-1]}" if len(quoted) > 1 else quoted[0]
