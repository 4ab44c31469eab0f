"""OpenAI's realtime server, played on loopback: it hears, writes down, answers, calls tools, is interrupted and expires.

It owns the vendor's manners (which session is accepted, with which events); what is understood and answered is plugged in. It
refuses to know anything of its clients but what they send.
"""

from __future__ import annotations

import json
import time
from itertools import count

import anyio
from aiohttp import web

from patter.loopback.openai_realtime_model import (
    Answer,
    Line,
    Manners,
    Prompt,
    Seen,
    Synthesize,
    Transcribe,
    hummed,
    no_words,
    parrot,
)
from patter.loopback.openai_realtime_session import RealtimeSession
from patter.loopback.openai_realtime_shapes import SessionState
from patter.loopback.stage import LoopbackVendor
from patter.loopback.stage_faults import Refuse
from patter.loopback.stage_peer import Peer

__all__ = ["PATH", "Line", "LoopbackRealtime", "Manners", "Prompt", "hummed", "no_words", "parrot"]

PATH = "/v1/realtime"
BETA_GONE = "The Realtime Beta API is no longer supported. Please use /v1/realtime for the GA API."


class LoopbackRealtime(LoopbackVendor):
    """The server: `async with LoopbackRealtime(answer=…) as vendor:` and connect to `vendor.base_url`.

    Everything has a usual: it understands nothing, repeats what it is told, and hums. What no client may send breaks the
    stage, as a broken script would; what may happen is answered with an `error` event."""

    def __init__(
        self,
        *,
        answer: Answer = parrot,
        transcribe: Transcribe = no_words,
        synthesize: Synthesize = hummed,
        manners: Manners | None = None,
        record: bool = False,
    ) -> None:
        super().__init__()
        self.answer, self.transcribe, self.synthesize = answer, transcribe, synthesize
        self.manners = manners or Manners()
        self.seen = Seen()
        self.sessions: list[RealtimeSession] = []
        """Every session, in order."""
        self.record = record
        self._numbers = count(1)

    @property
    def base_url(self) -> str:
        """What a client takes for the vendor's address."""
        return f"{self.stage.http}/v1"

    def number(self) -> int:
        """A number that nothing else on this server has."""
        return next(self._numbers)

    def program(self) -> None:
        """One route: the sessions."""
        self.stage.socket(PATH, self._session, protocols=("realtime",), door=self._door)

    def _door(self, request: web.Request) -> Refuse | None:
        key = self.manners.key
        if not key or request.headers.get("Authorization") == f"Bearer {key}":
            return None
        message = (
            "Incorrect API key provided. You can find your API key at https://platform.openai.com/account/api-keys."
        )
        error = {"message": message, "type": "invalid_request_error", "code": "invalid_api_key", "param": None}
        return Refuse(401, {"error": error})

    async def _session(self, peer: Peer) -> None:
        manners = self.manners
        shape = "beta" if peer.headers.get("openai-beta") == "realtime=v1" else "ga"
        if shape not in manners.shapes and shape == "beta":
            await self._turn_away(peer, 4000, "beta_api_shape_disabled", BETA_GONE)
            return
        model = str(peer.query.get("model", ""))
        if not model or (manners.models and model not in manners.models):
            await self._turn_away(peer, 4004, "model_not_found", f"The model '{model}' does not exist.")
            return
        state = SessionState(
            shape if shape in manners.shapes else manners.shapes[0],
            f"sess_{self.number():08d}",
            model,
            int(time.time() + manners.lasts_s),
            manners.plain_pcm,
        )
        session = RealtimeSession(self, peer, state)
        self.sessions.append(session)
        await session.live()

    async def _turn_away(self, peer: Peer, close: int, code: str, message: str) -> None:
        self.seen.refusals.append(code)
        error = {"type": "invalid_request_error", "code": code, "message": message, "param": None}
        await peer.send(json.dumps({"type": "error", "event_id": f"event_{self.number()}", "error": error}))
        with anyio.CancelScope(shield=True):
            await peer.close(close, f"invalid_request_error.{code}")
