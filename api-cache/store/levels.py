"""Both levels as one: memory while it is in step with Redis, else Redis, read once for all at a time."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import time
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar, cast

import coding
from origin.errors import RestLost

from . import layout
from .breaker import BREAKER_SECONDS, StoreUnavailable
from .memory import Page
from .stored import BLOCK_BYTES, body_name, target_hash

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Coroutine, Iterable

    from httpcache.messages import Entry, Request
    from httpcache.ranges import Slice
    from sharing.buffer import Parts

    from .found import Found
    from .memory import Memory
    from .shared import Store
    from .stored import Stored
    from .writer import Writer

T = TypeVar("T")
PATIENCE_SECONDS = 2 * BREAKER_SECONDS
"""How long Redis may be away while a large body is sent."""
_SECONDS_BETWEEN_TRIES = 0.02


class View(NamedTuple):
    """What is stored of a request's target, as seen at one moment."""

    key: str
    page: Page
    generation: bytes | None = None
    uncacheable: tuple[bool, bool] = (False, False)
    """Whether answers are known to be so: those to requests without credentials, and to those with them."""
    storable: bool = True
    """Redis is there to store into."""
    exact: bool = True
    """Seen in Redis just now, so that `generation` holds; not in memory."""

    @property
    def entries(self) -> tuple[Entry, ...]:
        return tuple(each.entry for each in self.page.stored)

    def is_uncacheable(self, request: Request) -> bool:
        """Whether nobody waits for the answer to such a request."""
        return self.uncacheable[request.has_credentials]


class Levels:
    """What is stored. Without Redis nothing is found and nothing is kept; no method raises for that."""

    def __init__(self, store: Store, memory: Memory) -> None:
        self._store = store
        self._memory = memory
        self._reads: dict[str, asyncio.Future[Any]] = {}

    # ---- entries

    async def view(self, target: str) -> View:
        """What is stored of a target, out of either level."""
        key = target_hash(target)
        is_usable = await self._memory.is_usable()
        page = self._memory.get(key) if is_usable else None
        if page is not None:
            return View(key, page, exact=False)
        return await self._once(key, lambda: self._read(key, target, for_memory=is_usable))

    async def latest(self, target: str) -> View:
        """What Redis has of a target, now."""
        return await self._read(target_hash(target), target)

    async def exact(self, view: View) -> View:
        """The view with what only Redis knows."""
        return view if view.exact else (await self._read(view.key, view.page.target))._replace(page=view.page)

    def begin_view(self, target: str, seen: Callable[[View | None], None]) -> bool:
        """`view` for who has no task, and is called back; with None where more is to be done than to look.

        False, and nothing happens, where that is known before.
        """
        key, begun = target_hash(target), self._memory.begin()

        def done(found: Found | None) -> None:
            view = None
            try:
                if found is not None:
                    view = self._seen(key, target, found, begun)
                    reading.set_result(view)
            finally:
                self._end_read(key, reading)
                seen(view)

        is_known = key in self._reads or self._memory.get(key) is not None
        is_usual = not is_known and time.monotonic() < self._memory.usable_until
        if not is_usual or not self._store.begin_find(key, done):
            return False
        reading: asyncio.Future[View] = asyncio.get_running_loop().create_future()
        self._reads[key] = reading
        return True

    async def _read(self, key: str, target: str, *, for_memory: bool = False) -> View:
        begun = self._memory.begin() if for_memory else None
        try:
            found = await self._store.find(key)
        except StoreUnavailable:
            return View(key, Page(target, ()), storable=False)
        return self._seen(key, target, found, begun)

    def _seen(self, key: str, target: str, found: Found, begun: int | None) -> View:
        """What was read, for memory if it was begun for that: once the client has its answer."""
        page = Page(target, None, self._memory.bodies(key, found), found)
        if begun is not None and found.fields:
            asyncio.get_running_loop().call_soon(self._memory.put, key, page, begun)
        return View(key, page, found.generation, found.uncacheable)

    async def _once(self, name: str, read: Callable[[], Coroutine[None, None, T]]) -> T:
        """Read something from Redis once for all who want it at this moment; should that fail, each tries."""
        while (reading := self._reads.get(name)) is not None:
            await asyncio.wait((reading,))
            if not reading.cancelled():
                return cast("T", reading.result())
        reading = self._reads[name] = asyncio.get_running_loop().create_future()
        try:
            found = await read()
            reading.set_result(found)
        finally:
            self._end_read(name, reading)
        return found

    def _end_read(self, name: str, reading: asyncio.Future[Any]) -> None:
        reading.cancel()  # if it has no result
        if self._reads.get(name) is reading:
            del self._reads[name]

    # ---- content

    async def content(
        self, view: View, stored: Stored, chosen: str, length: int, part: Slice | None = None
    ) -> bytes | Parts | None:
        """The content in the chosen coding, of so many bytes, or a part of it; None when it is gone."""
        first, end = (0, length) if part is None else (part.first, part.last + 1)
        with contextlib.suppress(StoreUnavailable):
            if max(length, stored.bodies[_source(stored, chosen)].length) > self._memory.max_body_bytes:
                return await self._stream(view, stored, chosen, first, end)
            data = await self._held(view, stored, chosen, length)
            return None if data is None else data[first:end]
        return None

    async def _held(self, view: View, stored: Stored, chosen: str, length: int) -> bytes | None:
        """The whole of a body that memory may hold."""
        data = view.page.body(stored, chosen)
        if data is None:
            name = body_name(stored.body_id, chosen)
            whole = functools.partial(self._whole, view, stored, chosen)
            is_at_hand = view.page.body(stored, _source(stored, chosen)) is not None
            data = await (
                whole() if is_at_hand and length < coding.IN_THREAD_BYTES else self._once(name, whole)
            )
            if data is None or len(data) != length:
                return None
            self._memory.add_body(view.page, name, data)
        return data

    async def _whole(self, view: View, stored: Stored, chosen: str) -> bytes | None:
        source = _source(stored, chosen)
        data = view.page.body(stored, source)
        if data is None:
            data = await self._store.body(view.key, stored, source)
        return data if data is None or source == chosen else await coding.decompress(data, stored.length)

    async def _stream(self, view: View, stored: Stored, chosen: str, first: int, end: int) -> Parts | None:
        """From byte to byte of a body too large to hold, block by block."""
        source = _source(stored, chosen)
        is_as_stored = source == chosen
        number = first // BLOCK_BYTES if is_as_stored else 0
        block = view.page.body(stored, source)
        if block is None or len(block) > BLOCK_BYTES:
            block = await self._store.block(view.key, stored, source, number)
        if block is None:
            return None
        blocks = self._blocks(view.key, stored, source, number, block)
        before = number * BLOCK_BYTES
        return cut(blocks if is_as_stored else coding.decompressed(blocks), first - before, end - before)

    async def _blocks(
        self, key: str, stored: Stored, source: str, number: int, block: bytes | None
    ) -> AsyncGenerator[bytes]:
        """A body's blocks from the one with this number on, which is there already."""
        while block is not None:
            yield block
            number += 1
            if number == len(stored.bodies[source].checksums):
                return
            block = await self._block_in_time(key, stored, source, number)
        await self._forget(key, stored)
        raise RestLost("The stored content was lost while it was sent.")

    async def _block_in_time(self, key: str, stored: Stored, source: str, number: int) -> bytes | None:
        """One block; when Redis is late, the client rather waits a little than loses all it has."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            try:
                return await self._store.block(key, stored, source, number)
            except StoreUnavailable:
                if time.monotonic() > deadline:
                    raise RestLost("The stored content cannot be had while it is sent.") from None
                await asyncio.sleep(_SECONDS_BETWEEN_TRIES)

    # ---- changes

    def writer(self, view: View) -> Writer:
        """For a new entry, asked for when this was seen."""
        return self._store.writer(view.key, view.generation)

    async def replace(self, view: View, stored: Stored, ttl: float) -> None:
        """Put an entry in place of its former self, unless the target was invalidated since it was seen."""
        with contextlib.suppress(StoreUnavailable):
            await self._store.put(view.key, stored, view.generation or b"", ttl, layout.FRESHENED)

    def changed(self, view: View) -> None:
        """To be called before Redis hears of a change: memory must not hold what it was."""
        self._memory.changed(view.key)

    async def without(self, view: View, stored: Stored) -> View:
        """What is left of a target when one of its entries goes: its body is lost, or it holds no more."""
        await self._forget(view.key, stored)
        left = tuple(each for each in view.page.stored if each is not stored)
        return view._replace(page=view.page.with_stored(left))

    async def _forget(self, key: str, stored: Stored) -> None:
        self._memory.drop(key)
        with contextlib.suppress(StoreUnavailable):
            await self._store.forget(key, stored)

    async def drop(self, keys: Iterable[str]) -> None:
        """Forget targets. Whoever looks from now on finds nothing of them."""
        dropped = tuple(keys)
        for key in dropped:
            self._memory.changed(key)
            self._reads.pop(key, None)
        if dropped:
            with contextlib.suppress(StoreUnavailable):
                await self._store.drop(dropped)

    async def mark_uncacheable(self, view: View, request: Request) -> None:
        """Have nobody wait for the answer to another such request, for a while."""
        with contextlib.suppress(StoreUnavailable):
            await self._store.mark_uncacheable(view.key, credentials=request.has_credentials)


def _source(stored: Stored, chosen: str) -> str:
    """The stored coding out of which the chosen one is made."""
    return chosen if chosen in stored.bodies else coding.CODINGS[0]


async def cut(content: Parts, first: int, end: int) -> AsyncGenerator[bytes]:
    """From byte to byte of the content."""
    at = 0
    async with contextlib.aclosing(content):
        async for data in content:
            if at + len(data) > first:
                yield data[max(first - at, 0) : end - at]
            at += len(data)
            if at >= end:
                return
