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
LINGER_SECONDS = 0.2
"""Between the last accepted connection and the end of idle ones, so that requests under way on them are
answered."""


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
        """Let each client have the answer that is under way, and nothing more."""
        await asyncio.sleep(LINGER_SECONDS)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(DRAIN_SECONDS):
                # No event tells what clients have taken.
                while [each for each in tuple(self._open) if not each.drain(time.monotonic())]:  # noqa: ASYNC110
                    await asyncio.sleep(SECONDS_BETWEEN_LOOKS)
