"""Redis, the level that all processes and replicas share. No policy here: find, put, drop, lock, watch.

Keys, with <t> for the SHA-256 of the target, all below `api-cache:1:` (the number is that of the layout):

    i:<t>            hash: an encoded entry per variant
    i:<t>:g          how often the target was invalidated lately; what was asked for before is not stored
    after p:<t>            exists while answers are known to be uncacheable, so that nobody waits for
    another one's answer l:<t>:<v>        the lock of the process that asks the origin
    b:<t>:<id>:<c>   a body in content coding <c>, never changed once its entry exists

No operation takes longer than `OPERATION_SECONDS`. After a failure a breaker keeps everyone off Redis for
a moment.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import re
import secrets
import time
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NoReturn, Protocol

from redis import RedisError
from redis.asyncio.connection import AbstractConnection, SSLConnection
from redis.exceptions import ResponseError

import stored as codec
from links import Links
from stored import BLOCK_BYTES, Body, Stored, checksum, variant_key

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from types import TracebackType

    from config import Config
    from httpcache.messages import Entry
    from links import Argument

OPERATION_SECONDS = 0.1
_STEPS = 5
BREAKER_SECONDS = 1.0
LOCK_SECONDS = 2.0
PASS_SECONDS = 30.0
"""How long a target counts as uncacheable after an answer that was not storable."""
UNFINISHED_SECONDS = 120.0
"""What becomes of a body whose writer died."""
GRACE_SECONDS = 60.0
"""How long a replaced body stays for those who are reading it."""
GENERATION_SECONDS = 900.0
MAX_PENDING = 10_000
LAYOUT = "api-cache:1:"
_INDEX = LAYOUT + "i:"
_LEASE_SECONDS = 0.09
_WATCH_SECONDS = 0.02
_SILENCE_SECONDS = 1.0


_FAILURES = (RedisError, OSError, TimeoutError, ValueError, TypeError, AttributeError, LookupError)
"""What redis-py raises when something else than Redis answers on its port: it trusts types where it looks."""


class StoreUnavailable(Exception):  # says what is the case
    """Redis did not answer in time, or is left alone because it did not lately."""


@dataclass(frozen=True, slots=True)
class Found:
    """What is stored of a target."""

    stored: tuple[Stored, ...]
    generation: bytes | None
    uncacheable: bool


class Events(Protocol):
    """Whom the watch tells."""

    def changed(self, key: str) -> None: ...
    def clear(self) -> None: ...
    def vouch(self, until: float) -> None: ...


_PUT = """
local generation = redis.call('GET', KEYS[2])
if (generation or '') ~= ARGV[1] then return 0 end
local ttl = tonumber(ARGV[5])
for _, field in ipairs(redis.call('HKEYS', KEYS[1])) do
  if string.sub(field, 1, #ARGV[2] + 1) == ARGV[2] .. ':' and field ~= ARGV[3] then
    for _, coding in ipairs({'identity', 'gzip', 'zstd'}) do
      redis.call('PEXPIRE', ARGV[6] .. string.sub(field, #ARGV[2] + 2) .. ':' .. coding, ARGV[7])
    end
    redis.call('HDEL', KEYS[1], field)
  end
end
if redis.call('HLEN', KEYS[1]) >= tonumber(ARGV[8]) then
  for _, field in ipairs(redis.call('HKEYS', KEYS[1])) do
    local id = string.sub(field, string.find(field, ':') + 1)
    for _, coding in ipairs({'identity', 'gzip', 'zstd'}) do
      redis.call('PEXPIRE', ARGV[6] .. id .. ':' .. coding, ARGV[7])
    end
  end
  redis.call('DEL', KEYS[1])
end
redis.call('HSET', KEYS[1], ARGV[3], ARGV[4])
for i = 4, #KEYS do redis.call('PEXPIRE', KEYS[i], ttl) end
if redis.call('PTTL', KEYS[1]) < ttl then redis.call('PEXPIRE', KEYS[1], ttl) end
redis.call('DEL', KEYS[3])
return 1
"""

# An invalidation must also work when memory is full, therefore the flag. (It only frees, but for a small
# counter.)
_DROP = """#!lua flags=allow-oom
for _, field in ipairs(redis.call('HKEYS', KEYS[1])) do
  local id = string.sub(field, string.find(field, ':') + 1)
  for _, coding in ipairs({'identity', 'gzip', 'zstd'}) do
    redis.call('PEXPIRE', ARGV[1] .. id .. ':' .. coding, ARGV[2])
  end
end
redis.call('DEL', KEYS[1])
redis.call('INCR', KEYS[2])
redis.call('PEXPIRE', KEYS[2], ARGV[3])
return 1
"""

_UNLOCK = "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end return 0"
_RENEW = """
if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('PEXPIRE', KEYS[1], ARGV[2]) end
return 0
"""
MAX_VARIANTS = 64
"""More of them than this are somebody's attempt to fill Redis, or a Vary that is of no use: all go."""


@dataclass(slots=True)
class Breaker:
    """After a failure nobody tries again for `BREAKER_SECONDS`, then one does."""

    clock: Callable[[], float]
    open_until: float = 0.0

    @property
    def is_open(self) -> bool:
        return self.clock() < self.open_until

    def failed(self) -> None:
        self.open_until = self.clock() + BREAKER_SECONDS

    def probing(self) -> None:
        """One goes ahead; the others stay away until it has returned."""
        if self.open_until:
            self.open_until = self.clock() + 2 * OPERATION_SECONDS

    def succeeded(self) -> None:
        self.open_until = 0.0


class Deadline:
    """Ends what takes longer than `OPERATION_SECONDS`, when that is Redis's fault.

    The time goes by in steps. libuv looks at timers before sockets, so in a loop that is late a single timer
    would ring before the answer that has long arrived is read; a late step counts no more than any other.
    """

    __slots__ = ("_handle", "_left", "_timeout")

    def __init__(self) -> None:
        self._timeout = asyncio.timeout(None)
        self._left = _STEPS
        self._handle: asyncio.TimerHandle | None = None

    async def __aenter__(self) -> None:
        await self._timeout.__aenter__()
        self._step()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._handle is not None:
            self._handle.cancel()
        await self._timeout.__aexit__(kind, error, trace)

    def _step(self) -> None:
        loop = asyncio.get_running_loop()
        if self._left:
            self._left -= 1
            self._handle = loop.call_later(OPERATION_SECONDS / _STEPS, self._step)
        else:
            self._timeout.reschedule(loop.time())


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


class Store:
    """Entries and bodies in Redis. Every method may raise StoreUnavailable, and does so within 0.1 s."""

    def __init__(
        self, way: Mapping[str, Any], count: Callable[[str], None], log: Callable[[str], None]
    ) -> None:
        self._links = Links(way)
        self._count = count
        self._log = log
        self._pending: dict[str, None] = {}
        self.breaker = Breaker(time.monotonic)

    async def find(self, key: str) -> Found:
        """All variants of a target that are readable."""
        index, generation, uncacheable = await self._try(
            ("HGETALL", _INDEX + key), ("GET", f"{_INDEX}{key}:g"), ("EXISTS", f"{LAYOUT}p:{key}")
        )
        if not isinstance(index, dict) or not isinstance(generation, bytes | None):
            await self._give_up(TypeError("not what was asked for"))
        found = [codec.decode(value) for value in index.values()]
        for _ in range(found.count(None)):
            self._count("corrupt")
        return Found(tuple(each for each in found if each is not None), generation, bool(uncacheable))

    async def body(self, key: str, stored: Stored, coding: str) -> bytes | None:
        """A whole body; None when it is gone or damaged."""
        wanted = stored.bodies[coding]
        blocks = []
        for number in range(len(wanted.checksums)):
            block = await self.block(key, stored, coding, number)
            if block is None:
                return None
            blocks.append(block)
        return blocks[0] if len(blocks) == 1 else b"".join(blocks)

    async def block(self, key: str, stored: Stored, coding: str, number: int) -> bytes | None:
        """One block of a body; None when it is gone or damaged."""
        wanted = stored.bodies[coding]
        start = number * BLOCK_BYTES
        name = _body_key(key, stored.body_id, coding)
        (data,) = await self._try(("GETRANGE", name, start, start + BLOCK_BYTES - 1))
        if not isinstance(data, bytes):
            await self._give_up(TypeError("not what was asked for"))
        if len(data) != min(BLOCK_BYTES, wanted.length - start) or checksum(data) != wanted.checksums[number]:
            self._count("corrupt")
            return None
        return data

    def writer(self, key: str, generation: bytes | None) -> Writer:
        """For a new entry, asked for when the target's generation was this one."""
        return Writer(self, key, generation or b"")

    async def put(self, key: str, stored: Stored, generation: bytes, ttl: float) -> bool:
        """Make the entry known, in place of its variant's former one; False after an invalidation."""
        codings = [_body_key(key, stored.body_id, coding) for coding in stored.bodies]
        keys = (_INDEX + key, f"{_INDEX}{key}:g", f"{LAYOUT}p:{key}", *codings)
        arguments = (
            generation, variant_key(stored.entry), stored.field, codec.encode(stored), _milliseconds(ttl),
            f"{LAYOUT}b:{key}:", _milliseconds(GRACE_SECONDS), MAX_VARIANTS,
        )  # fmt: skip
        (is_kept,) = await self._try(("EVAL", _PUT, len(keys), *keys, *arguments))
        return bool(is_kept)

    async def drop(self, keys: Iterable[str]) -> None:
        """Forget these targets. What Redis does not hear now it hears before it is read again."""
        self._pending.update(dict.fromkeys(keys))
        if len(self._pending) > MAX_PENDING:
            self._log("Too many invalidations wait for Redis; the oldest are forgotten.")
            while len(self._pending) > MAX_PENDING:
                del self._pending[next(iter(self._pending))]
        await self._try()

    async def mark_uncacheable(self, key: str) -> None:
        await self._try(("SET", f"{LAYOUT}p:{key}", b"1", "PX", _milliseconds(PASS_SECONDS)))

    async def lock(self, name: str) -> bytes | None:
        """A token when nobody else holds the lock. It ends by itself unless it is renewed."""
        token = secrets.token_bytes(12)
        (taken,) = await self._try(
            ("SET", f"{LAYOUT}l:{name}", token, "PX", _milliseconds(LOCK_SECONDS), "NX")
        )
        return token if taken else None

    async def renew(self, name: str, token: bytes) -> None:
        await self._try(("EVAL", _RENEW, 1, f"{LAYOUT}l:{name}", token, _milliseconds(LOCK_SECONDS)))

    async def unlock(self, name: str, token: bytes) -> None:
        await self._try(("EVAL", _UNLOCK, 1, f"{LAYOUT}l:{name}", token))

    async def usage(self) -> tuple[int, int]:
        """Bytes and keys in Redis."""
        info, size = await self._try(("INFO", "memory"), ("DBSIZE",))
        used = re.search(rb"^used_memory:([0-9]+)", info, re.MULTILINE) if isinstance(info, bytes) else None
        if used is None or not isinstance(size, int):
            await self._give_up(TypeError("not what was asked for"))
        return int(used[1]), size

    async def append(self, name: str, data: bytes) -> None:
        """Add a block to a body that has no entry yet."""
        await self._try(("APPEND", name, data), ("PEXPIRE", name, _milliseconds(UNFINISHED_SECONDS)))

    async def discard(self, names: Iterable[str]) -> None:
        await self._try(("UNLINK", *names))

    async def close(self) -> None:
        await self._links.close()

    async def _settle(self) -> None:
        """Tell Redis of the invalidations that it has not heard yet."""
        while self._pending:
            key = next(iter(self._pending))
            keys = (_INDEX + key, f"{_INDEX}{key}:g")
            times = (_milliseconds(GRACE_SECONDS), _milliseconds(GENERATION_SECONDS))
            await self._links.run(("EVAL", _DROP, len(keys), *keys, f"{LAYOUT}b:{key}:", *times))
            self._pending.pop(key, None)

    async def _try(self, *commands: tuple[Argument, ...]) -> list[Any]:
        if self.breaker.is_open:
            self._count("redis_errors skipped")
            raise StoreUnavailable
        self.breaker.probing()
        try:
            async with Deadline():
                if self._pending:
                    await self._settle()
                replies = await self._links.run(*commands) if commands else []
        except ResponseError as error:
            self._refused(error)
        except _FAILURES as error:
            await self._give_up(error)
        self.breaker.succeeded()
        return replies

    def _refused(self, error: ResponseError) -> NoReturn:
        """Redis is there, but did not do it: memory is full, or the key is not what it should be."""
        self._count("redis_errors refused")
        self.breaker.succeeded()
        raise StoreUnavailable(str(error)) from error

    async def _give_up(self, error: Exception) -> NoReturn:
        """Use no connection any more on which there was a failure: a late answer would be another one's."""
        await self._links.close()
        self._count("redis_errors timeout" if isinstance(error, TimeoutError) else "redis_errors failed")
        if not self.breaker.open_until:
            self._log(f"Redis does not answer ({type(error).__name__}); going on without it.")
        self.breaker.failed()
        raise StoreUnavailable from error

    # ---- watch

    async def watch(self, events: Events) -> None:
        """Tell of every change of an entry in Redis, by whomever, until cancelled.

        While the connection lives, changes arrive in order and before the answer to any later PING; so that
        answer vouches for everything up to the moment the PING was sent.
        """
        while True:
            connection = self._links.make()
            with contextlib.suppress(*_FAILURES):
                await self._follow(connection, events)
            events.vouch(-math.inf)
            events.clear()
            with contextlib.suppress(RedisError, OSError):
                await connection.disconnect(nowait=True)
            await asyncio.sleep(_LEASE_SECONDS)

    async def _follow(self, connection: AbstractConnection, events: Events) -> None:
        async with asyncio.timeout(_SILENCE_SECONDS):
            await connection.connect()  # type: ignore[no-untyped-call]
            await connection.send_command("CLIENT", "TRACKING", "ON", "BCAST", "PREFIX", _INDEX)
            await connection.read_response()
        parser: Any = connection._parser  # pylint: disable=protected-access
        parser.set_invalidation_push_handler(_as_it_is)  # else redis-py swallows them
        events.clear()  # nobody told us of the changes until now
        sent: deque[float] = deque()
        pinging = asyncio.create_task(self._ping(connection, sent))
        try:
            while True:
                async with asyncio.timeout(_SILENCE_SECONDS):
                    message = await connection.read_response(timeout=math.inf, push_request=True)
                if isinstance(message, list):
                    _tell(events, message)
                    continue
                if message != b"PONG":
                    raise ValueError("not an answer to PING")
                since = sent.popleft()
                if not self._pending:
                    events.vouch(since + _LEASE_SECONDS)
        finally:
            pinging.cancel()
            await asyncio.wait((pinging,))

    async def _ping(self, connection: AbstractConnection, sent: deque[float]) -> None:
        with contextlib.suppress(RedisError, OSError):
            while True:
                sent.append(time.monotonic())
                await connection.send_command("PING")
                await asyncio.sleep(_WATCH_SECONDS)


async def _as_it_is(push: list[Any]) -> list[Any]:
    return push


def _tell(events: Events, message: list[Any]) -> None:
    """An invalidation names the keys that changed, or none when all are gone."""
    kind, names = message[0], message[1]
    if kind != b"invalidate":
        return
    if names is None:
        events.clear()
    for name in names or ():
        events.changed(name.decode()[len(_INDEX) :][:64])


@dataclass(slots=True)
class Writer:
    """Writes the bodies of a new entry by blocks, then the entry. After a failure it does nothing more."""

    store: Store
    key: str
    generation: bytes
    body_id: str = field(default_factory=lambda: secrets.token_hex(8))
    failed: bool = False
    size: int = 0
    _buffers: dict[str, bytearray] = field(default_factory=dict)
    _bodies: dict[str, Body] = field(default_factory=dict)

    async def write(self, parts: Mapping[str, bytes]) -> None:
        """Add to the body of each coding."""
        for coding, data in parts.items():
            self.size += len(data)
            buffer = self._buffers.setdefault(coding, bytearray())
            buffer += data
            while len(buffer) >= BLOCK_BYTES and not self.failed:
                await self._append(coding, bytes(buffer[:BLOCK_BYTES]))
                del buffer[:BLOCK_BYTES]

    async def commit(self, entry: Entry, length: int, ttl: float) -> Stored | None:
        """Write what is left and make the entry known; None when Redis does not keep it."""
        for coding, buffer in self._buffers.items():
            if buffer and not self.failed:
                await self._append(coding, bytes(buffer))
        if self.failed:
            return None
        stored = Stored(
            self.body_id,
            entry,
            length,
            {"identity": Body(0, ()), **self._bodies} if not length else self._bodies,
        )
        try:
            kept = await self.store.put(self.key, stored, self.generation, ttl)
        except StoreUnavailable:
            kept = False
        if not kept:
            await self.abandon()
        return stored if kept else None

    async def abandon(self) -> None:
        self.failed = True
        names = [_body_key(self.key, self.body_id, coding) for coding in self._bodies]
        if names:
            with contextlib.suppress(StoreUnavailable):
                await self.store.discard(names)

    async def _append(self, coding: str, data: bytes) -> None:
        body = self._bodies.get(coding, Body(0, ()))
        self._bodies[coding] = Body(body.length + len(data), (*body.checksums, checksum(data)))
        try:
            await self.store.append(_body_key(self.key, self.body_id, coding), data)
        except StoreUnavailable:
            await self.abandon()


def _body_key(key: str, body_id: str, coding: str) -> str:
    return f"{LAYOUT}b:{key}:{body_id}:{coding}"


def _milliseconds(seconds: float) -> int:
    return max(1, int(min(seconds, 10**9) * 1000))
