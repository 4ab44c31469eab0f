"""Whisper through CTranslate2: one utterance in, its words out, blocking.

It owns the model, the thread it works in, its window and the doubts about its answers; it refuses to know calls or time.
"""

from __future__ import annotations

import os
import threading
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from patter.exceptions import ProviderError
from patter.providers.embedded.decode_queue import DecodeQueue
from patter.providers.embedded.mel import RATE, Floats, log_mel
from patter.providers.embedded.onnx import INSTALL
from patter.providers.embedded.vocabulary import Vocabulary
from patter.providers.embedded.weights import MODEL_VARIABLE, found, model_directory

_TAIL_S = 6.0  # silence after the utterance: with 4 s every twentieth utterance was said twice, with 6 s none was
_BRIEF_S = 2.5  # a word or two with their margins
_BRIEF_WINDOW_S = 12.0  # with less around it, a single word is heard twice ("Yes. Yes.")
_WINDOW_S = 30.0  # what Whisper was trained on: slower by three to five times, and the judge when the short one fails
_SEGMENT_S = 22.0  # longer utterances are cut at their quietest moment before this
_TOKENS_PER_S = 4  # as fast as people speak; a caller who is quicker gets a second try with twice as many
_TOKENS_SPARE = 8
_POOR_SCORE = -1.0  # mean log-probability of a token; the threshold of Whisper's authors
_FEW_TOKENS = 5  # of so few the mean score says little, and the long window finds nothing else
_NO_SPEECH = 0.6  # theirs as well: above it, and with a poor score or hardly any words, nobody spoke
_REPEATING = 2.4  # theirs too: text that zlib shrinks by more than this is a loop
_SHORTEST_LOOP = 4  # tokens; "no, no, no" is something callers do say


Wanted = Callable[[], bool]


class NoLongerWanted(Exception):
    """The work was given up in the middle: whoever asked for it has said that the answer is moot."""


@dataclass(frozen=True, slots=True)
class Decoded:
    """Words, their number of tokens and its mean log-probability, and how likely there was no speech at all."""

    text: str
    tokens: int
    score: float
    no_speech: float
    capped: bool = False

    @property
    def doubtful(self) -> bool:
        """Whether the short window probably failed."""
        encoded = self.text.encode()
        repeating = len(encoded) > 40 and len(encoded) / len(zlib.compress(encoded)) > _REPEATING
        return (self.score < _POOR_SCORE and self.tokens >= _FEW_TOKENS) or self.capped or repeating


def default_threads() -> int:
    """Half of the cores, at most 4: on two shared cores a second thread gains nothing and starves the voice."""
    return max(1, min(4, (os.cpu_count() or 2) // 2))


class WhisperModel:
    """The model all calls share, and the `queue` of the one thread in which they call `transcribe`."""

    def __init__(self, directory: str = "", threads: int = 0) -> None:
        """`directory` as in `weights.model_directory`; `threads` 0 chooses. Nothing is loaded yet."""
        self._directory, self._threads = directory, threads or default_threads()
        self._lock = threading.Lock()
        self._engine: Any = None
        self._vocabulary: Vocabulary | None = None
        self.queue = DecodeQueue("whisper")

    @property
    def loaded(self) -> bool:
        """Whether `load` has succeeded."""
        return self._engine is not None

    @property
    def name(self) -> str:
        """The model as shown to people: "whisper-base", or the name of the user's own directory."""
        return Path(self._directory).name if self._directory else "whisper-base"

    def load(self) -> None:
        """Load it (about a second, blocking), once. Raises ProviderError."""
        with self._lock:
            if self._engine is None:
                self._engine, self._vocabulary = self._open(model_directory(self._directory))

    def warm(self) -> None:
        """Load it and decode a second of nothing: the first decode of a process takes several times as long."""
        self.transcribe(np.zeros(RATE, np.float32), draft=True)

    def close(self) -> None:
        """Stop the thread; what waits in the queue is forgotten."""
        self.queue.close()

    def _open(self, directory: Path) -> tuple[Any, Vocabulary]:
        try:
            import ctranslate2
        except ImportError as error:
            raise ProviderError(
                "ctranslate2 is not installed",
                provider="whisper",
                stage="stt",
                fix=INSTALL,
            ) from error
        try:
            engine = ctranslate2.models.Whisper(
                str(directory), device="cpu", compute_type="int8", intra_threads=self._threads, inter_threads=1
            )
            return engine, Vocabulary.read(directory)
        except (RuntimeError, ValueError, KeyError, OSError) as error:
            raise ProviderError(
                f"the model in {directory} cannot be loaded ({error})",
                provider="whisper",
                stage="stt",
                fix="use a Whisper model converted for CTranslate2, or leave the setting out for the packaged one",
            ) from error

    def transcribe(
        self, samples: Floats, language: str = "en", *, draft: bool = False, wanted: Wanted = lambda: True
    ) -> str:
        """The words of `samples` (mono, 16 kHz, -1…1), "" when nobody spoke. `draft` forgoes the second opinion.

        `wanted` is asked before each long step. Raises ProviderError, and NoLongerWanted once `wanted` says no."""
        self.load()
        texts = [self._segment(segment, language, draft, wanted) for segment in segments(samples)]
        return " ".join(text for text in texts if text)

    def _segment(self, samples: Floats, language: str, draft: bool, wanted: Wanted) -> str:
        decoded = self.decode(samples, language, wanted=wanted)
        if decoded.doubtful and not draft and not _nobody_spoke(decoded):
            second = self.decode(samples, language, window_s=_WINDOW_S, wanted=wanted)
            silent = _nobody_spoke(second)
            decoded = second if silent else max(decoded, second, key=lambda one: (not one.doubtful, one.score))
        return "" if _nobody_spoke(decoded) else decoded.text

    def decode(
        self, samples: Floats, language: str = "en", *, window_s: float = 0.0, wanted: Wanted = lambda: True
    ) -> Decoded:
        """One pass over at most 30 s; `window_s` 0 means the utterance and a short tail.

        Raises ProviderError, and NoLongerWanted once `wanted` says no."""
        assert self._vocabulary is not None, "load() comes first"
        seconds = len(samples) / RATE
        short = max(seconds + _TAIL_S, _BRIEF_WINDOW_S if seconds < _BRIEF_S else 0.0)
        padded = np.zeros(int(min(_WINDOW_S, window_s or short) * RATE), np.float32)
        padded[: len(samples)] = samples[: len(padded)]
        limit = int(seconds * _TOKENS_PER_S) + _TOKENS_SPARE
        try:
            prompt = self._vocabulary.prompt(language, self._engine.is_multilingual)
            _check(wanted)
            heard = self._encode(padded)
            _check(wanted)
            ids, score, no_speech = self._generate(heard, prompt, limit)
            if len(ids) >= limit and loop(ids) == len(ids):
                limit *= 2
                ids, score, no_speech = self._generate(heard, prompt, limit)
        except (RuntimeError, ValueError) as error:
            raise ProviderError(f"recognition failed ({error})", provider="whisper", stage="stt") from error
        once, capped = loop(ids), len(ids) >= limit
        if once < len(ids) and len(ids) > seconds * _TOKENS_PER_S:  # nobody speaks that fast: it was said once
            ids, capped = ids[:once], False
        return Decoded(self._vocabulary.text(ids), len(ids), score, no_speech, capped)

    def _encode(self, samples: Floats) -> Any:
        from ctranslate2 import StorageView

        picture = np.ascontiguousarray(log_mel(samples, self._engine.n_mels)[None])
        return self._engine.encode(StorageView.from_array(picture))

    def _generate(self, heard: Any, prompt: list[int], limit: int) -> tuple[list[int], float, float]:
        """(tokens, mean log-probability, probability of no speech) of at most `limit` tokens."""
        result = self._engine.generate(
            heard,
            [prompt],
            beam_size=1,
            max_length=min(448, 2 * limit),  # CTranslate2 generates half of it
            return_scores=True,
            return_no_speech_prob=True,
        )[0]
        return list(result.sequences_ids[0]), float(result.scores[0]), float(result.no_speech_prob)


def _check(wanted: Wanted) -> None:
    if not wanted():
        raise NoLongerWanted


def _nobody_spoke(decoded: Decoded) -> bool:
    unsure = decoded.score < _POOR_SCORE or decoded.tokens < _FEW_TOKENS
    silent = decoded.no_speech > _NO_SPEECH and unsure
    return silent or not any(character.isalnum() for character in decoded.text)


def loop(ids: list[int]) -> int:
    """How many tokens come before they begin again from the first; all of them when they do not."""
    for period in range(_SHORTEST_LOOP, len(ids) - 2):
        if ids[period:] == ids[: len(ids) - period]:
            return period
    return len(ids)


def segments(samples: Floats) -> list[Floats]:
    """`samples` in pieces of at most 22 s, each cut at the quietest tenth of a second of its last four seconds."""
    pieces = []
    longest, look, step = int(_SEGMENT_S * RATE), int(4 * RATE), RATE // 10
    while len(samples) > longest:
        levels = (samples[longest - look : longest].reshape(-1, step) ** 2).mean(axis=1)
        cut = longest - look + int(levels.argmin()) * step + step // 2
        pieces.append(samples[:cut])
        samples = samples[cut:]
    return [*pieces, samples]


def recognition_missing(directory: str = "") -> str:
    """Why speech cannot be recognised on this machine, and the fix, as a sentence; "" when it can. Loads nothing."""
    if find_spec("ctranslate2") is None:
        return f"Speech recognition needs ctranslate2: {INSTALL}."
    if found(directory):
        return ""
    chosen = directory or os.environ.get(MODEL_VARIABLE, "")
    if chosen:
        return (
            f"There is no Whisper model for CTranslate2 in {chosen}: it needs model.bin, config.json, vocabulary.json."
        )
    return f"Speech recognition needs Whisper's weights: {INSTALL}, or set {MODEL_VARIABLE} to a model directory."
