"""What memory keeps, and what it lets go of first."""

import time

from hits import Hits
from observability.access import Note
from store.memory import Memory, Page, Prepared

NOTE = Note("", memoryview(b""))


def test_pages_that_only_the_short_path_uses_outlive_those_that_nobody_uses():
    memory = Memory(100_000)
    memory.vouch(float("inf"))
    for number in range(20):
        put(memory, f"/{number}")
    hits = Hits(memory, time.time, lambda *_: NOTE)
    for number in range(1000):
        assert hits.find((b"/0", ()), 0.0) is not None, number
        put(memory, f"/cold-{number}")
    assert memory.page_at(b"/1") is None
    assert memory.size <= memory.max_bytes
    assert len(memory) > 10


def put(memory, target):
    answer = Prepared(200, b"", b"", time.time(), 0.0, 60.0)
    answer.note = NOTE
    memory.put(target, Page(target, (), {"id:identity": bytes(1000)}, prepared={(): answer}), memory.begin())
