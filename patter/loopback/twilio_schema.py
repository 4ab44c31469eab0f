"""Which verbs, nouns and attributes TwiML has, as far as this carrier carries them out.

It owns that table; it refuses to know what they do.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from patter.wire.twiml import Verb

_CALLBACK = "statusCallback statusCallbackMethod"
VERBS = {
    "Say": "voice language loop",
    "Play": "loop digits",
    "Pause": "length",
    "Redirect": "method",
    "Hangup": "",
    "Reject": "reason",
    "Connect": "action method",
    "Dial": "action method timeout timeLimit callerId answerOnBridge ringTone",
}
NOUNS = {
    "Connect": {"Stream": f"url name track {_CALLBACK}"},
    "Stream": {"Parameter": "name value"},
    "Dial": {
        "Number": f"statusCallbackEvent {_CALLBACK}",
        "Conference": "beep startConferenceOnEnter endConferenceOnExit waitUrl waitMethod",
    },
}
VALUES = {
    "method": ("GET", "POST"),
    "statusCallbackMethod": ("GET", "POST"),
    "reason": ("busy", "rejected"),
    "startConferenceOnEnter": ("true", "false"),
    "endConferenceOnExit": ("true", "false"),
    "answerOnBridge": ("true", "false"),
    "beep": ("true", "false", "onEnter", "onExit"),
    "track": ("inbound_track",),
}
NEEDS_TEXT = ("Say", "Number", "Conference")
LONGEST_SAY = 4096


def problems(steps: Sequence[Verb]) -> Iterator[str]:
    """What is wrong with a document's verbs, in words."""
    for verb in steps:
        if verb.name not in VERBS:
            yield f"<{verb.name[:40]}> is no verb that this carrier knows"
            continue
        yield from _problems_in(verb, VERBS[verb.name])
        if verb.name == "Dial" and not verb.text and not verb.inside:
            yield "<Dial> names nobody"
        if verb.name == "Connect" and not verb.inside:
            yield "<Connect> connects to nothing"


def _problems_in(verb: Verb, attributes: str) -> Iterator[str]:
    known = attributes.split()
    for name, value in verb.attributes.items():
        if name not in known:
            yield f"<{verb.name}> has no attribute {name[:40]!r} that this carrier knows"
        elif name in VALUES and value not in VALUES[name]:
            yield f"<{verb.name} {name}> is {value[:40]!r}, not one of {', '.join(VALUES[name])}"
    if verb.name in NEEDS_TEXT and not verb.text:
        yield f"<{verb.name}> is empty"
    if verb.name == "Say" and len(verb.text) > LONGEST_SAY:
        yield f"<Say> is longer than {LONGEST_SAY} characters"
    nouns = NOUNS.get(verb.name, {})
    for inside in verb.inside:
        if inside.name in nouns:
            yield from _problems_in(inside, nouns[inside.name])
        else:
            yield f"<{verb.name}> may not hold <{inside.name[:40]}>, as far as this carrier knows"
