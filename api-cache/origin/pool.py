"""Connections to the origin: new ones to any of its addresses, and those that are idle."""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import time
from collections import deque
from dataclasses import dataclass, field

from .channel import Channel
from .errors import OriginAway, OriginTimeout

IDLE_SECONDS = 30.0
"""How long an unused connection is kept: gunicorn and most others would keep it longer."""
MAX_IDLE = 64


@dataclass(slots=True)
class Pool:
    """The connections to one host and port. `connect_timeout` is in seconds."""

    host: str
    port: int
    connect_timeout: float
    _idle: deque[Channel] = field(default_factory=deque, init=False)

    async def connect(self) -> Channel:
        """To the first address that accepts; each has its share of the time, for one of them may be dead."""
        try:
            async with asyncio.timeout(self.connect_timeout):
                *others, last = await self._addresses()
                for address in others:
                    with contextlib.suppress(OSError):  # TimeoutError is one
                        return await asyncio.wait_for(
                            self._connect_to(address), self.connect_timeout / (len(others) + 1)
                        )
                return await self._connect_to(last)
        except TimeoutError:
            raise OriginTimeout(
                f"No connection to the origin within {self.connect_timeout:g} seconds."
            ) from None
        except OSError:
            raise OriginAway("The origin cannot be reached.") from None

    async def _addresses(self) -> list[str]:
        """One for each replica, in a random order: a resolver would put the same one first for ever."""
        loop = asyncio.get_running_loop()
        found = await loop.getaddrinfo(self.host, self.port, type=socket.SOCK_STREAM)
        addresses = [str(sockaddr[0]) for *_, sockaddr in found]
        return random.sample(addresses, len(addresses))

    async def _connect_to(self, address: str) -> Channel:
        loop = asyncio.get_running_loop()
        _, channel = await loop.create_connection(lambda: Channel(self._forget), address, self.port)
        return channel

    def take(self) -> Channel | None:
        """One that is idle and seems to be alive."""
        self._close_old()
        while self._idle:
            channel = self._idle.pop()
            if channel.usable:
                return channel
        return None

    def put(self, channel: Channel) -> None:
        """Give back one on which nothing is under way."""
        if len(self._idle) >= MAX_IDLE or not channel.usable:
            channel.close()
            return
        channel.idle_since = time.monotonic()
        channel.resume()
        self._idle.append(channel)
        self._close_old()

    def _close_old(self) -> None:
        """The newest are taken, so the oldest may have been idle for long."""
        oldest = time.monotonic() - IDLE_SECONDS
        while self._idle and self._idle[0].idle_since < oldest:
            self._idle.popleft().close()

    def _forget(self, channel: Channel) -> None:
        with contextlib.suppress(ValueError):
            self._idle.remove(channel)

    def close(self) -> None:
        while self._idle:
            self._idle.pop().close()
