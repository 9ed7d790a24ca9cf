"""What breaks, again and again, while clients ask."""

import os
import signal
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from local.processes import wait_until
from local.services import ApiCache
from local.valkey import Valkey

from tests.faults.breaking import emptied, full, killed, paused, stuttering
from tests.stress.judge import Judge
from tests.support import Origin, workers


@dataclass(frozen=True)
class Stage:
    """All that can be broken."""

    origin: Origin
    valkey: Valkey
    caches: Sequence[ApiCache]
    judge: Judge
    rng: Random

    def go_on(self, seconds: float) -> None:
        """Let the clients ask for a while, of so many seconds at the most."""
        self.judge.over.wait(seconds * self.rng.random())

    def break_again_and_again(self, fault: str) -> None:
        """Until it is over, with two seconds and more in between, in which all is whole."""
        kind, act = FAULTS[fault]
        while not self.judge.over.wait(2 + self.rng.random()):
            with self.judge.records.trouble(kind):
                act(self)


def of_redis(act):
    return "redis", lambda stage: act(stage.valkey, stage)


def worker_killed(stage: Stage) -> None:
    cache = stage.rng.choice(stage.caches)
    os.kill(stage.rng.choice(workers(cache)), signal.SIGKILL)
    assert wait_until(lambda: len(workers(cache)) == 2, timeout=10), "no other worker takes its place"


def origin_away(stage: Stage) -> None:
    stage.origin.stop()
    stage.go_on(2)
    stage.origin.start()


FAULTS = {
    "redis-killed": of_redis(killed),
    "redis-paused": of_redis(paused),
    "redis-stuttering": of_redis(stuttering),
    "redis-emptied": of_redis(emptied),
    "redis-full": of_redis(full),
    "worker-killed": ("worker", worker_killed),
    "origin-away": ("origin", origin_away),
}
