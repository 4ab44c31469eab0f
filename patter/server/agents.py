"""The agents this engine can run: files of one directory and files opened beside it, read again when they change.

It owns which version of a file is in use: a broken edit is told and the version before it stays. It refuses to know calls.
"""

from __future__ import annotations

import logging
import os
import re
import shutil
import tomllib
from collections.abc import Callable, Iterable
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar, TypeVarTuple, Unpack

import anyio
import anyio.to_thread
from watchfiles import Change, awatch

from patter.agentfile import AgentFile, check, load
from patter.builders import KEYLESS, filled
from patter.bus import Bus
from patter.events import AgentChanged, AgentRejected
from patter.exceptions import AgentFileError
from patter.server.answers import Refused

Given = TypeVarTuple("Given")
Found = TypeVar("Found")

log = logging.getLogger(__name__)

STEP_MS = 50  # quiet for this long means: the editor has finished writing
GATHER_MS = 400  # but a program that writes without pause is read at least this often
POLL_MS = 1_000  # where the system cannot tell of changes
READ_SECONDS = 10.0  # a module beside an agent file that imports longer is stuck
READERS = 4  # threads for reading: stuck ones must not use up those that calls need
_NEW_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
FILES = 500  # of one directory; more is not a directory of agents


@dataclass(slots=True)
class Entry:
    """An agent file: the version in use (None: there never was one) and what is wrong with the file as it is now."""

    path: Path
    opened: bool = False
    file: AgentFile | None = None
    problem: AgentFileError | None = None
    raw: bytes | None = None

    @property
    def name(self) -> str:
        """The agent's name; the file's, as long as it cannot be read."""
        return self.file.name if self.file else self.path.stem

    def depends_on(self, modules: frozenset[str]) -> bool:
        """Whether one of these Python files is, or may be, why the agent is as it is."""
        sources = {os.path.realpath(source) for source in self.file.sources} if self.file else set()
        return bool(sources & modules) or self.problem is not None

    def row(self) -> dict[str, Any]:
        """The agent as the API lists it. stt, llm and tts are what the file asks for ("": this machine's choice); with an
        engine that hears and speaks by itself they are that engine."""
        row: dict[str, Any] = {
            "name": self.name,
            "path": str(self.path),
            "version": self.file.version if self.file else "",
            "ok": self.problem is None,
            "problem": self.problem.problem if self.problem else "",
            "line": self.problem.line if self.problem else 0,
            "fix": self.problem.fix if self.problem else "",
            **dict.fromkeys(("provider", "first_message", "stt", "llm", "tts"), ""),
            "caller": [],
        }
        if self.file is None:
            return row
        agent = self.file.agent
        model = agent.llm.model or agent.llm.base_url if agent.llm else ""
        parts = {
            "stt": agent.stt.provider if agent.stt else "",
            "llm": "on_message" if self.file.on_message else model,
            "tts": agent.tts.provider if agent.tts else "",
        }
        if agent.provider != KEYLESS:
            parts = dict.fromkeys(parts, f"{agent.provider} {agent.agent_id or agent.model}")
        return (
            row
            | parts
            | {
                "provider": agent.provider,
                "first_message": filled(agent).first_message,
                "caller": [line.to_json() for line in self.file.caller_lines],
            }
        )


class Agents:
    """The agent files of `directory` and the opened ones. `changed` is told every new version."""

    def __init__(self, directory: Path, bus: Bus, changed: Callable[[AgentFile], None]) -> None:
        self.directory = directory.absolute()
        self._bus = bus
        self._changed = changed
        self._entries: dict[Path, Entry] = {}
        self._reading = anyio.Lock()
        self._readers = anyio.CapacityLimiter(READERS)
        self._wake = anyio.Event()
        self._stopping = False
        self._polling = False

    # ------------------------------------------------------------------ asking

    def rows(self) -> list[dict[str, Any]]:
        """All agents, by name."""
        return [entry.row() for entry in sorted(self._entries.values(), key=lambda entry: (entry.name, entry.path))]

    def find(self, wanted: str) -> Entry | None:
        """The agent of this name or path. Raises Refused if two files use the name."""
        path = Path(wanted)
        if path.is_absolute() and path in self._entries:
            return self._entries[path]
        named = [entry for entry in self._entries.values() if entry.name == wanted]
        if len(named) > 1:
            files = " and ".join(str(entry.path) for entry in named)
            raise Refused(409, f'Two agent files are called "{wanted}": {files}. Use the path, or rename one.')
        return named[0] if named else None

    async def wanted(self, wanted: str, *, may_open: bool = True) -> Entry:
        """The agent of this name or full path, opened if need be and allowed: a file's modules run when it is read. Raises
        Refused if there is none."""
        entry = self.find(wanted)
        if entry is None and may_open and Path(wanted).suffix == ".toml":
            entry = await self.open(agent_path(wanted))
        if entry is None or (entry.file is None and entry.raw is None):
            names = ", ".join(row["name"] for row in self.rows()) or "none yet"
            raise Refused(404, f"There is no agent of this name; there are: {names}.")
        return entry

    async def open(self, path: Path) -> Entry:
        """Watch a file wherever it is. Its problems, if any, are in the entry."""
        path = _plain(path)
        entry = self._entries.get(path)
        if entry is None:
            entry = Entry(path, opened=True)
            await self._read(entry, told=False)
            self._entries[path] = entry
            self._wake.set()
        return entry

    # ------------------------------------------------------------------ writing

    async def put(self, wanted: str, text: str, if_version: str = "") -> Entry:
        """Make `text`, which has been checked, the file of this agent (a new one in the directory if there is none); calls
        have it from their next turn on. `if_version`: only over this version. Raises Refused."""
        entry = self.find(wanted)
        if entry is None:
            if not _NEW_NAME.fullmatch(wanted):
                raise Refused(422, "The name of a new agent is made of a-z, 0-9, - and _, at most 64 of them.")
            entry = Entry(self.directory / f"{wanted}.toml", opened=True)
        version = entry.file.version if entry.file else ""
        if if_version and if_version != version:
            raise Refused(
                409, f'The agent is at version "{version}" by now: read it again, then put your change on top.'
            )
        try:
            await anyio.to_thread.run_sync(_write, entry.path, text.encode())
        except OSError as error:
            raise Refused(409, f"{entry.path} cannot be written: {error.strerror}.") from None
        entry = self._entries.setdefault(entry.path, entry)
        await self._read(entry)
        return entry

    # ------------------------------------------------------------------ reading

    async def check(self, text: str, path: Path) -> list[AgentFileError]:
        """All problems of `text`, as if it stood at `path`."""
        try:
            return await self._patiently(check, text, path)
        except AgentFileError as stuck:
            return [stuck]

    async def _patiently(self, reading: Callable[[Unpack[Given]], Found], *given: *Given) -> Found:
        """Read in a thread. Modules of users run there and may never come back: nobody else may wait for them.

        Raises AgentFileError if it takes too long."""
        try:
            with anyio.fail_after(READ_SECONDS):
                return await anyio.to_thread.run_sync(reading, *given, abandon_on_cancel=True, limiter=self._readers)
        except TimeoutError:
            raise AgentFileError(
                f"reading it takes longer than {READ_SECONDS:.0f} seconds: a module that it uses does not finish its import",
                fix="move what takes long from the top of the module into its functions, then restart the engine",
            ) from None

    async def load(self, files: Iterable[Path] = ()) -> None:
        """Read the directory and `files` for the first time."""
        for path in files:
            await self.open(path)
        await self._rescan(told=False)

    async def _rescan(self, modules: frozenset[str] = frozenset(), *, told: bool = True) -> None:
        """Look at all files again; `modules` are Python files that changed."""
        for path in await anyio.to_thread.run_sync(_listing, self.directory):
            self._entries.setdefault(path, Entry(path))
        for entry in list(self._entries.values()):
            await self._read(entry, told=told, again=bool(modules) and entry.depends_on(modules))

    async def _read(self, entry: Entry, *, told: bool = True, again: bool = False) -> None:
        """Look at a file again; nothing happens if it is as it was."""
        async with self._reading:
            try:
                found = await self._patiently(_load, entry, again)
            except AgentFileError as stuck:
                found = b"", None, stuck
        if found is None:
            return
        raw, made, problem = found
        if problem and entry.problem and raw == entry.raw and str(problem) == str(entry.problem):
            return
        before = entry.file
        entry.raw, entry.problem, entry.file = raw, problem, made or before
        if problem is not None:
            if raw is None and not entry.opened:
                self._entries.pop(entry.path, None)
            if told:
                self._reject(entry.name, problem)
        elif made is not None:
            if told:
                self._announce(before, made)
            if before is None or made.sources != before.sources:
                self._wake.set()  # other folders to watch

    def _announce(self, before: AgentFile | None, made: AgentFile) -> None:
        changed = ("added",) if before is None else _differences(before.text, made.text) or ("modules",)
        self._bus.publish(AgentChanged(call_id="", agent=made.name, agent_version=made.version, changed=changed))
        self._changed(made)

    def _reject(self, name: str, problem: AgentFileError) -> None:
        self._bus.publish(
            AgentRejected(call_id="", agent=name, problem=problem.problem, line=problem.line, fix=problem.fix)
        )

    # ------------------------------------------------------------------ watching

    async def watch(self) -> None:
        """Follow the files until `stop`."""
        while not self._stopping:
            self._wake = anyio.Event()
            folders = self._folders()
            stream = awatch(
                *folders,
                watch_filter=_relevant,
                debounce=GATHER_MS,
                step=STEP_MS,
                stop_event=self._wake,
                rust_timeout=1_000,
                yield_on_timeout=True,
                recursive=False,
                force_polling=self._polling,
                poll_delay_ms=POLL_MS,
            )
            looked = False
            try:
                async with aclosing(stream) as changes:
                    async for paths in changes:
                        if paths or not looked:  # at first: what changed while the watch was being set up
                            looked = looked or not paths
                            await self._rescan(_modules(path for _, path in paths))
            except Exception:  # a folder went away, or the system has no watches left
                log.exception("agent files cannot be watched by the system: looking at them every second instead")
                self._polling = True
                await anyio.sleep(POLL_MS / 1000)

    def stop(self) -> None:
        """End `watch`."""
        self._stopping = True
        self._wake.set()

    def _folders(self) -> list[Path]:
        folders = {self.directory}
        for entry in self._entries.values():
            folders |= {entry.path.parent, Path(os.path.realpath(entry.path)).parent}
            folders |= {source.parent for source in entry.file.sources} if entry.file else set()
        return sorted(folder for folder in folders if folder.is_dir())


def _plain(path: Path) -> Path:
    return Path(os.path.normpath(path.expanduser().absolute()))


def _listing(directory: Path) -> list[Path]:
    try:
        return sorted(path for path in directory.iterdir() if path.suffix == ".toml")[:FILES]
    except OSError:
        return []


def _modules(paths: Iterable[str]) -> frozenset[str]:
    return frozenset(os.path.realpath(path) for path in paths if path.endswith(".py"))


def _write(path: Path, content: bytes) -> None:
    """All or nothing, with the rights that the file had; a link stays a link."""
    path = Path(os.path.realpath(path))
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with draft.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        if path.exists():
            shutil.copymode(path, draft)
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


def _relevant(_: Change, path: str) -> bool:
    return path.endswith((".toml", ".py"))


def _load(entry: Entry, again: bool) -> tuple[bytes | None, AgentFile | None, AgentFileError | None] | None:
    """(bytes, agent, problem), or None if the file is as it was (and need not be read `again`)."""
    try:
        raw = entry.path.read_bytes()
    except OSError:
        raw = None
    if raw is not None and raw == entry.raw and not again:
        return None
    try:
        return raw, load(entry.path), None
    except AgentFileError as problem:
        if raw is None and entry.file is not None:
            fix = "calls that use it go on with its last version"
            return None, None, AgentFileError("the file is gone", path=str(entry.path), fix=fix)
        return raw, None, problem


def _differences(before: str, after: str) -> tuple[str, ...]:
    """The top-level keys whose values differ."""
    old, new = tomllib.loads(before), tomllib.loads(after)
    return tuple(sorted(key for key in old | new if old.get(key) != new.get(key)))


def agent_path(given: str) -> Path:
    """The full path of an agent file, as a request names it. Raises Refused."""
    path = Path(given).expanduser() if given.startswith("~/") else Path(given)
    if not path.is_absolute() or path.suffix != ".toml":
        raise Refused(422, "An agent file is given by its full path, which ends in .toml.")
    return path
