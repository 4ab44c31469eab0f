"""Both loopback carriers in one shape, and a `Patter` whose phone line is theirs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from patter import Patter
from patter.builders import Carrier
from patter.loopback.misbehaviour import GOOD_DAY, Misbehaviour
from patter.loopback.telnyx_carrier import LoopbackTelnyxCarrier
from patter.loopback.twilio_carrier import LoopbackTwilioCarrier

CARRIERS = ("twilio", "telnyx")
OURS, THEIRS = "+15005550006", "+15557770001"


def carrier_of(name: str, day: Misbehaviour = GOOD_DAY) -> LoopbackTwilioCarrier | LoopbackTelnyxCarrier:
    """The carrier of that name, with one number of ours."""
    carrier: LoopbackTwilioCarrier | LoopbackTelnyxCarrier
    carrier = LoopbackTwilioCarrier(misbehaviour=day) if name == "twilio" else LoopbackTelnyxCarrier(misbehaviour=day)
    carrier.add_number(OURS)
    return carrier


def phone_at(carrier: LoopbackTwilioCarrier | LoopbackTelnyxCarrier, port: int, home: Path, **more: Any) -> Patter:
    """A `Patter` on that carrier's line, reached on `port` of this machine."""
    known: dict[str, Any] = {
        "phone_number": OURS,
        "webhook_url": f"127.0.0.1:{port}",
        "carrier_api": carrier.api_base,
        "home": home,
    }
    if isinstance(carrier, LoopbackTwilioCarrier):
        return Patter(twilio_sid=carrier.account_sid, twilio_token=carrier.auth_token, **known, **more)
    keys: dict[str, Any] = {
        "telnyx_key": carrier.api_key,
        "telnyx_connection_id": carrier.connection_id,
        "telnyx_public_key": carrier.public_key,
    }
    return Patter(**keys, **known, **more)


def credentials(carrier: LoopbackTwilioCarrier | LoopbackTelnyxCarrier) -> Carrier:
    """What the carrier gave us."""
    if isinstance(carrier, LoopbackTwilioCarrier):
        return Carrier("twilio", carrier.account_sid, carrier.auth_token, api_base=carrier.api_base)
    return Carrier("telnyx", carrier.connection_id, carrier.api_key, carrier.public_key, carrier.api_base)
