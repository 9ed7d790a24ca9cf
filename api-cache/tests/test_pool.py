"""The connections to the origin that wait for their next use, in a fake clock's time."""

from dataclasses import dataclass

import origin.pool
from origin.pool import IDLE_SECONDS, MAX_IDLE, Pool


@dataclass(eq=False)
class Channel:
    usable: bool = True
    idle_since: float = 0.0

    def resume(self):
        pass

    def close(self):
        self.usable = False


def test_connections_that_are_not_needed_any_more_are_closed(monkeypatch):
    now = 1000.0
    monkeypatch.setattr(origin.pool.time, "monotonic", lambda: now)
    pool = Pool("h", 1, 1.0)
    channels = [Channel() for _ in range(MAX_IDLE)]
    for each in channels:
        pool.put(each)
    for _ in range(4):  # one after the other, the newest is taken
        now += IDLE_SECONDS / 3
        pool.put(pool.take())
    assert [each.usable for each in channels] == [False] * (MAX_IDLE - 1) + [True]
    now += IDLE_SECONDS + 1
    assert pool.take() is None
    assert not channels[-1].usable
