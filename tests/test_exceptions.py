"""What becomes of exceptions on their way out."""

from __future__ import annotations

from contextlib import AsyncExitStack, nullcontext
from types import TracebackType

import pytest

from patter.exceptions import ended_context

pytestmark = pytest.mark.anyio


class RaisesItAgain:
    """As a cancelled task group does."""

    async def __aenter__(self) -> None: ...

    async def __aexit__(self, _: object, error: BaseException | None, __: TracebackType | None) -> None:
        assert error is not None
        raise error


async def fails() -> None:
    raise KeyError("of a member")


async def left(*, guarded: bool) -> BaseException:
    """What comes out of a stack that is left with an error, one of whose members fails with another one."""
    stack = AsyncExitStack()
    await stack.enter_async_context(RaisesItAgain())
    stack.push_async_callback(fails)
    try:
        try:
            raise ValueError("on its way")
        except ValueError as error:
            with ended_context() if guarded else nullcontext():
                await stack.__aexit__(type(error), error, None)
    except KeyError as error:
        return error
    raise AssertionError("nothing came out")


async def test_the_context_of_what_leaves_a_stack_comes_to_an_end() -> None:
    bare = await left(guarded=False)
    assert bare.__context__ is bare  # else nothing is to be mended any more
    assert (await left(guarded=True)).__context__ is None
