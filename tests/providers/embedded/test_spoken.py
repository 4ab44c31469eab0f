"""Written text as a voice should read it."""

from __future__ import annotations

import pytest

from patter.providers.embedded.number_words import amount, cardinal, decimal, ordinal, year
from patter.providers.embedded.spoken import spoken


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("Call +1 555 234 9876 now.", "Call plus one, five five five, two three four, nine eight seven six now."),
        ("2125551234", "two one two, five five five, one two three four"),
        ("It is (555) 234-9876.", "It is five five five, two three four, nine eight seven six."),
        ("555-234-9876", "five five five, two three four, nine eight seven six"),
        ("555-1234", "five five five, one two three four"),
        ("+44 20 7946 0958", "plus four four, two zero, seven nine four six, zero nine five eight"),
        ("call 911", "call nine one one"),
    ],
)
def test_phone_numbers_are_read_in_groups_of_digits(written: str, said: str) -> None:
    assert spoken(written) == said


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("It costs $45.20.", "It costs forty-five dollars and twenty cents."),
        ("$1", "one dollar"),
        ("$0.99", "ninety-nine cents"),
        ("$1,250", "one thousand two hundred fifty dollars"),
        ("$3.5 million", "three point five million dollars"),
        ("£10.01 or €2", "ten pounds and one penny or two euros"),
    ],
)
def test_money(written: str, said: str) -> None:
    assert spoken(written) == said


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("10:30", "ten thirty"),
        ("At 10:00 sharp", "At ten o'clock sharp"),
        ("We open at 3 p.m. on Monday.", "We open at three PM on Monday."),
        ("We close at 3 p.m.", "We close at three PM."),
        ("Come at 3 p.m. Bring a friend.", "Come at three PM. Bring a friend."),
        ("9:05am", "nine oh five AM"),
        ("at 14:30", "at fourteen thirty"),
    ],
)
def test_times(written: str, said: str) -> None:
    assert spoken(written) == said


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("Friday, March 2nd, at 9:30.", "Friday, March second, at nine thirty."),
        ("March 3, 2026", "March third, twenty twenty-six"),
        ("Jan. 5", "January fifth"),
        ("the 21st of May", "the twenty-first of May"),
        ("2026-11-22", "November twenty-second, twenty twenty-six"),
        ("on 3/14", "on March fourteenth"),
        ("in 2024", "in twenty twenty-four"),
        ("on 45/99", "on forty-five/ninety-nine"),
    ],
)
def test_dates(written: str, said: str) -> None:
    assert spoken(written) == said


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("your 3rd visit", "your third visit"),
        ("1,000 people", "one thousand people"),
        ("Order 4829301 shipped", "Order four eight two nine three zero one shipped"),
        ("Room 204", "Room two zero four"),
        ("50% off", "fifty percent off"),
        ("9-5", "nine to five"),
        ("72°F", "seventy-two degrees Fahrenheit"),
        ("code 0042", "code zero zero four two"),
        ("It is 5.", "It is five."),
        ("3.05", "three point zero five"),
        ("-5", "minus five"),
        ("No. 5, #7", "number five, number seven"),
    ],
)
def test_other_numbers(written: str, said: str) -> None:
    assert spoken(written) == said


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("Mail s.johnson@gmail.com please", "Mail s dot johnson at gmail dot com please"),
        ("See https://www.example.com/book-now.", "See example dot com slash book dash now."),
        ("Visit riverside-dental.com today.", "Visit riverside dash dental dot com today."),
        ("Dr. Smith on Main St. near St. Mary", "Doctor Smith on Main Street near Saint Mary"),
        ("pets, e.g. cats", "pets, for example, cats"),
        ("cats, dogs, etc.", "cats, dogs, et cetera."),
        ("Mr. Lee & Mrs. Lee", "Mister Lee and Missus Lee"),
    ],
)
def test_addresses_and_abbreviations(written: str, said: str) -> None:
    assert spoken(written) == said


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("**Bold** and *slanted* and `code`", "Bold and slanted and code"),
        ("# Hours\n- Monday\n- Tuesday", "Hours, Monday, Tuesday"),
        ("[our site](http://x.example)", "our site"),
        ("<speak>Hello<break time='1s'/> there</speak>", "Hello there"),
        ("Great! 🎉👍🏽", "Great!"),
        ("Room (second floor)", "Room, second floor"),
        ("Two\n\nparagraphs.", "Two, paragraphs."),
        ("It’s “fine”", 'It\'s "fine"'),
    ],
)
def test_markup_is_left_out(written: str, said: str) -> None:
    assert spoken(written) == said


@pytest.mark.parametrize("nothing", ["", "  \n", "😀", "...", "***", "<br/>", "—"])
def test_what_has_no_words_is_nothing(nothing: str) -> None:
    assert spoken(nothing) == ""


@pytest.mark.parametrize(
    "plain",
    ["Thank you, how can I help you today?", "I'm sorry to hear that.", "Well... let me see!", "A vitamin B12 test."],
)
def test_plain_words_stay_as_they_are(plain: str) -> None:
    assert spoken(plain) == plain


def test_what_has_been_put_into_words_is_not_changed_again() -> None:
    once = spoken("On March 2nd at 10:30 pay $45.20 to 2125551234, i.e. room 7.")
    assert spoken(once) == once


def test_number_words() -> None:
    assert cardinal(0) == "zero"
    assert cardinal(115) == "one hundred fifteen"
    assert cardinal(2_000_001) == "two million one"
    assert cardinal(10**15) == "one " + " ".join(["zero"] * 15)
    assert [ordinal(number) for number in (1, 12, 20, 101)] == ["first", "twelfth", "twentieth", "one hundred first"]
    assert [year(number) for number in (1900, 1905, 2000, 2008, 2026)] == [
        "nineteen hundred",
        "nineteen oh five",
        "two thousand",
        "two thousand eight",
        "twenty twenty-six",
    ]
    assert decimal(".5") == "zero point five"
    assert amount("0", ("dollar", "dollars"), ("cent", "cents")) == "zero dollars"
