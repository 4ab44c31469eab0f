"""Money of a call as rows: what each stage used and cost, the sum, the price per minute. Pure."""

from __future__ import annotations

from patter_tui.call import Call
from patter_tui.figures import usd
from patter_tui.safe import clean
from patter_tui.views.rows import Row, fit, pad, right, wrap

STAGES = ("stt", "llm", "tts", "telephony")

_UNITS = (("seconds", "s"), ("characters", "chars"), ("tokens", "tokens"), ("minutes", "min"))


_TOKENS = {
    "input_tokens": "tokens in", "cached_tokens": "cached", "output_tokens": "tokens out",
    "input_text_tokens": "text in", "cached_text_tokens": "text cached", "output_text_tokens": "text out",
    "input_audio_tokens": "audio in", "cached_audio_tokens": "audio cached", "output_audio_tokens": "audio out",
}  # fmt: skip


def amount(amounts: dict[str, float]) -> str:
    """Measured usage for reading: "41 chars", "3.2 s"."""
    parts = []
    for name, value in amounts.items():
        unit = _TOKENS.get(name) or next((short for word, short in _UNITS if word in name), name.replace("_", " "))
        if value >= 0.05:  # less would be written as nothing
            parts.append(f"{value:.1f} {unit}" if unit in ("s", "min") else f"{value:,.0f} {unit}")
    return ", ".join(parts)


def rows(call: Call, width: int, now: float) -> list[Row]:
    """One row per stage, then the sum and the price per minute so far."""
    costs = call.costs()
    made: list[Row] = []
    for stage in STAGES:
        used = [(provider, amounts) for (kind, provider, _), amounts in call.usage.items() if kind == stage]
        if not used and not costs.get(stage):
            continue
        provider = ", ".join(dict.fromkeys(provider for provider, _ in used))
        measured = ", ".join(dict.fromkeys(filter(None, (amount(amounts) for _, amounts in used))))
        told = clean(" ".join(filter(None, (provider, measured))))
        room = max(4, width - 10 - 9)
        made.append(
            (
                (pad(stage, 10), "muted"), (pad(fit(told, room), room), "text"),
                (right(usd(costs.get(stage, 0.0), least=_unknown(call, stage)), 9), "text"),
            )
        )  # fmt: skip
    if not made:
        text = (
            "Nothing that costs was used so far."
            if call.turns
            else "What each stage used and what it costs adds up here."
        )
        return [*wrap(((text, "muted"),), width)]
    minutes = max(1.0, (call.ended_at or now) - call.started_at) / 60
    made.append(
        (
            (pad("total", 10), "strong"),
            (
                pad(f"{usd(call.cost_so_far / minutes, least=bool(call.unpriced))} a minute", max(4, width - 19)),
                "muted",
            ),
            (right(usd(call.cost_so_far, least=bool(call.unpriced)), 9), "strong"),
        )
    )
    if call.unpriced:
        told = f"No price known for {', '.join(sorted(map(clean, call.unpriced)))}: the cost is at least this."
        made += wrap(((told, "warn"),), width)
    return made


def _unknown(call: Call, stage: str) -> bool:
    """Whether somebody who was used in this stage has no known price."""
    return any(
        kind == stage and (f"{provider}/{model}" if model else provider) in call.unpriced
        for kind, provider, model in call.usage
    )
