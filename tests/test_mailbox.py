"""The mailbox: order is kept whoever hurries, and what is put late lets go first what else is due."""

from __future__ import annotations

import anyio
import pytest

from patter.mailbox import Mailbox

pytestmark = pytest.mark.anyio


async def test_a_late_item_is_read_after_what_was_due_before_it() -> None:
    box: Mailbox[str] = Mailbox()
    seen: list[str] = []

    async def read() -> None:
        async for item in box:
            seen.append(item)

    with anyio.fail_after(5):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(read)
            await anyio.wait_all_tasks_blocked()
            box.put_late("fact")
            tasks.start_soon(_note, seen, "what was due")
            await anyio.wait_all_tasks_blocked()
            box.close()
    assert seen == ["what was due", "fact"]


async def _note(seen: list[str], what: str) -> None:
    seen.append(what)


async def test_order_is_kept_between_late_and_other_items() -> None:
    box: Mailbox[int] = Mailbox()
    seen: list[int] = []

    async def read() -> None:
        async for item in box:
            seen.append(item)

    with anyio.fail_after(5):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(read)
            await anyio.wait_all_tasks_blocked()
            box.put_late(1)
            box.put(2)
            box.put_late(3)
            box.close()
            box.put_late(4)
    assert seen == [1, 2, 3]


async def test_express_items_do_not_overtake_late_ones() -> None:
    box: Mailbox[int | str] = Mailbox()
    taken: list[str] = []
    box.express(str, taken.append)
    seen: list[int | str] = []

    async def read() -> None:
        async for item in box:
            seen.append(item)

    with anyio.fail_after(5):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(read)
            await anyio.wait_all_tasks_blocked()
            box.put("at once")
            box.put_late(1)
            box.put("behind")
            await anyio.wait_all_tasks_blocked()
            box.close()
    assert taken == ["at once"]
    assert seen == [1, "behind"]
