"""Bodies too large to hold, block by block, out of a Redis that is a fake: it notes what it is asked for."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

import pytest
from backports import zstd

import replies
from httpcache import storing
from httpcache.messages import Exchange, Headers, Policy, Request, Response
from origin.errors import OriginError
from store.breaker import StoreUnavailable
from store.levels import Levels, View
from store.memory import Memory, Page
from store.stored import BLOCK_BYTES, Body, Stored

MEGABYTE = 2**20


@dataclass
class HeldStore:
    data: bytes
    asked: list[int] = field(default_factory=list)
    """The numbers of the blocks."""
    late: int = 0
    """How often Redis does not answer, after the first block."""

    async def block(self, _key, _stored, _coding, number):
        self.asked.append(number)
        if number and self.late:
            self.late -= 1
            raise StoreUnavailable
        return self.data[number * BLOCK_BYTES :][:BLOCK_BYTES]


def stored_as(data: bytes, coding: str, length: int) -> Stored:
    exchange = Exchange(Request("GET", "/x", Headers()), Response(200, Headers()), 1000.0, 1000.0)
    blocks = -(-len(data) // BLOCK_BYTES)
    return Stored("id", storing.entry(exchange, Policy()), length, {coding: Body(len(data), (0,) * blocks)})


async def parts_of(store: HeldStore, stored: Stored, *lines: tuple[str, str]) -> list[bytes]:
    """What a client gets who asks with these fields."""
    levels, request = Levels(store, Memory(4)), Request("GET", "/x", Headers(lines))
    shown = replies.form(request, stored)
    view = View("key", Page("/x", (stored,)))
    content = await levels.content(view, stored, shown.coding, shown.length, shown.slice)
    reply = replies.with_content(shown, 0.0, "api-cache; hit", content, None)
    found = [part async for part in reply.content]
    assert sum(map(len, found)) == reply.length
    return found


def test_a_few_bytes_that_stand_for_many_come_in_pieces():
    text = b"all the same" * (20 * MEGABYTE // 12)
    data = zstd.compress(text)
    found = asyncio.run(parts_of(HeldStore(data), stored_as(data, "zstd", len(text))))
    assert max(map(len, found)) <= MEGABYTE
    assert b"".join(found) == text
    part = ("Range", "bytes=3000000-3000011")
    assert asyncio.run(parts_of(HeldStore(data), stored_as(data, "zstd", len(text)), part)) == [
        b"all the same"
    ]


def test_a_part_takes_the_blocks_in_which_it_lies_and_no_other():
    data = bytes(range(256)) * (4 * BLOCK_BYTES // 256) + b"end"
    for asked, expected, blocks in (
        ("bytes=-1", b"d", [4]),
        (f"bytes={BLOCK_BYTES}-{BLOCK_BYTES + 1}", b"\0\1", [1]),
        (f"bytes={2 * BLOCK_BYTES - 1}-{2 * BLOCK_BYTES}", b"\xff\0", [1, 2]),
        ("bytes=0-0", b"\0", [0]),
    ):
        store = HeldStore(data)
        found = asyncio.run(parts_of(store, stored_as(data, "identity", len(data)), ("Range", asked)))
        assert (b"".join(found), store.asked) == (expected, blocks)
    store = HeldStore(data)
    assert b"".join(asyncio.run(parts_of(store, stored_as(data, "identity", len(data))))) == data
    assert store.asked == [0, 1, 2, 3, 4]


def test_a_redis_that_stutters_breaks_nothing_off():
    data = bytes(3 * BLOCK_BYTES)
    store = HeldStore(data, late=3)
    assert b"".join(asyncio.run(parts_of(store, stored_as(data, "identity", len(data))))) == data
    assert store.asked == [0, 1, 1, 1, 1, 2]


def test_a_redis_that_stays_away_breaks_the_content_off(monkeypatch):
    monkeypatch.setattr("store.levels.PATIENCE_SECONDS", 0.1)
    data = bytes(2 * BLOCK_BYTES)
    store = HeldStore(data, late=1000)
    with pytest.raises(OriginError):
        asyncio.run(parts_of(store, stored_as(data, "identity", len(data))))
    assert store.late > 900
