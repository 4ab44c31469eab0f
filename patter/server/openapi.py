"""The OpenAPI 3.1 document of the API, made of the table of its entries.

It owns the document's form; it refuses to know any entry. A schema with a title is told once, among the components.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from http import HTTPStatus
from typing import Any

from patter.server.endpoint import CALL_ID, Endpoint
from patter.server.schemas import REFUSAL, TEXT

_PLACE = re.compile(r"\{(\w+)(?::[^}]*)?\}")
_PARTS = {"id": {"type": "string", "pattern": f"^{CALL_ID.pattern}$"}}
ABOUT = (
    "Every answer is {data: ...}, every refusal {error: a sentence}. Times are seconds since the epoch, latencies ms, money "
    "USD. Roles: read < operate < admin."
)


def document(endpoints: Iterable[Endpoint], version: str) -> dict[str, Any]:
    """The document of these entries; those of the page are left out."""
    components: dict[str, Any] = {}
    paths: dict[str, Any] = {}
    for endpoint in endpoints:
        if not endpoint.path.startswith("/dashboard"):
            entry = _operation(endpoint, components)
            paths.setdefault(_PLACE.sub(r"{\1}", endpoint.path), {})[endpoint.method.lower()] = entry
    return {
        "openapi": "3.1.0",
        "info": {"title": "Patter", "version": version, "description": ABOUT},
        "paths": dict(sorted(paths.items())),
        "components": {
            "schemas": dict(sorted(components.items())),
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer", "description": "a token of the server"}},
        },
    }


def _operation(endpoint: Endpoint, components: dict[str, Any]) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "operationId": _name(endpoint),
        "summary": endpoint.summary,
        "tags": [_subject(endpoint)],
        "x-role": endpoint.role,
        "security": [] if endpoint.role == "open" else [{"token": []}],
        "responses": _responses(endpoint, components),
    }
    places = [
        {"name": name, "in": "path", "required": True, "schema": _PARTS.get(name, TEXT)}
        for name in _PLACE.findall(endpoint.path)
    ]
    query = [
        {"name": name, "in": "query", "required": False, "schema": _hoist(schema, components)}
        for name, schema in endpoint.query.items()
    ]
    if places or query:
        operation["parameters"] = places + query
    if endpoint.body is not None:
        content = {"application/json": {"schema": _hoist(endpoint.body, components)}}
        operation["requestBody"] = {"required": bool(endpoint.body.get("required")), "content": content}
    return operation


def _responses(endpoint: Endpoint, components: dict[str, Any]) -> dict[str, Any]:
    done: dict[str, Any] = {"description": HTTPStatus(endpoint.status).phrase}
    if endpoint.status != 101:
        schema = {} if endpoint.answer is None else {"schema": _hoist(endpoint.answer, components)}
        done["content"] = {endpoint.content: schema}
    responses = {str(endpoint.status): done}
    for status in sorted(_refusals(endpoint)):
        refusal: dict[str, Any] = {"description": HTTPStatus(status).phrase}
        shape = endpoint.answer if endpoint.path == "/ready" else REFUSAL
        refusal["content"] = {"application/json": {"schema": _hoist(shape or REFUSAL, components)}}
        if status in (206, 304):
            refusal = {"description": HTTPStatus(status).phrase}
        responses[str(status)] = refusal
    return responses


def _refusals(endpoint: Endpoint) -> set[int]:
    found = set(endpoint.refusals) | {403}
    if endpoint.path not in ("/health", "/ready"):
        found |= {429, 426}
    if endpoint.role != "open":
        found |= {401}
    if endpoint.path.startswith("/api/"):
        found |= {400}
    if endpoint.body is not None:
        found |= {400, 413, 422}
    if "{" in endpoint.path:
        found |= {404}
    return found - {endpoint.status}


def _hoist(schema: Mapping[str, Any], components: dict[str, Any]) -> dict[str, Any]:
    """The schema with every titled one in it moved to the components."""
    made = {key: _inside(value, components) for key, value in schema.items()}
    title = schema.get("title")
    if not isinstance(title, str) or schema.get("type") is None:
        return made
    if components.setdefault(title, made) != made:
        raise ValueError(f"two shapes of the API are called {title}")
    return {"$ref": f"#/components/schemas/{title}"}


def _inside(value: Any, components: dict[str, Any]) -> Any:
    if isinstance(value, Mapping):
        return _hoist(value, components)
    if isinstance(value, list):
        return [_inside(item, components) for item in value]
    return value


def _subject(endpoint: Endpoint) -> str:
    return endpoint.path.removeprefix("/api/v1").strip("/").split("/")[0]


def _name(endpoint: Endpoint) -> str:
    """Such as getCallsIdEvents."""
    words = re.findall(r"\w+", endpoint.path.removeprefix("/api/v1"))
    return endpoint.method.lower() + "".join(word[:1].upper() + word[1:] for word in words)
