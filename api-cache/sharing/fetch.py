"""One answer of the origin on its way: read once, stored as it passes, shared by all clients who may."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import coding
from httpcache import fields, variants
from origin.errors import OriginError

from .buffer import Budget, Buffer

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from httpcache.messages import Entry, Exchange, Request
    from origin.answer import Answer
    from store.writer import Writer

    from .buffer import Reader


class Unstored:
    """Stands in for a Writer while Redis is away: within the same bound, what passes can still be shared."""

    stores = failed = is_outdated = False

    def __init__(self, size: int = 0) -> None:
        self.size = size

    async def write(self, parts: Mapping[str, bytes]) -> None:
        self.size += sum(map(len, parts.values()))

    async def commit(self, *_: object) -> None:
        pass

    async def abandon(self) -> None:
        pass


@dataclass(slots=True)
class Storing:
    """How an answer is stored: by whom, as what, for how long."""

    writer: Writer | Unstored
    entry: Entry
    ttl: float
    codec: coding.Compressor | coding.Plain
    max_bytes: int
    """In Redis, in all codings together."""
    too_large: Callable[[], Awaitable[None]]
    """Called when there is more of it."""


class Fetch:  # pylint: disable=too-many-instance-attributes
    """The content of one answer: a task reads it into a buffer and into the store; clients read the buffer.

    While it is being stored, the buffer keeps all of it, as far as the budget allows; so a slow client slows
    nobody. What is not stored passes in a window.
    """

    def __init__(
        self,
        answer: Answer,
        exchange: Exchange,
        storing: Storing | str | None,
        budget: Budget,
        done: Callable[[], None],
    ) -> None:
        self.exchange = exchange
        self.length = answer.length
        self.refusal = storing if isinstance(storing, str) else None
        """Why it is not stored."""
        self._answer = answer
        self._storing = storing if isinstance(storing, Storing) else None
        self.entry: Entry | None = self._storing.entry if self._storing else None
        self.is_to_be_stored = self._storing is not None and self._storing.writer.stores
        self.is_coded = self._storing is not None and isinstance(self._storing.codec, coding.Compressor)
        self._done = done
        self._buffer = Buffer(
            budget,
            keeps=self._storing is not None,
            deserted=self._deserted,
            may_outrun=self.is_repeatable,
        )
        self._size = 0
        self._is_committed = False
        self._is_outdated = False
        self._task = asyncio.create_task(self._pump())

    # ---- for clients

    @property
    def is_shareable(self) -> bool:
        """Whether a latecomer may still read it from its beginning."""
        return self._storing is not None and self._buffer.is_whole

    def is_for(self, request: Request) -> bool:
        """Whether it may be this request's answer, though another one asked."""
        if self.entry is None or not self.is_shareable:
            return False
        return variants.matches(self.entry, request.headers)

    def selecting_others(self, request: Request) -> tuple[str, ...]:
        """The request fields by which it is another variant than this request's; none where it is not."""
        if self.entry is None or variants.matches(self.entry, request.headers):
            return ()
        return tuple(name for name, _ in self.entry.selecting)

    @property
    def is_repeatable(self) -> bool:
        """Whether a strong tag would tell that the same content came once more (RFC 9110 §8.8.1)."""
        response = self.exchange.response
        tag = fields.entity_tag(response.headers.get("etag"))
        is_whole = self.exchange.request.method == "GET" and response.status == 200
        return is_whole and fields.strong_match(tag, tag)

    @property
    def is_bodiless(self) -> bool:
        """Whether its head is all of it."""
        return self.length == 0 or self.exchange.response.status in (204, 304)

    @property
    def is_being_stored(self) -> bool:
        """Whether it will be found in the store, if all goes well."""
        return self._storing is not None and self._storing.writer.stores

    async def begun(self) -> None:
        """Wait until some content is there; see Buffer."""
        await self._buffer.begun()

    async def ended(self) -> None:
        """Wait for its end, whatever that is."""
        await asyncio.wait((self._task,))

    def reader(self) -> Reader | None:
        """A place at the beginning of the content; None when others have gone ahead and it is not kept."""
        return self._buffer.reader()

    def _deserted(self) -> None:
        """What is not being stored is read no further for nobody."""
        if not self.is_being_stored:
            # Soon, not now: a task that is cancelled before its first step never gets to its `finally`.
            self._task.get_loop().call_soon(self._give_up)

    def _give_up(self) -> None:
        if not self._buffer.is_read:
            self._task.cancel()

    # ---- the task

    async def _pump(self) -> None:
        error: OriginError | None = OriginError("Nobody reads any more.")
        try:
            async for part in self._answer.parts():
                await self._take(part)
            await self._commit()
            error = None
        except OriginError as broken:
            error = broken
        finally:
            self._answer.close()
            self._buffer.end(error)
            if error is not None or self._is_outdated:
                with contextlib.suppress(asyncio.CancelledError):
                    await self._stop_storing()
            self._done()

    async def _take(self, part: bytes) -> None:
        self._size += len(part)
        if self._size == self.length:
            # With this part a client knows the end: so that its next request finds the entry, store it first.
            await self._store(part)
            await self._commit()
            self._buffer.add(part)
        else:
            self._buffer.add(part)
            await self._store(part)
        await self._buffer.room()

    async def _store(self, part: bytes) -> None:
        storing = self._storing
        if storing is None:
            return
        await self._write(storing, await coding.run(storing.codec.feed, part))
        if storing.writer.failed:
            storing.writer, storing.codec = Unstored(storing.writer.size), coding.Plain()

    async def _write(self, storing: Storing, coded: Mapping[str, bytes]) -> None:
        await storing.writer.write(coded)
        if storing.writer.size > storing.max_bytes:
            await storing.too_large()
            await self._stop_storing()

    async def _commit(self) -> None:
        storing = self._storing
        if storing is None or self._is_committed:
            return
        self._is_committed = True  # whether or not the store then takes it: a codec is finished only once
        await self._write(storing, storing.codec.finish())
        if self._storing is not None:
            await storing.writer.commit(storing.entry, self._size, storing.ttl)
            self._is_outdated = storing.writer.is_outdated

    async def _stop_storing(self) -> None:
        """From now on nobody else joins, and the readers set the pace."""
        storing, self._storing = self._storing, None
        if storing is not None:
            self._buffer.keep_no_more()
            self._done()
            await storing.writer.abandon()
