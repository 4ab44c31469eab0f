"""ElevenLabs Agents on loopback: the signed way in, the account's voices, and conversations with stored agents.

It owns the vendor's doors; it refuses to know any client, and how an agent hears, thinks and speaks.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence

from aiohttp import web

from patter.loopback.elevenlabs_convai_agents import Rejected, StoredAgent, Turn, begin, is_beginning
from patter.loopback.elevenlabs_convai_talk import Talk
from patter.loopback.stage import LoopbackVendor
from patter.loopback.stage_faults import Refuse
from patter.loopback.stage_http import Answer, Visit
from patter.loopback.stage_peer import ClientLeft, Peer

__all__ = ["CONVERSATION", "SIGNED_URL", "VOICES", "LoopbackConvai", "StoredAgent", "Turn"]

SIGNED_URL = "/v1/convai/conversation/get-signed-url"
CONVERSATION = "/v1/convai/conversation"
VOICES = "/v1/voices"


class LoopbackConvai(LoopbackVendor):
    """The vendor: `async with LoopbackConvai(StoredAgent(…)) as vendor:`; its address is `vendor.stage.http`.

    `voices` are the account's: (name, id). `api_key` "" takes any key. `stand_in` makes an agent for an id that nobody
    stored."""

    def __init__(
        self,
        *agents: StoredAgent,
        api_key: str = "",
        voices: Sequence[tuple[str, str]] = (("Sarah", "EXAVITQu4vr4xnSDxMaL"),),
        stand_in: Callable[[str], StoredAgent] | None = None,
    ) -> None:
        super().__init__()
        self.agents = {agent.agent_id: agent for agent in agents or (StoredAgent(),)}
        self.talks: list[Talk] = []
        """Every conversation that began, in order."""
        self._api_key = api_key
        self._voices, self._stand_in = voices, stand_in
        self._signatures: dict[str, str] = {}

    def program(self) -> None:
        """The REST routes and the socket."""
        self.stage.route("GET", SIGNED_URL, self._sign)
        self.stage.route("GET", VOICES, self._list_voices)
        self.stage.socket(CONVERSATION, self._converse, protocols=("convai",), door=self._door)

    # ------------------------------------------------------------------ REST

    async def _sign(self, visit: Visit) -> web.StreamResponse:
        if not self._knows(visit.headers.get("xi-api-key", "")):
            return await visit.answer(_refused(401, "invalid_api_key", "Invalid API key"))
        agent_id = visit.query.get("agent_id", [""])[0]
        if self._stored(agent_id) is None:
            return await visit.answer(_refused(404, "document_not_found", f"Document with id {agent_id} not found."))
        signature = secrets.token_urlsafe(16)
        self._signatures[signature] = agent_id
        url = f"{self.stage.ws}{CONVERSATION}?agent_id={agent_id}&conversation_signature={signature}"
        return await visit.answer(Answer(body={"signed_url": url}))

    async def _list_voices(self, visit: Visit) -> web.StreamResponse:
        if not self._knows(visit.headers.get("xi-api-key", "")):
            return await visit.answer(_refused(401, "invalid_api_key", "Invalid API key"))
        rows = [{"voice_id": voice_id, "name": name, "category": "premade"} for name, voice_id in self._voices]
        return await visit.answer(Answer(body={"voices": rows}))

    def _knows(self, key: str) -> bool:
        return bool(key) and self._api_key in ("", key)

    # ------------------------------------------------------------------ the socket

    def _door(self, request: web.Request) -> Refuse | None:
        agent = self._stored(request.query.get("agent_id", ""))
        if agent is None:
            return Refuse(404, {"detail": {"status": "document_not_found", "message": "No such agent"}})
        signature = request.query.get("conversation_signature", "")
        if self._signatures.pop(signature, None) == agent.agent_id or agent.public:
            return None
        if self._knows(request.headers.get("xi-api-key", "")):
            return None
        return Refuse(403, {"detail": {"status": "needs_authorization", "message": "This agent needs a signed URL"}})

    def _stored(self, agent_id: str) -> StoredAgent | None:
        if agent_id and agent_id not in self.agents and self._stand_in is not None:
            self.agents[agent_id] = self._stand_in(agent_id)
        return self.agents.get(agent_id)

    async def _converse(self, peer: Peer) -> None:
        agent = self.agents[peer.query["agent_id"]]
        try:
            first = await peer.receive()
            begun = begin(agent, first)
        except Rejected as refusal:
            await peer.close(1008, str(refusal)[:120])
            return
        talk = Talk(peer, agent, begun, self.stage.problem)
        self.talks.append(talk)
        try:
            await talk.run(None if is_beginning(first) else first)
        except* (ClientLeft, ConnectionError):
            pass


def _refused(status: int, kind: str, sentence: str) -> Answer:
    return Answer(status, body={"detail": {"status": kind, "message": sentence}})
