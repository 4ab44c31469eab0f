"""The engine's own settings: HOME/engine.toml, checked as a whole before anything starts.

It owns the file's keys and their checks; it refuses to know what becomes of them.
"""

from __future__ import annotations

import json
import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from patter.exceptions import SettingsError
from patter.models import Budget, Memory

FILE = "engine.toml"
PRICES = "prices.toml"
DATABASE = "PATTER_DATABASE_URL"
"""The environment's word for `memory.database`: an address with a password does not belong in a file that is shared."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Telemetry:
    """Where spans and metrics of calls go, beside what the environment's OTEL_* variables say.

    `endpoint`: the address of an OTLP/HTTP collector, such as "http://localhost:4318" ("": the environment's, or none).
    `texts`: what was said, tools' arguments and telephone numbers are sent too."""

    endpoint: str = field(default="", repr=False)
    texts: bool = False


@dataclass(frozen=True, slots=True)
class Settings:
    """What the file of one home says; `prices` is a price file beside it, if there is one."""

    memory: Memory = field(default=Memory())
    budget: Budget = field(default=Budget())
    prices: Path | None = None
    file: Path | None = None
    """Where changes of them are written; None: nowhere, they last until the process ends."""
    telemetry: Telemetry = field(default=Telemetry())


def load(home: Path, environment: Mapping[str, str] = os.environ) -> Settings:
    """The settings of this home (blocking: reads files). Raises SettingsError, naming key and fix."""
    path = home / FILE
    try:
        table = tomllib.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        table = {}
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise SettingsError(f"{path} cannot be read: {error}") from None
    if unknown := sorted(set(table) - {"memory", "budget", "telemetry"}):
        raise SettingsError(f"{path}: there is no section [{unknown[0]}]; known are [memory], [budget] and [telemetry]")
    memory = checked_memory(Memory(**_section(path, table, "memory", Memory)), f"{path}: memory.")
    if url := environment.get(DATABASE, ""):
        memory = replace(memory, database=url)
    budget = checked_budget(Budget(**_section(path, table, "budget", Budget)), f"{path}: budget.")
    telemetry = checked_telemetry(Telemetry(**_section(path, table, "telemetry", Telemetry)), f"{path}: telemetry.")
    prices = home / PRICES
    return Settings(memory, budget, prices if prices.is_file() else None, path, telemetry)


def write_budget(path: Path, budget: Budget) -> None:
    """Put these limits into the settings file; all else of it, comments too, stays as it is (blocking).

    Raises SettingsError when the file cannot be written, or is written in a way that only a person can change."""
    try:
        text = path.read_text("utf-8") if path.exists() else ""
        changed = _with_budget(text, budget)
        before, after = tomllib.loads(text), tomllib.loads(changed)
        wanted = {item.name: value for item in fields(Budget) if (value := getattr(budget, item.name)) is not None}
        if after != before | {"budget": wanted}:
            raise SettingsError(f"{path}: [budget] is written in an unusual way: change it by hand")
        fresh = path.with_name(f".{path.name}.new")
        fresh.write_text(changed, "utf-8")
        os.replace(fresh, path)
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise SettingsError(f"{path} cannot be changed: {error}") from None


def _with_budget(text: str, budget: Budget) -> str:
    lines = text.splitlines()
    keys = [item.name for item in fields(Budget)]
    told = [
        f"{key} = {json.dumps(value, ensure_ascii=False)}"
        for key in keys
        if (value := getattr(budget, key)) is not None
    ]
    heads = [number for number, line in enumerate(lines) if re.match(r"\s*\[\s*budget\s*\]", line)]
    if not heads:
        return "\n".join([*lines, *([""] if lines else []), "[budget]", *told]) + "\n"
    start = heads[0] + 1
    ends = (number for number in range(start, len(lines)) if re.match(r"\s*\[", lines[number]))
    end = next(ends, len(lines))
    rest = [line for line in lines[start:end] if not re.match(rf"\s*({'|'.join(keys)})\s*=", line)]
    return "\n".join([*lines[:start], *told, *rest, *lines[end:]]) + "\n"


def checked_memory(memory: Memory, where: str = "memory.") -> Memory:
    """The same, or a SettingsError that names the field and says how to fix it."""
    _at_least(where + "keep_days", memory.keep_days, 0)
    _at_least(where + "keep_calls", memory.keep_calls, 0)
    if isinstance(memory.keep_calls, float) and not memory.keep_calls.is_integer():
        raise SettingsError(f"{where}keep_calls must be a whole number, not {memory.keep_calls!r}")
    for pattern in memory.mask:
        import regex  # type: ignore[import-untyped]  # what masks with them; only a home with patterns needs it

        try:
            regex.compile(pattern)
        except (regex.error, TypeError) as error:
            raise SettingsError(f"{where}mask: {pattern!r} is no regular expression ({error})") from None
    return memory


def checked_budget(budget: Budget, where: str = "budget.") -> Budget:
    """The same, or a SettingsError that names the field and says how to fix it."""
    _at_least(where + "per_call_usd", budget.per_call_usd, 0)
    _at_least(where + "per_day_usd", budget.per_day_usd, 0)
    if not budget.farewell.strip():
        raise SettingsError(f"{where}farewell is empty: give the sentence that the caller hears at the limit")
    return budget


def checked_telemetry(telemetry: Telemetry, where: str = "telemetry.") -> Telemetry:
    """The same, or a SettingsError that names the field and says how to fix it."""
    if telemetry.endpoint and not telemetry.endpoint.startswith(("http://", "https://")):
        raise SettingsError(f'{where}endpoint must be the address of a collector, such as "http://localhost:4318"')
    return telemetry


def _at_least(name: str, value: object, least: float) -> None:
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value < float("inf"):
        raise SettingsError(f"{name} must be a number, {least:g} or more, not {value!r}")


def _section(path: Path, table: dict[str, Any], name: str, kind: type) -> dict[str, Any]:
    given = table.get(name, {})
    if not isinstance(given, dict):
        raise SettingsError(f"{path}: [{name}] must be a section")
    kinds = {item.name: str(item.type) for item in fields(kind)}
    made = {}
    for key, value in given.items():
        if key not in kinds:
            raise SettingsError(f"{path}: {name}.{key} is unknown; known are {', '.join(kinds)}")
        wanted = kinds[key]
        if wanted.startswith("tuple"):
            if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
                raise SettingsError(f"{path}: {name}.{key} must be a list of texts")
            value = tuple(value)
        elif wanted in ("str", "bool") and type(value).__name__ != wanted:
            raise SettingsError(f"{path}: {name}.{key} must be {'a text' if wanted == 'str' else 'true or false'}")
        made[key] = value
    return made
