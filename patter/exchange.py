"""The exchange: picks the carrier's routes, its REST client and its codec for a phone line.

It owns that choice; it refuses to know webhooks, streams and calls.
"""

from __future__ import annotations

import aiohttp

from patter.bus import Bus
from patter.clock import Clock
from patter.exceptions import PatterConnectionError
from patter.providers.telnyx_rest import TelnyxRest
from patter.providers.twilio_rest import TwilioRest
from patter.server.desk import Desk
from patter.server.front_door import CarrierRoutes, Joined, LineSettings
from patter.server.number_setup import NumberSetup, point_number, restore
from patter.server.telnyx_routes import TelnyxRoutes
from patter.server.twilio_routes import Account, Files, TwilioRoutes


def join(
    settings: LineSettings, desk: Desk, files: Files, clock: Clock, bus: Bus, http: aiohttp.ClientSession
) -> Joined:
    """The carrier of these settings, ready for a front door. Raises PatterConnectionError without one, ValueError for a
    credential that cannot be right."""
    carrier = settings.carrier
    rest: TwilioRest | TelnyxRest
    routes: CarrierRoutes
    if carrier.name == "twilio":
        rest = TwilioRest(http, carrier.account, carrier.secret, base_url=carrier.api_base)
        account = Account(carrier.account, carrier.secret)
        routes = TwilioRoutes(desk, files, clock, [account], "", bus=bus, rest=rest, record=settings.recording)
    elif carrier.name == "telnyx":
        rest = TelnyxRest(http, carrier.secret, base_url=carrier.api_base)
        routes = TelnyxRoutes(desk, files, clock, carrier, "", bus=bus, rest=rest, record=settings.recording)
    else:
        raise PatterConnectionError("A phone line needs a carrier: give the credentials of Twilio or Telnyx.")

    async def point(public_url: str) -> NumberSetup:
        return await point_number(rest, carrier, settings.number, public_url, take=settings.take_number)

    async def put_back(setup: NumberSetup) -> None:
        await restore(rest, setup)

    return Joined(routes, point, put_back)
