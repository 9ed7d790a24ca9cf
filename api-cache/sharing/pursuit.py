"""Shared content for one client, who need not keep pace with the others."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

from origin.errors import OriginBroken

from .buffer import Outrun

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from .buffer import Reader


class Pursuit:
    """A reader's content; should the others leave it behind, the rest comes out of an answer of its own.

    `again` asks for that answer, whose content has to be the very same.
    """

    def __init__(self, place: Reader, again: Callable[[], Awaitable[Reader]]) -> None:
        self._place = place
        self._again = again

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        try:
            return await anext(self._place)
        except Outrun:
            return await self._after(self._place.read_bytes)

    async def _after(self, had_bytes: int) -> bytes:
        self._place = await self._again()
        async for part in self._place:
            if self._place.read_bytes > had_bytes:
                return part[had_bytes - self._place.read_bytes :]
        raise OriginBroken("The content is shorter than it was.")

    def leave(self) -> None:
        self._place.leave()

    async def aclose(self) -> None:
        self.leave()
