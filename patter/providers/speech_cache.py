"""Fixed texts as finished sound: a greeting, an apology and fillers are synthesised once and then come at once.

It owns what is kept and how much of it; it refuses to keep what was not announced, so that no conversation stays in memory.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import AsyncGenerator, Hashable, Sequence
from contextlib import aclosing

from patter.audio.format import AudioChunk
from patter.ports import Synthesizer
from patter.providers.delivery import speakable
from patter.signals import ConnectionUsed, Faulted, Spent, SynthesizerPiece

SIZE_LIMIT = 16 * 1024 * 1024  # bytes: half an hour of a phone line's sound, or six minutes of 24 kHz
TEXTS_LIMIT = 1024  # greetings may hold a caller's name: those of long ago are forgotten

Key = tuple[str, str, str, Hashable, str]


class Making:
    """One text while somebody synthesises it, and others follow."""

    def __init__(self) -> None:
        self.chunks: list[AudioChunk] = []
        self.whole: bool | None = None
        """None while it goes on; False: it failed, or was interrupted."""
        self._followers: list[asyncio.Future[None]] = []

    def add(self, chunk: AudioChunk) -> None:
        """More sound came."""
        self.chunks.append(chunk)
        self._tell()

    def end(self, *, whole: bool) -> None:
        """No more will come."""
        self.whole = whole
        self._tell()

    async def follow(self) -> AsyncGenerator[AudioChunk, None]:
        """Its sound from the beginning, as it comes, to its end."""
        at = 0
        while True:
            for chunk in self.chunks[at:]:
                at += 1
                yield chunk
            if at == len(self.chunks):
                if self.whole is not None:
                    return
                waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
                self._followers.append(waiter)
                await waiter

    def _tell(self) -> None:
        followers, self._followers = self._followers, []
        for waiter in followers:
            if not waiter.done():
                waiter.set_result(None)


class SpeechCache:
    """The sound of announced texts, of any number of voices; beyond `limit` bytes the one used longest ago goes first."""

    def __init__(self, limit: int = SIZE_LIMIT) -> None:
        self.limit = limit
        self.size = 0
        """Bytes that are kept."""
        self._kept: OrderedDict[Key, tuple[AudioChunk, ...]] = OrderedDict()
        self._announced: OrderedDict[Key, None] = OrderedDict()
        self._makings: dict[Key, Making] = {}

    def announce(self, key: Key) -> None:
        """This text is worth keeping, once it has been said."""
        self._announced[key] = None
        self._announced.move_to_end(key)
        while len(self._announced) > TEXTS_LIMIT:
            self._announced.popitem(last=False)

    def announced(self, key: Key) -> bool:
        """Whether somebody said so."""
        return key in self._announced

    def find(self, key: Key) -> tuple[AudioChunk, ...] | None:
        """The sound that is kept; None if there is none."""
        found = self._kept.get(key)
        if found is not None:
            self._kept.move_to_end(key)
        return found

    def making(self, key: Key) -> Making | None:
        """The synthesis of this text that is under way."""
        return self._makings.get(key)

    def begin(self, key: Key) -> Making:
        """A synthesis of this text begins."""
        making = self._makings[key] = Making()
        return making

    def end(self, key: Key, making: Making, *, whole: bool, worth: bool) -> None:
        """It has ended; if it is `whole` and `worth` it, its sound is kept."""
        del self._makings[key]
        if whole and worth:
            self._keep(key, tuple(making.chunks))
        making.end(whole=whole)

    def _keep(self, key: Key, chunks: tuple[AudioChunk, ...]) -> None:
        size = _size(chunks)
        if size > self.limit or not chunks:
            return
        self.size += size - _size(self._kept.pop(key, ()))
        self._kept[key] = chunks
        while self.size > self.limit:
            _, oldest = self._kept.popitem(last=False)
            self.size -= _size(oldest)


class CachedVoice:
    """A Synthesizer whose announced texts are said from the cache. Everything else goes through as it is.

    `kind` is what else the sound depends on, beside provider, model and voice: the line's format, the voice's settings."""

    def __init__(self, synthesizer: Synthesizer, cache: SpeechCache, kind: Hashable = ()) -> None:
        self._voice, self._cache, self._kind = synthesizer, cache, kind
        self._owed: dict[Key, list[Spent]] = {}  # what was made ahead costs the first call that hears it

    @property
    def name(self) -> str:
        """The provider's name."""
        return self._voice.name

    @property
    def model(self) -> str:
        """Its model."""
        return self._voice.model

    @property
    def voice(self) -> str:
        """Its voice."""
        return self._voice.voice

    async def start(self) -> None:
        """Load or connect. Raises ProviderError."""
        await self._voice.start()

    def keep(self, text: str) -> None:
        """This text is said again and again: keep its sound when it is said the next time."""
        self._cache.announce(self._key(text))

    async def prepare(self, text: str) -> list[Spent | ConnectionUsed | Faulted]:
        """Synthesise this text ahead and keep it. Raises ProviderError.

        Returns what it cost and how it went; nothing of that if the sound was there already. The cost is told again to the
        first call that hears it."""
        self.keep(text)
        key = self._key(text)
        if self._cache.find(key) is not None or not speakable(text):
            return []
        told: list[Spent | ConnectionUsed | Faulted] = []
        async with aclosing(self.synthesize(text)) as pieces:
            told += [piece async for piece in pieces if not isinstance(piece, AudioChunk)]
        if not any(isinstance(piece, Spent) for piece in told):
            told.append(Spent({"characters": float(len(text))}))
        self._owed[key] = [piece for piece in told if isinstance(piece, Spent) and piece.amounts]
        while len(self._owed) > TEXTS_LIMIT:  # greetings by name for telephones that nobody picked up
            del self._owed[next(iter(self._owed))]
        return told

    async def synthesize(self, text: str) -> AsyncGenerator[SynthesizerPiece, None]:
        """The sound of `text`: at once and free if it is kept, along with another call that is just having it made, or made
        now. Raises ProviderError."""
        key = self._key(text)
        if not self._cache.announced(key) or not speakable(text):
            async with aclosing(self._voice.synthesize(text)) as pieces:  # type: ignore[type-var]
                async for piece in pieces:
                    yield piece
            return
        given, followed = _Given(), False
        while (
            making := self._cache.making(key)
        ) is not None:  # after one that failed there may be another one, or none
            if not followed:
                yield Spent({})  # who makes it pays, also if this listener does not hear it out
            followed = True
            given.again()
            async for chunk in making.follow():
                if fresh := given.fresh(chunk):
                    yield fresh
            if making.whole:
                for spent in self._owed.pop(key, ()):
                    yield spent
                return
        given.again()
        kept = self._cache.find(key)
        if kept is None:
            counted = not followed
            async with aclosing(self._made(text, key, given)) as made:
                async for piece in made:
                    counted = counted or isinstance(piece, Spent)
                    yield piece
            if not counted:
                yield Spent({"characters": float(len(text))})
            return
        for spent in self._free(key):
            yield spent
        for chunk in kept:
            if fresh := given.fresh(chunk):
                yield fresh

    def _free(self, key: Key) -> list[Spent]:
        """What kept sound costs: nothing, unless nobody has paid for it yet."""
        return self._owed.pop(key, None) or [Spent({})]

    async def aclose(self) -> None:
        """Close the synthesizer; the cache stays."""
        await self._voice.aclose()

    async def _made(self, text: str, key: Key, given: _Given) -> AsyncGenerator[SynthesizerPiece, None]:
        making = self._cache.begin(key)
        whole, worth = False, True
        try:
            async with aclosing(self._voice.synthesize(text)) as pieces:  # type: ignore[type-var]
                async for piece in pieces:
                    if not isinstance(piece, AudioChunk):
                        worth = worth and not isinstance(piece, Faulted)  # mended sound is not for ever
                        yield piece
                        continue
                    making.add(piece)
                    if fresh := given.fresh(piece):
                        yield fresh
            whole = True
        finally:
            self._cache.end(key, making, whole=whole, worth=worth and self._key(text) == key)

    def _key(self, text: str) -> Key:
        return (self._voice.name, self._voice.model, self._voice.voice, self._kind, text.strip())


class _Given:
    """What one listener has been given of a text, so that a second synthesis of it goes on where the first broke off."""

    def __init__(self) -> None:
        self._size = self._skip = 0

    def again(self) -> None:
        """The sound begins anew."""
        self._skip = self._size

    def fresh(self, chunk: AudioChunk) -> AudioChunk | None:
        """The part of a chunk that is new to the listener."""
        if self._skip >= len(chunk.data):
            self._skip -= len(chunk.data)
            return None
        if self._skip:
            chunk, self._skip = AudioChunk(chunk.data[self._skip :], chunk.format), 0
        self._size += len(chunk.data)
        return chunk


def _size(chunks: Sequence[AudioChunk]) -> int:
    return sum(len(chunk.data) + len(chunk.base64) for chunk in chunks)
