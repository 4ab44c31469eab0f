"""A played Deepgram's second protocol: turns that begin, may end, go on, and end.

It owns the state of the present turn; it refuses to know who turns sound into words.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from patter.loopback.deepgram_door import bad_thresholds
from patter.loopback.deepgram_manner import Manner, Transcribe
from patter.loopback.deepgram_messages import (
    Piece,
    configure_failure,
    configure_success,
    connected,
    fatal,
    turn_info,
)
from patter.loopback.deepgram_side import Side
from patter.loopback.deepgram_tape import WINDOW_MS
from patter.loopback.stage_peer import Peer

RESUMED_S = 0.04  # sound that calls off the end of a turn


class FluxSide(Side):
    """One socket of `/v2/listen`."""

    def __init__(self, peer: Peer, manner: Manner, transcribe: Transcribe, problem: Callable[[str], None]) -> None:
        super().__init__(peer, manner, transcribe, problem)
        query = peer.query
        self._sequence = 0
        self._sure = float(query.get("eot_threshold", 0.7))
        self._eager = float(query["eager_eot_threshold"]) if "eager_eot_threshold" in query else None
        self._timeout = float(query.get("eot_timeout_ms", 5000)) / 1000
        self._began = self._updated = 0.0
        self._first: float | None = None  # sound of the turn
        self._last = 0.0
        self._loud_s = 0.0
        self._likely = False
        # what has been said, in the order of `later`
        self._index = 0
        self._told_start = self._told_likely = False
        self._text, self._text_until = "", 0.0

    async def opening(self) -> None:
        """`Connected`."""
        await self.send(connected(self.request_id))

    async def send(self, message: Mapping[str, Any]) -> None:
        """Messages are numbered."""
        await super().send({**message, "sequence_id": self._sequence})
        self._sequence += 1

    def window(self, end: float, loud: bool) -> None:
        """See `Side`."""
        if loud:
            self._sound(end)
        else:
            self._loud_s = 0.0
        if self._first is not None:
            silence = end - self._last
            if self._confidence(silence) >= self._sure and self._sure < 1.0:
                return self._over(end, "model")
            if silence >= self._timeout:
                return self._over(end, "timeout")
            if self._eager is not None and not self._likely and self._confidence(silence) >= self._eager:
                self._likely = True
                self._note("EagerEndOfTurn", end)
        if end - self._updated >= self.manner.update_ms / 1000 and not self.busy:
            self._updated = end
            self._note("Update", end)
        return None

    def _sound(self, end: float) -> None:
        self._last = end
        self._loud_s += WINDOW_MS / 1000
        if self._first is None:
            self._first = end - WINDOW_MS / 1000
        if self._likely and self._loud_s >= RESUMED_S:
            self._likely = False
            self._note("TurnResumed", end)

    def _confidence(self, silence: float) -> float:
        return min(1.0, self._sure * silence * 1000 / self.manner.end_of_turn_ms)

    def _over(self, end: float, trigger: str) -> None:
        self._note("EndOfTurn", end, trigger)
        self._first, self._likely = None, False
        self._began = self._updated = end

    def _note(self, event: str, end: float, trigger: str = "") -> None:
        began, first, last = self._began, self._first, self._last
        sureness = self._confidence(end - last) if first is not None else 0.0
        self.later(lambda: self._tell(event, began, end, first, last, sureness, trigger))

    async def _tell(
        self, event: str, began: float, end: float, first: float | None, last: float, sureness: float, trigger: str
    ) -> None:
        if first is None:
            self._text = ""
            self.tape.forget(end - 1.0)
        elif last > self._text_until:
            self._text, self._text_until = await self.words(first, last, began, end), last
        piece = Piece(began, end, self._text, (first if first is not None else began, last))
        if self._text and not self._told_start:
            self._told_start = True
            await self._turn("StartOfTurn", piece, sureness)
            if event == "Update":
                return
        if event == "EagerEndOfTurn" and self._text:
            self._told_likely = True
            await self._turn(event, piece, sureness)
        elif event == "TurnResumed" and self._told_likely:
            self._told_likely = False
            await self._turn(event, piece, sureness)
        elif event == "EndOfTurn" and self._told_start:
            await self._turn(event, piece, sureness, trigger)
            self._index += 1
            self._told_start = self._told_likely = False
            self.tape.forget(end - 0.2)
        elif event == "Update":
            await self._turn(event, piece, sureness)

    async def _turn(self, event: str, piece: Piece, sureness: float, trigger: str = "") -> None:
        placed = self.manner.placed_words
        await self.send(turn_info(self.request_id, event, self._index, piece, sureness, trigger, placed=placed))

    async def control(self, message: Mapping[str, Any], text: str) -> bool:
        """CloseStream, Configure, ForceEndTurn."""
        match message.get("type"):
            case "CloseStream":
                await self.said()
                await self.peer.close()
                return False
            case "ForceEndTurn":
                if self._first is not None:
                    self._over(self.tape.heard_s, "manual")
            case "Configure":
                await self._configure(message.get("thresholds") or {})
            case _:
                self.misunderstood(text)
                await self.send(fatal("UNPARSABLE_CLIENT_MESSAGE", "The message could not be understood."))
                await self.peer.close(1008, "UNPARSABLE_CLIENT_MESSAGE")
                return False
        return True

    async def _configure(self, wanted: Mapping[str, Any]) -> None:
        if problem := bad_thresholds(wanted):
            await self.send(configure_failure(self.request_id, problem))
            return
        self._sure = float(wanted.get("eot_threshold", self._sure))
        self._timeout = float(wanted.get("eot_timeout_ms", self._timeout * 1000)) / 1000
        if "eager_eot_threshold" in wanted:
            eager = wanted["eager_eot_threshold"]
            self._eager = None if eager is None else float(eager)
        thresholds = {
            "eager_eot_threshold": self._eager,
            "eot_threshold": self._sure,
            "eot_timeout_ms": int(self._timeout * 1000),
        }
        await self.send(configure_success(self.request_id, thresholds))
