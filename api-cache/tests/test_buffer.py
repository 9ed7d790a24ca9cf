import asyncio
import contextlib
from dataclasses import dataclass

import pytest
from hypothesis import given, note, settings
from hypothesis import strategies as st

from origin.errors import OriginBroken, OriginError
from sharing import buffer as module
from sharing.buffer import WINDOW_BYTES, Budget, Buffer, Outrun

PART = b"x" * 65_536


async def read(reader, *, pause=0):
    found = []
    async for part in reader:
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
        readers = [read(buffer.reader(), pause=pace) for pace in paces]
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
        assert len(await read(slow)) == 100 * len(PART)
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
        assert len(await read(buffer.reader())) == 100 * len(PART)
        assert len(await read(slow)) == 100 * len(PART)
        assert budget.left == 100 * len(PART)

    asyncio.run(story())


def test_who_may_be_outrun_holds_nobody_up(monkeypatch):
    monkeypatch.setattr("sharing.buffer.LAG_BYTES", WINDOW_BYTES)

    async def story():
        buffer = Buffer(Budget(0), keeps=False, may_outrun=True)
        slow, near, fast = buffer.reader(), buffer.reader(), buffer.reader()
        source = asyncio.create_task(feed(buffer, [PART] * 100))
        assert await anext(slow) == PART
        found, _ = await asyncio.gather(read(fast), read(near, pause=1))
        assert len(found) == 100 * len(PART)
        await source
        with pytest.raises(Outrun):
            await anext(slow)

    asyncio.run(story())


def test_who_is_alone_is_never_outrun():
    async def story():
        buffer = Buffer(Budget(0), keeps=False, may_outrun=True)
        only = buffer.reader()
        source = asyncio.create_task(feed(buffer, [PART] * 100))
        await asyncio.sleep(0.01)
        assert not source.done()
        assert len(await read(only)) == 100 * len(PART)
        await source

    asyncio.run(story())


def test_a_broken_source_breaks_its_readers():
    async def story():
        buffer = Buffer(Budget(10), keeps=True)
        reader = buffer.reader()
        await feed(buffer, [b"half"], OriginBroken("cut"))
        assert not buffer.is_whole
        with pytest.raises(OriginBroken):
            await read(reader)

    asyncio.run(story())


def test_a_source_without_readers_gives_up(monkeypatch):
    monkeypatch.setattr("sharing.buffer.NOBODY_SECONDS", 0.01)

    async def story():
        buffer = Buffer(Budget(0), keeps=False)
        with pytest.raises(OriginError):
            await feed(buffer, [PART] * 100)

    asyncio.run(story())


def test_what_is_stored_comes_to_its_end_without_readers_and_without_a_budget(monkeypatch):
    monkeypatch.setattr("sharing.buffer.NOBODY_SECONDS", 0.01)

    async def story():
        budget = Budget(WINDOW_BYTES // 2)
        buffer = Buffer(budget, keeps=True)
        await feed(buffer, [PART] * 100)
        assert buffer.reader() is None
        assert budget.left == WINDOW_BYTES // 2

    asyncio.run(story())


def test_a_place_given_back_unread_holds_nothing_up():
    async def story():
        buffer = Buffer(Budget(0), keeps=False)
        unread, other = buffer.reader(), buffer.reader()
        source = asyncio.create_task(feed(buffer, [PART] * 100))
        await unread.aclose()
        assert len(await read(other)) == 100 * len(PART)
        await source

    asyncio.run(story())


@dataclass(eq=False)
class Client:
    """What a reader has got, and the part that it waits for."""

    reader: module.Reader
    count: int = 0
    waiting: asyncio.Task | None = None
    is_outrun: bool = False


WINDOW, LAG, PART_BYTES, BUDGET = 20, 25, 8, 40


class Passing:
    """A source, and clients that come, read, wait and leave in any order, against a list of the parts."""

    may_outrun = False

    def __init__(self, loop):
        self.loop = loop
        self.budget = Budget(BUDGET)
        self.desertions = 0
        self.buffer = Buffer(self.budget, keeps=True, deserted=self.desert, may_outrun=self.may_outrun)
        self.keeps, self.stores, self.ended = True, True, ""
        self.parts: list[bytes] = []
        self.readers: list[Client] = []
        self.dropped, self.may_go_on = 0, False
        self.room: asyncio.Task | None = None
        self.rare = [self.leave, self.keep_no_more, self.end]

    def tell(self, story):
        """Take a step for each byte but the first, which says what never happens in this story."""
        left_out, *steps = story
        happening = [rule for number, rule in enumerate(self.rare) if not left_out >> number & 1]
        rules = [self.add, self.read, self.join, *happening]
        for step in steps:
            number, rule = divmod(step, len(rules))
            note(f"{rules[rule].__name__}({number})")
            rules[rule](number)
            self.check()

    def desert(self):
        self.desertions += 1

    def close(self):
        if self.room is not None:
            self.room.cancel()
        while self.readers:
            self.leave(0)
        self.settle()

    def settle(self):
        """Let everybody who can go on do so: no chain of wake-ups is longer than these turns of the loop."""
        self.turns(6)
        self.loop.run_forever()
        self.follow()

    def turns(self, left):
        if left:
            self.loop.call_soon(self.turns, left - 1)
        else:
            self.loop.stop()

    def follow(self):
        """Bring the clients up to what their reads came to, and what is dropped up to them."""
        for each in [*self.readers]:
            if each.waiting is None or not each.waiting.done():
                continue
            if each.is_outrun:
                assert isinstance(each.waiting.exception(), Outrun)
                self.readers.remove(each)
            elif each.count < len(self.parts):
                assert each.waiting.result() == self.parts[each.count]
                each.count, each.waiting = each.count + 1, None
            else:
                error = each.waiting.exception()
                assert isinstance(error, OriginBroken) if self.ended == "broken" else error is None
                self.readers.remove(each)
        counts = [each.count for each in self.readers if not each.is_outrun]
        if counts and not self.keeps:
            self.dropped = max(self.dropped, min(counts))
        behind = max(counts) if counts and self.may_outrun else self.dropped
        is_near = sum(map(len, self.parts[behind:])) <= WINDOW
        is_waiting = self.room is not None and not (self.keeps or self.may_go_on or is_near)
        if is_waiting and self.stores and not counts:
            self.dropped, is_near = len(self.parts), True
        self.may_go_on = self.may_go_on or self.keeps or is_near

    def outrun(self):
        read = {each: sum(map(len, self.parts[: each.count])) for each in self.readers if not each.is_outrun}
        for each, size in read.items():
            each.is_outrun = size < max(read.values()) - LAG

    # ---- the source

    def add(self, number):
        if self.ended or not (self.room is None or self.room.done()):
            return
        self.parts.append(bytes((len(self.parts) % 256,)) * (number % PART_BYTES + 1))
        if self.may_outrun and not self.keeps:
            self.outrun()
        self.keeps = self.keeps and sum(map(len, self.parts)) <= BUDGET
        self.buffer.add(self.parts[-1])
        self.may_go_on = False
        self.room = self.loop.create_task(self.buffer.room())
        self.settle()

    def keep_no_more(self, _=0):
        if not self.ended:
            self.keeps = self.stores = False
            self.buffer.keep_no_more()
            self.settle()

    def end(self, number):
        if not self.ended:
            self.ended = "broken" if number % 2 else "whole"
            self.buffer.end(OriginBroken("cut") if number % 2 else None)
            self.settle()

    # ---- the clients

    def join(self, _):
        reader = self.buffer.reader()
        assert (reader is None) == (self.dropped > 0)
        if reader is not None:
            self.readers.append(Client(reader))
            self.settle()

    def read(self, number):
        if self.readers:
            self.ask(self.readers[number % len(self.readers)])

    def ask(self, client):
        if client.waiting is None:
            client.waiting = self.loop.create_task(anext(client.reader, None))
            self.settle()

    def leave(self, number):
        if not self.readers:
            return
        client = self.readers.pop(number % len(self.readers))
        others = [each for each in self.readers if not each.is_outrun]
        was_last, before = not others and not client.is_outrun, self.desertions
        if client.waiting is not None:
            client.waiting.cancel()
        client.reader.leave()
        self.settle()
        assert self.desertions == before + was_last

    # ---- what always holds

    def check(self):
        self.only_who_has_everything_waits()
        self.only_what_somebody_needs_is_held()
        self.the_budget_is_given_back()
        self.the_source_waits_for_who_sets_the_pace_and_for_nothing_else()

    def only_who_has_everything_waits(self):
        for each in self.readers:
            assert each.waiting is None or (each.count == len(self.parts) and not self.ended)

    def only_what_somebody_needs_is_held(self):
        held = sum(map(len, self.buffer._parts))
        assert held == sum(map(len, self.parts[self.dropped :]))
        assert held <= BUDGET + WINDOW + LAG * self.may_outrun + PART_BYTES
        assert BUDGET - self.budget.left <= held

    def the_budget_is_given_back(self):
        assert 0 <= self.budget.left <= BUDGET
        if self.ended and all(each.is_outrun for each in self.readers):
            assert self.budget.left == BUDGET

    def the_source_waits_for_who_sets_the_pace_and_for_nothing_else(self):
        if self.room is not None:
            assert self.room.done() == self.may_go_on


class Racing(Passing):
    """The same, where the slow lose their place."""

    may_outrun = True

    def __init__(self, loop):
        super().__init__(loop)
        self.rare.append(self.get_ahead)
        self.keep_no_more()

    def get_ahead(self, number):
        """As far as it takes for the others to be outrun, all of whom seldom wait by chance."""
        if not self.readers:
            return
        client = self.readers[number % len(self.readers)]
        for _ in range(20):
            if client not in self.readers or client.is_outrun or client.waiting is not None or self.ended:
                return
            self.add(PART_BYTES - 1)
            self.ask(client)


@pytest.mark.parametrize("kind", [Passing, Racing])
@settings(max_examples=300, deadline=None)
@given(story=st.binary(min_size=31, max_size=31))
def test_any_story_ends_well(kind, story):
    with pytest.MonkeyPatch.context() as patch, contextlib.closing(asyncio.new_event_loop()) as loop:
        patch.setattr(module, "WINDOW_BYTES", WINDOW)
        patch.setattr(module, "LAG_BYTES", LAG)
        with contextlib.closing(kind(loop)) as told:
            told.tell(story)
