"""The engine's own settings: HOME/engine.toml, checked as a whole before anything starts.

It owns the file's keys and their checks; it refuses to know what becomes of them.
"""

from __future__ import annotations

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


@dataclass(frozen=True, slots=True)
class Settings:
    """What the file of one home says; `prices` is a price file beside it, if there is one."""

    memory: Memory = field(default=Memory())
    budget: Budget = field(default=Budget())
    prices: Path | None = None


def load(home: Path, environment: Mapping[str, str] = os.environ) -> Settings:
    """The settings of this home (blocking: reads files). Raises SettingsError, naming key and fix."""
    path = home / FILE
    try:
        table = tomllib.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        table = {}
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise SettingsError(f"{path} cannot be read: {error}") from None
    if unknown := sorted(set(table) - {"memory", "budget"}):
        raise SettingsError(f"{path}: there is no section [{unknown[0]}]; known are [memory] and [budget]")
    memory = checked_memory(Memory(**_section(path, table, "memory", Memory)), f"{path}: memory.")
    if url := environment.get(DATABASE, ""):
        memory = replace(memory, database=url)
    budget = checked_budget(Budget(**_section(path, table, "budget", Budget)), f"{path}: budget.")
    prices = home / PRICES
    return Settings(memory, budget, prices if prices.is_file() else None)


def checked_memory(memory: Memory, where: str = "memory.") -> Memory:
    """The same, or a SettingsError that names the field and says how to fix it."""
    _at_least(where + "keep_days", memory.keep_days, 0)
    _at_least(where + "keep_calls", memory.keep_calls, 0)
    for pattern in memory.mask:
        try:
            re.compile(pattern)
        except (re.error, TypeError) as error:
            raise SettingsError(f"{where}mask: {pattern!r} is no regular expression ({error})") from None
    return memory


def checked_budget(budget: Budget, where: str = "budget.") -> Budget:
    """The same, or a SettingsError that names the field and says how to fix it."""
    _at_least(where + "per_call_usd", budget.per_call_usd, 0)
    _at_least(where + "per_day_usd", budget.per_day_usd, 0)
    if not budget.farewell.strip():
        raise SettingsError(f"{where}farewell is empty: give the sentence that the caller hears at the limit")
    return budget


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
