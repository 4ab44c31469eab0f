"""What a call costs: dated price rows, the user's overrides, and a fold over measured usage. Money is data here.

It owns prices, units and rounding; it refuses to know how usage was measured or who shows the sums. All prices in USD.
"""

from __future__ import annotations

import math
import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cache
from importlib.resources import files
from typing import Any

from patter.events import Event, UsageMeasured
from patter.models import CostBreakdown

STAGES = ("stt", "tts", "llm", "telephony")
UNITS = {
    "second": 1.0,
    "minute": 60.0,
    "hour": 3600.0,
    "1k characters": 1e3,
    "1M characters": 1e6,
    "1M tokens": 1e6,
    "call": 1.0,
    "free": 1.0,
}
"""How much of an amount one price buys; times are measured in seconds."""

ROUNDINGS = ("none", "started minute", "minimum minute")
CACHED = {
    "cached_tokens": "input_tokens",
    "cached_text_tokens": "input_text_tokens",
    "cached_audio_tokens": "input_audio_tokens",
}
"""Cached tokens are a subset of these: they are taken out before the input price applies."""

ALIASES = {
    "whisper": "openai",
    "openai_tts": "openai",
    "openai_realtime": "openai",
    "elevenlabs_convai": "elevenlabs",
}
"""Names of the public API whose prices stand under their vendor's name."""

_TIME_AMOUNT = {"stt": "audio_seconds", "llm": "seconds", "tts": "seconds", "telephony": "seconds"}
_DATED = re.compile(r"-(\d{4}-\d{2}-\d{2}|\d{8}|latest)$")
_OWN = "the user's own price"
_OVERRIDE_KEYS = {"price", "unit", "rounding", "stage", "model"}


@dataclass(frozen=True, slots=True)
class PriceRow:
    """`price` USD buy one `unit` of `amount`. `model` "*" and `amount` "*" match all that have no row of their own."""

    provider: str
    stage: str
    model: str
    amount: str
    unit: str
    price: float
    rounding: str = "none"
    surcharge: bool = False
    source: str = ""
    as_of: str = ""

    def cost(self, quantity: float) -> float:
        """USD for `quantity` of the amount over a whole call (rounding applies to the sum, not to its parts)."""
        if self.rounding == "started minute":
            quantity = math.ceil(round(quantity, 3) / 60) * 60  # a sum of frames must not start a minute by 1e-12 s
        elif self.rounding == "minimum minute" and quantity > 0:
            quantity = max(60.0, quantity)
        return quantity / UNITS[self.unit] * self.price


class Prices:
    """Looks up what usage costs. Immutable; build it with `Prices.load()`."""

    def __init__(self, rows: Iterable[PriceRow]) -> None:
        self.rows = tuple(rows)
        self._index = {(row.provider, row.stage, row.model, row.amount): row for row in self.rows}

    @classmethod
    def load(cls, overrides: Mapping[str, Mapping[str, Any]] | None = None) -> Prices:
        """The shipped price list with the user's `pricing` merged over it, provider by provider.

        An override is `{"price": USD}`, optionally with "unit", "rounding", "stage" and "model", or token prices as
        `{"input_tokens": USD, "cached_tokens": USD, "output_tokens": USD}` per million. Raises ValueError for others."""
        rows = list(_shipped())
        for provider, override in (overrides or {}).items():
            changed = _overridden(provider, override, rows)
            keys = {(row.provider, row.stage, row.model, row.amount) for row in changed}
            rows = [row for row in rows if (row.provider, row.stage, row.model, row.amount) not in keys] + changed
        return cls(rows)

    def row(self, provider: str, stage: str, model: str, amount: str) -> PriceRow | None:
        """The row for this amount: the model's own, that of its undated name, or the provider's for all models."""
        for owner in dict.fromkeys((provider, ALIASES.get(provider, provider))):
            for name in dict.fromkeys((model, _DATED.sub("", model), "*")):
                for where, what in ((stage, amount), (stage, "*"), ("*", "*")):
                    if found := self._index.get((owner, where, name, what)):
                        return found
        return None

    def cost(self, stage: str, provider: str, model: str, amounts: Mapping[str, float]) -> tuple[float, bool]:
        """USD for a call's (or turn's) summed `amounts`, and whether every one of them had a price."""
        left = dict(amounts)
        total, known = 0.0, True
        for cached, whole in CACHED.items():
            if left.get(cached) and self.row(provider, stage, model, cached):
                left[whole] = max(0.0, left.get(whole, 0.0) - left[cached])
            else:
                left.pop(cached, None)
        for amount, quantity in left.items():
            if not quantity:
                continue
            if row := self.row(provider, stage, model, amount):
                total += row.cost(quantity)
            else:
                known = False
        return total, known


class CostFold:
    """Sums usage, and prices the sums: rounding rules apply once to a whole call."""

    def __init__(self, prices: Prices) -> None:
        self._prices = prices
        self._used: dict[tuple[str, str, str], dict[str, float]] = {}

    def add(self, usage: UsageMeasured) -> None:
        """Count one measurement."""
        amounts = self._used.setdefault((usage.stage, usage.provider, usage.model), {})
        for key, quantity in usage.amounts.items():
            amounts[key] = amounts.get(key, 0.0) + quantity

    def amount(self, stage: str, key: str) -> float:
        """How much of `key` was used in `stage` by all providers together."""
        return sum((amounts.get(key, 0.0) for (used, _, _), amounts in self._used.items() if used == stage), 0.0)

    def breakdown(self) -> CostBreakdown:
        """The cost so far in USD. What has no price row is not in it: see `unpriced`."""
        sums = dict.fromkeys(STAGES, 0.0)
        for (stage, provider, model), amounts in self._used.items():
            sums[stage] += self._prices.cost(stage, provider, model, amounts)[0]
        return CostBreakdown(**sums, total=sum(sums.values()))

    def unpriced(self) -> tuple[str, ...]:
        """Who was used without a price row: "provider" or "provider/model", in order of first use."""
        found = (
            f"{provider}/{model}" if model else provider
            for (stage, provider, model), amounts in self._used.items()
            if not self._prices.cost(stage, provider, model, amounts)[1]
        )
        return tuple(dict.fromkeys(found))


def total_cost(events: Iterable[Event], prices: Prices) -> CostBreakdown:
    """What the usage among `events` (of one call) costs."""
    fold = CostFold(prices)
    for event in events:
        if isinstance(event, UsageMeasured):
            fold.add(event)
    return fold.breakdown()


@cache
def _shipped() -> tuple[PriceRow, ...]:
    sheets = tomllib.loads(files("patter").joinpath("prices.toml").read_text("utf-8"))["sheet"]
    return tuple(row for sheet in sheets for row in _rows(sheet))


def _rows(sheet: dict[str, Any]) -> Iterable[PriceRow]:
    """One sheet of the price file, row by row."""
    providers = sheet["provider"] if isinstance(sheet["provider"], list) else [sheet["provider"]]
    for provider in providers:
        for model, price in sheet["prices"].items():
            by_amount = price if isinstance(price, dict) else {_amount(sheet["unit"], sheet["stage"]): price}
            for amount, usd in by_amount.items():
                yield PriceRow(
                    provider=provider,
                    stage=sheet["stage"],
                    model=model,
                    amount=amount,
                    unit=sheet["unit"],
                    price=float(usd),
                    rounding=sheet["rounding"],
                    surcharge=sheet.get("surcharge", False),
                    source=sheet["source"],
                    as_of=sheet["as_of"],
                )


def _amount(unit: str, stage: str) -> str:
    """Which amount a unit measures when the sheet does not say."""
    if unit == "free":
        return "*"
    if unit == "call":
        return "calls"
    if "characters" in unit:
        return "characters"
    return _TIME_AMOUNT[stage]


def _overridden(provider: str, override: Mapping[str, Any], rows: list[PriceRow]) -> list[PriceRow]:
    """The rows that the user's prices for `provider` make or replace."""
    where = f"pricing[{provider!r}]"
    if not isinstance(override, Mapping):
        raise ValueError(f"{where} must be a dict such as {{'price': 0.01}}, not {type(override).__name__}")
    tokens = {key: value for key, value in override.items() if str(key).endswith("_tokens")}
    if unknown := set(override) - _OVERRIDE_KEYS - set(tokens):
        known = ", ".join(sorted(_OVERRIDE_KEYS))
        raise ValueError(f"{where} has the unknown key {sorted(unknown)[0]!r}; known are {known} and token prices")
    for key in ("price", *tokens):
        value = override.get(key, 0)
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < math.inf:
            raise ValueError(f"{where}[{key!r}] must be a price in USD, zero or more, not {value!r}")
    if override.get("rounding", "none") not in ROUNDINGS:
        raise ValueError(f"{where}['rounding'] must be one of {', '.join(ROUNDINGS)}")
    model = str(override.get("model", "*"))
    made = [PriceRow(provider, str(override.get("stage", "llm")), model, key, "1M tokens", float(value), source=_OWN)
            for key, value in tokens.items()]  # fmt: skip
    if tokens and model == "*":
        held = [row for row in rows if row.provider == provider and row.amount in tokens]
        made += [replace(row, price=float(tokens[row.amount]), source=_OWN, as_of="") for row in held]
    if "price" in override:
        made += _single(provider, override, rows, where)
    if not made:
        raise ValueError(f"{where} must give a 'price' or token prices")
    return made


def _single(provider: str, override: Mapping[str, Any], rows: list[PriceRow], where: str) -> list[PriceRow]:
    """The rows of an override with one `price`: it replaces the provider's own price, never its surcharges."""
    stage, model, unit = override.get("stage"), override.get("model"), _unit(override.get("unit"), where)
    vendor = ALIASES.get(provider, provider)
    held = [
        row
        for row in rows
        if row.provider in (provider, vendor)
        and (stage is None or row.stage == stage)
        and (row.model == model if model else not row.surcharge)
        and (unit is None or _amount(unit, row.stage if row.stage in STAGES else "stt") == row.amount)
        and not row.amount.endswith("_tokens")
    ]
    kinds = sorted({row.stage for row in held})
    if len(kinds) > 1:
        raise ValueError(f"{where} is used for {' and '.join(kinds)}: say which with 'stage'")
    price = float(override["price"])
    base = held[0] if held else None
    if base is None or base.unit == "free":
        if unit is None:
            raise ValueError(f"{where} needs a 'unit' beside its price: one of {', '.join(UNITS)}")
        stages = [str(stage)] if stage else [name for name in STAGES if ("characters" in unit) == (name == "tts")]
        made = [PriceRow(provider, name, str(model or "*"), _amount(unit, name), unit, 0.0) for name in stages]
    else:
        made = [*held, replace(base, model=str(model or "*"))]
    rounding = override.get("rounding")
    return [
        PriceRow(
            provider, row.stage, row.model, row.amount, unit or row.unit, price, rounding or row.rounding, source=_OWN
        )
        for row in made
    ]


def _unit(unit: Any, where: str) -> str | None:
    """The unit as the price list spells it; "1k_chars" and the like are understood too."""
    if unit is None:
        return None
    spelled = str(unit).strip().lower().replace("_", " ").replace("chars", "characters").replace("1m ", "1M ")
    if spelled not in UNITS:
        raise ValueError(f"{where}['unit'] must be one of {', '.join(UNITS)}, not {unit!r}")
    return spelled
