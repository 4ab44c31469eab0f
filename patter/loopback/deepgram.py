"""A Deepgram on loopback that hears: both streaming protocols, for rehearsing without a key and for trying its faults.

It owns the two endpoints and who is let in; it refuses to recognise speech itself: it is given who turns sound into words.
For strict scripts of single messages use `stage.Stage.script` with the same paths.
"""

from __future__ import annotations

from aiohttp import web

from patter.loopback.deepgram_door import bad_flux_query, bad_nova_query, unknown_caller
from patter.loopback.deepgram_flux import FluxSide
from patter.loopback.deepgram_manner import Manner, Transcribe
from patter.loopback.deepgram_nova import NovaSide
from patter.loopback.stage import LoopbackVendor
from patter.loopback.stage_faults import Refuse
from patter.loopback.stage_http import Answer, Visit
from patter.loopback.stage_peer import Peer
from patter.wire.deepgram import PATH as NOVA_PATH
from patter.wire.deepgram_flux import PATH as FLUX_PATH

KEY_CHECK = "/v1/auth/token"


class LoopbackDeepgram(LoopbackVendor):
    """Use it as an async context manager; `base_url` is what `STTConfig(base_url=…)` or DEEPGRAM_BASE_URL takes.

    `transcribe` turns the sound of a stretch of speech (PCM 16 kHz) into words, at once or awaited. With an `api_key` only
    that key is let in, without one any."""

    def __init__(self, transcribe: Transcribe, *, api_key: str = "", manner: Manner | None = None) -> None:
        super().__init__()
        self.manner = manner or Manner()
        """For the streams that begin from now on."""
        self._transcribe = transcribe
        self._api_key = api_key

    @property
    def base_url(self) -> str:
        """Where it is."""
        return self.stage.http

    def program(self) -> None:
        """Both endpoints, and what tells whether a key is good."""
        self.stage.route("GET", KEY_CHECK, self._token)
        self.stage.socket(NOVA_PATH, self._nova, door=self._nova_door)
        self.stage.socket(FLUX_PATH, self._flux, door=self._flux_door)

    async def _token(self, visit: Visit) -> web.StreamResponse:
        refusal = unknown_caller(visit.request, self._api_key)
        if refusal is not None:
            return await visit.answer(Answer(refusal.status, refusal.headers, refusal.body))
        return await visit.answer(Answer(body={"api_key_id": "loopback", "scopes": ["usage:write"]}))

    def _nova_door(self, request: web.Request) -> Refuse | None:
        return unknown_caller(request, self._api_key) or bad_nova_query(request)

    def _flux_door(self, request: web.Request) -> Refuse | None:
        return unknown_caller(request, self._api_key) or bad_flux_query(request)

    async def _nova(self, peer: Peer) -> None:
        await NovaSide(peer, self.manner, self._transcribe, self.stage.problem).run()

    async def _flux(self, peer: Peer) -> None:
        await FluxSide(peer, self.manner, self._transcribe, self.stage.problem).run()
