"""Connections to Redis, a few for all operations, each for one operation at a time.

redis-py makes the connections and speaks the protocol. Its client on top of them, with retries, hooks and
pipelines, would take five times the processor time of the operation itself.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

import hiredis
from redis import RedisError
from redis.asyncio.connection import AbstractConnection, Connection, SSLConnection
from redis.exceptions import ResponseError

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


class Links:
    """`way` is what a redis-py connection takes, and the class of the connection if it is another one."""

    def __init__(self, way: Mapping[str, Any]) -> None:
        options = dict(way)
        self._class: type[AbstractConnection] = options.pop("connection_class", Connection)
        self._options = options
        self._idle: list[AbstractConnection] = []
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
        async with self._free:
            link = self._idle.pop() if self._idle else self.make()
            try:
                if not link.is_connected:
                    await link.connect()  # type: ignore[no-untyped-call]
                # What redis-py does itself, with hiredis at hand, takes five times as long.
                packed = b"".join(hiredis.pack_command(command) for command in commands)  # type: ignore[arg-type]
                await link.send_packed_command(packed, check_health=False)
                replies = [await _reply(link) for _ in commands]
            except BaseException:
                # What is still to come on it would be taken for the reply to another command.
                await _end(link)
                raise
            self._idle.append(link)
        for reply in replies:
            for each in reply if isinstance(reply, list) else (reply,):  # a list may be that of EXEC
                if isinstance(each, ResponseError):
                    raise each
        return replies

    async def close(self) -> None:
        """End those that are idle; after a failure they are likely dead, too."""
        while self._idle:
            await _end(self._idle.pop())


async def _reply(link: AbstractConnection) -> Any:
    try:
        return await link.read_response(disconnect_on_error=False)
    except ResponseError as error:
        return error


async def _end(link: AbstractConnection) -> None:
    with contextlib.suppress(RedisError, OSError):
        await link.disconnect(nowait=True)
