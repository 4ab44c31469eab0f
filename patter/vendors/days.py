"""A bad day of the played vendors, by name: what goes wrong at the doors of which stage.

It owns the names and whose paths they mean; it refuses to choose a day.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from patter.loopback.elevenlabs_convai import CONVERSATION, SIGNED_URL
from patter.loopback.elevenlabs_tts import SOCKET as VOICE_SOCKET
from patter.loopback.elevenlabs_tts import STREAM as VOICE_STREAM
from patter.loopback.openai_chat_living import COMPLETIONS, MODEL
from patter.loopback.openai_realtime import PATH as REALTIME
from patter.loopback.openai_speech import SPEECH
from patter.loopback.openai_transcription import TRANSCRIPTIONS
from patter.loopback.stage_faults import CutAfter, Fault, Faults, Refuse, Silent
from patter.wire.deepgram import PATH as NOVA
from patter.wire.deepgram_flux import PATH as FLUX

DOORS: Mapping[str, tuple[str, ...]] = {
    "stt": (NOVA, FLUX, TRANSCRIPTIONS),
    "llm": (COMPLETIONS,),
    "tts": (VOICE_STREAM, VOICE_SOCKET, SPEECH),
    "engine": (REALTIME, SIGNED_URL, CONVERSATION),
}
"""The paths of each stage; "engine": those that hear, think and speak by themselves, and live transcription."""

SPOKEN_BYTES = 6000  # three quarters of a second of a phone line, or an eighth of 24 kHz
SENT_MESSAGES = 25  # a greeting and the beginning of what follows
TALKED_MESSAGES = 90  # two or three answers


def _refused(status: int, code: str, message: str, retry_after: str = "") -> Refuse:
    """A refusal in which every vendor's clients find what they look for."""
    error = {"message": message, "type": "invalid_request_error", "param": None, "code": code}
    body = {"error": error, "detail": {"status": code, "message": message}, "err_code": code, "err_msg": message}
    return Refuse(status, body, retry_after=retry_after)


def _rate_limit(path: str) -> Fault:
    return _refused(429, "rate_limit_exceeded", "Too many requests.", "1")


def _wrong_key(path: str) -> Fault:
    return _refused(401, "invalid_api_key", "Invalid API key.")


def _silent(path: str) -> Fault:
    return Silent()


def _cut(path: str) -> Fault:
    if path in (COMPLETIONS, TRANSCRIPTIONS):
        return CutAfter(bytes=0)
    if path in (VOICE_STREAM, SPEECH):
        return CutAfter(bytes=SPOKEN_BYTES)
    return CutAfter(sent=TALKED_MESSAGES if path in DOORS["engine"] else SENT_MESSAGES)


FAULTS: Mapping[str, tuple[Callable[[str], Fault], str]] = {
    "rate-limit": (_rate_limit, "every request is refused for now (429)"),
    "cut": (_cut, "connections break in the middle"),
    "silent": (_silent, "connections are taken, and nothing is ever answered"),
    "wrong-key": (_wrong_key, "every key is refused (401)"),
}
"""Each day's fault for a path, and what it is."""


def spoil(faults: Faults, named: str) -> None:
    """Let a day begin: "cut" everywhere, or "cut=tts" at one stage only. Raises ValueError for names that nobody knows."""
    name, given, stage = named.partition("=")
    if name not in FAULTS:
        raise ValueError(f"there is no fault {name!r}: choose {', '.join(FAULTS)}")
    if given and stage not in DOORS:
        raise ValueError(f"there is no stage {stage!r}: choose {', '.join(DOORS)}")
    fault, _ = FAULTS[name]
    for place in (stage,) if given else DOORS:
        for path in DOORS[place]:
            faults.keep(path, fault(path))
    if name == "wrong-key" and not given:
        for path in (MODEL, "/v1/models", "/v1/voices", "/v1/auth/token"):
            faults.keep(path, fault(path))
