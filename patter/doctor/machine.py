"""This machine: microphone and speaker, and the embedded engines.

It owns what is said of them; it refuses to load a model.
"""

from __future__ import annotations

from patter.doctor.findings import Finding
from patter.providers.embedded.hibari import voice_missing
from patter.providers.embedded.silero import detector_missing
from patter.providers.embedded.whisper_model import recognition_missing
from patter.softphone import devices
from patter.softphone.device import DeviceProblem


def examine(stt_model: str = "") -> list[Finding]:
    """The findings. Blocking: the sound system is asked for its devices."""
    return [
        _sound(),
        _engine("embedded voice", voice_missing(), "The agent can speak without a key."),
        _engine("embedded recognition", recognition_missing(stt_model), "Speech is recognised without a key."),
        _engine("embedded detection", detector_missing(), "The end of a turn and interruptions are heard."),
    ]


def _sound() -> Finding:
    try:
        microphone, speaker = devices.chosen()
    except DeviceProblem as problem:
        return Finding("audio devices", "warning", problem.problem, problem.fix)
    return Finding("audio devices", "ok", f'microphone "{microphone}", speaker "{speaker}"')


def _engine(check: str, missing: str, ready: str) -> Finding:
    if not missing:
        return Finding(check, "ok", ready)
    sentence, _, fix = missing.partition(": ")
    return Finding(check, "warning", f"{sentence}.", f"{fix[0].upper()}{fix[1:]}" if fix else "")
