"""Costs: the shipped price list, overrides, and what is not known."""

from __future__ import annotations

from pathlib import Path

import pytest

from patter.events import UsageMeasured
from patter.exceptions import SettingsError
from patter.observe.cost import CostFold, total_cost
from patter.observe.prices import Prices

PRICES = Prices.load()


def used(stage: str, provider: str, model: str, **amounts: float) -> UsageMeasured:
    return UsageMeasured(call_id="c", turn=1, stage=stage, provider=provider, model=model, amounts=amounts)  # type: ignore[arg-type]


def fold(*usage: UsageMeasured, prices: Prices = PRICES) -> CostFold:
    made = CostFold(prices)
    for one in usage:
        made.add(one)
    return made


def test_the_worked_example_of_the_price_sheet() -> None:
    cost = total_cost(
        [
            used("telephony", "twilio", "inbound", seconds=250),
            used("telephony", "twilio", "media-stream", seconds=250),
            used("stt", "deepgram", "nova-3", audio_seconds=100),
            used("stt", "deepgram", "nova-3", audio_seconds=150),
            used("llm", "openai", "gpt-4o-mini", input_tokens=4000, cached_tokens=2000, output_tokens=400),
            used("llm", "openai", "gpt-4o-mini", input_tokens=5000, cached_tokens=4000, output_tokens=500),
            used("tts", "elevenlabs", "eleven_flash_v2_5", characters=1500),
        ],
        PRICES,
    )
    assert cost.telephony == pytest.approx(0.0625)
    assert cost.stt == pytest.approx(0.02)
    assert cost.llm == pytest.approx(0.00144)
    assert cost.tts == pytest.approx(0.06)
    assert cost.total == pytest.approx(0.14394)


def test_minutes_round_up_once_for_the_whole_call() -> None:
    parts = [used("telephony", "twilio", "inbound", seconds=39) for _ in range(2)]
    assert fold(*parts).breakdown().telephony == pytest.approx(2 * 0.0085)


def test_an_unanswered_call_costs_nothing() -> None:
    assert fold(used("telephony", "twilio", "outbound", seconds=0)).breakdown().total == 0


@pytest.mark.parametrize(
    ("carrier", "seconds", "usd"),
    [
        ("twilio", 61, 2 * (0.0140 + 0.0040 + 0.0025) + 0.0075),
        ("telnyx", 90, 1.5 * (0.0070 + 0.0035 + 0.0020) + 0.0065),
    ],
)
def test_an_outbound_call_with_detection_stream_and_recording(carrier: str, seconds: float, usd: float) -> None:
    made = fold(
        *(used("telephony", carrier, model, seconds=seconds) for model in ("outbound", "media-stream", "recording")),
        used("telephony", carrier, "amd", calls=1),
    )
    assert made.breakdown().telephony == pytest.approx(usd)
    assert made.unpriced() == ()


def test_the_price_of_detection_is_the_users_to_change() -> None:
    prices = Prices.load({"twilio": {"price": 0.01, "model": "amd"}})
    assert fold(used("telephony", "twilio", "amd", calls=2), prices=prices).breakdown().total == pytest.approx(0.02)


def test_a_minimum_of_one_minute_then_by_the_second() -> None:
    assert fold(used("telephony", "telnyx", "inbound", seconds=10)).breakdown().total == pytest.approx(0.0055)
    assert fold(used("telephony", "telnyx", "inbound", seconds=90)).breakdown().total == pytest.approx(0.0055 * 1.5)


def test_what_runs_on_this_machine_is_free_and_known() -> None:
    made = fold(
        used("stt", "embedded", "whisper-base", audio_seconds=60),
        used("llm", "script", "no model", characters=10),
        used("llm", "local", "llama3.2", input_tokens=100, output_tokens=10),
        used("llm", "handler", "", seconds=1),
        used("telephony", "loopback", "inbound", seconds=60),
    )
    assert made.breakdown().total == 0
    assert made.unpriced() == ()


def test_an_unknown_price_is_named_and_never_counted_as_zero_silently() -> None:
    made = fold(used("llm", "openai", "gpt-99", input_tokens=5), used("stt", "mystery", "", audio_seconds=3))
    assert made.unpriced() == ("openai/gpt-99", "mystery")
    assert made.breakdown().total == 0


def test_a_dated_model_has_the_price_of_its_name() -> None:
    made = fold(used("llm", "openai", "gpt-4o-mini-2024-07-18", input_tokens=1_000_000))
    assert made.breakdown().llm == pytest.approx(0.15)


def test_a_realtime_model_bills_each_class_of_token() -> None:
    cost = fold(
        used("llm", "openai_realtime", "gpt-realtime", input_audio_tokens=1000, cached_audio_tokens=400,
             output_audio_tokens=100, input_text_tokens=10)
    ).breakdown()  # fmt: skip
    assert cost.llm == pytest.approx((600 * 32 + 400 * 0.4 + 100 * 64 + 10 * 4) / 1e6)


def test_cached_tokens_without_a_price_cost_as_much_as_fresh_ones() -> None:
    prices = Prices.load({"acme": {"input_tokens": 1.0, "output_tokens": 2.0}})
    cost = fold(used("llm", "acme", "m", input_tokens=1000, cached_tokens=500, output_tokens=100), prices=prices)
    assert cost.breakdown().llm == pytest.approx((1000 * 1.0 + 100 * 2.0) / 1e6)


def test_an_override_replaces_every_model_of_the_provider() -> None:
    prices = Prices.load({"deepgram": {"price": 0.01}, "elevenlabs": {"price": 0.1, "stage": "tts"}})
    made = fold(
        used("stt", "deepgram", "nova-3", audio_seconds=60),
        used("stt", "deepgram", "nova-9", audio_seconds=60),
        used("tts", "elevenlabs", "eleven_v3", characters=1000),
        prices=prices,
    )
    assert made.breakdown().stt == pytest.approx(0.02)
    assert made.breakdown().tts == pytest.approx(0.1)


def test_an_override_of_a_carrier_keeps_its_rounding_and_surcharges() -> None:
    prices = Prices.load({"twilio": {"price": 0.02}})
    made = fold(
        used("telephony", "twilio", "inbound", seconds=61),
        used("telephony", "twilio", "media-stream", seconds=61),
        prices=prices,
    )
    assert made.breakdown().telephony == pytest.approx(0.04 + 0.008)


def test_a_new_provider_needs_a_unit() -> None:
    prices = Prices.load({"acme": {"price": 2.0, "unit": "1k_chars"}})
    assert fold(used("tts", "acme", "x", characters=500), prices=prices).breakdown().tts == pytest.approx(1.0)
    with pytest.raises(ValueError, match="needs a 'unit'"):
        Prices.load({"acme": {"price": 2.0}})


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ({"openai": {"price": 1.0}}, "stage"),
        ({"deepgram": {"price": -1}}, "zero or more"),
        ({"deepgram": {"price": "free"}}, "zero or more"),
        ({"deepgram": {"cost": 1}}, "unknown key"),
        ({"deepgram": {}}, "must give"),
        ({"deepgram": 3}, "must be a dict"),
        ({"deepgram": {"price": 1, "unit": "furlong"}}, "unit"),
        ({"deepgram": {"price": 1, "rounding": "up"}}, "rounding"),
    ],
)
def test_a_bad_override_is_refused_with_a_clear_sentence(override: dict[str, object], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        Prices.load(override)  # type: ignore[arg-type]


def test_every_row_says_where_it_comes_from_and_is_found_again() -> None:
    for row in PRICES.rows:
        assert row.source
        assert row.as_of.startswith("20")
        assert PRICES.row(row.provider, row.stage, row.model, row.amount) == row


# ------------------------------------------------------------------ the home's own price file

SHEET = """
[[sheet]]
provider = "deepgram"
stage = "stt"
unit = "minute"
[sheet.prices]
nova-3 = 0.0036
"""


def priced(folder: Path, text: str) -> Path:
    file = folder / "prices.toml"
    file.write_text(text)
    return file


def test_a_file_replaces_single_rows_and_pricing_lies_over_it(tmp_path: Path) -> None:
    file = priced(tmp_path, SHEET)
    prices = Prices.load(file=file)
    assert prices.cost("stt", "deepgram", "nova-3", {"audio_seconds": 60}) == (pytest.approx(0.0036), True)
    assert prices.cost("stt", "deepgram", "base", {"audio_seconds": 60}) == (pytest.approx(0.0125), True)
    row = prices.row("deepgram", "stt", "nova-3", "audio_seconds")
    assert row is not None
    assert "prices.toml" in row.source
    over = Prices.load({"deepgram": {"price": 0.001}}, file=file)
    assert over.cost("stt", "deepgram", "nova-3", {"audio_seconds": 60}) == (pytest.approx(0.001), True)


def test_a_carrier_of_ones_own_is_billed_while_the_call_goes_on(tmp_path: Path) -> None:
    text = '[[sheet]]\nprovider = "acme"\nstage = "telephony"\nunit = "minute"\n[sheet.prices]\n"*" = 0.01\n'
    for prices in (
        Prices.load(file=priced(tmp_path, text)),
        Prices.load({"acme": {"price": 0.01, "unit": "minute", "stage": "telephony"}}),
    ):
        row = prices.row("acme", "telephony", "inbound", "seconds")
        assert row is not None
        assert row.running


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (('stage = "stt"', 'stage = "ears"'), r"sheet 1 \(deepgram\): stage must be one of"),
        (('unit = "minute"', 'unit = "furlong"'), "unit must be one of"),
        (('unit = "minute"', ""), "unit is missing"),
        (("0.0036", '"cheap"'), "the price of 'nova-3' must be USD"),
        (("0.0036", "-1"), "zero or more"),
        (('unit = "minute"', 'unit = "minute"\ncurrency = "EUR"'), "currency must be USD"),
        (('unit = "minute"', 'unit = "minute"\nrounding = "up"'), "rounding must be one of"),
        (('unit = "minute"', 'unit = "minute"\nprise = 1'), "the key 'prise' is unknown"),
        (("[[sheet]]", "[[sheets]]"), "there is no 'sheets'"),
        (("[[sheet]]", "[[sheet"), "cannot be read"),
    ],
)
def test_a_price_file_that_cannot_be_meant_names_file_sheet_and_key(
    tmp_path: Path, change: tuple[str, str], says: str
) -> None:
    file = priced(tmp_path, SHEET.replace(*change))
    with pytest.raises(SettingsError, match=says) as caught:
        Prices.load(file=file)
    assert str(file) in str(caught.value)


def test_another_currency_is_refused_in_pricing_too() -> None:
    with pytest.raises(ValueError, match="must be 'USD'"):
        Prices.load({"deepgram": {"price": 1, "currency": "EUR"}})
