"""A played Deepgram's first protocol: words piece by piece, provisional and final, and the caller's pauses.

It owns when what is said; it refuses to know who turns sound into words.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from patter.loopback.deepgram_manner import Manner, Transcribe
from patter.loopback.deepgram_messages import Piece, metadata, results, schema_error, speech_started, utterance_end
from patter.loopback.deepgram_side import Side
from patter.loopback.deepgram_tape import WINDOW_MS
from patter.loopback.stage_peer import Peer

WORD_GAP_S = 0.04  # a long piece ends between words
CLICK_S = 0.06  # a shorter quiet inside the first sounds does not end them
USUAL_ENDPOINTING = "10"


class NovaSide(Side):
    """One socket of `/v1/listen`."""

    KEEPS_QUIET = False

    def __init__(self, peer: Peer, manner: Manner, transcribe: Transcribe, problem: Callable[[str], None]) -> None:
        super().__init__(peer, manner, transcribe, problem)
        endpointing = self._setting("endpointing", USUAL_ENDPOINTING)
        self._endpointing = None if endpointing == "false" else int(endpointing) / 1000
        self._utterance_end = int(self._setting("utterance_end_ms", "0")) / 1000
        self._interim = self._setting("interim_results", "false") == "true"
        self._vad_events = self._setting("vad_events", "false") == "true"
        self._model = self._setting("model", "base-general")
        self._began = self._asked = 0.0  # of the piece; the last provisional words
        self._first: float | None = None  # sound of the piece
        self._last = 0.0  # sound at all
        self._onset: float | None = None
        self._voice = False
        self._last_word_end: float | None = None

    def _setting(self, name: str, usual: str) -> str:
        return str(self.peer.query.get(name, usual))

    def window(self, end: float, loud: bool) -> None:
        """See `Side`."""
        manner = self.manner
        if loud:
            self._sound(end)
        elif not self._voice and self._onset is not None and end - self._last > CLICK_S:
            self._onset = None
        quiet = end - self._last
        if self._voice and self._endpointing is not None and quiet >= self._endpointing:
            self._voice, self._onset = False, None
            self._piece(end, speech_final=True)
        elif end - self._began >= manner.final_ms / 1000 and quiet >= WORD_GAP_S:
            self._piece(end)
        elif self._interim and end - self._asked >= manner.interim_ms / 1000 and not self.busy:
            self._asked = end
            first, last, began = self._first, self._last, self._began
            self.later(lambda: self._tell(began, end, first, last, final=False))
        spoken = self._last_word_end
        if self._utterance_end and spoken is not None and end - max(spoken, self._last) >= self._utterance_end:
            self._last_word_end = None
            self.later(lambda: self.send(utterance_end(spoken)))

    def _sound(self, end: float) -> None:
        start = end - WINDOW_MS / 1000
        self._last = end
        self._first = start if self._first is None else self._first
        self._onset = start if self._onset is None else self._onset
        if not self._voice and end - self._onset >= self.manner.onset_ms / 1000:
            self._voice = True
            onset = self._onset
            if self._vad_events:
                self.later(lambda: self.send(speech_started(onset)))

    def _piece(self, end: float, *, speech_final: bool = False, from_finalize: bool = False) -> None:
        first, last, began = self._first, self._last, self._began
        self._began = self._asked = end
        self._first = None
        self.later(
            lambda: self._tell(
                began, end, first, last, final=True, speech_final=speech_final, from_finalize=from_finalize
            )
        )

    async def _tell(
        self,
        began: float,
        end: float,
        first: float | None,
        last: float,
        *,
        final: bool,
        speech_final: bool = False,
        from_finalize: bool = False,
    ) -> None:
        text = await self.words(first, last, began, end) if first is not None else ""
        piece = Piece(began, end, text, (first if first is not None else began, last if first is not None else end))
        if final:
            self.tape.forget(end - 0.2)
            if text:
                self._last_word_end = last
        flags = {"final": final, "speech_final": speech_final, "from_finalize": from_finalize}
        await self.send(results(self.request_id, self._model, piece, **flags))

    async def control(self, message: Mapping[str, Any], text: str) -> bool:
        """KeepAlive, Finalize, CloseStream."""
        match message.get("type"):
            case "KeepAlive":
                pass
            case "Finalize":
                self._voice, self._onset = False, None
                self._piece(self.tape.heard_s, from_finalize=True)
            case "CloseStream":
                if self._first is not None:
                    self._piece(self.tape.heard_s, speech_final=self._voice)
                await self.said()
                await self.send(metadata(self.request_id, self.tape.heard_s))
                await self.peer.close()
                return False
            case _:
                self.misunderstood(text)
                await self.send(schema_error(text))
        return True
