"""All connections of a process: how they begin, how long they may idle, and how they end with it."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import TYPE_CHECKING

from .connection import Connection
from .remembered import Remembered

if TYPE_CHECKING:
    from .application import Application

DRAIN_SECONDS = 30.0
"""How long answers under way may take after SIGTERM."""
SECONDS_BETWEEN_LOOKS = 0.02
LINGER_SECONDS = 2.0
"""How long after SIGTERM an idle client may ask once more."""


class Clients:
    """The connections that are open."""

    def __init__(self, app: Application) -> None:
        self._app = app
        self._open: set[Connection] = set()
        self._remembered = Remembered()

    def connect(self) -> Connection:
        """The protocol of a new connection."""
        return Connection(self._app, self._open, self._remembered)

    def expire(self) -> None:
        """Cut off whoever is too slow; called from time to time."""
        for connection in tuple(self._open):
            connection.expire(time.monotonic())

    async def drain(self) -> None:
        """Let each client have the answer that is under way, or its next one, and nothing more."""
        self._remembered.clear()  # those would be answered like before, as if others were to follow
        over = time.monotonic() + LINGER_SECONDS
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(DRAIN_SECONDS):
                # No event tells what clients have taken.
                while self._undrained(time.monotonic(), over):  # noqa: ASYNC110
                    await asyncio.sleep(SECONDS_BETWEEN_LOOKS)

    def _undrained(self, now: float, over: float) -> list[Connection]:
        return [each for each in tuple(self._open) if not each.drain(now, is_over=now >= over)]
