"""A failing origin: stale answers where they may be, problem documents where not, and never a hang."""

import asyncio
import http.client
import itertools
import json
import re
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from local.processes import free_port, wait_until

from httpcache.messages import Headers, Request
from origin.client import Origin as HttpOrigin
from origin.pool import Pool
from tests.support import Origin, answer, ask, fresh_path, metrics, waiting

IMPATIENT = {"CACHE_ORIGIN_TIMEOUT": "1", "CACHE_CONNECT_TIMEOUT": "1"}


@pytest.fixture
def impatient(shared_cache):
    """A cache whose origin answers, though not always well."""
    return shared_cache(**IMPATIENT)


@pytest.fixture(scope="module")
def own_origin():
    """It may be stopped, and is to be started again."""
    return Origin()


@pytest.fixture
def fragile(shared_cache, own_origin):
    """A cache whose origin may be gone."""
    return shared_cache(BACKEND_PORT=str(own_origin.port), **IMPATIENT)


@pytest.fixture
def hasty(shared_cache):
    """A cache that does not wait long for the answer to another one's request."""
    return shared_cache(CACHE_COLLAPSE_WAIT="0.3")


STALE = "Cache-Control: max-age=0"


def stored(cache, path):
    """Ask until it is stored: on a busy machine Redis may be late, which then is as if it were away."""
    assert wait_until(lambda: "stored" in ask(cache.port, path).cache, timeout=10)


def test_stale_serves_when_the_origin_is_gone_and_fresh_when_it_is_back(fragile, own_origin):
    path = fresh_path()
    own_origin.on(path, answer(b"old", STALE, 'ETag: "1"'))
    stored(fragile, path)
    own_origin.stop()
    outcomes = []
    for _ in range(10):
        found = ask(fragile.port, path)
        assert (found.status, found.body) == (200, b"old")
        outcomes.append(found.cache)
    # Once in each worker the origin is asked; then, while it fails, nobody waits for it.
    assert set(outcomes) <= {"fwd=stale; detail=stale-if-error", "hit; detail=stale-if-error"}
    assert outcomes.count("hit; detail=stale-if-error") >= 8
    never_stored = ask(fragile.port, fresh_path())
    assert (never_stored.status, never_stored["Retry-After"]) == (502, "1")
    own_origin.on(path, answer(b"new", STALE))
    own_origin.start()
    assert wait_until(lambda: ask(fragile.port, path).body == b"new", timeout=10)


@pytest.mark.parametrize(
    "directive", ["must-revalidate", "proxy-revalidate", "no-cache", "s-maxage=0", "stale-if-error=0"]
)
def test_stale_does_not_serve_where_the_origin_forbade_it(fragile, own_origin, directive):
    path = fresh_path()
    own_origin.on(path, answer(b"old", f"{STALE}, {directive}", 'ETag: "1"'))
    stored(fragile, path)
    own_origin.stop()
    assert ask(fragile.port, path).status == 502
    own_origin.start()


@pytest.mark.parametrize("status", [500, 502, 503, 504])
def test_stale_serves_in_place_of_an_error(impatient, origin, status):
    path = fresh_path()
    origin.on(path, answer(b"old", STALE, 'ETag: "1"'))
    stored(impatient, path)
    origin.on(path, answer(b"error", status=status))
    found = ask(impatient.port, path)
    assert (found.status, found.body) == (200, b"old")
    assert found.cache == f"fwd=stale; fwd-status={status}; detail=stale-if-error"


def test_what_stands_in_for_an_error_says_that_the_client_wanted_to_ask(impatient, origin):
    path = fresh_path()
    origin.on(path, answer(b"fresh", "Cache-Control: max-age=60", 'ETag: "1"'))
    stored(impatient, path)
    origin.on(path, answer(b"error", status=503))
    found = ask(impatient.port, path, ("Cache-Control", "max-age=0"))
    assert (found.status, found.body) == (200, b"fresh")
    assert found.cache == "fwd=request; fwd-status=503; detail=stale-if-error"


def test_a_silent_origin_is_a_504_in_time_and_stale_serves_at_once_after_it(fragile, own_origin):
    path, other = fresh_path(), fresh_path()
    own_origin.on(path, answer(b"old", STALE, 'ETag: "1"'))
    stored(fragile, path)
    never = threading.Event()
    silence = lambda *_: never.wait(20) and False  # noqa: E731
    own_origin.on(path, silence)
    own_origin.on(other, silence)
    begun = time.monotonic()
    assert ask(fragile.port, other).status == 504
    assert ask(fragile.port, path).body == b"old"
    assert time.monotonic() - begun < 6
    begun = time.monotonic()
    for _ in range(10):
        assert ask(fragile.port, path).body == b"old"
    assert time.monotonic() - begun < 6  # once in each worker at most
    never.set()


def test_a_pause_within_the_content_ends_it_in_time(impatient, origin):
    path = fresh_path()
    never = threading.Event()

    def script(wire, _):
        wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")
        never.wait(20)

    origin.on(path, script)
    begun = time.monotonic()
    with pytest.raises((http.client.IncompleteRead, ConnectionError)):
        ask(impatient.port, path)
    assert time.monotonic() - begun < 5
    never.set()


def test_a_pooled_connection_that_the_origin_has_closed_is_no_error(cache, origin):
    path = fresh_path()

    def script(wire, _):
        wire.send(answer(b"x", "Cache-Control: no-store"))
        return False  # without having said so

    origin.on(path, script)
    assert [ask(cache.port, path).status for _ in range(20)] == [200] * 20


def test_a_replica_that_hangs_up_on_a_new_connection_is_asked_again(cache, origin):
    path = fresh_path()
    origin.on(path, lambda wire, _: len(origin.asked(path)) > 1 and wire.send(answer(b"x")) is None)
    assert (ask(cache.port, path).body, len(origin.asked(path))) == (b"x", 2)


def test_an_origin_that_always_hangs_up_is_not_asked_for_ever(one_worker, origin):
    """However many connections are idle: one of them fails, then new ones are tried."""
    path, busy = fresh_path(), fresh_path()
    together = threading.Barrier(12)
    origin.on(busy, lambda wire, _: together.wait(10) is not None and wire.send(answer(b"x")) is None)
    with ThreadPoolExecutor(together.parties) as pool:
        list(pool.map(lambda number: ask(one_worker.port, f"{busy}?{number}"), range(together.parties)))
    origin.on(path, lambda *_: False)
    assert ask(one_worker.port, path).status == 502
    assert len(origin.asked(path)) == 4


class Replicated(Pool):
    """An origin with two addresses, the first of which does not answer."""

    async def _addresses(self):
        return ["127.0.0.2", "127.0.0.1"]


def test_a_dead_replica_takes_only_its_share_of_the_time(origin):
    path = fresh_path()
    origin.on(path, answer(b"alive"))
    dead = socket.create_server(("127.0.0.2", origin.port), backlog=0)
    # Whoever comes after those that fill the queue waits for an answer to their SYN.
    waiting = [socket.socket() for _ in range(4)]
    for each in waiting:
        each.setblocking(False)
        each.connect_ex(dead.getsockname())

    async def ask_it():
        client = HttpOrigin(Replicated("replicas.example", origin.port, connect_timeout=1), timeout=5)
        found = await client.send(Request("GET", path, Headers()))
        body = b"".join([part async for part in found.parts()])
        found.close()
        client.close()
        return body

    started = time.monotonic()
    assert asyncio.run(ask_it()) == b"alive"
    assert time.monotonic() - started >= 0.4  # the dead one was tried
    for each in (dead, *waiting):
        each.close()


@pytest.mark.parametrize(("method", "status"), [("HEAD", 200), ("GET", 204), ("GET", 304)])
def test_an_answer_without_content_gives_its_connection_back(one_worker, origin, method, status):
    path = fresh_path()
    head = f"HTTP/1.1 {status} X\r\nCache-Control: no-store\r\nContent-Length: 0\r\n\r\n".encode()
    origin.on(path, head)
    for _ in range(5):
        assert ask(one_worker.port, path, ("If-None-Match", '"x"'), method=method).status == status
    assert len({each.connection for each in origin.asked(path)}) == 1


def test_no_proxy_and_no_netrc_is_taken_from_the_environment(make_cache, origin, tmp_path):
    (tmp_path / ".netrc").write_text("default login who password what\n")
    proxies = ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY")
    cache = make_cache(HOME=str(tmp_path), **dict.fromkeys(proxies, "http://127.0.0.1:1"))
    path = fresh_path()
    origin.on(path, answer(b"x"))
    assert ask(cache.port, path).body == b"x"
    (got,) = origin.asked(path)
    assert not got.values("Authorization")


def test_no_field_is_added_or_rewritten_that_a_framework_would(cache, origin):
    path = fresh_path()
    origin.on(path, answer(b"x", "Content-Location: other", "Cache-Control: max-age=60"))
    for _ in range(2):
        got = ask(cache.port, path)
        assert (got["Content-Location"], got["Content-Type"]) == ("other", None)


def test_a_post_is_never_sent_twice(cache, origin):
    path = fresh_path()
    origin.on(path, lambda *_: False)
    assert ask(cache.port, path, method="POST", body=b"once").status == 502
    assert len(origin.asked(path)) == 1


def test_an_early_refusal_reaches_a_client_that_still_sends(cache, origin):
    path = fresh_path()
    origin.on(path, answer(b"no", status=403))
    found = ask(cache.port, path, method="POST", body=b"x" * 3_000_000)
    assert (found.status, found.body) == (403, b"no")


def test_500_clients_of_2_replicas_with_2_workers_make_one_request(make_cache, origin):
    replicas = [make_cache(CACHE_COLLAPSE_WAIT="20"), make_cache(CACHE_COLLAPSE_WAIT="20")]
    path = fresh_path()
    release = threading.Event()

    def script(wire, _):
        assert release.wait(30)
        wire.send(answer(b"one for all\n" * 500, "Content-Type: text/plain"))

    origin.on(path, script)
    found, lock = [], threading.Lock()

    def client(number):
        got = ask(replicas[number % 2].port, path, timeout=30)
        with lock:
            found.append((got.status, got.body))

    clients = [threading.Thread(target=client, args=(number,)) for number in range(500)]
    for each in clients:
        each.start()
    assert wait_until(lambda: origin.asked(path) and sum(map(waiting, replicas)) > 400, timeout=15)
    release.set()
    for each in clients:
        each.join(30)
    assert found == [(200, b"one for all\n" * 500)] * 500
    assert len(origin.asked(path)) == 1


def test_a_slow_leader_does_not_hold_the_others_for_ever(hasty, origin):
    path = fresh_path()
    release = threading.Event()

    def script(wire, _):
        if len(origin.asked(path)) == 1:
            assert release.wait(20)
        wire.send(answer(b"x", "Cache-Control: max-age=60"))

    origin.on(path, script)
    leader = threading.Thread(target=ask, args=(hasty.port, path))
    leader.start()
    assert wait_until(lambda: origin.asked(path), timeout=5)
    begun = time.monotonic()
    assert ask(hasty.port, path).body == b"x"
    assert time.monotonic() - begun < 5
    release.set()
    leader.join()


def test_a_killed_leader_does_not_take_the_others_with_it(make_cache, cache, origin):
    dying = make_cache()
    path = fresh_path()
    never = threading.Event()

    def script(wire, _):
        if len(origin.asked(path)) == 1:
            never.wait(20)
            return
        wire.send(answer(b"x"))

    origin.on(path, script)
    leader = threading.Thread(target=_ask_in_vain, args=(dying.port, path))
    leader.start()
    assert wait_until(lambda: origin.asked(path), timeout=5)
    dying.process.kill()
    begun = time.monotonic()
    assert ask(cache.port, path).body == b"x"
    assert time.monotonic() - begun < 5
    never.set()
    leader.join()


def _ask_in_vain(port, path):
    with pytest.raises((OSError, http.client.HTTPException)):
        ask(port, path)


def test_a_cache_that_is_its_own_origin_says_so_at_once(make_cache):
    port = free_port()
    make_cache(port=port, BACKEND_PORT=str(port), CACHE_ORIGIN_TIMEOUT="5", CACHE_WORKERS="3")
    begun = time.monotonic()
    for method in ("GET", "HEAD", "POST", "BREW"):  # without content, which could cut the answer short
        found = ask(port, fresh_path(), method=method)
        assert (found.status, found["Content-Type"]) == (508, "application/problem+json")
        if method != "HEAD":
            assert "BACKEND_HOST" in json.loads(found.body)["detail"]
    assert time.monotonic() - begun < 4  # none of them has waited for itself


def test_a_cache_may_be_in_front_of_another_one(make_cache, hasty, origin):
    path = fresh_path()
    origin.on(path, answer(b"far", "Cache-Control: max-age=60"))
    outer = make_cache(BACKEND_PORT=str(hasty.port))
    cdn = ("CDN-Loop", "far.example; v=1, api-cache-0123456789abcdef")
    assert ask(outer.port, path, cdn).body == b"far"
    loops = ", ".join(origin.asked(path)[0].values("CDN-Loop"))
    assert re.fullmatch(rf"{cdn[1]}(, api-cache-[0-9a-f]{{16}}){{2}}", loops)


def test_one_broken_resource_does_not_make_others_stale(impatient, origin):
    path, broken = fresh_path(), fresh_path()
    versions = itertools.count()
    origin.on(path, lambda wire, _: wire.send(answer(b"%d" % next(versions), STALE, 'ETag: "1"')))
    origin.on(broken, lambda wire, _: wire.send(b"nonsense\r\n\r\n"))
    for version in range(4):
        assert ask(impatient.port, broken).status == 502
        assert ask(impatient.port, path).body == b"%d" % version


def test_stale_serves_when_the_content_breaks_off_before_it_begins(impatient, origin):
    path = fresh_path()
    origin.on(path, answer(b"old", STALE, 'ETag: "1"'))
    stored(impatient, path)
    origin.on(
        path, b"HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nhello"
    )
    found = ask(impatient.port, path)
    assert (found.status, found.body) == (200, b"old")
    assert found.cache == "fwd=stale; detail=stale-if-error"


@pytest.mark.parametrize(("then", "error"), [(False, "broken"), (None, "timeout")])
def test_an_answer_that_does_not_come_to_its_end_counts_as_an_error(impatient, origin, then, error):
    path, counted = fresh_path(), f'api_cache_origin_errors_total{{error="{error}"}}'

    def script(wire, _):
        wire.send(b"HTTP/1.1 200 X\r\nContent-Length: 10\r\n\r\nhalf")
        return then

    origin.on(path, script)
    before = metrics(impatient).get(counted, 0)
    with pytest.raises((http.client.IncompleteRead, ConnectionError)):
        ask(impatient.port, path)
    assert metrics(impatient)[counted] == before + 1


@pytest.mark.parametrize("beginning", [b"X", b"X: "], ids=["name", "value"])
def test_a_field_without_an_end_is_given_up_before_it_fills_memory(cache, origin, beginning):
    path = fresh_path()
    origin.on(path, b"HTTP/1.1 200 X\r\n" + beginning + b"y" * 500_000)
    found = ask(cache.port, path, timeout=10)  # long before the origin's time is up
    assert (found.status, found.cache) == (502, "fwd=miss; detail=broken")


def test_a_trailer_without_an_end_breaks_the_answer_off(cache, origin):
    path = fresh_path()
    head = b"HTTP/1.1 200 X\r\nTransfer-Encoding: chunked\r\n\r\n"
    origin.on(path, head + b"1\r\na\r\n0\r\nX: " + b"y" * 500_000)
    with pytest.raises((http.client.IncompleteRead, ConnectionError)):
        ask(cache.port, path, timeout=10)
