"""One table of an agent file while it is read: typed look-ups that note every problem with its place and its fix.

It owns the wording of type and key errors; it refuses to know which keys an agent has. No message ever shows a value.
"""

from __future__ import annotations

import difflib
import json
import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from patter.agentfile.locate import Path, Place
from patter.exceptions import AgentFileError

_ENV_NAME = re.compile(r"[A-Z_][A-Z0-9_]{0,63}")
_KINDS = {str: "text", bool: "true or false", int: "a whole number", float: "a number", list: "a list", dict: "a table"}


@dataclass(slots=True)
class Problems:
    """Everything wrong with one file, in the order it was found."""

    path: str
    places: dict[Path, Place] = field(default_factory=dict)
    found: list[AgentFileError] = field(default_factory=list)

    def add(self, where: Path, problem: str, fix: str = "") -> None:
        """Note a problem at `where`, or at the nearest thing around it that has a place."""
        line, column = self._place(where)
        self.found.append(AgentFileError(problem, path=self.path, line=line, column=column, fix=fix))

    def _place(self, where: Path) -> Place:
        for size in range(len(where), 0, -1):
            if where[:size] in self.places:
                return self.places[where[:size]]
        return 0, 0


def nearest(name: str, known: Iterable[str]) -> str:
    """`did you mean "x"?` for the closest known name, or all known names."""
    names = sorted(known)
    close = difflib.get_close_matches(name.lower(), names, n=1, cutoff=0.6)
    if close:
        return f'did you mean "{close[0]}"?'
    return "known here: " + ", ".join(names) if names else ""


def kind_of(value: object) -> str:
    """A value's TOML kind in words."""
    return _KINDS.get(type(value), "a date or time")


@dataclass(slots=True)
class Table:
    """A table at `path` of the document. Look-ups return the default when the key is absent or wrong."""

    data: dict[str, Any]
    path: Path
    problems: Problems
    title: str = "the agent file"

    def __contains__(self, key: str) -> bool:
        return key in self.data

    def add(self, key: str, problem: str, fix: str = "") -> None:
        """Note a problem with `key`."""
        self.problems.add((*self.path, key) if key else self.path, problem, fix)

    def only(self, known: Iterable[str]) -> None:
        """Note every key that is not known."""
        names = list(known)
        for key in self.data:
            if key not in names:
                self.add(key, f'unknown key "{_short(key)}" in {self.title}', nearest(key, names))

    def _is(self, key: str, kind: type, fix: str = "") -> bool:
        value = self.data.get(key)
        if type(value) is kind:
            return True
        if key in self.data:
            self.add(key, f"{key} must be {_KINDS[kind]}, not {kind_of(value)}", fix)
        return False

    def text(self, key: str, default: str = "", *, filled: bool = False) -> str:
        """A string; `filled` refuses one without words."""
        if not self._is(key, str):
            return default
        value: str = self.data[key]
        if filled and not value.strip():
            self.add(key, f"{key} is empty", f'write {key} = "…"')
        return value

    def need(self, key: str, why: str) -> str:
        """A string that must be there and have words."""
        if key not in self.data:
            self.add("", f"{key} is missing in {self.title}", why)
        return self.text(key, filled=True)

    def flag(self, key: str, default: bool = False) -> bool:
        """true or false."""
        return bool(self.data[key]) if self._is(key, bool) else default

    def whole(self, key: str, default: int, least: int, most: int) -> int:
        """A whole number from `least` to `most`."""
        if not self._is(key, int):
            return default
        value: int = self.data[key]
        if not least <= value <= most:
            self.add(key, f"{key} must be from {least} to {most}")
            return default
        return value

    def number(self, key: str, default: float, least: float, most: float) -> float:
        """A number from `least` to `most`."""
        value = self.data.get(key, default)
        if isinstance(value, bool) or not isinstance(value, int | float):
            self.add(key, f"{key} must be a number, not {kind_of(value)}")
            return default
        if not least <= value <= most:
            self.add(key, f"{key} must be from {least:g} to {most:g}")
            return default
        return float(value)

    def choice(self, key: str, known: Sequence[str], default: str) -> str:
        """One of `known`."""
        if not self._is(key, str):
            return default
        value: str = self.data[key]
        if value not in known:
            names = ", ".join(f'"{name}"' for name in known)
            close = difflib.get_close_matches(value.lower(), known, n=1, cutoff=0.6)
            self.add(key, f"{key} must be one of {names}", f'did you mean "{close[0]}"?' if close else "")
            return default
        return value

    def texts(self, key: str) -> tuple[str, ...]:
        """A list of strings."""
        if not self._is(key, list):
            return ()
        for index, item in enumerate(self.data[key]):
            if not isinstance(item, str) or not item.strip():
                what = "an empty text" if isinstance(item, str) else kind_of(item)
                self.problems.add((*self.path, key, index), f"{key} must be a list of texts; one of them is {what}")
        return tuple(item for item in self.data[key] if isinstance(item, str) and item.strip())

    def plain(self, key: str) -> dict[str, Any]:
        """A table of anything JSON can say."""
        if not self._is(key, dict):
            return {}
        try:
            json.dumps(self.data[key], allow_nan=False)
        except (TypeError, ValueError):
            self.add(
                key, f"{key} holds a value that JSON has no word for", "use texts, numbers, true/false, lists, tables"
            )
            return {}
        return dict(self.data[key])

    def table(self, key: str, title: str) -> Table | None:
        """A table below this one, or None."""
        if not self._is(key, dict, f"write [{key}] on a line of its own and its keys below"):
            return None
        return Table(self.data[key], (*self.path, key), self.problems, title)

    def tables(self, key: str, title: str) -> list[Table]:
        """An array of tables; each one's title is `title` with its number."""
        header = ".".join((*map(str, self.path), key))
        fix = f"write [[{header}]] once for each, with its keys below"
        if not self._is(key, list, fix):
            return []
        made = []
        for index, item in enumerate(self.data[key]):
            where = (*self.path, key, index)
            if isinstance(item, dict):
                made.append(Table(item, where, self.problems, f"{title} {index + 1}"))
            else:
                self.problems.add(where, f"{title} {index + 1} must be a table, not {kind_of(item)}", fix)
        return made

    def secret(self, key: str) -> str:
        """A secret that the environment holds: `{ env = "NAME" }`. The secret itself may not stand in the file."""
        example = f'write {key} = {{ env = "NAME" }} and set that variable'
        value = self.data.get(key)
        if value is None:
            return ""
        if isinstance(value, str):
            self.add(key, f"{key} holds the secret itself", f"take it out of the file: {example}")
            return ""
        if not isinstance(value, dict) or set(value) != {"env"} or not isinstance(value["env"], str):
            self.add(key, f"{key} must name an environment variable", example)
            return ""
        if not _ENV_NAME.fullmatch(value["env"]):
            self.add(key, f"env of {key} must be the name of an environment variable, in capitals", example)
            return ""
        held = os.environ.get(value["env"], "")
        if not held:
            why = "is not set" if value["env"] not in os.environ else "is set but empty"
            fix = f"set it before the engine starts: export {value['env']}=…"
            self.add(key, f"the environment variable {value['env']} (for {key}) {why}", fix)
        return held

    def url(self, key: str) -> str:
        """An http(s) address without a password in it."""
        value = self.text(key, filled=True)
        if not value:
            return ""
        try:
            parts = urlsplit(value)
            good = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port is None or parts.port > 0)
            guarded = parts.username is not None or parts.password is not None
        except ValueError:
            good = guarded = False
        if guarded:
            self.add(key, f"{key} holds a user name or password", "take it out of the address")
            return ""
        if not good:
            self.add(key, f"{key} must be an http:// or https:// address")
            return ""
        return value


def _short(key: str) -> str:
    return key if len(key) <= 40 else key[:39] + "…"
