"""English words for numbers: how many, which one, digit by digit, years and amounts.

It owns the spelling and refuses to guess what a number in a text means (see `spoken`).
"""

from __future__ import annotations

_ONES = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen"
).split()
_TENS = "twenty thirty forty fifty sixty seventy eighty ninety".split()
_SCALES = ((10**12, "trillion"), (10**9, "billion"), (10**6, "million"), (10**3, "thousand"), (100, "hundred"))
_ORDINALS = {
    "one": "first", "two": "second", "three": "third", "five": "fifth", "eight": "eighth", "nine": "ninth",
    "twelve": "twelfth",
}  # fmt: skip


def cardinal(number: int) -> str:
    """42 → "forty-two"; below 10^15, larger ones digit by digit."""
    if number < 0:
        return f"minus {cardinal(-number)}"
    if number < 20:
        return _ONES[number]
    if number < 100:
        tens, ones = divmod(number, 10)
        return _TENS[tens - 2] + (f"-{_ONES[ones]}" if ones else "")
    if number >= 10**15:
        return digits(str(number))
    scale, name = next(step for step in _SCALES if number >= step[0])
    count, rest = divmod(number, scale)
    return f"{cardinal(count)} {name}" + (f" {cardinal(rest)}" if rest else "")


def ordinal(number: int) -> str:
    """21 → "twenty-first"."""
    words = cardinal(number)
    cut = max(words.rfind(" "), words.rfind("-")) + 1
    head, last = words[:cut], words[cut:]
    if last in _ORDINALS:
        return head + _ORDINALS[last]
    return head + (f"{last[:-1]}ieth" if last.endswith("y") else f"{last}th")


def digits(text: str) -> str:
    """ "0234" → "zero two three four"; everything but digits is passed over."""
    return " ".join(_ONES[int(character)] for character in text if character.isdigit())


def year(number: int) -> str:
    """2026 → "twenty twenty-six", 1905 → "nineteen oh five", 2008 → "two thousand eight", 1900 → "nineteen hundred"."""
    century, rest = divmod(number, 100)
    if not 1000 <= number <= 9999 or (century % 10 == 0 and rest < 10):
        return cardinal(number)
    if rest == 0:
        return f"{cardinal(century)} hundred"
    return f"{cardinal(century)} {'oh ' if rest < 10 else ''}{cardinal(rest)}"


def decimal(text: str) -> str:
    """ "1,250" → "one thousand two hundred fifty", "3.05" → "three point zero five"."""
    whole, _, fraction = text.replace(",", "").partition(".")
    words = cardinal(int(whole or 0))
    return f"{words} point {digits(fraction)}" if fraction else words


def amount(text: str, unit: tuple[str, str], part: tuple[str, str]) -> str:
    """Money: "45.20" in (dollar, dollars) of (cent, cents) → "forty-five dollars and twenty cents"."""
    whole, _, fraction = text.replace(",", "").partition(".")
    units, parts = int(whole or 0), int(fraction.ljust(2, "0")[:2]) if fraction else 0
    said = [f"{cardinal(count)} {names[count != 1]}" for count, names in ((units, unit), (parts, part)) if count]
    return " and ".join(said) or f"zero {unit[1]}"
