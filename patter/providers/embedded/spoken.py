"""What is written, as it is said: numbers, money, times, dates and addresses in words, and markup left out.

It owns the rules for English text on its way to a voice; it refuses to know the voice. Everything that no rule knows
stays as it is.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from patter.providers.embedded.number_words import amount, cardinal, decimal, digits, ordinal, year

_MONTHS = ("January February March April May June July August September October November December").split()
_MONTH = "(?:" + "|".join(_MONTHS) + ")"
_SHORT_MONTHS = {name[:3]: name for name in _MONTHS if len(name) > 4} | {"Sept": "September"}
_MONEY = {
    "$": (("dollar", "dollars"), ("cent", "cents")),
    "€": (("euro", "euros"), ("cent", "cents")),
    "£": (("pound", "pounds"), ("penny", "pence")),
}
_ABBREVIATIONS = {
    r"\be\.\s?g\.,?": "for example,",
    r"\bi\.\s?e\.,?": "that is,",
    r"\betc\.(?=\s+[A-Z]|\s*$)": "et cetera.",
    r"\betc\.": "et cetera",
    r"\bvs\.?(?=\s)": "versus",
    r"\bapprox\.": "approximately",
    r"\bDr\.(?=\s+[A-Z])": "Doctor",
    r"\bMr\.(?=\s)": "Mister",
    r"\bMrs\.(?=\s)": "Missus",
    r"\bMs\.(?=\s)": "Miz",
    r"\bProf\.(?=\s)": "Professor",
    r"(\b[A-Z][a-z]+) Str?\.": r"\1 Street",
    r"\bSt\.(?=\s+[A-Z])": "Saint",
    r"\bAve\.": "Avenue",
    r"\bBlvd\.": "Boulevard",
    r"\bRd\.": "Road",
    r"\bApt\.": "Apartment",
    r"\b(?:Ext|ext)\.?(?=\s*\d)": "extension",
    r"\b[Nn]o\.(?=\s*\d)": "number",
    r"#(?=\d)": "number ",
    r"\s&\s": " and ",
}
_EMOJI = re.compile(
    "[\U0001f000-\U0001faff\U00002600-\U000027bf\U00002b00-\U00002bff\U0001f1e6-\U0001f1ff\ufe0f\u200d\u20e3\u2190-\u21ff]+"
)

_Said = Callable[[re.Match[str]], str]


def spoken(text: str) -> str:
    """`text` as a voice should read it; "" when it has no words. English."""
    said = _without_markup(text)
    for pattern, words in _ABBREVIATIONS.items():
        said = re.sub(pattern, words, said)
    for rule, say in _RULES:
        said = rule.sub(say, said)
    return _tidy(said)


# --------------------------------------------------------------------------- markup


def _without_markup(text: str) -> str:
    text = re.sub(r"```.*?```", " ", text, flags=re.DOTALL)
    text = re.sub(r"</?[A-Za-z][^<>]*>", " ", text)  # SSML and HTML
    text = re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", text)  # links and pictures keep their words
    text = re.sub(r"^\s{0,3}(?:#{1,6}|>|[-*+•])\s+", "", text, flags=re.MULTILINE)
    text = re.sub(r"(\*\*|__|~~|`)(?=\S)(.+?)(?<=\S)\1", r"\2", text)
    text = re.sub(r"(?<![\w*])[*_](?=[^\s*_])([^*_]+?)(?<=\S)[*_](?!\w)", r"\1", text)
    text = re.sub(r"^\s*[-*_]{3,}\s*$", " ", text, flags=re.MULTILINE)
    text = _EMOJI.sub(" ", text)
    text = re.sub(r"([.!?:,;])?[ \t]*\n+\s*", lambda gap: f"{gap[1] or ','} ", text.strip())
    return text.replace("’", "'").replace("“", '"').replace("”", '"')


def _tidy(text: str) -> str:
    text = re.sub(r"(?<!\d)\s*\(\s*([^()]*?)\s*\)", r", \1,", text)
    text = re.sub(r"[*_`~|\\<>{}\[\]^=()]+", " ", text)
    text = re.sub(r"\s+([,.!?;:])", r"\1", re.sub(r"\s+", " ", text))
    text = re.sub(r",(?:\s*,)+", ",", text)
    text = re.sub(r",\s*([.!?])", r"\1", text).strip(" ,;")
    return text if any(character.isalnum() for character in text) else ""


# --------------------------------------------------------------------------- what numbers mean


def _email(match: re.Match[str]) -> str:
    name, domain = match[0].split("@")
    return f"{_address(name)} at {_address(domain)}"


def _url(match: re.Match[str]) -> str:
    return _address(re.sub(r"^(?:https?://)?(?:www\.)?", "", match[0]).rstrip("/"))


def _address(text: str) -> str:
    names = {".": "dot", "-": "dash", "_": "underscore", "/": "slash", "+": "plus", "?": "question mark", "=": "equals"}
    parts = re.findall(r"[A-Za-z]+|\d+|[^A-Za-z\d]", text)
    return " ".join(names.get(part, digits(part) if part.isdigit() else part) for part in parts)


def _phone(match: re.Match[str]) -> str:
    written = match[0]
    number = re.sub(r"\D", "", written)
    groups = re.findall(r"\d+", written)
    if not written.startswith("+") or number.startswith("1"):
        groups = _american(number) or groups
    said = ", ".join(digits(group) for group in groups)
    return f"plus {said}" if written.startswith("+") else said


def _american(number: str) -> list[str]:
    """Groups of a North American number; [] when it has another length."""
    if len(number) == 11 and number.startswith("1"):
        return ["1", number[1:4], number[4:7], number[7:]]
    if len(number) == 10:
        return [number[:3], number[3:6], number[6:]]
    return [number[:3], number[3:]] if len(number) == 7 else []


def _money(match: re.Match[str]) -> str:
    unit, part = _MONEY[match["sign"]]
    if match["scale"]:
        return f"{decimal(match['sum'])} {match['scale'].lower()} {unit[1]}"
    return amount(match["sum"], unit, part)


def _clock(match: re.Match[str]) -> str:
    hour, minute, half = int(match["hour"]), int(match["minute"] or 0), match["half"]
    if minute:
        said = f"{cardinal(hour)} {'oh ' if minute < 10 else ''}{cardinal(minute)}"
    else:
        said = cardinal(hour) + ("" if half else " hundred" if hour > 12 else " o'clock")
    if not half:
        return said
    stop = "." if match["end"] is not None else ""  # the last dot of "p.m." also ended the sentence
    return f"{said} {half[0].upper()}M{stop}"


def _iso_date(match: re.Match[str]) -> str:
    return _date(int(match[2]), int(match[3]), match[1]) or match[0]


def _slash_date(match: re.Match[str]) -> str:
    return _date(int(match[1]), int(match[2]), match[3] or "") or match[0]


def _date(month: int, day: int, in_year: str) -> str:
    if not (1 <= month <= 12 and 1 <= day <= 31):
        return ""
    tail = f", {year(int(in_year) if len(in_year) == 4 else 2000 + int(in_year))}" if in_year else ""
    return f"{_MONTHS[month - 1]} {ordinal(day)}{tail}"


def _month_day(match: re.Match[str]) -> str:
    tail = f", {year(int(match['year']))}" if match["year"] else ""
    return f"{match['month']} {match['the'] or ''}{ordinal(int(match['day']))}{tail}"


def _day_month(match: re.Match[str]) -> str:
    tail = f", {year(int(match['year']))}" if match["year"] else ""
    return f"{ordinal(int(match['day']))} of {match['month']}{tail}"


def _label(match: re.Match[str]) -> str:
    words = match[0].rstrip("0123456789")
    return words + digits(match[0][len(words) :])


def _number(match: re.Match[str]) -> str:
    text = match[0]
    if "," in text or "." in text:
        return decimal(text)
    return digits(text) if len(text) > 4 or (len(text) > 1 and text.startswith("0")) else cardinal(int(text))


_LABELS = "room|suite|apartment|extension|code|pin|flight|gate|unit|zip|order|line"  # their numbers count nothing
_DAY = r"(?P<day>[12]?\d|3[01])(?:st|nd|rd|th)?"
_YEAR = r"(?:,?\s+(?P<year>[12]\d{3}))?"
_RULES: tuple[tuple[re.Pattern[str], _Said], ...] = (
    (re.compile(r"\b[\w.+-]+@[\w-]+(?:\.[\w-]+)+\b"), _email),
    (re.compile(r"\bhttps?://[^\s,;)]*[^\s,;).!?]|\bwww\.[^\s,;)]*[^\s,;).!?]"), _url),
    (re.compile(r"\b(?:[a-z\d-]+\.)+(?:com|org|net|io|ai|edu|gov|app|dev|co)\b(?:/[\w/-]*)?(?!@)", re.IGNORECASE), _url),
    (re.compile(r"\b(?P<short>" + "|".join(_SHORT_MONTHS) + r")\.?(?=\s+\d{1,2}\b)"), lambda m: _SHORT_MONTHS[m["short"]]),
    (re.compile(r"\b(\d{4})-(\d{2})-(\d{2})\b"), _iso_date),
    (re.compile(r"(?<![\d/])(\d{1,2})/(\d{1,2})(?:/(\d{4}|\d{2}))?(?![\d/])"), _slash_date),
    (re.compile(r"\+\d[\d\s().-]{6,17}\d\b"), _phone),
    (re.compile(r"(?<![\d$€£.,-])(?:1[\s.-]?)?(?:\(\d{3}\)\s?|\b\d{3}[\s.-])\d{3}[\s.-]\d{4}\b"), _phone),
    (re.compile(r"(?<![\d$€£.,-])\b(?:1?\d{10}|\d{3}-\d{4})\b(?![.,]\d)"), _phone),
    (
        re.compile(
            r"(?P<sign>[$€£])\s?(?P<sum>\d+(?:,\d{3})*(?:\.\d+)?)(?:\s?(?P<scale>thousand|million|billion)\b)?",
            re.IGNORECASE,
        ),
        _money,
    ),
    (
        re.compile(
            r"\b(?P<hour>[01]?\d|2[0-3])(?::(?P<minute>[0-5]\d))?\s?(?P<half>[aApP])"
            r"(?:\.\s?[mM]\.(?P<end>(?=\s*$|\s+[A-Z]))?|\.?[mM]\b)"
        ),
        _clock,
    ),
    (re.compile(r"\b(?P<hour>[01]?\d|2[0-3]):(?P<minute>[0-5]\d)\b(?P<half>)(?P<end>)"), _clock),
    (re.compile(rf"\b(?P<month>{_MONTH})\s+(?P<the>the\s+)?{_DAY}\b(?!\s?[:%]){_YEAR}"), _month_day),
    (re.compile(rf"\b{_DAY}\s+(?:of\s+)?(?P<month>{_MONTH})\b{_YEAR}"), _day_month),
    (re.compile(rf"\b(?P<before>{_MONTH}|in|since|of|year|from)(?P<gap>,?\s+)(?P<year>1[1-9]\d\d|20\d\d)\b(?![.,]\d)"),
     lambda m: f"{m['before']}{m['gap']}{year(int(m['year']))}"),
    (re.compile(rf"\b(?:{_LABELS})\s+(?:number\s+|is\s+)?\d{{3,}}\b", re.IGNORECASE), _label),
    (re.compile(r"(?<![\d$€£.,-])[2-9]11\b(?![.,:%-]?\d)"), lambda m: digits(m[0])),
    (re.compile(r"\b\d{5}-\d{4}\b"), lambda m: digits(m[0])),
    (re.compile(r"\b(\d{1,3}(?:,\d{3})*|\d+)(?:st|nd|rd|th)\b"), lambda m: ordinal(int(m[1].replace(",", "")))),
    (re.compile(r"(?<=\d)\s?%"), lambda _: " percent"),
    (re.compile(r"(?<=\d)\s?°\s?([CF])?\b"), lambda m: " degrees" + {"C": " Celsius", "F": " Fahrenheit"}.get(m[1] or "", "")),
    (re.compile(r"(?<![\w-])(\d{1,4})\s?[-–—]\s?(?=\d{1,4}(?![\w-]))"), lambda m: f"{m[1]} to "),
    (re.compile(r"(?<![\w.])-(?=\d)"), lambda _: "minus "),
    (re.compile(r"(?<![\w.])\d+(?:,\d{3})*(?:\.\d+)?(?![\w]|[.,]\d)"), _number),
)  # fmt: skip
