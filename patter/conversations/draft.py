"""An answer begun before the caller has surely finished: asked for early, and kept back until the words are certain.

It owns the early request and what came of it so far; it refuses to let anything of it be heard, shown or run by itself.
"""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing

import anyio

from patter.exceptions import ProviderError
from patter.mailbox import Mailbox
from patter.ports import Ask, Responder
from patter.signals import Message, ResponderPiece, TokensUsed

_WORDS = re.compile(r"\w+")


class Draft:
    """One early answer: `write` it in a task, then read its `pieces` or `discard` it.

    `count` is told at once of the tokens it takes: they are paid for whether it is used or not."""

    def __init__(self, responder: Responder, ask: Ask, count: Callable[[TokensUsed], None]) -> None:
        self._responder = responder
        self._ask = ask
        self._count = count
        self._written: Mailbox[ResponderPiece] = Mailbox()
        self._error: ProviderError | None = None
        self._scope = anyio.CancelScope()

    def answers(self, ask: Ask) -> bool:
        """Whether it is an answer to this: the same call so far, and the same last words but for their spelling."""
        mine = self._ask
        return (
            mine.agent is ask.agent
            and mine.tools == ask.tools
            and list(mine.messages[:-1]) == list(ask.messages[:-1])
            and _words(mine.messages[-1]) == _words(ask.messages[-1])
        )

    async def write(self) -> None:
        """Ask the responder and keep what it says."""
        with self._scope:
            try:
                async with aclosing(self._responder.respond(self._ask)) as pieces:  # type: ignore[type-var]
                    async for piece in pieces:
                        if isinstance(piece, TokensUsed):
                            self._count(piece)
                        else:
                            self._written.put(piece)
            except ProviderError as error:
                self._error = error
        self._written.close()

    async def pieces(self) -> AsyncGenerator[ResponderPiece, None]:
        """What was written and what is still to come, without the tokens. Raises ProviderError as the responder does.

        Closing it stops the request."""
        try:
            async for piece in self._written:
                yield piece
            if self._error is not None:
                raise self._error
        finally:
            self.discard()

    def discard(self) -> None:
        """Stop the request: nobody needs the answer."""
        self._scope.cancel()


def _words(message: Message) -> list[str]:
    return [message["role"], *_WORDS.findall(str(message["content"] or "").casefold())]
