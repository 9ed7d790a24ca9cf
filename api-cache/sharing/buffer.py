"""Content on its way from one source to several readers, each at its own pace, in bounded memory."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, Self

from origin.errors import OriginError, RestLost

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

WINDOW_BYTES = 1024 * 1024
"""How far the source may be ahead of the slowest reader of what is not kept."""
LAG_BYTES = 16 * 1024 * 1024
"""How far a reader of what is not kept may be behind the fastest one, where it may be outrun. Even clients
that are equally fast are apart by what the kernel holds for each."""
NOBODY_SECONDS = 5.0
"""How long the source waits for a reader."""


@dataclass(slots=True)
class Budget:
    """The bytes that all buffers of a process may keep together."""

    left: int

    def take(self, size: int) -> bool:
        """Whether so much is left, which then is taken."""
        if size > self.left:
            return False
        self.left -= size
        return True


class Outrun(RestLost):  # says what is the case
    """Others who read the same have gone too far ahead; what this reader would need next is dropped."""


class Parts(Protocol):
    """Content to iterate over. Whoever gets it closes it, also when nothing of it was read."""

    def __aiter__(self) -> AsyncIterator[bytes]: ...
    def aclose(self) -> Awaitable[object]: ...


class Reader:
    """One client's place in the content, which its end, a failure or `leave` gives back.

    No generator: one that is closed before its first step does nothing, and so would hold its place for ever.
    """

    __slots__ = ("_buffer", "is_outrun", "next", "read_bytes")

    def __init__(self, buffer: Buffer) -> None:
        self._buffer = buffer
        self.next = 0
        """The number of its next part."""
        self.read_bytes = 0
        self.is_outrun = False

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        """The next part.

        Raises:
            OriginError: the content will not come to its end.
        """
        part = None
        try:
            part = await self._buffer.part(self)
        finally:
            if part is None:
                self.leave()
        if part is None:
            raise StopAsyncIteration
        return part

    def leave(self) -> None:
        self._buffer.leave(self)

    async def aclose(self) -> None:
        self.leave()


class Buffer:  # pylint: disable=too-many-instance-attributes
    """The parts that some reader may still need.

    A buffer that keeps everything lets each reader take its time, and latecomers find the beginning. When the
    budget is used up, or keeping is pointless, it goes on as a window; once that has moved, there is no place
    for a latecomer any more. The window moves with the slowest reader; or, where readers can do without this
    buffer (`may_outrun`), with the fastest, and whoever falls too far behind loses its place. Without
    readers it moves on as long as the content is stored, too.
    """

    def __init__(
        self,
        budget: Budget,
        *,
        keeps: bool,
        deserted: Callable[[], None] = lambda: None,
        may_outrun: bool = False,
    ) -> None:
        self._budget = budget
        self._keeps = self._is_stored = keeps
        self._may_outrun = may_outrun
        self._deserted = deserted
        """Called whenever the last reader has left."""
        self._kept_bytes = 0
        self._parts: list[bytes] = []
        self._first = 0
        self._held_bytes = 0
        self._added_bytes = 0
        self._readers: set[Reader] = set()
        self._has_ended = False
        self._error: OriginError | None = None
        self._waiters: list[asyncio.Future[None]] = []

    # ---- readers

    @property
    def is_whole(self) -> bool:
        """Whether a new reader would find the beginning, and may hope for the end."""
        return self._first == 0 and self._error is None

    @property
    def is_read(self) -> bool:
        """Whether there is a reader."""
        return bool(self._readers)

    def reader(self) -> Reader | None:
        """A place at the beginning; None when that has been dropped."""
        if self._first:
            return None
        reader = Reader(self)
        self._readers.add(reader)
        self._wake()
        return reader

    async def part(self, reader: Reader) -> bytes | None:
        """The reader's next part, or None at the end.

        Raises:
            Outrun: the reader has lost its place.
        """
        if reader.is_outrun:
            raise Outrun("The others who share this answer are too far ahead.")
        while reader.next == self._first + len(self._parts):
            if self._error is not None:
                raise self._error
            if self._has_ended:
                return None
            await self.change()
        part = self._parts[reader.next - self._first]
        reader.next += 1
        reader.read_bytes += len(part)
        self._forget()
        if self._may_outrun and not self._keeps:
            self._wake()
        return part

    def leave(self, reader: Reader) -> None:
        """Whoever took a place gives it back."""
        if reader not in self._readers:
            return
        self._readers.remove(reader)
        self._forget()
        self._give_back_all()
        self._wake()
        if not self._readers:
            self._deserted()

    # ---- the source

    def add(self, part: bytes) -> None:
        """The next part."""
        self._parts.append(part)
        self._held_bytes += len(part)
        self._added_bytes += len(part)
        if self._keeps:
            if self._budget.take(len(part)):
                self._kept_bytes += len(part)
            else:
                self._keeps = False
                self._forget()
        elif self._may_outrun:
            self._leave_behind()
        self._wake()

    def _leave_behind(self) -> None:
        """Take their place from those who are too far behind the fastest."""
        far = max((reader.read_bytes for reader in self._readers), default=0) - LAG_BYTES
        for reader in [reader for reader in self._readers if reader.read_bytes < far]:
            reader.is_outrun = True
            self._readers.remove(reader)
        self._forget()

    def keep_no_more(self) -> None:
        """Go on as a window, and for the readers alone."""
        self._keeps = self._is_stored = False
        self._forget()

    def end(self, error: OriginError | None = None) -> None:
        """There is no more: all is there, or it broke off."""
        self._has_ended = True
        self._error = error
        self._give_back_all()
        self._wake()

    async def room(self) -> None:
        """Wait until the reader that sets the pace is near enough.

        Raises:
            OriginError: there is none, and none comes; nor is the content stored.
        """
        while not self._keeps and self._ahead_bytes() > WINDOW_BYTES:
            if self._is_stored and not self._readers:
                self._drop(len(self._parts))
                return
            try:
                async with asyncio.timeout(None if self._readers else NOBODY_SECONDS):
                    await self.change()
            except TimeoutError:
                raise OriginError("Nobody reads any more.") from None

    def _ahead_bytes(self) -> int:
        """How far the source is ahead of the reader that sets the pace."""
        if self._may_outrun and self._readers:
            return self._added_bytes - max(reader.read_bytes for reader in self._readers)
        return self._held_bytes

    async def begun(self) -> None:
        """Wait for the first part, or for an end without any.

        Raises:
            OriginError: it broke off before its first part.
        """
        while not (self._parts or self._first or self._has_ended):
            await self.change()
        if self._error is not None and not (self._parts or self._first):
            raise self._error

    # ---- both

    async def change(self) -> None:
        """Wait until something happens here."""
        future = asyncio.get_running_loop().create_future()
        self._waiters.append(future)
        await future

    def _wake(self) -> None:
        waiters, self._waiters = self._waiters, []
        for future in waiters:
            if not future.done():
                future.set_result(None)

    def _forget(self) -> None:
        """Drop what everybody has read."""
        if self._keeps or not self._readers:
            return
        count = min(reader.next for reader in self._readers) - self._first
        if count > 0:
            self._drop(count)
            self._wake()

    def _drop(self, count: int) -> None:
        size = sum(map(len, self._parts[:count]))
        del self._parts[:count]
        self._first += count
        self._held_bytes -= size
        self._give_back(min(size, self._kept_bytes))

    def _give_back_all(self) -> None:
        """When the last reader has left, nothing holds the parts any more."""
        if self._has_ended and not self._readers:
            self._give_back(self._kept_bytes)

    def _give_back(self, size: int) -> None:
        self._budget.left += size
        self._kept_bytes -= size
