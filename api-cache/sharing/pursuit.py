"""Shared content for one client, who need not keep pace with the others."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

from origin.errors import OriginBroken

from .buffer import Outrun

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from .buffer import Parts, Reader


class Pursuit:
    """A reader's content; should the others leave it behind, the rest comes from elsewhere.

    `again` finds the very same content once more, from its beginning.
    """

    def __init__(self, place: Reader, again: Callable[[], Awaitable[Parts]]) -> None:
        self._place = place
        self._again = again
        self._rest: Parts | None = None

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        if self._rest is not None:
            return await anext(aiter(self._rest))
        try:
            return await anext(self._place)
        except Outrun:
            return await self._after(self._place.read_bytes)

    async def _after(self, had_bytes: int) -> bytes:
        self._rest = await self._again()
        async for part in self._rest:
            if len(part) > had_bytes:
                return part[had_bytes:]
            had_bytes -= len(part)
        raise OriginBroken("The content is shorter than it was.")

    def leave(self) -> None:
        """Give the place back, when nothing of the content is wanted."""
        self._place.leave()

    async def aclose(self) -> None:
        self.leave()
        if self._rest is not None:
            await self._rest.aclose()
