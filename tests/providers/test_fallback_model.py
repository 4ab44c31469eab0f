"""Several models as one: who answers when one fails, who rests, and who is paid."""

from __future__ import annotations

from collections.abc import AsyncIterator

import anyio
import anyio.lowlevel
import pytest

from patter.exceptions import ProviderError
from patter.models import Agent
from patter.ports import Ask, CallInfo
from patter.providers.fallback_model import REST_S, FallbackResponder
from patter.signals import Faulted, ResponderPiece, TextDelta, TokensUsed, ToolRequest
from tests.support.virtual_time import VIRTUAL_BACKEND

pytestmark = pytest.mark.anyio
ASK = Ask(CallInfo("CA1"), Agent("p"), "p", [{"role": "user", "content": "hi"}])


@pytest.fixture
def anyio_backend() -> object:
    return VIRTUAL_BACKEND


class Model:
    """Says its pieces, then fails if it is out of order."""

    def __init__(self, name: str, *pieces: ResponderPiece, broken: bool = False) -> None:
        self.name, self.model = name, f"{name}-1"
        self.pieces, self.broken = pieces, broken
        self.asked = 0
        self.stopped = False
        self.closed = False

    async def respond(self, ask: Ask) -> AsyncIterator[ResponderPiece]:
        self.asked += 1
        try:
            for piece in self.pieces:
                await anyio.lowlevel.checkpoint()
                yield piece
            if self.broken:
                raise ProviderError("it is out of order", provider=self.name, stage="llm", retryable=True, fix="wait")
        finally:
            self.stopped = True

    async def aclose(self) -> None:
        self.closed = True


async def reply(responder: FallbackResponder) -> list[ResponderPiece]:
    return [piece async for piece in responder.respond(ASK)]


async def test_the_first_one_answers_and_is_named() -> None:
    first, second = Model("a", TextDelta("Hi."), TokensUsed(3, 1)), Model("b")
    both = FallbackResponder([first, second])
    assert await reply(both) == [TextDelta("Hi."), TokensUsed(3, 1, 0, "a", "a-1")]
    assert (both.name, both.model, second.asked) == ("a", "a-1", 0)


async def test_the_next_one_answers_when_one_fails_before_it_said_anything_and_that_is_told() -> None:
    first, second = Model("a", TextDelta(" "), broken=True), Model("b", TextDelta("Hi."), TokensUsed(3, 1))
    both = FallbackResponder([first, second])
    pieces = await reply(both)
    assert pieces[1:] == [
        Faulted("llm", "a", "it is out of order", "b answers instead; wait"),
        TextDelta("Hi."),
        TokensUsed(3, 1, 0, "b", "b-1"),
    ]
    assert (both.name, both.model) == ("b", "b-1")


@pytest.mark.parametrize("said", [TextDelta("Well, "), ToolRequest("t1", "slots", "{}")])
async def test_an_answer_that_has_begun_is_not_begun_again(said: ResponderPiece) -> None:
    first, second = Model("a", said, broken=True), Model("b", TextDelta("Hi."))
    with pytest.raises(ProviderError, match="out of order"):
        await reply(FallbackResponder([first, second]))
    assert second.asked == 0


async def test_one_that_failed_rests_and_is_then_asked_again() -> None:
    first, second = Model("a", broken=True), Model("b", TextDelta("Hi."))
    both = FallbackResponder([first, second])
    await reply(both)
    await reply(both)
    assert (first.asked, second.asked) == (1, 2)
    await anyio.sleep(REST_S + 1)
    first.broken = False
    await reply(both)
    assert (first.asked, second.asked) == (2, 2)


async def test_when_all_have_failed_each_was_tried_once_and_the_last_error_says_so() -> None:
    first, second = Model("a", broken=True), Model("b", broken=True)
    both = FallbackResponder([first, second])
    for asked in (1, 2):  # who rests is asked all the same when nobody else is left
        with pytest.raises(ProviderError) as raised:
            await reply(both)
        assert (raised.value.provider, raised.value.tries) == ("b", 2)
        assert (first.asked, second.asked) == (asked, asked)


async def test_leaving_the_answer_stops_the_request_and_closing_closes_all() -> None:
    first, second = Model("a", TextDelta("One."), TextDelta("Two.")), Model("b")
    both = FallbackResponder([first, second])
    pieces = both.respond(ASK)
    async for _ in pieces:
        break
    await pieces.aclose()  # type: ignore[attr-defined]
    await both.aclose()
    assert first.stopped
    assert (first.closed, second.closed) == (True, True)


def test_nobody_to_ask_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one"):
        FallbackResponder([])
