"""What a played Deepgram says, of both protocols, as the vendor spells it.

It owns the JSON; it refuses to know when anything is said.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

Message = dict[str, Any]

CONFIDENCE = 0.97
CREATED = "2026-11-20T09:20:00.100Z"
NO_SUM = "0" * 64


@dataclass(frozen=True, slots=True)
class Piece:
    """Words of a range of the stream, in seconds; `voice` is where in it the sound is, over which the words are spread."""

    start: float
    end: float
    text: str
    voice: tuple[float, float]

    def placed(self) -> list[tuple[str, float, float]]:
        """(word, start, end) of each word."""
        words = self.text.split()
        first, last = self.voice
        step = max(0.0, last - first) / max(1, len(words))
        return [(word, round(first + step * at, 3), round(first + step * (at + 1), 3)) for at, word in enumerate(words)]


def results(
    request_id: str, model: str, piece: Piece, *, final: bool, speech_final: bool = False, from_finalize: bool = False
) -> Message:
    """Version 1: words, provisional or final."""
    words = [
        {"word": _plain(word), "start": start, "end": end, "confidence": CONFIDENCE, "punctuated_word": word}
        for word, start, end in piece.placed()
    ]
    return {
        "type": "Results",
        "channel_index": [0, 1],
        "duration": round(piece.end - piece.start, 3),
        "start": round(piece.start, 3),
        "is_final": final,
        "speech_final": speech_final,
        "channel": {
            "alternatives": [
                {"transcript": piece.text, "confidence": CONFIDENCE if piece.text else 0.0, "words": words}
            ]
        },
        "metadata": {
            "request_id": request_id,
            "model_info": {"name": f"general-{model}", "version": "2026-01-01.1", "arch": model},
            "model_uuid": "00000000-0000-4000-8000-000000000001",
        },
        "from_finalize": from_finalize,
    }


def speech_started(timestamp: float) -> Message:
    """Version 1: voice, whether or not words follow."""
    return {"type": "SpeechStarted", "channel": [0, 1], "timestamp": round(timestamp, 3)}


def utterance_end(last_word_end: float) -> Message:
    """Version 1: no word for a while."""
    return {"type": "UtteranceEnd", "channel": [0, 1], "last_word_end": round(last_word_end, 3)}


def metadata(request_id: str, duration: float) -> Message:
    """Version 1: the last message."""
    return {
        "type": "Metadata",
        "transaction_key": "deprecated",
        "request_id": request_id,
        "sha256": NO_SUM,
        "created": CREATED,
        "duration": round(duration, 3),
        "channels": 1,
    }


def schema_error(said: str) -> Message:
    """Version 1: a text message that is none of the protocol's."""
    return {
        "type": "Error",
        "variant": "SchemaError",
        "description": "Could not deserialize last text message",
        "message": said[:200],
    }


def connected(request_id: str) -> Message:
    """Version 2: the first message; the sender adds `sequence_id`, as to all of them."""
    return {"type": "Connected", "request_id": request_id}


def turn_info(
    request_id: str, event: str, index: int, piece: Piece, confidence: float, trigger: str = "", *, placed: bool = True
) -> Message:
    """Version 2: where a turn stands. `placed`: words carry their times, which the vendor does not promise."""
    words: Sequence[Message] = [
        {"word": word, "confidence": CONFIDENCE} | ({"start": start, "end": end} if placed else {})
        for word, start, end in piece.placed()
    ]
    message: Message = {
        "type": "TurnInfo",
        "request_id": request_id,
        "event": event,
        "turn_index": index,
        "audio_window_start": round(piece.start, 3),
        "audio_window_end": round(piece.end, 3),
        "transcript": piece.text,
        "words": words,
        "end_of_turn_confidence": round(confidence, 3),
    }
    return message | ({"trigger": trigger} if trigger else {})


def configure_success(request_id: str, thresholds: Message) -> Message:
    """Version 2: the new thresholds hold."""
    return {"type": "ConfigureSuccess", "request_id": request_id, "thresholds": thresholds, "keyterms": []}


def configure_failure(request_id: str, description: str) -> Message:
    """Version 2: they do not."""
    return {
        "type": "ConfigureFailure",
        "request_id": request_id,
        "code": "INVALID_CONFIGURATION",
        "description": description,
    }


def fatal(code: str, description: str) -> Message:
    """Version 2: the stream ends after this."""
    return {"type": "Error", "code": code, "description": description}


def _plain(word: str) -> str:
    return word.strip(".,?!").lower()
