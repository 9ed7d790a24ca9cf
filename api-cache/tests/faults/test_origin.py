"""The origin dies, hangs or sends rubbish: what is stored serves, and nothing broken is stored."""

import pytest

from tests.faults.load import Client, Load, cold_path, until, warm_paths, warm_up

ORIGIN_SECONDS = 1.0
SECONDS = 3.0
LONGEST = 3 * ORIGIN_SECONDS + 2.0
"""Connecting, the answer's head, and a pause within its content; the rest is for a busy machine."""


def killed(origin, load):
    origin.process.kill()
    load.go_on(SECONDS)
    origin.start()


def paused(origin, load):
    origin.process.pause()
    load.go_on(SECONDS)
    origin.process.resume()


def mode(name: str):
    def fault(origin, load):
        origin.mode(name)
        load.go_on(SECONDS)
        origin.mode("well")

    return fault


@pytest.fixture
def cache(make_cache):
    """One that waits for its origin less long than we do."""
    return make_cache(CACHE_ORIGIN_TIMEOUT=str(ORIGIN_SECONDS), CACHE_CONNECT_TIMEOUT=str(ORIGIN_SECONDS))


FAULTS = {"killed": killed, "paused": paused} | {
    name: mode(name) for name in ("cut-length", "cut-chunked", "malformed", "refusing", "slow")
}


@pytest.mark.parametrize("name", FAULTS)
def test_what_is_stored_serves(cache, origin, name):
    paths = warm_paths()
    warm_up([cache.port], paths)
    with Load([cache.port], paths) as load:
        load.go_on(0.5)
        FAULTS[name](origin, load)
        load.go_on(0.5)
    if name in ("cut-length", "cut-chunked"):
        # Nothing tells a client before the end that the new version's body breaks off, if it passes at once.
        check_cut(load)
    else:
        load.check(longest=LONGEST, cold_fails=True)
    check_recovery(cache)


def check_cut(load):
    assert not [each for each in load.seen if each.wrong]
    broken = [each for each in load.warm() if each.status not in (200, None)]
    assert not broken, broken[:3]
    assert max(each.seconds for each in load.seen) < LONGEST


def check_recovery(cache):
    """By itself, and soon: new targets are answered and stored."""
    with Client(cache.port) as client:
        until(lambda: client.get(cold_path()).status == 200, "the origin is not asked again")
    warm_up([cache.port], warm_paths())
