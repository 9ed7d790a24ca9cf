"""Both levels as one: memory while it is in step with Redis, else Redis, read once for all at a time."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeVar, cast

import coding
from origin.errors import OriginError

from .breaker import StoreUnavailable
from .memory import Page
from .stored import target_hash

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Coroutine, Iterable

    from httpcache.messages import Entry
    from sharing.buffer import Parts

    from .memory import Memory
    from .shared import Store
    from .stored import Stored
    from .writer import Writer

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class View:
    """What is stored of a request's target, as seen at one moment."""

    key: str
    page: Page
    generation: bytes | None = None
    uncacheable: bool = False
    storable: bool = True
    """Redis is there to store into."""
    exact: bool = True
    """Seen in Redis just now, so that `generation` holds; not in memory."""

    @property
    def entries(self) -> tuple[Entry, ...]:
        return tuple(each.entry for each in self.page.stored)


class Levels:
    """What is stored. Without Redis nothing is found and nothing is kept; no method raises for that."""

    def __init__(self, store: Store, memory: Memory) -> None:
        self._store = store
        self._memory = memory
        self._reads: dict[str, asyncio.Task[Any]] = {}

    # ---- entries

    async def view(self, target: str) -> View:
        """What is stored of a target, out of either level."""
        key = target_hash(target)
        is_usable = await self._memory.is_usable()
        page = self._memory.get(key) if is_usable else None
        if page is not None:
            return View(key, page, exact=False)
        return await self._once(key, lambda: self._read(target, for_memory=is_usable))

    async def latest(self, target: str) -> View:
        """What Redis has of a target, now."""
        return await self._read(target)

    async def exact(self, view: View) -> View:
        """The view with what only Redis knows."""
        return view if view.exact else replace(await self._read(view.page.target), page=view.page)

    async def _read(self, target: str, *, for_memory: bool = False) -> View:
        key, begun = target_hash(target), self._memory.begin()
        try:
            found = await self._store.find(key)
        except StoreUnavailable:
            return View(key, Page(target, ()), storable=False)
        page = Page(target, found.stored, self._memory.bodies(key, found.stored))
        if for_memory and found.stored:
            self._memory.put(key, page, begun)
        return View(key, page, found.generation, found.uncacheable)

    async def _once(self, name: str, read: Callable[[], Coroutine[None, None, T]]) -> T:
        """Read something from Redis once for all who want it at this moment."""
        task = self._reads.get(name)
        if task is None:
            task = self._reads[name] = asyncio.create_task(read())
            task.add_done_callback(lambda done: self._forget_read(name, done))
        return cast("T", await asyncio.shield(task))

    def _forget_read(self, name: str, task: asyncio.Task[Any]) -> None:
        if self._reads.get(name) is task:
            del self._reads[name]

    # ---- content

    async def content(self, view: View, stored: Stored, chosen: str, length: int) -> bytes | Parts | None:
        """The content in the chosen coding, of so many bytes; None when it cannot be had any more."""
        name = f"{stored.body_id}:{chosen}"
        held = view.page.bodies.get(name)
        if held is not None:
            return held
        source = chosen if chosen in stored.bodies else coding.CODINGS[0]
        decoded = source if source != chosen else "identity"
        with contextlib.suppress(StoreUnavailable):
            if max(length, stored.bodies[source].length) > self._memory.max_body_bytes:
                first = await self._store.block(view.key, stored, source, 0)
                return None if first is None else self._stream(view.key, stored, source, first, decoded)
            data = await self._once(name, lambda: self._whole(view.key, stored, source, decoded))
            if data is not None and len(data) == length:
                self._memory.add_body(view.key, view.page, name, data)
                return data
        return None

    async def _whole(self, key: str, stored: Stored, source: str, decoded: str) -> bytes | None:
        data = await self._store.body(key, stored, source)
        if data is None or decoded == "identity":
            return data
        return await coding.run(coding.Decompressor(decoded).feed, data)

    async def _stream(
        self, key: str, stored: Stored, source: str, first: bytes, decoded: str
    ) -> AsyncGenerator[bytes]:
        """A body too large to hold, block by block."""
        decompressor = coding.Decompressor(decoded)
        block: bytes | None = first
        number = 0
        while block is not None:
            data = decompressor.feed(block)
            if data:
                yield data
            number += 1
            if number == len(stored.bodies[source].checksums):
                return
            try:
                block = await self._store.block(key, stored, source, number)
            except StoreUnavailable:
                raise OriginError("The stored content cannot be had while it is sent.") from None
        await self._forget(key, stored)
        raise OriginError("The stored content was lost while it was sent.")

    # ---- changes

    def writer(self, view: View) -> Writer:
        """For a new entry, asked for when this was seen."""
        return self._store.writer(view.key, view.generation)

    async def replace(self, view: View, stored: Stored, ttl: float) -> None:
        """Put an entry in place of its former self, unless the target was invalidated since it was seen."""
        with contextlib.suppress(StoreUnavailable):
            await self._store.put(view.key, stored, view.generation or b"", ttl)

    def changed(self, view: View) -> None:
        """To be called before Redis hears of a change: memory must not hold what it was."""
        self._memory.changed(view.key)

    async def lost(self, view: View, stored: Stored) -> View:
        """What is left of a target when the body of one of its entries is found to be gone."""
        await self._forget(view.key, stored)
        left = tuple(each for each in view.page.stored if each is not stored)
        return replace(view, page=Page(view.page.target, left, view.page.bodies))

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

    async def mark_uncacheable(self, view: View) -> None:
        """Have nobody wait for another one's answer, for a while."""
        with contextlib.suppress(StoreUnavailable):
            await self._store.mark_uncacheable(view.key)
