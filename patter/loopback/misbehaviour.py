"""What a carrier and the network do on a bad day, on request: late, lost and swapped frames, marks, webhooks, sockets.

It owns the dice and the delays of one line; it refuses to know messages and protocols. The same seed gives the same day.
"""

from __future__ import annotations

import json
import math
from collections import deque
from dataclasses import dataclass
from random import Random

UNASKED_CODEC = "AMR-NB"


@dataclass(frozen=True, slots=True)
class Misbehaviour:
    """Everything is 0 or off on a good day. Probabilities are 0.0 to 1.0 a frame (or mark), times are ms unless named.

    `jitter_ms`: frames arrive up to so much late, in bursts, in order. `loss`: frames that never arrive (their numbers are
    missing). `reorder`: a frame that arrives behind the next one. `late_marks_ms`, `lost_marks`: marks come back late or
    never. `duplicate_webhooks`: each webhook is delivered twice. `drop_socket_after_s`: the media socket dies without a
    goodbye. `wrong_codec`: `start` announces a codec nobody asked for."""

    jitter_ms: float = 0.0
    loss: float = 0.0
    reorder: float = 0.0
    late_marks_ms: float = 0.0
    lost_marks: float = 0.0
    duplicate_webhooks: bool = False
    drop_socket_after_s: float | None = None
    wrong_codec: bool = False
    seed: int = 0


GOOD_DAY = Misbehaviour()


class Weather:
    """A bad day on one line: frames go in when they are spoken and come out when they arrive. Moments are clock seconds."""

    def __init__(self, day: Misbehaviour) -> None:
        self._day = day
        self._dice = Random(day.seed)  # noqa: S311 -- repeatable dice, no secret
        self._marks = Random(day.seed + 1)  # noqa: S311 -- of their own: marks are passed in the player's thread
        self._held: str | None = None
        self._under_way: deque[tuple[float, str]] = deque()
        self._drop_at = math.inf

    def begin(self, now: float) -> None:
        """The stream begins."""
        if self._day.drop_socket_after_s is not None:
            self._drop_at = now + self._day.drop_socket_after_s

    def dropped(self, now: float) -> bool:
        """Whether the socket is dead by now."""
        return now >= self._drop_at

    def start(self, text: str) -> str:
        """The `start` message as it is really sent."""
        if not self._day.wrong_codec:
            return text
        message = json.loads(text)
        for name in ("mediaFormat", "media_format"):
            if name in message["start"]:
                message["start"][name]["encoding"] = UNASKED_CODEC
        return json.dumps(message)

    def frame(self, text: str, now: float) -> None:
        """A frame leaves the carrier."""
        if self._dice.random() < self._day.loss:
            return
        if self._held is None and self._dice.random() < self._day.reorder:
            self._held = text
            return
        self._send(text, now)
        if self._held is not None:
            held, self._held = self._held, None
            self._send(held, now)

    def _send(self, text: str, now: float) -> None:
        earliest = (
            self._under_way[-1][0] if self._under_way else now
        )  # a socket keeps the order: a late one holds up all
        arrives = now + self._dice.uniform(0.0, self._day.jitter_ms) / 1000
        self._under_way.append((max(earliest, arrives), text))

    def arrived(self, now: float) -> list[str]:
        """The frames that arrive by now."""
        texts = []
        while self._under_way and self._under_way[0][0] <= now:
            texts.append(self._under_way.popleft()[1])
        return texts

    @property
    def next_at(self) -> float:
        """When the next frame arrives."""
        return self._under_way[0][0] if self._under_way else math.inf

    def mark_at(self, moment: float) -> float | None:
        """When a mark passed at `moment` comes back; None = never. Any thread."""
        if self._marks.random() < self._day.lost_marks:
            return None
        return moment + self._day.late_marks_ms / 1000
