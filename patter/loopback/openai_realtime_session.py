"""One session of the played realtime server: what the client may send, and what the caller's sound leads to.

It owns the session's settings, its conversation and its end; making an answer is `openai_realtime_response`'s.
"""

from __future__ import annotations

from binascii import Error as Base64Error
from binascii import a2b_base64
from collections.abc import Callable, Mapping
from typing import Any

import anyio
from anyio.abc import TaskGroup

from patter.loopback.openai_realtime_ear import Began, Ended, VoiceEar
from patter.loopback.openai_realtime_items import Conversation, Item
from patter.loopback.openai_realtime_model import House
from patter.loopback.openai_realtime_response import Responding
from patter.loopback.openai_realtime_shapes import BETA_NAMES, Refusal, SessionState
from patter.loopback.stage_peer import ClientLeft, Message, Peer


class RealtimeSession:
    """One client's session. `live` it once."""

    def __init__(self, house: House, peer: Peer, state: SessionState) -> None:
        self.house, self.peer, self.state = house, peer, state
        self.conversation = Conversation(state.shape)
        self.ear = VoiceEar()
        self.appends = 0
        """Frames of the caller's that came."""
        self.updates = 0
        self.over = False
        self._responding = Responding(self)
        self._utterance = ""
        self._tasks: TaskGroup | None = None
        self._handlers: dict[str, Callable[[Mapping[str, Any]], Any]] = {
            "session.update": self._update,
            "input_audio_buffer.append": self._append,
            "input_audio_buffer.commit": self._commit,
            "input_audio_buffer.clear": self._clear,
            "conversation.item.create": self._create,
            "conversation.item.truncate": self._truncate,
            "conversation.item.delete": self._delete,
            "response.create": self._respond,
            "response.cancel": self._cancel,
        }

    async def live(self) -> None:
        """From session.created until the client leaves, or the time is over."""
        await self.say("session.created", session=self.state.told())
        async with anyio.create_task_group() as tasks:
            self._tasks = tasks
            tasks.start_soon(self._expire)
            try:
                async for message in self.peer:
                    await self._hear(message)
            except ClientLeft:
                pass
            self.over = True
            tasks.cancel_scope.cancel()

    async def _hear(self, message: Message) -> None:
        if isinstance(message, dict):
            await self._take(message)
        else:
            await self.refuse(Refusal("invalid_event", f"This is no event: {str(message)[:80]!r}", grave=True))

    def spawn(self, job: Callable[[], Any]) -> None:
        """Run `job` beside the session."""
        if self._tasks is not None:
            self._tasks.start_soon(self._guarded, job)

    async def _guarded(self, job: Callable[[], Any]) -> None:
        try:
            await job()
        except ClientLeft:
            self.over = True

    async def say(self, kind: str, **fields: Any) -> None:
        """Send an event, by the name it has in this session's shape."""
        if self.state.shape == "beta":
            if kind == "conversation.item.done":
                return
            kind = BETA_NAMES.get(kind, kind)
        event = {"type": kind, "event_id": f"event_{self.house.number()}"} | fields
        if self.house.record:
            self.house.seen.sent.append(event)
        await self.peer.send(event)

    async def refuse(self, refusal: Refusal, event_id: Any = None) -> None:
        """Answer with an `error` event."""
        self.house.seen.refusals.append(refusal.code)
        if refusal.grave:
            self.house.stage.problem(f"{refusal.code}: {refusal.message}")
        error = {
            "type": "invalid_request_error", "code": refusal.code, "message": refusal.message, "param": refusal.param,
            "event_id": event_id,
        }  # fmt: skip
        await self.say("error", error=error)

    async def _take(self, message: Mapping[str, Any]) -> None:
        handler = self._handlers.get(str(message.get("type")))
        try:
            if handler is None:
                raise Refusal("invalid_event", f"There is no event {message.get('type')!r}.", "type", grave=True)
            await handler(message)
        except Refusal as refusal:
            await self.refuse(refusal, message.get("event_id"))

    async def _expire(self) -> None:
        await anyio.sleep(self.house.manners.lasts_s)
        try:
            error = {"type": "invalid_request_error", "code": "session_expired", "param": None, "event_id": None,
                     "message": "Your session hit the maximum duration of 60 minutes."}  # fmt: skip
            self.house.seen.refusals.append("session_expired")
            await self.say("error", error=error)
            await self.peer.close(1001, "session_expired")
        except ClientLeft:
            self.over = True

    # ------------------------------------------------------------------ the session and the caller's sound

    async def _update(self, event: Mapping[str, Any]) -> None:
        session = event.get("session")
        if not isinstance(session, Mapping):
            raise Refusal("missing_required_parameter", "Missing required parameter: 'session'.", "session", grave=True)
        self.state.update(session, has_spoken=self.conversation.has_sound)
        self.updates += 1
        await self.say("session.updated", session=self.state.told())

    async def _append(self, event: Mapping[str, Any]) -> None:
        try:
            data = a2b_base64(event["audio"], strict_mode=True)
        except (KeyError, TypeError, ValueError, Base64Error):
            raise Refusal("invalid_value", "Invalid 'audio': not base64.", "audio", grave=True) from None
        self.appends += 1
        change = self.ear.feed(data, self.state.hears_format, self.state.turn_detection)
        if isinstance(change, Began):
            self._utterance = f"item_{self.house.number()}"
            await self.say("input_audio_buffer.speech_started", audio_start_ms=change.start_ms, item_id=self._utterance)
            if self._wants("interrupt_response"):
                self._responding.stop("turn_detected")
        elif isinstance(change, Ended):
            await self.say("input_audio_buffer.speech_stopped", audio_end_ms=change.end_ms, item_id=self._utterance)
            await self._committed(change.pcm)
            if self._wants("create_response") and not self._responding.active:
                await self._responding.begin({})

    def _wants(self, what: str) -> bool:
        detection = self.state.turn_detection or {}
        return self.house.manners.answers_itself or bool(detection.get(what, True))

    async def _commit(self, event: Mapping[str, Any]) -> None:
        if self.ear.buffered_ms < 100:
            raise Refusal("input_audio_buffer_commit_empty", "Error committing input audio buffer: buffer too small.")
        self._utterance = f"item_{self.house.number()}"
        await self._committed(self.ear.take())

    async def _clear(self, event: Mapping[str, Any]) -> None:
        self.ear.clear()
        await self.say("input_audio_buffer.cleared")

    async def _committed(self, pcm: bytes) -> None:
        item_id, before = self._utterance, self.conversation.last_id
        item = Item(item_id, "user", kind="input_audio", pcm=pcm)
        self.conversation.add(item)
        await self.say("input_audio_buffer.committed", previous_item_id=before, item_id=item_id)
        await self._added(item, before)
        await self.say("conversation.item.done", previous_item_id=before, item=item.told())
        self.spawn(lambda: self._transcribe(item))

    async def _transcribe(self, item: Item) -> None:
        try:
            item.text = await self.house.transcribe(item.pcm)
        except Exception as error:
            item.understood.set()
            if self.state.transcription is not None:
                told = {"type": "server_error", "code": "audio_unintelligible", "message": str(error), "param": None}
                await self.say(
                    "conversation.item.input_audio_transcription.failed",
                    item_id=item.item_id,
                    content_index=0,
                    error=told,
                )
            return
        item.understood.set()
        if self.state.transcription is None:
            return
        await anyio.sleep(self.house.manners.writes_s)
        name, where = "conversation.item.input_audio_transcription", {"item_id": item.item_id, "content_index": 0}
        if item.text:
            await self.say(f"{name}.delta", **where, delta=item.text)
        await self.say(f"{name}.completed", **where, transcript=item.text, usage=self._written(item))

    def _written(self, item: Item) -> dict[str, Any]:
        seconds = len(item.pcm) / 48_000
        if self.house.manners.seconds_billed:
            return {"type": "duration", "seconds": round(seconds, 2)}
        taken, given = max(1, round(seconds * 10)), max(1, len(item.text) // 4)
        details = {"text_tokens": 0, "audio_tokens": taken}
        return {
            "type": "tokens", "total_tokens": taken + given, "input_tokens": taken, "output_tokens": given,
            "input_token_details": details,
        }  # fmt: skip

    # ------------------------------------------------------------------ items and responses

    async def _create(self, event: Mapping[str, Any]) -> None:
        item = self.conversation.created(event.get("item"), self.state, lambda: f"item_{self.house.number()}")
        before = self.conversation.add(item, event.get("previous_item_id"))
        if item.pcm:
            item.text = await self.house.transcribe(item.pcm)
        item.understood.set()
        await self._added(item, before)
        await self.say("conversation.item.done", previous_item_id=before, item=item.told())

    async def _added(self, item: Item, before: str | None) -> None:
        await self.say("conversation.item.added", previous_item_id=before, item=item.told())

    async def _truncate(self, event: Mapping[str, Any]) -> None:
        heard = event.get("audio_end_ms")
        if not isinstance(heard, int) or event.get("content_index") != 0:
            raise Refusal("invalid_value", "content_index and audio_end_ms are needed.", "audio_end_ms", grave=True)
        item_id = str(event.get("item_id"))
        self.conversation.truncate(item_id, heard)
        await self.say("conversation.item.truncated", item_id=item_id, content_index=0, audio_end_ms=heard)

    async def _delete(self, event: Mapping[str, Any]) -> None:
        item_id = str(event.get("item_id"))
        self.conversation.delete(item_id)
        await self.say("conversation.item.deleted", item_id=item_id)

    async def _respond(self, event: Mapping[str, Any]) -> None:
        await self._responding.begin(event.get("response") or {})

    async def _cancel(self, event: Mapping[str, Any]) -> None:
        if not self._responding.stop("client_cancelled", event.get("response_id")):
            raise Refusal("response_cancel_not_active", "Cancellation failed: no active response found")
