"""The exchange: picks the carrier's routes, its REST client and its codec for a phone line.

It owns that choice; it refuses to know webhooks, streams and calls.
"""

from __future__ import annotations

import aiohttp

from patter.builders import Carrier
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


def rest_of(carrier: Carrier, http: aiohttp.ClientSession) -> TwilioRest | TelnyxRest:
    """The REST client of a carrier. Raises PatterConnectionError without one, ValueError for what cannot be a credential."""
    if carrier.name == "twilio":
        return TwilioRest(http, carrier.account, carrier.secret, carrier.api_base)
    if carrier.name == "telnyx":
        return TelnyxRest(http, carrier.secret, carrier.api_base)
    raise PatterConnectionError("A phone line needs a carrier: give the credentials of Twilio or Telnyx.")


def join(
    settings: LineSettings, desk: Desk, files: Files, clock: Clock, bus: Bus, http: aiohttp.ClientSession
) -> Joined:
    """The carrier of these settings, ready for a front door. Raises as `rest_of` does."""
    carrier, rest = settings.carrier, rest_of(settings.carrier, http)
    routes: CarrierRoutes
    if isinstance(rest, TwilioRest):
        account = Account(carrier.account, carrier.secret)
        routes = TwilioRoutes(desk, files, clock, [account], "", bus=bus, rest=rest, record=settings.recording)
    else:
        routes = TelnyxRoutes(desk, files, clock, carrier, "", bus=bus, rest=rest, record=settings.recording)

    async def point(public_url: str) -> NumberSetup:
        return await point_number(rest, carrier, settings.number, public_url, take=settings.take_number)

    async def put_back(setup: NumberSetup) -> None:
        await restore(rest, setup)

    return Joined(routes, point, put_back)
