"""Several responders as one: when one fails before it has said anything, the next one answers.

It owns who is in charge and which of them rest; it refuses to know models, and to begin an answer twice.
"""

from __future__ import annotations

import math
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing
from dataclasses import replace

import anyio

from patter.exceptions import ProviderError
from patter.ports import Ask, Responder
from patter.signals import Faulted, ResponderPiece, TextDelta, TokensUsed, ToolRequest

FIRST_WORD_S = 5.0  # somebody is on the line: who has said nothing by then is passed over, if there is another one
LEFT_S = 3.0  # a caller who speaks up after so much silence has waited in vain
REST_S = 30.0  # outages last longer than a turn: who has just failed is not waited for again in every turn


class FallbackResponder:
    """A Responder over `responders`, best first. One that failed is asked again after `rest_s`, or when all have failed."""

    def __init__(self, responders: Sequence[Responder], *, rest_s: float = REST_S) -> None:
        if not responders:
            raise ValueError("a fallback needs at least one model")
        self._responders = tuple(responders)
        self._rest_s = rest_s
        self._resting: dict[int, float] = {}  # who failed, until when it rests (seconds of the loop's time)
        self._in_charge = self._responders[0]
        self._untold: list[Faulted] = []

    @property
    def name(self) -> str:
        """That of the responder that answered last."""
        return self._in_charge.name

    @property
    def model(self) -> str:
        """That of the responder that answered last."""
        return self._in_charge.model

    async def respond(self, ask: Ask) -> AsyncIterator[ResponderPiece]:
        """The reply of the first one that has something to say; each that failed before it is a `Faulted`.

        Raises the last one's ProviderError, and whatever breaks a reply that has begun."""
        while self._untold:
            yield self._untold.pop(0)
        order = self._order()
        for tried, place in enumerate(order, 1):
            begun = False
            last = tried == len(order)
            name, asked_at = self._responders[place].name, anyio.current_time()
            until = math.inf if last else asked_at + FIRST_WORD_S
            try:
                async with aclosing(self._answer(place, ask)) as pieces:
                    while (piece := await _next(pieces, math.inf if begun else until, name)) is not None:
                        begun = begun or isinstance(piece, ToolRequest) or _says(piece)
                        yield piece
            except ProviderError as error:
                self._resting[place] = anyio.current_time() + self._rest_s
                if begun or last:
                    error.tries = max(error.tries, tried)
                    raise
                following = self._responders[order[tried]]
                fix = f"{following.name} answers instead" + (f"; {error.fix}" if error.fix else "")
                yield Faulted(error.stage or "llm", error.provider, error.problem, fix)
            except BaseException:  # nobody wants this reply any more
                waited_s = anyio.current_time() - asked_at
                if not begun and waited_s > LEFT_S:
                    self._resting[place] = anyio.current_time() + self._rest_s
                    problem = f"it said nothing for {waited_s:.1f} s"
                    self._untold.append(Faulted("llm", name, problem, "it is not asked for a while"))
                raise
            else:
                self._resting.pop(place, None)
                return

    async def aclose(self) -> None:
        """Close them all."""
        for responder in self._responders:
            await responder.aclose()

    async def _answer(self, place: int, ask: Ask) -> AsyncGenerator[ResponderPiece, None]:
        responder = self._in_charge = self._responders[place]
        async with aclosing(responder.respond(ask)) as pieces:  # type: ignore[type-var]
            async for piece in pieces:
                if isinstance(piece, TokensUsed):
                    piece = replace(
                        piece, provider=piece.provider or responder.name, model=piece.model or responder.model
                    )
                yield piece

    def _order(self) -> list[int]:
        """Who is asked: those that do not rest, best first, then the others as their rest ends."""
        now = anyio.current_time()
        resting = {place: until for place, until in self._resting.items() if until > now}
        fresh = [place for place in range(len(self._responders)) if place not in resting]
        return fresh + sorted(resting, key=lambda place: resting[place])


def _says(piece: ResponderPiece) -> bool:
    return isinstance(piece, TextDelta) and bool(piece.text.strip())


async def _next(pieces: AsyncGenerator[ResponderPiece, None], until: float, name: str) -> ResponderPiece | None:
    """The next piece, None at the end. Raises ProviderError when it has not come at `until` (the loop's time)."""
    with anyio.CancelScope(deadline=until):
        return await anext(pieces, None)
    problem = f"it said nothing for {FIRST_WORD_S:g} s"
    raise ProviderError(problem, provider=name, stage="llm", retryable=True, code="timeout")
