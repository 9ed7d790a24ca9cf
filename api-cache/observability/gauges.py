"""What a worker holds, noted from time to time."""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from store.breaker import StoreUnavailable

if TYPE_CHECKING:
    from store.memory import Memory
    from store.shared import Store

    from .counters import Counters

_SECONDS_BETWEEN_LOOKS = 0.25
_SECONDS_BETWEEN_QUESTIONS = 5.0
"""To Redis, how much it holds."""


@dataclass(slots=True)
class Gauges:
    """Those of both levels of the store."""

    counters: Counters
    store: Store
    memory: Memory

    async def follow(self) -> None:
        """Keep them up to date, until cancelled."""
        asked = -math.inf
        while True:
            self._look()
            if time.monotonic() - asked >= _SECONDS_BETWEEN_QUESTIONS:
                asked = time.monotonic()
                await self._ask_redis()
            await asyncio.sleep(_SECONDS_BETWEEN_LOOKS)

    def _look(self) -> None:
        self.counters.set("level_bytes memory", self.memory.size)
        self.counters.set("level_entries memory", len(self.memory))
        self.counters.set("breaker_open", float(self.store.breaker.has_failed))
        self.counters.set("memory_usable", float(time.monotonic() < self.memory.usable_until))

    async def _ask_redis(self) -> None:
        with contextlib.suppress(StoreUnavailable):
            size, entries = await self.store.usage()
            self.counters.see("level_bytes redis", size)
            self.counters.see("level_entries redis", entries)
