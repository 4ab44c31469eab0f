"""Where each key of a TOML text stands: path → line and column, both counted from 1.

It owns nothing but positions and refuses to judge: give it text that `tomllib` accepts. `tomllib` itself keeps no places.
"""

from __future__ import annotations

from dataclasses import dataclass, field

Path = tuple[str | int, ...]
"""A way into the parsed document: keys, and indexes into arrays."""

Place = tuple[int, int]
"""Line and column, from 1."""

_BARE_END = frozenset(" \t\r\n=.,]}#")
_ESCAPES = {"b": "\b", "t": "\t", "n": "\n", "f": "\f", "r": "\r", '"': '"', "\\": "\\", "e": "\x1b"}


def locate(text: str) -> dict[Path, Place]:
    """The place of every table header, key and array element of a valid TOML text."""
    scanner = _Scanner(text.replace("\r\n", "\n"))
    scanner.document()
    return scanner.places


@dataclass(slots=True)
class _Scanner:
    text: str
    at: int = 0
    line: int = 1
    line_began: int = 0
    places: dict[Path, Place] = field(default_factory=dict)
    lengths: dict[Path, int] = field(default_factory=dict)
    """How many tables each array of tables has so far."""

    # ------------------------------------------------------------------ moving

    def _here(self) -> Place:
        return self.line, self.at - self.line_began + 1

    def _peek(self, count: int = 1) -> str:
        return self.text[self.at : self.at + count]

    def _step(self, count: int = 1) -> None:
        for _ in range(count):
            if self._peek() == "\n":
                self.line, self.line_began = self.line + 1, self.at + 1
            self.at += 1

    def _blank(self) -> None:
        while self._peek() in (" ", "\t"):
            self._step()

    def _gap(self) -> None:
        """Blanks, newlines and comments."""
        while self._peek() and self._peek() in " \t\n#":
            if self._peek() == "#":
                while self._peek() not in ("", "\n"):
                    self._step()
            else:
                self._step()

    # ------------------------------------------------------------------ statements

    def document(self) -> None:
        table: Path = ()
        self._gap()
        while self.at < len(self.text):
            if self._peek() == "[":
                table = self._header()
            else:
                self._pair(table)
            self._gap()

    def _header(self) -> Path:
        place = self._here()
        array = self._peek(2) == "[["
        self._step(2 if array else 1)
        keys = self._keys()
        self._step(2 if array else 1)
        path: Path = ()
        for key in keys[:-1]:
            path = self._last((*path, key))
            self.places.setdefault(path, place)
        path = (*path, keys[-1])
        if not array:
            self.places.setdefault(path, place)
            return path
        self.places.setdefault(path, place)
        index = self.lengths.get(path, 0)
        self.lengths[path] = index + 1
        self.places[(*path, index)] = place
        return (*path, index)

    def _last(self, path: Path) -> Path:
        """A header names an array of tables by its key and means its last table."""
        return (*path, self.lengths[path] - 1) if path in self.lengths else path

    def _keys(self) -> list[str]:
        keys = []
        while True:
            self._blank()
            keys.append(self._string() if self._peek() in ('"', "'") else self._bare())
            self._blank()
            if self._peek() != ".":
                return keys
            self._step()

    def _bare(self) -> str:
        began = self.at
        while self._peek() and self._peek() not in _BARE_END:
            self._step()
        return self.text[began : self.at]

    def _pair(self, table: Path) -> None:
        place = self._here()
        path = table
        for key in self._keys():
            path = (*path, key)
            self.places.setdefault(path, place)
        self._step()  # "="
        self._blank()
        self._value(path)

    # ------------------------------------------------------------------ values

    def _value(self, path: Path) -> None:
        first = self._peek()
        if first in ('"', "'"):
            self._string()
        elif first == "[":
            self._array(path)
        elif first == "{":
            self._inline(path)
        else:
            while self._peek() and self._peek() not in ",]}#\n":
                self._step()

    def _array(self, path: Path) -> None:
        self._step()
        self._gap()
        index = 0
        while self._peek() not in ("]", ""):
            self.places[(*path, index)] = self._here()
            self._value((*path, index))
            index += 1
            self._gap()
            if self._peek() == ",":
                self._step()
                self._gap()
        self._step()

    def _inline(self, path: Path) -> None:
        self._step()
        self._gap()
        while self._peek() not in ("}", ""):
            self._pair(path)
            self._gap()
            if self._peek() == ",":
                self._step()
                self._gap()
        self._step()

    def _string(self) -> str:
        quote = self._peek()
        if self._peek(3) == quote * 3:
            return self._long_string(quote)
        self._step()
        began = self.at
        while self._peek() not in (quote, ""):
            self._step(2 if quote == '"' and self._peek() == "\\" else 1)
        content = self.text[began : self.at]
        self._step()
        return _unescape(content) if quote == '"' else content

    def _long_string(self, quote: str) -> str:
        self._step(3)
        began = self.at
        while self._peek() and self._peek(3) != quote * 3:
            self._step(2 if quote == '"' and self._peek() == "\\" else 1)
        content = self.text[began : self.at]
        self._step(3)
        while self._peek() == quote:  # up to two quotes may stand before the closing three
            self._step()
        return content


def _unescape(content: str) -> str:
    """A quoted key's text."""
    made, rest = "", content
    while rest:
        head, slash, rest = rest.partition("\\")
        made += head
        if not slash:
            break
        size = {"u": 4, "U": 8, "x": 2}.get(rest[:1], 0)
        made += chr(int(rest[1 : 1 + size], 16)) if size else _ESCAPES.get(rest[:1], rest[:1])
        rest = rest[1 + size :]
    return made
