"""What things cost: dated price rows, the user's own over the shipped ones. Money is data here; all prices are in USD.

It owns the rows, their units, rounding rules and look-up; it refuses to know what was used, by whom, and who asks.
"""

from __future__ import annotations

import math
import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from patter.exceptions import SettingsError

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
CURRENCY = "USD"
"""The only one: a list that mixed several would add up to nothing, and rates change by the hour."""

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
_OVERRIDE_KEYS = {"price", "unit", "rounding", "stage", "model", "currency"}
_SHEET_KEYS = {
    "provider", "stage", "unit", "currency", "rounding", "running", "surcharge", "source", "as_of", "prices",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class PriceRow:
    """`price` USD buy one `unit` of `amount`. `model` "*" and `amount` "*" match all that have no row of their own.

    `running`: it is billed for as long as the call goes on, whether anything is said or not, so that what it has cost is
    known at any moment. `surcharge`: it comes on top of the provider's own row."""

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
    running: bool = False
    currency: str = CURRENCY

    def cost(self, quantity: float) -> float:
        """USD for `quantity` of the amount over a whole call (rounding applies to the sum, not to its parts)."""
        return self.rounded(quantity) / UNITS[self.unit] * self.price

    def rounded(self, quantity: float) -> float:
        """What is billed of a call's `quantity`."""
        if self.rounding == "started minute":
            return math.ceil(round(quantity, 3) / 60) * 60.0  # a sum of frames must not start a minute by 1e-12 s
        if self.rounding == "minimum minute" and quantity > 0:
            return max(60.0, quantity)
        return quantity


Key = tuple[str, str, str, str]


class Prices:
    """Looks up what usage costs. Immutable; build it with `Prices.load()`."""

    def __init__(self, rows: Iterable[PriceRow]) -> None:
        self.rows = tuple(rows)
        self._index = {_key(row): row for row in self.rows}

    @classmethod
    def load(
        cls, overrides: Mapping[str, Mapping[str, Any]] | None = None, *, file: str | Path | None = None
    ) -> Prices:
        """The shipped price list with the sheets of `file` laid over it row by row, and the user's `pricing` over both.

        A file holds `[[sheet]]` tables as the shipped `prices.toml` does (blocking: it is read here; raises SettingsError,
        naming file, sheet and key). An override is `{"price": USD}`, optionally with "unit", "rounding", "stage" and
        "model", or token prices as `{"input_tokens": USD, …}` per million. Raises ValueError for others."""
        rows = list(_shipped())
        if file is not None:
            rows = _laid_over(rows, _read(Path(file)))
        return cls(rows).overridden(overrides or {})

    def overridden(self, overrides: Mapping[str, Mapping[str, Any]]) -> Prices:
        """These prices with a `pricing` dict over them. Raises ValueError, naming the key."""
        rows = list(self.rows)
        for provider, override in overrides.items():
            rows = _laid_over(rows, _overridden(provider, override, rows))
        return Prices(rows)

    def row(self, provider: str, stage: str, model: str, amount: str) -> PriceRow | None:
        """The row for this amount: the model's own, that of its undated name, or the provider's for all models."""
        for owner in dict.fromkeys((provider, ALIASES.get(provider, provider))):
            for name in dict.fromkeys((model, _DATED.sub("", model), "*")):
                for where, what in ((stage, amount), (stage, "*"), ("*", "*")):
                    if found := self._index.get((owner, where, name, what)):
                        return found
        return None

    def billed(self, stage: str, provider: str, model: str, amounts: Mapping[str, float]) -> dict[str, float]:
        """Which quantities have to be paid for: cached tokens that have a price of their own are not paid for as fresh."""
        left = {amount: quantity for amount, quantity in amounts.items() if quantity}
        for cached, whole in CACHED.items():
            if left.get(cached) and self.row(provider, stage, model, cached):
                left[whole] = max(0.0, left.get(whole, 0.0) - left[cached])
            else:
                left.pop(cached, None)
        return {amount: quantity for amount, quantity in left.items() if quantity > 0}

    def cost(self, stage: str, provider: str, model: str, amounts: Mapping[str, float]) -> tuple[float, bool]:
        """USD for a call's (or turn's) summed `amounts`, and whether every one of them had a price."""
        total, known = 0.0, True
        for amount, quantity in self.billed(stage, provider, model, amounts).items():
            if row := self.row(provider, stage, model, amount):
                total += row.cost(quantity)
            else:
                known = False
        return total, known


def _key(row: PriceRow) -> Key:
    return row.provider, row.stage, row.model, row.amount


def _laid_over(rows: list[PriceRow], changed: list[PriceRow]) -> list[PriceRow]:
    keys = {_key(row) for row in changed}
    return [row for row in rows if _key(row) not in keys] + changed


# ------------------------------------------------------------------ sheets


@cache
def _shipped() -> tuple[PriceRow, ...]:
    text = files("patter").joinpath("prices.toml").read_text("utf-8")
    return tuple(_sheets(tomllib.loads(text), "prices.toml"))


def _read(file: Path) -> list[PriceRow]:
    try:
        table = tomllib.loads(file.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise SettingsError(f"{file} cannot be read: {error}") from None
    return [
        replace(row, source=row.source or f"{_OWN} ({file.name})", as_of=row.as_of) for row in _sheets(table, str(file))
    ]


def _sheets(table: Mapping[str, Any], where: str) -> Iterable[PriceRow]:
    sheets = table.get("sheet", [])
    if unknown := sorted(set(table) - {"sheet"}):
        raise SettingsError(f"{where}: there is no {unknown[0]!r}: a price file is made of [[sheet]] tables")
    if not isinstance(sheets, list):
        raise SettingsError(f"{where}: write [[sheet]] once for each sheet, with its keys below")
    for number, sheet in enumerate(sheets, 1):
        name = f"{where}: sheet {number}"
        if not isinstance(sheet, dict):
            raise SettingsError(f"{name} must be a table")
        yield from _rows(sheet, f"{name} ({_who(sheet.get('provider'))})")


def _who(provider: object) -> str:
    names = provider if isinstance(provider, list) else [provider]
    return ", ".join(str(name)[:40] for name in names[:3]) if provider else "no provider"


def _rows(sheet: Mapping[str, Any], where: str) -> Iterable[PriceRow]:
    """One sheet of a price file, row by row. Raises SettingsError."""
    _check_sheet(sheet, where)
    providers = sheet["provider"] if isinstance(sheet["provider"], list) else [sheet["provider"]]
    for provider in providers:
        for model, price in sheet["prices"].items():
            by_amount = price if isinstance(price, dict) else {_amount(sheet["unit"], sheet["stage"]): price}
            for amount, usd in by_amount.items():
                if isinstance(usd, bool) or not isinstance(usd, int | float) or not 0 <= usd < math.inf:
                    raise SettingsError(f"{where}: the price of {model!r} must be USD, zero or more, not {usd!r}")
                yield PriceRow(
                    provider=str(provider),
                    stage=sheet["stage"],
                    model=model,
                    amount=amount,
                    unit=sheet["unit"],
                    price=float(usd),
                    rounding=sheet.get("rounding", "none"),
                    surcharge=sheet.get("surcharge", False),
                    source=sheet.get("source", ""),
                    as_of=str(sheet.get("as_of", "")),
                    running=sheet.get("running", _lasts(sheet["stage"], sheet["unit"])),
                )


def _check_sheet(sheet: Mapping[str, Any], where: str) -> None:
    def refuse(problem: str) -> None:
        raise SettingsError(f"{where}: {problem}")

    if unknown := sorted(set(sheet) - _SHEET_KEYS):
        refuse(f"the key {unknown[0]!r} is unknown; known are {', '.join(sorted(_SHEET_KEYS))}")
    for key in ("provider", "stage", "unit", "prices"):
        if not sheet.get(key):
            refuse(f"{key} is missing")
    if sheet["stage"] not in (*STAGES, "*"):
        refuse(f"stage must be one of {', '.join(STAGES)}, not {sheet['stage']!r}")
    if sheet["unit"] not in UNITS:
        refuse(f"unit must be one of {', '.join(UNITS)}, not {sheet['unit']!r}")
    if sheet["unit"] != "free" and sheet["stage"] == "*":
        refuse('stage "*" is for what is free')
    if sheet.get("currency", CURRENCY) != CURRENCY:
        refuse(f"currency must be {CURRENCY}: convert the prices of {sheet['currency']!r} first")
    if sheet.get("rounding", "none") not in ROUNDINGS:
        refuse(f"rounding must be one of {', '.join(ROUNDINGS)}, not {sheet['rounding']!r}")
    for key in ("running", "surcharge"):
        if not isinstance(sheet.get(key, False), bool):
            refuse(f"{key} must be true or false")
    if not isinstance(sheet["prices"], dict):
        refuse("prices must be a table: model = price")


def _lasts(stage: str, unit: str) -> bool:
    """A carrier's minutes pass whatever is said."""
    return stage == "telephony" and unit in ("second", "minute", "hour")


def _amount(unit: str, stage: str) -> str:
    """Which amount a unit measures when the sheet does not say."""
    if unit == "free":
        return "*"
    if unit == "call":
        return "calls"
    if "characters" in unit:
        return "characters"
    if "tokens" in unit:
        return "tokens"
    return _TIME_AMOUNT[stage]


# ------------------------------------------------------------------ the user's `pricing`


def _overridden(provider: str, override: Mapping[str, Any], rows: list[PriceRow]) -> list[PriceRow]:
    """The rows that the user's prices for `provider` make or replace."""
    where = f"pricing[{provider!r}]"
    if not isinstance(override, Mapping):
        raise ValueError(f"{where} must be a dict such as {{'price': 0.01}}, not {type(override).__name__}")
    tokens = {key: value for key, value in override.items() if str(key).endswith("_tokens")}
    if unknown := set(override) - _OVERRIDE_KEYS - set(tokens):
        known = ", ".join(sorted(_OVERRIDE_KEYS))
        raise ValueError(
            f"{where} has the unknown key {sorted(map(str, unknown))[0]!r}; known are {known} and token prices"
        )
    for key in ("price", *tokens):
        value = override.get(key, 0)
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < math.inf:
            raise ValueError(f"{where}[{key!r}] must be a price in USD, zero or more, not {value!r}")
    if override.get("rounding", "none") not in ROUNDINGS:
        raise ValueError(f"{where}['rounding'] must be one of {', '.join(ROUNDINGS)}")
    if override.get("currency", CURRENCY) != CURRENCY:
        raise ValueError(f"{where}['currency'] must be {CURRENCY!r}: convert the price first")
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
        if unknown := [name for name in stages if name not in STAGES]:
            raise ValueError(f"{where}['stage'] must be one of {', '.join(STAGES)}, not {unknown[0]!r}")
        made = [
            PriceRow(provider, name, str(model or "*"), _amount(unit, name), unit, 0.0, running=_lasts(name, unit))
            for name in stages
        ]
    else:
        made = [*held, replace(base, model=str(model or "*"))]
    rounding = override.get("rounding")
    return [
        replace(
            row, provider=provider, unit=unit or row.unit, price=price, rounding=rounding or row.rounding,
            surcharge=False, source=_OWN, as_of="",
        )
        for row in made
    ]  # fmt: skip


def _unit(unit: Any, where: str) -> str | None:
    """The unit as the price list spells it; "1k_chars" and the like are understood too."""
    if unit is None:
        return None
    spelled = str(unit).strip().lower().replace("_", " ").replace("chars", "characters").replace("1m ", "1M ")
    if spelled not in UNITS:
        raise ValueError(f"{where}['unit'] must be one of {', '.join(UNITS)}, not {unit!r}")
    return spelled
