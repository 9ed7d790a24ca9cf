"""Tells of every change of an entry in Redis, by whomever it was made (client tracking).

While the connection lives, changes arrive in order and before the answer to any later PING; so that answer
vouches for everything up to the moment the PING was sent.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import hiredis
from redis import RedisError

from . import layout
from .links import FAILURES

if TYPE_CHECKING:
    from collections.abc import Callable

    from redis.asyncio.connection import AbstractConnection

LEASE_SECONDS = 0.09
"""For how long a PING's answer vouches."""
_PING = hiredis.pack_command(("PING",))
_PING_SECONDS = 0.04
_SILENCE_SECONDS = 1.0


class Events(Protocol):
    """Whom the watch tells, of each target by its key."""

    def changed(self, key: str) -> None: ...
    def clear(self) -> None: ...
    def vouch(self, until: float) -> None: ...


@dataclass(slots=True)
class Watch:
    """One connection at a time. `is_settled`: Redis has heard of all that we have changed."""

    connect: Callable[[], AbstractConnection]
    is_settled: Callable[[], bool]
    events: Events
    invalidated: Callable[[str], None]
    """Told, too, of a target that did not just change: what was asked for before is outdated."""
    _pinged: deque[float] = field(default_factory=deque)
    """When the PINGs went out that are not answered yet."""

    async def run(self) -> None:
        """Watch until cancelled; a connection that breaks is made anew."""
        while True:
            connection = self.connect()
            with contextlib.suppress(*FAILURES):
                await self._follow(connection)
            self.events.vouch(-math.inf)
            self.events.clear()
            with contextlib.suppress(RedisError, OSError):
                await connection.disconnect(nowait=True)
            await asyncio.sleep(LEASE_SECONDS)

    async def _follow(self, connection: AbstractConnection) -> None:
        await _subscribe(connection)
        self.events.clear()  # nobody told us of the changes until now
        self._pinged.clear()
        pinging = asyncio.create_task(self._ping(connection))
        try:
            while True:
                async with asyncio.timeout(_SILENCE_SECONDS):
                    message = await connection.read_response(timeout=math.inf, push_request=True)
                self._take(message)
        finally:
            pinging.cancel()
            await asyncio.wait((pinging,))

    async def _ping(self, connection: AbstractConnection) -> None:
        with contextlib.suppress(RedisError, OSError):
            while True:
                self._pinged.append(time.monotonic())
                await connection.send_packed_command(_PING, check_health=False)
                await asyncio.sleep(_PING_SECONDS)

    def _take(self, message: object) -> None:
        if isinstance(message, list):
            self._tell(message)
        elif message != b"PONG":
            raise ValueError("not an answer to PING")
        else:
            since = self._pinged.popleft()
            if self.is_settled():
                self.events.vouch(since + LEASE_SECONDS)

    def _tell(self, message: list[Any]) -> None:
        """An invalidation names the keys that changed, or none when all are gone."""
        kind, names = message[0], message[1]
        if kind != b"invalidate":
            return
        if names is None:
            self.events.clear()
        for name in map(bytes.decode, names or ()):
            key = layout.key_of(name)
            self.events.changed(key)
            if layout.is_generation(name):
                self.invalidated(key)


async def _subscribe(connection: AbstractConnection) -> None:
    async with asyncio.timeout(_SILENCE_SECONDS):
        await connection.connect()  # type: ignore[no-untyped-call]
        await connection.send_command("CLIENT", "TRACKING", "ON", "BCAST", "PREFIX", layout.INDEX)
        await connection.read_response()
    parser: Any = connection._parser  # pylint: disable=protected-access
    parser.set_invalidation_push_handler(_as_it_is)  # else redis-py swallows them


async def _as_it_is(push: list[Any]) -> list[Any]:
    return push
