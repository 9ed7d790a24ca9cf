"""One connection to the origin, used for one exchange at a time."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, cast

from .errors import OriginUnreachable

if TYPE_CHECKING:
    from collections.abc import Callable

    from .answer import Answer


class Channel(asyncio.Protocol):
    """Carries the bytes of one exchange after the other; `closed` is told of its end."""

    def __init__(self, closed: Callable[[Channel], None]) -> None:
        self._closed = closed
        self._transport: asyncio.Transport | None = None
        self._exchange: Answer | None = None
        self._writable = asyncio.Event()
        self._writable.set()
        self.idle_since = 0.0

    # ---- asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        if self._exchange is None:
            self.close()  # nobody asked: whatever comes next could be taken for another request's answer
        else:
            self._exchange.feed(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._writable.set()
        self._closed(self)
        if self._exchange is not None:
            self._exchange.eof(in_order=exc is None)

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    # ---- for Answer and Origin

    @property
    def usable(self) -> bool:
        return self._transport is not None and not self._transport.is_closing()

    def begin(self, exchange: Answer) -> None:
        self._exchange = exchange

    def end(self) -> None:
        self._exchange = None

    async def write(self, data: bytes) -> None:
        if self._transport is None:
            raise OriginUnreachable("The origin closed the connection.")
        self._transport.write(data)
        await self._writable.wait()

    def pause(self) -> None:
        if self.usable and self._transport is not None:
            self._transport.pause_reading()

    def resume(self) -> None:
        if self.usable and self._transport is not None:
            self._transport.resume_reading()

    def close(self) -> None:
        if self._transport is not None:
            self._transport.abort()
