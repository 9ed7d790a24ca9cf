"""Stories for which a fault has to happen at one certain moment, so that Redis and the origin are fakes."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass, field

import pytest

from app import create_proxy
from config import Config
from httpcache import storing
from httpcache.messages import Exchange, Headers, Policy, Request, Response
from observability.counters import Counters
from sharing.fetch import Unstored
from sharing.flights import Flight, Flights
from store.breaker import StoreUnavailable
from store.found import Found
from store.memory import Memory, Page
from store.stored import Body, Stored, target_hash

NOW = 1000.0
OLD, NEW = b"the old content", b"the new content"


class LostStore:
    """A Redis that has just gone away."""

    async def find(self, _key):
        raise StoreUnavailable

    async def lock(self, _):
        raise StoreUnavailable


@dataclass
class Answer:
    """As origin.answer's."""

    response: Response
    content: bytes
    length: int | None = None

    async def parts(self):
        yield self.content

    def close(self):
        pass

    def closed_on_failure(self):
        return contextlib.nullcontext()


@dataclass
class TaggedOrigin:
    """Confirms what has its tag, and sends the new content otherwise."""

    asked: list[str | None] = field(default_factory=list)

    async def send(self, request, _):
        condition = request.headers.get("if-none-match")
        self.asked.append(condition)
        code, content = (304, b"") if condition == '"v"' else (200, NEW)
        return Answer(Response(code, Headers((("ETag", '"v"'),))), content)


def stale_entry() -> Stored:
    headers = Headers((("ETag", '"v"'), ("Cache-Control", "max-age=1, must-revalidate")))
    exchange = Exchange(Request("GET", "/x", Headers()), Response(200, headers), NOW - 10, NOW - 10)
    return Stored("id", storing.entry(exchange, Policy()), len(OLD), {"identity": Body(len(OLD), (0,))})


class EmptyStore:
    """A Redis that keeps nothing, and holds nothing of what memory has: that was invalidated just now."""

    async def find(self, _key):
        return Found({}, b"1", (False, False), lambda: None)

    def writer(self, *_):
        return Unstored()

    async def put(self, *_):
        raise StoreUnavailable


@pytest.mark.parametrize(
    ("store", "lines"),
    [
        # Its validator may still match: Last-Modified tells of no two changes within one second.
        pytest.param(EmptyStore(), (("Cache-Control", "no-cache"),), id="invalidated"),
        # After the stale entry was seen in memory, and before the origin confirms it.
        pytest.param(LostStore(), (), id="redis-goes-away"),
    ],
)
def test_what_only_memory_holds_is_fetched_anew(store, lines):
    async def story():
        memory, origin = Memory(2**20), TaggedOrigin()
        memory.vouch(float("inf"))
        memory.put(target_hash("/x"), Page("/x", (stale_entry(),)), memory.begin())
        counters = Counters(Counters.allocate(1), 0)
        proxy = create_proxy(Config(redis_password="-"), store, memory, origin, counters, lambda: NOW)
        reply = await proxy.respond(Request("GET", "/x", Headers(lines)))
        assert (reply.status, origin.asked) == (200, [None])
        assert b"".join([part async for part in reply.content]) == NEW

    asyncio.run(story())


def test_without_patience_for_others_no_lock_is_asked_for():
    """It would be given up before Redis answers: the connection with it, and the lock would stay."""
    store = LostStore()
    asked = []
    store.lock = asked.append

    async def story():
        flights = Flights(store, Counters(Counters.allocate(1), 0), 0.0)
        flight = Flight("x", asyncio.get_running_loop().create_future())
        assert await flights.lock(flight, None)

    asyncio.run(story())
    assert asked == []


class Endless(Answer):
    closed = False

    async def parts(self):
        while True:
            yield bytes(65536)
            await asyncio.sleep(0)

    def close(self):
        self.closed = True


class EndlessOrigin:
    def __init__(self):
        self.answer = Endless(Response(200, Headers((("Cache-Control", "max-age=60"),))), b"")

    async def send(self, *_):
        return self.answer


def test_without_redis_nothing_is_read_on_for_nobody():
    async def story():
        origin = EndlessOrigin()
        counters = Counters(Counters.allocate(1), 0)
        memory, config = Memory(2**20), Config(redis_password="-")
        proxy = create_proxy(config, LostStore(), memory, origin, counters, lambda: NOW)
        reply = await proxy.respond(Request("GET", "/x", Headers()))
        await anext(aiter(reply.content))
        await reply.content.aclose()
        for _ in range(10):
            await asyncio.sleep(0)
        assert origin.answer.closed

    asyncio.run(story())
