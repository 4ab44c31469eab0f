"""Telnyx' answering machine detection: which webhooks come when, for each of its modes.

It owns the verdicts and their order; it refuses to know how a machine sounds: the handset tells when its beep is over.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import anyio

from patter.loopback.person import Handset

QUIET_S = 1.0  # after which a greeting counts as ended, where no machine was there after all
Tell = Callable[..., Any]
"""Sends a webhook: its event type, then its own fields of the payload."""

_PREMIUM = {"human": "human_residence", "machine": "machine", "fax": "fax_detected", "unknown": "not_sure"}
_PLAIN = {"human": "human", "machine": "machine", "fax": "not_sure", "unknown": "not_sure"}


async def detect(mode: str, handset: Handset, tell: Tell) -> None:
    """Listen to whoever answered, from then on. `mode` is the value of `answering_machine_detection`."""
    if mode == "disabled":
        return
    premium = mode == "premium"
    kind = "call.machine.premium" if premium else "call.machine"
    taken_for = handset.person.taken_for
    beeps = handset.person.answers == "machine" and handset.person.beep
    with anyio.move_on_after(handset.person.judged_after_s):
        if premium and beeps and taken_for == "machine":
            await handset.greeted.wait()  # a beep before the verdict makes the verdict needless
            tell("call.machine.premium.greeting.ended", result="beep_detected")
            return
        await anyio.sleep_forever()
    tell(f"{kind}.detection.ended", result=(_PREMIUM if premium else _PLAIN)[taken_for])
    if taken_for != "machine" or mode == "detect":
        return
    if handset.person.answers == "machine":
        await handset.greeted.wait()
    else:
        await anyio.sleep(QUIET_S)
    if premium:
        tell("call.machine.premium.greeting.ended", result="beep_detected" if beeps else "no_beep_detected")
    elif mode != "detect_beep":
        tell("call.machine.greeting.ended", result="ended")
    elif beeps:
        tell("call.machine.greeting.ended", result="beep_detected")
