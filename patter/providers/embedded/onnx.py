"""Opening the ONNX models that ship with the package, each once per process.

It owns the sessions and their thread settings, and turns a missing runtime into a clear error; it refuses to know what
the models mean.
"""

from __future__ import annotations

import threading
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

from patter.exceptions import ProviderError

MODELS = Path(__file__).parent / "models"
INSTALL = 'install the embedded engines: pip install "patter[local]"'

_lock = threading.Lock()
_sessions: dict[str, InferenceSession] = {}


class InferenceSession(Protocol):
    """The part of onnxruntime's session that is used."""

    def run(self, outputs: list[str] | None, inputs: dict[str, Any]) -> list[Any]: ...


def runtime_installed() -> bool:
    """Whether onnxruntime can be imported, without importing it."""
    return find_spec("onnxruntime") is not None


def open_model(file: str, *, stage: str, provider: str) -> InferenceSession:
    """The shared session of `models/file`, loaded at its first use. Raises ProviderError."""
    with _lock:
        session = _sessions.get(file)
        if session is None:
            session = _sessions[file] = _load(MODELS / file, stage=stage, provider=provider)
        return session


def _load(path: Path, *, stage: str, provider: str) -> InferenceSession:
    try:
        import onnxruntime
    except ImportError as error:
        raise ProviderError("onnxruntime is not installed", provider=provider, stage=stage, fix=INSTALL) from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1  # a window is too small to be worth a second thread
    options.log_severity_level = 3
    try:
        session: InferenceSession = onnxruntime.InferenceSession(
            str(path), sess_options=options, providers=["CPUExecutionProvider"]
        )
    except Exception as error:  # onnxruntime raises classes of its own that share no base but Exception
        raise ProviderError(
            f"the model {path.name} cannot be loaded ({error})",
            provider=provider,
            stage=stage,
            fix="reinstall patter, its model file is missing or damaged",
        ) from error
    return session
