"""Exchanges with the origin, timed and counted; they tell whether the origin is well."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from httpcache.messages import Exchange

from .errors import ContentLost, OriginAway, OriginError, OriginTimeout

if TYPE_CHECKING:
    from collections.abc import Callable

    from httpcache.messages import Request
    from observability.counters import Counters

    from .answer import Answer
    from .client import Content, Origin

FAILING_SECONDS = 1.0
"""How often an origin that failed is asked again while stale entries serve."""


@dataclass(slots=True)
class Exchanges:
    """All exchanges of a process. `clock` is in seconds since the epoch."""

    origin: Origin
    counters: Counters
    clock: Callable[[], float]
    _failing_until: float = 0.0
    """0 while the origin is well; else when the background may ask it again."""
    _answered_at: float = 0.0

    async def send(self, request: Request, content: Content | None = None) -> tuple[Exchange, Answer]:
        """Ask the origin. The caller closes the answer.

        Raises:
            OriginError: there is none.
        """
        asked = self.clock()
        try:
            answer = await self.origin.send(request, content)
        except OriginError as error:
            self._count(error)
            self._note_failure(error, asked)
            raise
        self.counters.add(f"origin_requests {answer.response.status // 100}xx")
        # An error that it states is about one resource, and costs no waiting: others are still asked for.
        self._failing_until = 0.0
        self._answered_at = self.clock()
        answer.broke_off = self._count
        return Exchange(request, answer.response, asked, self._answered_at), answer

    def _count(self, error: OriginError) -> None:
        if not isinstance(error, ContentLost):
            self.counters.add(f"origin_errors {error.kind}")

    def _note_failure(self, error: OriginError, asked: float) -> None:
        """Take the origin for failing when nobody can reach it, or nobody got an answer for a whole timeout.

        Whatever else goes wrong may be the fault of one resource.
        """
        is_silent = isinstance(error, OriginTimeout) and self._answered_at < asked
        if isinstance(error, OriginAway) or is_silent:
            self._failing_until = time.monotonic() + FAILING_SECONDS

    @property
    def is_failing(self) -> bool:
        return self._failing_until > 0.0

    def may_try(self) -> bool:
        """Whether the background may ask; while the origin fails, once in FAILING_SECONDS."""
        now = time.monotonic()
        if now < self._failing_until:
            return False
        if self.is_failing:
            self._failing_until = now + FAILING_SECONDS
        return True
