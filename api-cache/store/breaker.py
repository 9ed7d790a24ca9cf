"""How long Redis is waited for, and for how long it is left alone when that was in vain."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable

OPERATION_SECONDS = 0.1
BREAKER_SECONDS = 1.0
_STEPS = 5


class StoreUnavailable(Exception):  # says what is the case
    """Redis did not answer in time, or is left alone because it did not lately."""


@dataclass(slots=True)
class Breaker:
    """After a failure nobody tries again for `BREAKER_SECONDS`, then one does."""

    clock: Callable[[], float]
    open_until: float = 0.0

    @property
    def is_open(self) -> bool:
        return self.clock() < self.open_until

    @property
    def has_failed(self) -> bool:
        """Whether nobody has succeeded since the last failure."""
        return self.open_until > 0

    def failed(self) -> None:
        self.open_until = self.clock() + BREAKER_SECONDS

    def probing(self) -> None:
        """One goes ahead; the others stay away until it has returned."""
        if self.open_until:
            self.open_until = self.clock() + 2 * OPERATION_SECONDS

    def succeeded(self) -> None:
        self.open_until = 0.0


class Deadline:
    """Calls `late` after `OPERATION_SECONDS`, unless it has ended; and not when that is our own fault.

    The time goes by in steps. libuv looks at timers before sockets, so in a loop that is late a single timer
    would ring before the answer that has long arrived is read; a late step counts no more than any other.
    """

    __slots__ = ("_handle", "_late", "_left", "_loop")

    def __init__(self, late: Callable[[], None]) -> None:
        self._late = late
        self._left = _STEPS
        self._loop = asyncio.get_running_loop()
        self._handle = self._next()

    def _next(self) -> asyncio.TimerHandle:
        return self._loop.call_later(OPERATION_SECONDS / _STEPS, self._step)

    def _step(self) -> None:
        self._left -= 1
        if self._left:
            self._handle = self._next()
        else:
            self._late()

    def end(self) -> None:
        self._handle.cancel()


@contextlib.asynccontextmanager
async def in_time() -> AsyncGenerator[None]:
    """What must not take longer than a Deadline; TimeoutError if it does."""
    async with asyncio.timeout(None) as timeout:
        loop = asyncio.get_running_loop()
        deadline = Deadline(lambda: timeout.reschedule(loop.time()))
        try:
            yield
        finally:
            deadline.end()
