"""A carrier of our own for doors and desks: it takes every order, and its routes are one page."""

from __future__ import annotations

from dataclasses import dataclass, field

from aiohttp import web

from patter.audio.format import MULAW_8K, AudioFormat
from patter.exceptions import CarrierError
from patter.server.desk import Desk
from patter.server.front_door import Joined, LineSettings
from patter.server.number_setup import NumberSetup
from patter.server.orders import Order
from patter.server.twilio_routes import Files


@dataclass
class FakeCarrier:
    """Behind `join`. `refusal` makes it refuse numbers and orders from then on."""

    refusal: str = ""
    public: str = ""
    sound: AudioFormat = MULAW_8K
    orders: list[Order] = field(default_factory=list)
    cancelled: list[str] = field(default_factory=list)
    pointed: list[str] = field(default_factory=list)
    put_back_to: list[str] = field(default_factory=list)
    settings: LineSettings | None = None

    def join(self, settings: LineSettings, desk: Desk, files: Files) -> Joined:
        self.settings = settings
        return Joined(self, self.point, self.put_back)

    def routes(self) -> list[web.RouteDef]:
        return []

    async def dial(self, order: Order) -> str:
        self._check()
        self.orders.append(order)
        return f"call-{len(self.orders)}"

    async def cancel(self, call_id: str) -> None:
        self.cancelled.append(call_id)

    @property
    def on_their_way(self) -> list[str]:
        placed = [f"call-{number}" for number in range(1, len(self.orders) + 1)]
        return [call_id for call_id in placed if self.rings(call_id)]

    def rings(self, call_id: str) -> bool:
        return call_id not in self.cancelled

    async def point(self, public_url: str) -> NumberSetup:
        self._check()
        self.pointed.append(public_url)
        return NumberSetup(
            previous_url="https://elsewhere.example/voice", notes=("The number led to elsewhere.example.",)
        )

    async def put_back(self, setup: NumberSetup) -> None:
        self.put_back_to.append(setup.previous_url)

    def _check(self) -> None:
        if self.refusal:
            raise CarrierError(self.refusal, provider="fake", fix="Check the keys.", status=401)
