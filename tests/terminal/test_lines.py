from __future__ import annotations

import io
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

import anyio
import pytest

from patter.terminal.lines import typed_lines


@pytest.fixture
def pipe() -> Iterator[tuple[int, TextIO]]:
    reader, writer = os.pipe()
    with os.fdopen(reader) as stream:
        yield writer, stream


async def collect(stream: TextIO) -> list[str]:
    return [line async for line in typed_lines(stream)]


@pytest.mark.anyio
async def test_a_file_gives_all_its_lines(tmp_path: Path) -> None:
    path = tmp_path / "lines.txt"
    path.write_bytes("one\r\ntwo\n\nlast, without an end: é".encode())

    with path.open(encoding="utf-8") as stream:
        assert await collect(stream) == ["one", "two", "", "last, without an end: é"]


@pytest.mark.anyio
async def test_a_stream_that_is_no_file_gives_all_its_lines() -> None:
    assert await collect(io.StringIO("one\ntwo\n")) == ["one", "two"]


@pytest.mark.anyio
async def test_a_pipe_gives_each_line_when_it_comes(pipe: tuple[int, TextIO]) -> None:
    writer, stream = pipe
    lines = typed_lines(stream)

    os.write(writer, b"one\ntw")
    assert await anext(lines) == "one"
    os.write(writer, b"o\n\xc3")
    assert await anext(lines) == "two"
    os.write(writer, b"\xa9\n\xff")
    assert await anext(lines) == "é"
    os.close(writer)
    assert await anext(lines) == "�"
    with pytest.raises(StopAsyncIteration):
        await anext(lines)


@pytest.mark.anyio
async def test_a_reader_that_stops_leaves_the_next_line_in_the_pipe(pipe: tuple[int, TextIO]) -> None:
    writer, stream = pipe
    os.write(writer, b"one\n")
    lines = typed_lines(stream)
    assert await anext(lines) == "one"

    await lines.aclose()
    os.write(writer, b"two\n")
    await anyio.lowlevel.checkpoint()
    os.close(writer)

    assert stream.readline() == "two\n"


@pytest.mark.anyio
async def test_an_event_loop_that_cannot_watch_pipes_is_helped_by_a_thread(
    pipe: tuple[int, TextIO], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise NotImplementedError

    writer, stream = pipe
    lines = typed_lines(stream)
    with monkeypatch.context() as windows:
        windows.setattr("asyncio.SelectorEventLoop.add_reader", refuse)
        os.write(writer, b"one\ntwo\n")
        assert await anext(lines) == "one"
    os.close(writer)

    assert [line async for line in lines] == ["two"]
    for thread in threading.enumerate():
        if thread.name == "typed lines":
            thread.join()
