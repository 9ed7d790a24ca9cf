"""One answer of the origin on its way: read once, stored as it passes, shared by all clients who may."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import coding
from httpcache import variants
from httpcache.storing import Refusal
from origin.errors import OriginError

from .buffer import Budget, Buffer

if TYPE_CHECKING:
    from collections.abc import Callable

    from httpcache.messages import Entry, Exchange, Request
    from origin.answer import Answer
    from store.writer import Writer

    from .buffer import Reader


@dataclass(slots=True)
class Storing:
    """How an answer is stored: by whom, as what, for how long."""

    writer: Writer
    entry: Entry
    ttl: float
    codec: coding.Compressor | coding.Plain
    max_bytes: int
    """In Redis, in all codings together."""


class Fetch:  # pylint: disable=too-many-instance-attributes
    """The content of one answer: a task reads it into a buffer and into the store; clients read the buffer.

    While it is being stored, the buffer keeps all of it, as far as the budget allows; so a slow client slows
    nobody. What is not stored passes in a window.
    """

    def __init__(
        self,
        answer: Answer,
        exchange: Exchange,
        storing: Storing | Refusal | None,
        budget: Budget,
        done: Callable[[], None],
    ) -> None:
        self.exchange = exchange
        self.length = answer.length
        self.refusal = storing if isinstance(storing, Refusal) else None
        """Why it is not stored."""
        self._answer = answer
        self._storing = storing if isinstance(storing, Storing) else None
        self.entry: Entry | None = self._storing.entry if self._storing else None
        self.is_coded = self._storing is not None and isinstance(self._storing.codec, coding.Compressor)
        self._done = done
        self._buffer = Buffer(budget, keeps=self._storing is not None, deserted=self._deserted)
        self._size = 0
        self._is_committed = False
        self._is_stored = False
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

    @property
    def is_bodiless(self) -> bool:
        """Whether its head is all of it."""
        return self.length == 0 or self.exchange.response.status in (204, 304)

    @property
    def is_being_stored(self) -> bool:
        """Whether it will be found in the store, if all goes well."""
        return self._storing is not None

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
        if self._storing is None:
            # Soon, not now: a task that is cancelled before its first step never gets to its `finally`.
            self._task.get_loop().call_soon(self._task.cancel)

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
            if not self._is_stored:
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
        if storing is None or storing.writer.failed:
            return
        await storing.writer.write(await coding.run(storing.codec.feed, part))
        if storing.writer.failed or storing.writer.size > storing.max_bytes:
            await self._stop_storing()

    async def _commit(self) -> None:
        storing = self._storing
        if storing is None or self._is_committed:
            return
        self._is_committed = True  # whether or not the store then takes it: a codec is finished only once
        await storing.writer.write(storing.codec.finish())
        self._is_stored = await storing.writer.commit(storing.entry, self._size, storing.ttl) is not None

    async def _stop_storing(self) -> None:
        """From now on nobody else joins, and the slowest reader sets the pace."""
        storing, self._storing = self._storing, None
        if storing is not None:
            self._buffer.keep_no_more()
            self._done()
            await storing.writer.abandon()
