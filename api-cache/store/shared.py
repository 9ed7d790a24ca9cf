"""Redis, the level that all processes and replicas share. No policy here: find, put, drop, lock.

Redis has `OPERATION_SECONDS` for each step. After a failure a breaker keeps everyone off it for a moment.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import re
import secrets
import time
from typing import TYPE_CHECKING, Any, NoReturn

from redis.exceptions import ResponseError

from . import layout
from . import stored as codec
from .breaker import Breaker, StoreUnavailable, in_time
from .found import Found
from .links import FAILURES, Links
from .stored import BLOCK_BYTES, SMALL_BYTES, checksum, variant_key
from .watch import Watch
from .writer import Writer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from .links import Argument, Command, Outcome
    from .stored import Stored
    from .watch import Events

LOCK_SECONDS = 2.0
PASS_SECONDS = 30.0
"""How long a target counts as uncacheable after an answer that was not storable."""
UNFINISHED_SECONDS = 120.0
"""What becomes of a body whose writer died."""
GRACE_SECONDS = 60.0
"""How long a replaced body stays for those who are reading it."""
GENERATION_SECONDS = 900.0
MAX_VARIANTS = 64
"""More of them than this are somebody's attempt to fill Redis, or a Vary that is of no use: all go."""
MAX_PENDING = 10_000
_SETTLED_TOGETHER = 100
"""So many invalidations are told in one step, which takes Redis a few milliseconds."""
_SECONDS_BETWEEN_LOOKS = 0.05
"""For invalidations that Redis has not heard of."""


class Store:
    """Entries and bodies in Redis. Every method may raise StoreUnavailable.

    It does so within 0.1 s of the first step that Redis does not answer. Most take one, `body` one for each
    block; and should Redis have missed a target's invalidation, it is told of that first, by a step more.
    """

    def __init__(
        self, way: Mapping[str, Any], count: Callable[[str], None], log: Callable[[str], None]
    ) -> None:
        self._links = Links(way)
        self._count = count
        self._log = log
        self._pending: dict[str, int] = {}
        """Targets of whose invalidation Redis has not heard yet, each with the number that is its own."""
        self._dropped = asyncio.Event()
        """Set when there is such a target."""
        self.breaker = Breaker(time.monotonic)

    # ---- reading

    async def find(self, key: str) -> Found:
        """What is stored of a target, with small bodies."""
        await self._settle((key,))
        replies = await self._try(*_looking(key))
        found = self._found(replies)
        if not found.generation:
            era = await self._run(layout.NEW_ERA, (layout.ERA,), secrets.token_hex(8))
            found.generation = era if isinstance(era, bytes) else self._give_up(_WRONG)
        return found

    def begin_find(self, key: str, seen: Callable[[Found | None], None]) -> bool:
        """The same for who has no task, and is called back; with None where there is more to do than to look.

        False, and nothing happens, where that is known before.
        """

        def done(outcome: Outcome) -> None:
            found = None
            try:
                found = self._found(self._replies(outcome))
            except StoreUnavailable:
                pass
            finally:
                seen(found if found is not None and found.generation else None)

        is_usual = not self.breaker.open_until and key not in self._pending
        return is_usual and self._links.begin(_looking(key), done)

    def _found(self, replies: list[Any]) -> Found:
        """What _looking() is answered with; without a generation where not even an era is known."""
        noted, index = replies
        if not isinstance(noted, list) or len(noted) != 4 or not isinstance(index, dict):
            self._give_up(_WRONG)
        generation, era, without, having = noted
        seen = generation or era or b""
        if not {type(seen), *map(type, index), *map(type, index.values())} <= {bytes}:
            self._give_up(_WRONG)
        return Found(index, seen, (without is not None, having is not None), self._damaged)

    def _damaged(self) -> None:
        self._count("corrupt")

    async def body(self, key: str, stored: Stored, coding: str) -> bytes | None:
        """A whole body; None when it is gone or damaged."""
        blocks = []
        for number in range(len(stored.bodies[coding].checksums)):
            block = await self.block(key, stored, coding, number)
            if block is None:
                return None
            blocks.append(block)
        return blocks[0] if len(blocks) == 1 else b"".join(blocks)

    async def block(self, key: str, stored: Stored, coding: str, number: int) -> bytes | None:
        """One block of a body; None when it is gone or damaged."""
        wanted = stored.bodies[coding]
        start = number * BLOCK_BYTES
        name = layout.body(key, stored.body_id, coding)
        (data,) = await self._try(("GETRANGE", name, start, start + BLOCK_BYTES - 1))
        if not isinstance(data, bytes):
            self._give_up(_WRONG)
        if len(data) != min(BLOCK_BYTES, wanted.length - start) or checksum(data) != wanted.checksums[number]:
            if data:  # else it was evicted, though its entry was not
                self._count("corrupt")
            return None
        return data

    async def usage(self) -> tuple[int, int]:
        """Bytes and keys in Redis."""
        info, size = await self._try(("INFO", "memory"), ("DBSIZE",))
        used = re.search(rb"^used_memory:([0-9]+)", info, re.MULTILINE) if isinstance(info, bytes) else None
        if used is None or not isinstance(size, int):
            self._give_up(_WRONG)
        return int(used[1]), size

    async def watch(self, events: Events, invalidated: Callable[[str], None]) -> None:
        """Tell of every change of an entry in Redis, by whomever, until cancelled; see Watch."""
        await Watch(self._links.make, lambda: not self._pending, events, invalidated).run()

    async def settle(self) -> None:
        """Tell Redis of what it missed as soon as it is back, for other replicas read it; until cancelled."""
        while True:
            if not self._pending:
                self._dropped.clear()
                await self._dropped.wait()
            await asyncio.sleep(_SECONDS_BETWEEN_LOOKS)
            with contextlib.suppress(StoreUnavailable):
                while self._pending:
                    some = itertools.islice(self._pending, _SETTLED_TOGETHER)
                    await self._settle(some, is_urgent=True)

    # ---- writing

    def writer(self, key: str, generation: bytes | None) -> Writer:
        """For a new entry, asked for when the target's generation was this one."""
        return Writer(self, key, generation or b"")

    async def append(self, name: str, data: bytes) -> None:
        """Add a block to a body that has no entry yet."""
        await self._try(*_appending(name, data))

    async def discard(self, names: Iterable[str]) -> None:
        await self._try(("UNLINK", *names))

    async def put(
        self,
        key: str,
        stored: Stored,
        generation: bytes,
        ttl: float,
        kind: str,
        bodies: Mapping[str, bytes] | None = None,
    ) -> bool:
        """Make the entry known, in place of its variant's former one; False after an invalidation.

        `kind` is that of layout.PUT, `bodies` are by content coding.
        """
        await self._settle((key,))
        codings = [coding for coding, body in stored.bodies.items() if body.length]
        # To set the time to live even of what is not there counts as a write, and a script that has written
        # is refused nothing any more, however full Redis is.
        written = codings if kind != layout.WHOLE else ()
        names = [layout.body(key, stored.body_id, coding) for coding in written]
        keys = (layout.index(key), layout.generation(key), *layout.marks(key), layout.ERA, *names)
        entry = (variant_key(stored.entry), stored.field, codec.encode(stored), _milliseconds(ttl))
        seen, limits = (_GRACE, layout.bodies(key), generation), (MAX_VARIANTS, SMALL_BYTES)
        data: list[Argument] = []
        for coding, body in (bodies or {}).items():
            data += (coding, body)
        return bool(await self._run(layout.PUT, keys, *seen, *entry, kind, *limits, *data))

    async def forget(self, key: str, stored: Stored) -> None:
        """Take this very entry out; what was stored since in its place stays.

        What is left of its body is left to those who are reading it.
        """
        await self._run(layout.FORGET, (layout.index(key),), _GRACE, layout.bodies(key), stored.field)

    async def mark_uncacheable(self, key: str, *, credentials: bool) -> None:
        """Of answers to requests with credentials, or to those without."""
        await self._try(("SET", layout.marks(key)[credentials], b"1", "PX", _milliseconds(PASS_SECONDS)))

    async def drop(self, keys: Iterable[str]) -> None:
        """Forget these targets. What Redis does not hear now it hears before it is read again.

        The breaker does not hold for this: while Redis is not told, other replicas serve what is outdated.
        """
        dropped = tuple(keys)
        self._pending.update((key, secrets.randbits(62)) for key in dropped)
        self._dropped.set()
        if len(self._pending) > MAX_PENDING:
            self._log("Too many invalidations wait for Redis; the oldest are forgotten.")
            while len(self._pending) > MAX_PENDING:
                del self._pending[next(iter(self._pending))]
        await self._settle(dropped, is_urgent=True)

    async def _settle(self, keys: Iterable[str], *, is_urgent: bool = False) -> None:
        """Tell Redis of the invalidations of these targets that it has not heard of yet.

        `is_urgent`: even when it was late a moment ago.
        """
        some = [(key, self._pending[key]) for key in keys if key in self._pending]
        if not some:
            return
        await self._try(_forgetting(some), is_urgent=is_urgent)
        for key, number in some:
            if self._pending.get(key) == number:  # else it was invalidated once more meanwhile
                del self._pending[key]

    # ---- locks

    async def lock(self, name: str) -> bytes | None:
        """A token when nobody else holds the lock. It ends by itself unless it is renewed."""
        token = secrets.token_bytes(12)
        (taken,) = await self._try(("SET", layout.lock(name), token, "PX", _milliseconds(LOCK_SECONDS), "NX"))
        return token if taken else None

    async def renew(self, name: str, token: bytes) -> None:
        await self._run(layout.RENEW, (layout.lock(name),), token, _milliseconds(LOCK_SECONDS))

    async def unlock(self, name: str, token: bytes) -> None:
        await self._run(layout.UNLOCK, (layout.lock(name),), token)

    # ---- the way there

    async def close(self) -> None:
        self._links.close()

    async def _run(self, script: str, keys: tuple[str, ...], *arguments: Argument) -> Any:
        (reply,) = await self._try(_script(script, keys, *arguments))
        return reply

    async def _try(self, *commands: Command, is_urgent: bool = False) -> list[Any]:
        if self.breaker.is_open and not is_urgent:
            self._count("redis_errors skipped")
            raise StoreUnavailable
        self.breaker.probing()
        try:
            async with in_time():
                return self._replies(await self._links.run(*commands))
        except FAILURES as error:
            return self._replies(error)

    def _replies(self, outcome: Outcome) -> list[Any]:
        if isinstance(outcome, ResponseError):
            self._refused(outcome)
        if isinstance(outcome, Exception):
            self._give_up(outcome)
        self.breaker.succeeded()
        return outcome

    def _refused(self, error: ResponseError) -> NoReturn:
        """Redis is there, but did not do it: memory is full, or the key is not what it should be."""
        self._count("redis_errors refused")
        self.breaker.succeeded()
        raise StoreUnavailable(str(error)) from error

    def _give_up(self, error: Exception) -> NoReturn:
        """Use no connection any more on which there was a failure: a late answer would be another one's."""
        self._links.close()
        self._count("redis_errors timeout" if isinstance(error, TimeoutError) else "redis_errors failed")
        if not self.breaker.open_until:
            self._log(f"Redis does not answer ({type(error).__name__}); going on without it.")
        self.breaker.failed()
        raise StoreUnavailable from error


def _looking(key: str) -> tuple[Command, ...]:
    """The commands that read what is stored of a target.

    In this order: of what is invalidated meanwhile, what is left is found with the generation before.
    """
    noted = ("MGET", layout.generation(key), layout.ERA, *layout.marks(key))
    return noted, ("HGETALL", layout.index(key))


def _forgetting(targets: Iterable[tuple[str, int]]) -> Command:
    """The command that invalidates targets, each with its number."""
    names = [name for key, _ in targets for name in (layout.index(key), layout.generation(key))]
    each = [argument for key, number in targets for argument in (layout.bodies(key), number)]
    return _script(layout.DROP, (layout.ERA, *names), _GRACE, _milliseconds(GENERATION_SECONDS), *each)


def _script(script: str, keys: tuple[str, ...], *arguments: Argument) -> Command:
    return "EVAL", script, len(keys), *keys, *arguments


def _appending(name: str, data: bytes) -> tuple[Command, ...]:
    """The commands that add a block to a body that has no entry yet.

    In one step: if the connection ended between the two, what is there would stay for ever.
    """
    expiring = "PEXPIRE", name, _milliseconds(UNFINISHED_SECONDS)
    return ("MULTI",), ("APPEND", name, data), expiring, ("EXEC",)


def _milliseconds(seconds: float) -> int:
    return max(1, int(min(seconds, 10**9) * 1000))


_GRACE = _milliseconds(GRACE_SECONDS)
_WRONG = TypeError("not what was asked for")
