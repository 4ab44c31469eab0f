"""The sound of one caller's utterance: what came a little before voice was found, and everything since.

It owns which bytes belong to which utterance; it refuses to find voice, and to know who turns the sound into words.
"""

from __future__ import annotations

BYTES_PER_S = 2 * 16000
PRE_ROLL = int(0.5 * BYTES_PER_S)  # a detector speaks up some 150 ms late, and recognisers want a little quiet first
LONGEST = 120 * BYTES_PER_S  # what came before is forgotten: nobody speaks so long without a pause


class UtteranceSound:
    """PCM 16 kHz of one caller, of which only the present utterance is kept (between utterances: the pre-roll).

    Positions count the bytes heard since the call began."""

    def __init__(self) -> None:
        self.begun: int | None = None
        """Position of the utterance's first byte, pre-roll included; None between utterances."""
        self._audio = bytearray()
        self._forgotten = 0  # bytes dropped from the front of the audio so far
        self._fence = 0  # position before which everything belongs to utterances already taken
        self._paused_at = 0

    @property
    def heard(self) -> int:
        """Position of the end of what has been heard."""
        return self._forgotten + len(self._audio)

    def hear(self, pcm_16k: bytes) -> None:
        """Keep it; between utterances only the pre-roll stays."""
        self._audio += pcm_16k
        if self.begun is None:
            self._forget(max(self._fence, self.heard - PRE_ROLL))
        else:
            self._forget(self.heard - LONGEST)
            self.begun = max(self.begun, self._forgotten)

    def _forget(self, before: int) -> None:
        if before - self._forgotten > BYTES_PER_S:  # seldom, because it moves everything behind
            del self._audio[: before - self._forgotten]
            self._forgotten = before

    def begin(self) -> int:
        """The utterance includes up to half a second before this moment. Returns where it begins."""
        start = max(self._fence, self._forgotten, self.heard - PRE_ROLL)
        self.begun = start - start % 2
        self._paused_at = 0
        return self.begun

    def pause(self) -> None:
        """What is heard from now on may belong to the next utterance."""
        self._paused_at = self.heard

    def take(self) -> None:
        """The utterance is over: it reached as far as its last pause."""
        self._fence = self._paused_at or self.heard
        self.begun = None

    def since(self, position: int) -> bytes:
        """What was heard from `position` on, as far as it is still kept."""
        return bytes(self._audio[max(0, position - self._forgotten) :])
