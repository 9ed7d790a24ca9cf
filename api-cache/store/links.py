"""Connections to Redis, a few for all operations, each for one operation at a time.

redis-py makes the connections. Its client on top of them, with retries, hooks and pipelines, would take five
times the processor time of the operation itself.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

import hiredis
from redis import RedisError
from redis.asyncio.connection import AbstractConnection, Connection, SSLConnection
from redis.exceptions import BusyLoadingError, InvalidResponse, ResponseError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from config import Config

    Argument = str | bytes | int | float

MAX_LINKS = 128
FAILURES = (RedisError, OSError, TimeoutError, ValueError, TypeError, AttributeError, LookupError)
"""What redis-py raises when something else than Redis answers on its port: it trusts types where it looks."""


def way_to_redis(config: Config) -> dict[str, Any]:
    """How redis-py reaches Redis: where, as whom, and through TLS that is always verified."""
    to = {
        "host": config.redis_host,
        "port": config.redis_port,
        "username": config.redis_user,
        "password": config.redis_password,
    }
    if not config.redis_tls:
        return to
    authority = {"ssl_ca_certs": config.redis_tls_ca} if config.redis_tls_ca else {}
    verified = {"ssl_cert_reqs": "required", "ssl_check_hostname": True, **authority}
    return {**to, "connection_class": SSLConnection, **verified}


class Link(asyncio.Protocol):
    """One connection, which redis-py has made, for one operation at a time.

    It would read through an asyncio stream, and a task woken for each part, which takes twice as long.
    """

    def __init__(self, connection: AbstractConnection) -> None:
        made: Any = connection
        self._connection = connection
        self._transport: asyncio.Transport = made._writer.transport  # pylint: disable=protected-access
        self._transport.set_protocol(self)
        self._reader = hiredis.Reader(replyError=_error)
        self._replies: list[Any] = []
        self._wanted = 0
        self._answered: asyncio.Future[list[Any]] | None = None
        self.is_lost = False

    async def ask(self, packed: bytes, number: int) -> list[Any]:
        """The replies to so many commands, among them errors."""
        self._replies, self._wanted = [], number
        self._answered = asyncio.get_running_loop().create_future()
        self._transport.write(packed)
        return await self._answered

    def data_received(self, data: bytes) -> None:
        self._reader.feed(data)
        try:
            while (reply := self._reader.gets()) is not False:
                self._replies.append(reply)
        except hiredis.HiredisError as error:
            self._fail(InvalidResponse(str(error)))
        if len(self._replies) >= self._wanted and self._answered is not None and not self._answered.done():
            self._answered.set_result(self._replies)

    def connection_lost(self, exc: Exception | None) -> None:
        self.is_lost = True
        self._fail(exc or ConnectionError("Redis has ended the connection."))

    def _fail(self, error: Exception) -> None:
        if self._answered is not None and not self._answered.done():
            self._answered.set_exception(error)

    async def end(self) -> None:
        await _end(self._connection)


class Links:
    """`way` is what a redis-py connection takes, and the class of the connection if it is another one."""

    def __init__(self, way: Mapping[str, Any]) -> None:
        options = dict(way)
        self._class: type[AbstractConnection] = options.pop("connection_class", Connection)
        self._options = options
        self._idle: list[Link] = []
        self._free = asyncio.Semaphore(MAX_LINKS)

    def make(self) -> AbstractConnection:
        """A connection, not yet connected, that is the caller's own."""
        return self._class(
            **self._options,
            socket_timeout=None,  # who waits decides for how long
            socket_connect_timeout=None,
            retry=None,
            protocol=3,
            driver_info=None,
            maint_notifications_config=None,
        )

    async def run(self, *commands: tuple[Argument, ...]) -> list[Any]:
        """The replies to commands that are sent together.

        Raises:
            ResponseError: Redis refused one of them.
            RedisError, OSError: it did not answer.
        """
        # What redis-py does itself, with hiredis at hand, takes five times as long.
        packed = b"".join(hiredis.pack_command(command) for command in commands)  # type: ignore[arg-type]
        async with self._free:
            link = self._take() or await self._connected()
            try:
                replies = await link.ask(packed, len(commands))
            except BaseException:
                # What is still to come on it would be taken for the reply to another command.
                await link.end()
                raise
            self._idle.append(link)
        for reply in replies:
            for each in reply if isinstance(reply, list) else (reply,):  # a list may be that of EXEC
                if isinstance(each, RedisError):
                    raise each
        return replies

    def _take(self) -> Link | None:
        while self._idle:
            link = self._idle.pop()
            if not link.is_lost:
                return link
        return None

    async def _connected(self) -> Link:
        connection = self.make()
        try:
            await connection.connect()  # type: ignore[no-untyped-call]
            return Link(connection)
        except BaseException:
            await _end(connection)
            raise

    async def close(self) -> None:
        """End those that are idle; after a failure they are likely dead, too."""
        while self._idle:
            await self._idle.pop().end()


def _error(text: str) -> RedisError:
    """What Redis says while it cannot answer at all is none of what it says of a command."""
    return BusyLoadingError(text) if text.startswith("LOADING ") else ResponseError(text)


async def _end(connection: AbstractConnection) -> None:
    with contextlib.suppress(RedisError, OSError):
        await connection.disconnect(nowait=True)
