"""Workers of api-cache are killed while clients ask."""

import itertools
import os
import signal
from pathlib import Path

from tests.faults.load import Load, metric, until, warm_paths, warm_up


def workers(cache) -> list[int]:
    return [
        int(pid)
        for pid in Path(f"/proc/{cache.process.pid}/task/{cache.process.pid}/children").read_text().split()
    ]


def test_only_the_connections_of_a_killed_worker_break(cache):
    paths = warm_paths()
    warm_up([cache.port], paths)
    with Load([cache.port], paths) as load:
        for number in range(4):
            load.go_on(0.7)
            os.kill(workers(cache)[number % 2], signal.SIGKILL)
            until(lambda: len(workers(cache)) == 2, "no other worker takes its place")
        load.go_on(1.0)
    load.check(longest=5.0, breaks=True)
    broken = [each for each in load.seen if each.status is None]
    assert len(broken) <= 4 * 8 * 2, broken[:3]
    until(lambda: metric(cache.port, "api_cache_workers") == 2, "the new workers are not counted")


def test_a_paused_worker_holds_up_only_its_own_connections(cache):
    paths = warm_paths()
    warm_up([cache.port], paths)
    victim = workers(cache)[0]
    with Load([cache.port], paths, clients=12) as load:
        load.go_on(0.5)
        os.kill(victim, signal.SIGSTOP)
        try:
            load.go_on(2.0)
            begun = len(load.seen)
            load.go_on(1.0)
            assert len(load.seen) > begun, "nobody is served any more"
        finally:
            os.kill(victim, signal.SIGCONT)
        load.go_on(0.5)
    load.check(longest=8.0)


def test_a_replica_that_dies_while_it_asks_leaves_the_others_a_way(make_cache, origin):
    replicas = [make_cache(), make_cache()]
    paths = warm_paths()
    warm_up([each.port for each in replicas], paths)
    origin.mode("slow")
    with Load([replicas[1].port], paths, cold=0.5) as load, Load([replicas[0].port], paths, cold=0.5) as lost:
        load.go_on(1.0)
        replicas[0].process.kill()
        load.go_on(2.0)
    load.check(longest=8.0)
    assert not [each for each in itertools.chain(lost.seen, load.seen) if each.wrong]
