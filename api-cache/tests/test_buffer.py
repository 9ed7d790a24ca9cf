import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from buffer import WINDOW_BYTES, Budget, Buffer
from origin import OriginBroken, OriginError

PART = b"x" * 65_536


async def read(buffer, reader, *, pause=0):
    found = []
    async for part in buffer.read(reader):
        found.append(part)
        for _ in range(pause):
            await asyncio.sleep(0)
    return b"".join(found)


async def feed(buffer, parts, error=None):
    for part in parts:
        buffer.add(part)
        await buffer.room()
        await asyncio.sleep(0)
    buffer.end(error)


@given(
    st.lists(st.binary(max_size=5), max_size=20), st.lists(st.integers(0, 5), min_size=1, max_size=4),
    st.booleans(), st.integers(0, 60),
)  # fmt: skip
def test_every_reader_gets_everything_in_order(parts, paces, keeps, left):
    async def story():
        budget = Budget(left)
        buffer = Buffer(budget, keeps=keeps)
        readers = [read(buffer, buffer.reader(), pause=pace) for pace in paces]
        *found, _ = await asyncio.gather(*readers, feed(buffer, parts))
        assert found == [b"".join(parts)] * len(paces)
        assert budget.left == left

    asyncio.run(story())


def test_without_keeping_the_source_waits_for_the_slowest():
    async def story():
        buffer = Buffer(Budget(0), keeps=False)
        slow = buffer.reader()
        source = asyncio.create_task(feed(buffer, [PART] * 100))
        await asyncio.sleep(0.01)
        assert not source.done()
        assert len(buffer._parts) * len(PART) <= WINDOW_BYTES + len(PART)
        assert len(await read(buffer, slow)) == 100 * len(PART)
        await source

    asyncio.run(story())


def test_while_it_keeps_nobody_waits_and_latecomers_find_the_beginning():
    async def story():
        budget = Budget(100 * len(PART))
        buffer = Buffer(budget, keeps=True)
        slow = buffer.reader()
        await feed(buffer, [PART] * 100)
        assert budget.left == 0
        assert buffer.is_whole
        assert len(await read(buffer, buffer.reader())) == 100 * len(PART)
        assert len(await read(buffer, slow)) == 100 * len(PART)
        assert budget.left == 100 * len(PART)

    asyncio.run(story())


def test_a_broken_source_breaks_its_readers():
    async def story():
        buffer = Buffer(Budget(10), keeps=True)
        reader = buffer.reader()
        await feed(buffer, [b"half"], OriginBroken("cut"))
        assert not buffer.is_whole
        with pytest.raises(OriginBroken):
            await read(buffer, reader)

    asyncio.run(story())


def test_a_source_without_readers_gives_up(monkeypatch):
    monkeypatch.setattr("buffer.NOBODY_SECONDS", 0.01)

    async def story():
        buffer = Buffer(Budget(0), keeps=False)
        with pytest.raises(OriginError):
            await feed(buffer, [PART] * 100)

    asyncio.run(story())
