"""Connections to Redis, a few for all operations, each for one operation at a time.

redis-py makes the connections. Its client on top of them, with retries, hooks and pipelines, would take five
times the processor time of the operation itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
from typing import TYPE_CHECKING, Any

import hiredis
from redis import RedisError
from redis.asyncio.connection import AbstractConnection, Connection, SSLConnection
from redis.exceptions import BusyLoadingError, InvalidResponse, ResponseError

from .breaker import Deadline

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from config import Config

    Argument = str | bytes | int | float
    Command = tuple[Argument, ...]
    Outcome = list[Any] | Exception
    """The replies, or what went wrong."""
    Done = Callable[[Outcome], None]

MAX_RUNNING = 128
MAX_LOOKING = 32
"""So many operations are under way at a time, at most, that tasks wait for, and that call back. There are no
more connections than these together, for a new one is made only where none is idle."""
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
        self._writer: asyncio.StreamWriter = made._writer  # pylint: disable=protected-access
        """Kept, for it would end the connection when it goes."""
        made._writer = made._reader = None  # pylint: disable=protected-access  # it is ours from now on
        self._transport = self._writer.transport
        self._transport.set_protocol(self)
        self._reader = hiredis.Reader(replyError=self._note)
        self._replies: list[Any] = []
        self._refusal: RedisError | None = None
        """The first error among the replies, or within one of them."""
        self._wanted = 0
        self._done: Done | None = None
        self.is_lost = False

    def begin(self, packed: bytes, number: int, done: Done) -> None:
        """Send so many commands, and have `done` called with their replies, or with what went wrong."""
        self._wanted, self._done = number, done
        self._transport.write(packed)

    def data_received(self, data: bytes) -> None:
        self._reader.feed(data)
        try:
            while (reply := self._reader.gets()) is not False:
                self._replies.append(reply)
        except (hiredis.HiredisError, TypeError, ValueError) as error:  # such as a map with a list for a key
            self.finish(InvalidResponse(str(error)))
        missing = self._wanted - len(self._replies)
        if missing < 0 or self._done is None or (not missing and self._reader.has_data()):
            self._transport.close()
            self.connection_lost(InvalidResponse("More replies than commands."))
        elif not missing:
            self.finish(self._refusal or self._replies)

    def _note(self, text: str) -> RedisError:
        # What Redis says while it cannot answer at all is none of what it says of a command.
        error = BusyLoadingError(text) if text.startswith("LOADING ") else ResponseError(text)
        self._refusal = self._refusal or error
        return error

    def connection_lost(self, exc: Exception | None) -> None:
        self.is_lost = True
        self.finish(exc or ConnectionError("Redis has ended the connection."))

    def finish(self, outcome: Outcome) -> None:
        """Tell what came of the operation under way, if there is one."""
        done, self._done, self._replies, self._refusal = self._done, None, [], None
        if done is not None:
            done(outcome)

    def end(self) -> None:
        """What is still to come on it would be taken for the reply to another command."""
        self._done = None
        self._transport.close()


class Links:
    """`way` is what a redis-py connection takes, and the class of the connection if it is another one."""

    def __init__(self, way: Mapping[str, Any]) -> None:
        options = dict(way)
        self._class: type[AbstractConnection] = options.pop("connection_class", Connection)
        self._options = options
        self._idle: list[Link] = []
        self._free = asyncio.Semaphore(MAX_RUNNING)
        self._looking = 0

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

    async def run(self, *commands: Command) -> list[Any]:
        """The replies to commands that are sent together.

        Raises:
            ResponseError: Redis refused one of them.
            RedisError, OSError: it did not answer.
        """
        packed = _packed(commands)
        answered: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        async with self._free:
            link = self._take() or await self._connected()
            link.begin(packed, len(commands), functools.partial(_settle, answered))
            try:
                outcome = await answered
            except asyncio.CancelledError:
                link.end()
                raise
            self._release(link, outcome)
        try:
            if isinstance(outcome, Exception):
                raise outcome
            return outcome
        finally:
            del outcome, packed  # else the error's traceback would hold them, and itself

    def begin(self, commands: Sequence[Command], done: Done) -> bool:
        """The same for who has no task, and is called back, in time. False where no connection is idle."""
        link = self._take() if self._looking < MAX_LOOKING else None
        if link is None:
            return False
        self._looking += 1

        def finished(outcome: Outcome) -> None:
            self._looking -= 1
            deadline.end()
            self._release(link, outcome)
            done(outcome)

        link.begin(_packed(commands), len(commands), finished)
        deadline = Deadline(lambda: link.finish(TimeoutError()))  # which is made while Redis is at work
        return True

    def _release(self, link: Link, outcome: Outcome) -> None:
        """Keep the link for another operation, if it is good for one."""
        if isinstance(outcome, list | ResponseError):
            self._idle.append(link)
        else:
            link.end()

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
            with contextlib.suppress(RedisError, OSError):
                await connection.disconnect(nowait=True)
            raise

    def close(self) -> None:
        """End those that are idle; after a failure they are likely dead, too."""
        while self._idle:
            self._idle.pop().end()


def _settle(answered: asyncio.Future[Outcome], outcome: Outcome) -> None:
    if not answered.done():  # nobody waits any more
        answered.set_result(outcome)


def _packed(commands: Sequence[Command]) -> bytes:
    # What redis-py does itself, with hiredis at hand, takes five times as long.
    return b"".join(map(hiredis.pack_command, commands))  # type: ignore[arg-type]
