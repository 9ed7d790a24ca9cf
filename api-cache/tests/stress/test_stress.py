"""Clients ask for all that a cache may be asked for; a reading of the RFCs of our own says what is wrong."""

from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from random import Random

import pytest
from local.processes import wait_until

from store import layout
from store.shared import UNFINISHED_SECONDS
from tests.conftest import connected
from tests.stress.clients import Client
from tests.stress.faults import FAULTS, Stage
from tests.stress.judge import Judge
from tests.stress.origin import Answers
from tests.stress.records import Records
from tests.stress.requests import Asker
from tests.stress.targets import random_targets
from tests.support import metrics, tracebacks

CLIENTS = 20
TARGETS = 70
SETTINGS = {"CACHE_ORIGIN_TIMEOUT": "5", "CACHE_CONNECT_TIMEOUT": "1"}


@pytest.mark.parametrize("fault", ["none", *FAULTS])
def test_every_answer_is_right(fault, seed, seconds, origin, valkey, make_cache, tmp_path):
    rng = Random(f"{seed} {fault}")
    judge = Judge(Records(random_targets(rng, TARGETS)))
    answers = Answers(judge.records, rng)
    for path in judge.records.targets:
        origin.on(path.partition("?")[0], answers)
    stage = Stage(origin, valkey, [make_cache(**SETTINGS), make_cache(**SETTINGS)], judge, rng)
    ask(stage, fault, seconds, seed)
    print(*(f"{number:7} {outcome}" for outcome, number in sorted(judge.outcomes.items())), sep="\n")
    again = f"Again: make test-stress SEED={seed} SECONDS={seconds:.0f} FAULT={fault}"
    assert not judge.violations, "\n\n".join(["", *judge.violations, again])
    assert judge.outcomes.total() > 20 * seconds, judge.outcomes
    assert not (found := tracebacks(tmp_path)), found[:3]
    for cache in stage.caches:
        assert wait_until(lambda cache=cache: is_at_rest(cache), timeout=10), metrics(cache)
    assert wait_until(lambda: not left_behind(valkey), timeout=10), left_behind(valkey)


def ask(stage: Stage, fault: str, seconds: float, seed: int) -> None:
    """Have all clients ask for so many seconds, or until enough is wrong."""
    judge, ports = stage.judge, [cache.port for cache in stage.caches]
    with ThreadPoolExecutor(CLIENTS + 1) as pool:
        jobs = []
        for name in (f"client-{number}" for number in range(CLIENTS)):
            rng = Random(f"{seed} {name}")
            client = Client(ports, Asker(name, judge.records, rng), judge, rng)
            jobs.append(pool.submit(client.run, judge.over))
        if fault in FAULTS:
            jobs.append(pool.submit(stage.break_again_and_again, fault))
        wait(jobs, timeout=seconds, return_when=FIRST_EXCEPTION)
        judge.over.set()
    for job in jobs:
        job.result()


def is_at_rest(cache) -> bool:
    """Nobody waits any more, and every process uses its memory."""
    found = metrics(cache)
    return (found["api_cache_waiters"], found["api_cache_memory_usable"]) == (0, 2)


def left_behind(valkey) -> dict[str, int]:
    """Bodies that stay in Redis though no entry names them, and for how many seconds they do, or -1 for ever.

    None where Redis evicted what may have named them.
    """
    with connected(valkey) as client:
        if client.info("stats")["evicted_keys"]:
            return {}
        indexes = [name for name in client.keys(f"{layout.INDEX}*") if client.type(name) == b"hash"]
        fields = [field for name in indexes for field in client.hkeys(name)]
        named = {field.rpartition(b":")[2] for field in fields if not field.startswith(b"s:")}
        bodies = [
            name for name in client.keys(layout.body("*", "*", "*")) if name.split(b":")[4] not in named
        ]
        seconds = {name.decode(): client.ttl(name) for name in bodies}
        return {name: ttl for name, ttl in seconds.items() if ttl == -1 or ttl > UNFINISHED_SECONDS}
