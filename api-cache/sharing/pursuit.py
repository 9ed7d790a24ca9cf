"""Content for one client, whose rest may come from elsewhere than its beginning."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

from origin.errors import OriginBroken, RestLost

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from .buffer import Parts


class Pursuit:
    """Some content; should its rest be lost where the beginning came from, it is looked for elsewhere, once.

    `again` finds the very same content once more, from its beginning.
    """

    def __init__(self, content: Parts, again: Callable[[], Awaitable[Parts]]) -> None:
        self._content = content
        self._again = again
        self._is_again = False
        self._had_bytes = 0

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        try:
            part = await anext(aiter(self._content))
        except RestLost:
            if self._is_again:
                raise
            part = await self._go_on()
        self._had_bytes += len(part)
        return part

    async def _go_on(self) -> bytes:
        """The first part of the rest."""
        self._content, self._is_again = await self._again(), True
        passed_bytes = 0
        async for part in self._content:
            passed_bytes += len(part)
            if passed_bytes > self._had_bytes:
                return part[self._had_bytes - passed_bytes :]
        raise OriginBroken("The content is shorter than it was.")

    async def aclose(self) -> None:
        await self._content.aclose()
