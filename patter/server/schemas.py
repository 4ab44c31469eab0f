"""The shapes that entries of the API are described with: JSON schemas, made by short words.

It owns these words; it refuses to know which entry uses them. A shape with a title is one of the document's components.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Schema = Mapping[str, Any]
"""A JSON schema (draft 2020-12, as OpenAPI 3.1 takes it)."""

ANYTHING: Schema = {}
TEXT: Schema = {"type": "string"}
NUMBER: Schema = {"type": "number"}
WHOLE: Schema = {"type": "integer"}
FLAG: Schema = {"type": "boolean"}
TEXTS: Schema = {"type": "array", "items": TEXT}
OBJECT: Schema = {"type": "object"}

NO_BODY: Schema = {"type": "object", "properties": {}}
"""For an entry that takes no fields: an object, or no body at all."""


def words(limit: int = 4_000, *, needed: bool = True, note: str = "") -> Schema:
    """A text of at most `limit` characters; not empty if it is `needed`."""
    schema: dict[str, Any] = {"type": "string", "maxLength": limit}
    if needed:
        schema["pattern"] = r"\S"
    return schema | ({"description": note} if note else {})


def pattern(expression: str, must: str) -> Schema:
    """A text of this form; `must` is how a refusal says it: 'must be in E.164 form'."""
    return {"type": "string", "pattern": expression, "x-must": must}


def one_of(*values: str, default: str = "") -> Schema:
    """One of these words."""
    return {"type": "string", "enum": list(values)} | ({"default": default} if default else {})


def whole(least: int, most: int, default: int | None = None) -> Schema:
    """A whole number from `least` to `most`."""
    schema: dict[str, Any] = {"type": "integer", "minimum": least, "maximum": most}
    return schema if default is None else schema | {"default": default}


def number(least: float, most: float) -> Schema:
    """A number from `least` to `most`."""
    return {"type": "number", "minimum": least, "maximum": most}


def or_null(schema: Schema) -> Schema:
    """The same, or null: not known."""
    return {"anyOf": [schema, {"type": "null"}]}


def listing(item: Schema) -> Schema:
    """A list of these."""
    return {"type": "array", "items": item}


def table(value: Schema) -> Schema:
    """An object whose values, under whatever keys, are all of this shape."""
    return {"type": "object", "additionalProperties": value}


def record(fields: Mapping[str, Schema], *, optional: tuple[str, ...] = (), title: str = "") -> Schema:
    """An object with these fields, all of them there but the `optional` ones."""
    schema: dict[str, Any] = {
        "type": "object",
        "properties": dict(fields),
        "required": [name for name in fields if name not in optional],
    }
    return schema | ({"title": title} if title else {})


def answered(data: Schema, **more: Schema) -> Schema:
    """The whole answer of an entry: `{"data": …}` and what is beside it."""
    return record({"data": data, **more})


REFUSAL: Schema = record({"error": TEXT}, title="Refusal")
PAGINATION: Schema = record(
    {
        **dict.fromkeys(("limit", "offset", "count", "total"), WHOLE),
        "total_is_at_least": {
            **FLAG,
            "description": "true if a search finds more than total: further ones are not counted",
        },
    },
    optional=("total_is_at_least",),
    title="Pagination",
)
