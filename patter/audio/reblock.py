"""Cutting a stream of bytes into blocks of one size, for whoever accepts nothing else.

It owns the remainder between pushes; it refuses to know what the bytes mean.
"""

from __future__ import annotations


class Reblocker:
    """Collects bytes and gives them back in blocks of exactly `block_bytes`."""

    def __init__(self, block_bytes: int) -> None:
        if block_bytes <= 0:
            raise ValueError(f"a block needs at least one byte, not {block_bytes}")
        self.block_bytes = block_bytes
        self._rest = b""

    def push(self, data: bytes) -> list[bytes]:
        """The whole blocks that `data` completes, in order; the same object when it is a block by itself."""
        size = self.block_bytes
        if not self._rest and len(data) == size:
            return [data]
        stream = self._rest + data
        whole = len(stream) - len(stream) % size
        self._rest = stream[whole:]
        return [stream[start : start + size] for start in range(0, whole, size)]

    def flush(self, padding: bytes = b"\x00") -> bytes:
        """The unfinished block filled up with `padding` (one byte), or b"" when there is none."""
        rest, self._rest = self._rest, b""
        return rest.ljust(self.block_bytes, padding) if rest else b""

    @property
    def waiting(self) -> int:
        """Bytes of the unfinished block."""
        return len(self._rest)
