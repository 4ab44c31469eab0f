"""`module:function` → the function, looked up beside the agent file first and read afresh each time.

It owns the isolated import; it refuses to know what the function is for. Neither `sys.path` nor `sys.modules` keeps a
trace of modules beside the file, so an edited module is the new one at the next look-up and two agents may have
modules of the same name. A module beside the file may import its neighbours at its top, not later inside a function.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import re
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, SourceFileLoader
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

_REFERENCE = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*")
PATIENCE_S = 5.0  # for another file's modules; a module that imports longer is stuck
_ONE_AT_A_TIME = threading.Lock()  # the import system is global: two files must not look up at once


class LookupFailed(Exception):
    """The function cannot be had; `problem` and `fix` are sentences."""

    def __init__(self, problem: str, fix: str = "") -> None:
        super().__init__(problem)
        self.problem, self.fix = problem, fix


class Modules:
    """Look-ups for one reading of one agent file in `folder` (None: only installed modules)."""

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder
        self._loaded: dict[str, ModuleType] = {}
        self._failed: dict[str, LookupFailed] = {}
        self.sources: set[Path] = set()
        """Files beside the agent file that were read."""

    def function(self, reference: str, arguments: Sequence[int]) -> Callable[..., Any]:
        """The function `reference` names; it must accept one of the numbers of positional `arguments`.

        Raises LookupFailed."""
        if not _REFERENCE.fullmatch(reference):
            raise LookupFailed('it must be written as "module:function"', 'for example "tools:find_slots"')
        name, _, attribute = reference.partition(":")
        module = self._module(name)
        found = getattr(module, attribute, None)
        place = Path(module.__file__ or name).name if hasattr(module, "__file__") else name
        if found is None:
            names = [key for key, value in vars(module).items() if callable(value) and not key.startswith("_")]
            hint = f"it has: {', '.join(sorted(names)[:8])}" if names else f"write def {attribute}(…) in it"
            raise LookupFailed(f'{place} has no function "{attribute}"', hint)
        if not callable(found):
            raise LookupFailed(f'"{attribute}" in {place} is no function')
        if not any(_accepts(found, count) for count in arguments):
            wanted = " or ".join(str(count) for count in arguments)
            raise LookupFailed(f'"{attribute}" in {place} cannot be called with {wanted} argument(s)')
        return found  # type: ignore[no-any-return]

    def _module(self, name: str) -> ModuleType:
        if name in self._failed:
            raise self._failed[name]
        if name not in self._loaded:
            try:
                self._loaded[name] = self._load(name)
            except LookupFailed as failure:
                self._failed[name] = failure
                raise
        return self._loaded[name]

    def _load(self, name: str) -> ModuleType:
        if self.folder and name.split(".")[0] in _PROTECTED and _file(self.folder, name):
            raise LookupFailed(f"{name}.py has the name of a module of Python or Patter", "give the file another name")
        if not _ONE_AT_A_TIME.acquire(timeout=PATIENCE_S):
            raise LookupFailed("another module beside an agent file does not finish its import", "restart the engine")
        try:
            with self._beside():
                return importlib.import_module(name)
        except ModuleNotFoundError as error:
            if error.name and (name == error.name or name.startswith(error.name + ".")):
                fix = f"put {name.replace('.', '/')}.py beside the agent file, or install it"
                raise LookupFailed(f'there is no module "{name}"', fix) from None
            raise LookupFailed(_cause(name, error, self.sources)) from None
        except (Exception, SystemExit) as error:
            raise LookupFailed(_cause(name, error, self.sources)) from None
        finally:
            _ONE_AT_A_TIME.release()

    @contextmanager
    def _beside(self) -> Iterator[None]:
        """Modules of the folder come first, and none of them stays in `sys.modules`."""
        if self.folder is None:
            yield
            return
        finder = _Beside(self.folder, self.sources)
        hidden = {name: sys.modules.pop(name) for name in list(sys.modules) if finder.serves(name)}
        sys.meta_path.insert(0, finder)
        try:
            yield
        finally:
            sys.meta_path.remove(finder)
            for name in [name for name in list(sys.modules) if finder.serves(name)]:
                del sys.modules[name]
            sys.modules.update(hidden)


_PROTECTED = frozenset(sys.stdlib_module_names) | {"patter", "patter_tui"}


def _file(folder: Path, name: str) -> Path | None:
    """The source of module `name` in `folder`."""
    stem = folder.joinpath(*name.split("."))
    return next((file for file in (stem / "__init__.py", stem.with_name(stem.name + ".py")) if file.is_file()), None)


class _Beside(MetaPathFinder):
    """Finds modules in one folder, for the thread that made it."""

    def __init__(self, folder: Path, sources: set[Path]) -> None:
        self._folder = folder
        self._sources = sources
        self._thread = threading.get_ident()
        items = folder.iterdir() if folder.is_dir() else ()
        names = {item.stem if item.suffix == ".py" else item.name for item in items}
        self._names = {name for name in names if _file(folder, name)} - _PROTECTED

    def serves(self, name: str) -> bool:
        """Whether this module belongs to the folder."""
        return name.partition(".")[0] in self._names

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """The spec of a module of this folder, with a loader that never uses cached bytecode."""
        file = _file(self._folder, fullname)
        if file is None or not self.serves(fullname) or threading.get_ident() != self._thread:
            return None
        self._sources.add(file)
        package = [str(file.parent)] if file.name == "__init__.py" else None
        return importlib.util.spec_from_file_location(
            fullname, file, loader=_Fresh(fullname, str(file)), submodule_search_locations=package
        )


class _Fresh(SourceFileLoader):
    """Compiles the source that is there now: cached bytecode misses an edit of the same size within a second."""

    def get_code(self, fullname: str) -> CodeType:
        file = self.get_filename(fullname)
        return self.source_to_code(self.get_data(file), file)


def _accepts(function: Callable[..., Any], count: int) -> bool:
    try:
        inspect.signature(function).bind(*range(count))
    except ValueError:  # a built-in without a signature
        return True
    except TypeError:
        return False
    return True


def _cause(name: str, error: BaseException, sources: set[Path]) -> str:
    """Where and why an import failed, with the innermost line that stands beside the agent file."""
    if isinstance(error, SyntaxError) and error.filename and Path(error.filename) in sources:
        return f"{Path(error.filename).name} line {error.lineno or 0} is no Python: {error.msg}"
    place, step = name, error.__traceback__
    while step is not None:
        file = Path(step.tb_frame.f_code.co_filename)
        if file in sources:
            place = f"{file.name} line {step.tb_lineno}"
        step = step.tb_next
    first = str(error).splitlines()[0] if str(error) else ""
    return f"{place} fails when it is imported: {type(error).__name__}" + (f": {first[:200]}" if first else "")
