"""Whom a played Deepgram lets in: the key, and the parameters of both protocols as the vendor judges them.

It owns the refusals; it refuses to know what happens inside.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from aiohttp import web

from patter.loopback.stage_faults import Refuse

RAW = ("linear16", "linear32", "mulaw", "alaw")
ENCODINGS = (*RAW, "flac", "amr-nb", "amr-wb", "opus", "ogg-opus", "speex", "g729")
FLUX_ENCODINGS = (*RAW, "opus", "ogg-opus")
NOVA_MODELS = re.compile(r"(nova(-[23])?|enhanced|base|whisper)(-[a-z]+)*")
KEYWORD_MODELS = re.compile(r"(nova(-2)?|enhanced|base)(-[a-z]+)*")
FLUX_MODELS = ("flux-general-en", "flux-general-multi")
FLUX_ONLY = ("eot_threshold", "eager_eot_threshold", "eot_timeout_ms")
FLUX_NAMES = (
    "model", "encoding", "sample_rate", *FLUX_ONLY, "keyterm", "language_hint", "numerals", "profanity_filter", "redact",
    "mip_opt_out", "tag",
)  # fmt: skip
RANGES = {"eot_threshold": (0.5, 1.0), "eager_eot_threshold": (0.3, 0.9), "eot_timeout_ms": (500.0, 60_000.0)}


def refusal(status: int, code: str, said: str) -> Refuse:
    """An answer to the upgrade as the vendor words it, in the body and in a header."""
    request_id = "00000000-0000-4000-8000-00000000dead"
    body = {"err_code": code, "err_msg": said, "request_id": request_id}
    return Refuse(status, body, {"dg-error": said, "dg-request-id": request_id})


def unknown_caller(request: web.Request, api_key: str) -> Refuse | None:
    """401, unless the key is right; with no `api_key` every key is."""
    scheme, _, key = request.headers.get("Authorization", "").partition(" ")
    if scheme in ("Token", "Bearer") and key and api_key in ("", key):
        return None
    return refusal(401, "INVALID_AUTH", "Invalid credentials.")


def bad_nova_query(request: web.Request) -> Refuse | None:
    """400 for what version 1 does not take. Names it does not know it ignores."""
    query = request.query
    model = query.get("model", "base-general")
    if not NOVA_MODELS.fullmatch(model):
        return _bad("No such model/version combination found.")
    if wrong := next((name for name in FLUX_ONLY if name in query), None):
        return _bad(f"{wrong} is not a parameter of this endpoint.")
    older = bool(KEYWORD_MODELS.fullmatch(model))
    if ("keyterm" if older else "keywords") in query:
        return _bad(f"{'keyterm' if older else 'keywords'} is not supported for model {model}.")
    if "utterance_end_ms" in query and query.get("interim_results") != "true":
        return _bad("utterance_end_ms requires interim_results=true.")
    for name in ("sample_rate", "channels", "utterance_end_ms"):
        if not query.get(name, "1").isdigit():
            return _bad(f"{name} must be an integer.")
    if not query.get("endpointing", "10").isdigit() and query["endpointing"] not in ("false", "true"):
        return _bad("endpointing must be an integer or false.")
    return _bad_sound(query, ENCODINGS)


def bad_flux_query(request: web.Request) -> Refuse | None:
    """400 for what version 2 does not take; it knows its names and refuses all others."""
    query = request.query
    if query.get("model") not in FLUX_MODELS:
        return _bad("No such model/version combination found.")
    if wrong := next((name for name in query if name not in FLUX_NAMES), None):
        return _bad(f"unknown query parameter: {wrong}")
    if problem := bad_thresholds({name: query[name] for name in FLUX_ONLY if name in query}):
        return _bad(problem)
    if "language_hint" in query and query["model"] != "flux-general-multi":
        return _bad("language_hint is only supported for multilingual models.")
    return _bad_sound(query, FLUX_ENCODINGS)


def bad_thresholds(values: Mapping[str, object]) -> str:
    """What is wrong with them, or ""."""
    read: dict[str, float] = {}
    for name, value in values.items():
        low, high = RANGES[name]
        try:
            read[name] = float(str(value))
        except ValueError:
            return f"{name} must be a number"
        if not low <= read[name] <= high:
            return f"{name} must be between {low:g} and {high:g}"
    if read.get("eager_eot_threshold", 0.0) > read.get("eot_threshold", 0.7):
        return "eager_eot_threshold must not exceed eot_threshold"
    return ""


def _bad_sound(query: Mapping[str, str], encodings: tuple[str, ...]) -> Refuse | None:
    encoding = query.get("encoding")
    if encoding is not None and encoding not in encodings:
        return _bad(f"encoding {encoding} is not supported.")
    if encoding in RAW and "sample_rate" not in query:
        return _bad("sample_rate is required with raw audio.")
    return None


def _bad(said: str) -> Refuse:
    return refusal(400, "INVALID_QUERY_PARAMETER", said)
