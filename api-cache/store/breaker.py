"""How long Redis is waited for, and for how long it is left alone when that was in vain."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

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

    def failed(self) -> None:
        self.open_until = self.clock() + BREAKER_SECONDS

    def probing(self) -> None:
        """One goes ahead; the others stay away until it has returned."""
        if self.open_until:
            self.open_until = self.clock() + 2 * OPERATION_SECONDS

    def succeeded(self) -> None:
        self.open_until = 0.0


class Deadline:
    """Ends what takes longer than `OPERATION_SECONDS`, when that is Redis's fault.

    The time goes by in steps. libuv looks at timers before sockets, so in a loop that is late a single timer
    would ring before the answer that has long arrived is read; a late step counts no more than any other.
    """

    __slots__ = ("_handle", "_left", "_timeout")

    def __init__(self) -> None:
        self._timeout = asyncio.timeout(None)
        self._left = _STEPS
        self._handle: asyncio.TimerHandle | None = None

    async def __aenter__(self) -> None:
        await self._timeout.__aenter__()
        self._step()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._handle is not None:
            self._handle.cancel()
        await self._timeout.__aexit__(kind, error, trace)

    def _step(self) -> None:
        loop = asyncio.get_running_loop()
        if self._left:
            self._left -= 1
            self._handle = loop.call_later(OPERATION_SECONDS / _STEPS, self._step)
        else:
            self._timeout.reschedule(loop.time())
