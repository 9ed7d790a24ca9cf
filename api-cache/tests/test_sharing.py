"""Who may share one answer of the origin, and who has to."""

import contextlib
import http.client
import random
import socket
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from local.processes import wait_until

from store.stored import target_hash
from tests.conftest import connected, lose_bodies
from tests.support import all_wait, answer, ask, fresh_path, metrics, together, waiting, warm

CLIENTS = 30
BODY = b"0123456789" * 500
TAGGED = ('ETag: "a"', "Content-Type: image/png", "Cache-Control: max-age=60")


def when_all_wait(origin, cache, path, number, data):
    """Have the origin send these bytes, for the first time when so many ask."""

    def script(wire, _):
        assert len(origin.asked(path)) > 1 or all_wait(cache, number)
        wire.send(data)

    origin.on(path, script)


@pytest.mark.parametrize("said", ["private", "no-store", "max-age=60, private"])
def test_rfc9111_5_2_2_7_a_304_for_one_client_is_not_shared(one_worker, origin, said):
    path = fresh_path()

    def script(wire, received):
        (who,) = received.values("who") or ["nobody"]
        if received.values("if-none-match"):
            wait_until(lambda: waiting(one_worker) == CLIENTS - 1, timeout=10)
            head = f'HTTP/1.1 304 X\r\nETag: "a"\r\nCache-Control: {said}\r\nWhose: {who}\r\n\r\n'
            wire.send(head.encode())
        else:
            lines = (
                ("Cache-Control: no-store",) if who != "nobody" else ("Cache-Control: max-age=60", "Age: 60")
            )
            wire.send(answer(BODY, 'ETag: "a"', f"Whose: {who}", *lines))

    origin.on(path, script)
    ask(one_worker.port, path)
    found = together(one_worker, path, CLIENTS)
    assert {who: each["whose"] for who, each in found.items()} == {who: who for who in found}
    assert all("stored" not in each.cache for each in found.values())


@pytest.mark.parametrize("said", ["private", "no-cache"])
def test_rfc9111_5_2_2_7_a_field_for_one_client_is_not_shared(cache, origin, said):
    path = fresh_path()
    lines = ("Cache-Control: max-age=60, " + said + '="Whose"', "Whose: the first", "For: all")
    when_all_wait(origin, cache, path, CLIENTS, answer(BODY, *lines))
    found = [each for each in together(cache, path, CLIENTS).values() if each.cache != "fwd=miss; stored"]
    assert found
    assert {(each["Whose"], each["For"], each.body) for each in found} == {(None, "all", BODY)}


@pytest.mark.parametrize(("size", "number"), [(len(BODY), CLIENTS), (20 * 2**20, 4)])
def test_a_lost_body_is_asked_for_once(shared_cache, client, origin, size, number):
    """Redis may evict it, though not its entry."""
    cache = shared_cache(CACHE_MEMORY_BYTES="0")
    path, before = fresh_path(), metrics(cache)["api_cache_corrupt_entries_total"]

    def script(wire, _):
        assert len(origin.asked(path)) == 1 or all_wait(cache, number)
        wire.send(answer(bytes(size), *TAGGED))

    origin.on(path, script)
    ask(cache.port, path)
    lose_bodies(client, path)
    assert {len(each.body) for each in together(cache, path, number).values()} == {size}
    assert len(origin.asked(path)) == 2
    assert metrics(cache)["api_cache_corrupt_entries_total"] == before


def test_rfc9111_5_2_1_7_a_lost_body_is_not_asked_for_where_only_a_stored_one_may_serve(
    shared_cache, client, origin
):
    cache = shared_cache(CACHE_MEMORY_BYTES="0")
    path = fresh_path()
    origin.on(path, answer(BODY, *TAGGED))
    ask(cache.port, path)
    lose_bodies(client, path)
    found = ask(cache.port, path, ("Cache-Control", "only-if-cached"))
    assert (found.status, found.cache) == (504, "fwd=miss; detail=only-if-cached")
    assert len(origin.asked(path)) == 1


def test_a_body_lost_when_it_was_validated_is_asked_for_once(shared_cache, client, origin):
    cache = shared_cache(CACHE_MEMORY_BYTES="0")
    path = fresh_path()

    def script(wire, received):
        is_first = len(origin.asked(path)) == 1
        assert is_first or all_wait(cache, CLIENTS)
        unchanged = b'HTTP/1.1 304 X\r\nETag: "a"\r\nCache-Control: max-age=60\r\n\r\n'
        age = ("Age: 60",) if is_first else ()
        wire.send(unchanged if received.values("if-none-match") else answer(BODY, *TAGGED, *age))

    origin.on(path, script)
    ask(cache.port, path)
    lose_bodies(client, path)
    assert {each.body for each in together(cache, path, CLIENTS).values()} == {BODY}
    assert len(origin.asked(path)) == 3


UNTAGGED = TAGGED[1:]
WEAKLY_TAGGED = ('ETag: W/"a"', *UNTAGGED)
TEXT = ('ETag: "a"', "Content-Type: text/plain", "Cache-Control: max-age=60")
LONG = random.Random(4).randbytes(3 * 2**20)


def with_damage_at_the_end(cache, client, origin, lines):
    """A path that is stored, though its last byte is not what it was."""
    path = fresh_path()
    origin.on(path, answer(LONG, *lines))
    ask(cache.port, path)
    for key in client.keys(f"api-cache:2:b:{target_hash(path)}*"):
        client.setrange(key, client.strlen(key) - 1, b"?")
    return path


@pytest.mark.parametrize(
    ("lines", "asked", "expected"),
    [
        pytest.param(TAGGED, (), LONG, id="all"),
        pytest.param(TAGGED, ("Range", "bytes=1000-3145000"), LONG[1000:3145001], id="part"),
        pytest.param(TEXT, (), LONG, id="decoded"),
    ],
)
def test_what_redis_lost_while_it_was_sent_comes_from_the_origin(
    shared_cache, client, origin, lines, asked, expected
):
    cache = shared_cache(CACHE_MEMORY_BYTES="0")
    path = with_damage_at_the_end(cache, client, origin, lines)
    found = ask(cache.port, path, *filter(None, (asked,)))
    assert (found.cache, found.body == expected) == ("hit", True)
    assert len(origin.asked(path)) == 2
    assert not origin.asked(path)[1].values("range")


@pytest.mark.parametrize(
    ("lines", "asked", "later", "times"),
    [
        pytest.param(UNTAGGED, (), UNTAGGED, 2, id="untagged"),
        pytest.param(WEAKLY_TAGGED, (), WEAKLY_TAGGED, 2, id="weakly-tagged"),
        pytest.param(TAGGED, (), ('ETag: "b"', *UNTAGGED), 3, id="changed"),
        pytest.param(TEXT, ("Accept-Encoding", "gzip"), TEXT, 2, id="coded-by-us"),
    ],
)
def test_a_damaged_body_whose_rest_cannot_be_told_breaks_off_once(
    shared_cache, client, origin, lines, asked, later, times
):
    cache = shared_cache(CACHE_MEMORY_BYTES="0")
    path = with_damage_at_the_end(cache, client, origin, lines)
    origin.on(path, answer(LONG, *later))
    with pytest.raises((http.client.IncompleteRead, ConnectionError)):
        ask(cache.port, path, *filter(None, (asked,)))
    assert ask(cache.port, path).body == LONG
    assert ask(cache.port, path).cache == "hit"
    assert len(origin.asked(path)) == times


@pytest.mark.parametrize("harm", ["dead", "full"])
def test_without_redis_each_process_still_asks_once(mended_valkey, shared_cache, origin, harm):
    cache, path = shared_cache(redis=mended_valkey), fresh_path()
    origin.on(path, answer(b"x", "Cache-Control: max-age=60"))
    warm(cache, path)
    if harm == "dead":
        mended_valkey.kill()
    else:
        with connected(mended_valkey) as connection:
            connection.config_set("maxmemory-policy", "noeviction")
            connection.config_set("maxmemory", 1)
    path = fresh_path()
    gathered = threading.Event()

    def script(wire, _):
        assert wait_until(lambda: gathered.is_set() or waiting(cache) >= CLIENTS - 2, timeout=10)
        gathered.set()  # those who wait in one process may have their answer before those in the other
        wire.send(answer(BODY, *TAGGED))

    origin.on(path, script)
    ask(cache.port, fresh_path())  # has them notice
    found = together(cache, path, CLIENTS)
    assert {each.body for each in found.values()} == {BODY}
    assert len(origin.asked(path)) <= 2
    if harm == "dead":
        assert {each.cache for each in found.values()} == {"fwd=miss", "fwd=miss; collapsed"}


def test_a_slow_origin_is_not_asked_by_all_who_lose_patience(make_cache, origin):
    cache = make_cache(CACHE_COLLAPSE_WAIT="0.3", CACHE_WORKERS="1")
    path = fresh_path()

    def script(wire, _):
        assert wait_until(lambda: len(origin.asked(path)) >= 3, timeout=10)
        wait_until(lambda: len(origin.asked(path)) > 3, timeout=1)
        wire.send(answer(BODY, *TAGGED))

    origin.on(path, script)
    with ThreadPoolExecutor(100) as clients:
        found = [clients.submit(ask, cache.port, path)]
        # Those who come later have not waited yet, but the origin has been asked all the same.
        for asked in (1, 2, 3):
            found += [clients.submit(ask, cache.port, path) for _ in range(33)]
            assert wait_until(lambda asked=asked: len(origin.asked(path)) >= asked, timeout=5)
        assert {each.result().body for each in found} == {BODY}
    assert len(origin.asked(path)) == 3


def test_those_who_wait_get_the_answer_of_whoever_succeeds(make_cache, origin):
    cache = make_cache(CACHE_COLLAPSE_WAIT="1", CACHE_WORKERS="1", CACHE_ORIGIN_TIMEOUT="2")
    path = fresh_path()
    released = threading.Event()

    def script(wire, _):
        if len(origin.asked(path)) == 1:
            released.wait(20)
        timed_out = lambda: 'api_cache_origin_errors_total{error="timeout"}' in metrics(cache)  # noqa: E731
        wait_until(timed_out, timeout=10, interval=0.1)
        wire.send(answer(BODY, *TAGGED))

    origin.on(path, script)
    found = [each.status for each in together(cache, path, 20).values()]
    released.set()
    assert (found.count(504), found.count(200)) == (1, 19)  # who asked first, and those who asked anew


@pytest.mark.parametrize(
    ("media_type", "size"), [("image/png", 2_000_000), ("text/plain", 2_000_000), ("text/plain", 80_000)]
)
def test_what_is_too_large_is_shared_once_and_then_no_more(shared_cache, origin, media_type, size):
    cache = shared_cache(CACHE_MAX_OBJECT_BYTES="100000")
    path = fresh_path()
    body = random.Random(1).randbytes(size)

    def script(wire, _):
        first = len(origin.asked(path)) == 1
        assert first or wait_until(lambda: len(origin.asked(path)) == 9, timeout=4), (
            "they waited for each other"
        )
        wire.send(answer(body, f"Content-Type: {media_type}", "Cache-Control: max-age=60"))

    origin.on(path, script)
    expected = "fwd=miss; detail=too-large" if media_type == "image/png" else "fwd=miss; stored"
    before = not_stored(cache)
    assert ask(cache.port, path).cache == expected
    assert {each.body for each in together(cache, path, 8).values()} == {body}
    assert len(origin.asked(path)) == 9
    assert not_stored(cache) > before


def not_stored(cache):
    return metrics(cache).get('api_cache_not_stored_total{reason="too-large"}', 0)


def locks(client):
    """How often a process has tried to become the one that asks."""
    return client.info("commandstats")["cmdstat_set"]["calls"]


def test_rfc9111_4_1_each_variant_of_a_cold_target_is_asked_for_once(one_worker, origin):
    """Nobody knows what tells them apart before the first answer is there."""
    path, number = fresh_path(), 24

    def script(wire, got):
        assert len(origin.asked(path)) > 1 or all_wait(one_worker, number)
        (which,) = got.values("X-Which")
        wire.send(answer(which.encode(), "Vary: X-Which", "Cache-Control: max-age=60"))

    origin.on(path, script)
    asked = ["abc"[each % 3] for each in range(number)]
    with ThreadPoolExecutor(number) as pool:
        found = pool.map(lambda which: ask(one_worker.port, path, ("X-Which", which)).body.decode(), asked)
        assert [*found] == asked
    assert len(origin.asked(path)) == 3


def test_rfc9111_3_2_each_variant_that_a_304_tells_of_is_asked_for_once(one_worker, origin):
    path, number = fresh_path(), 24
    lines = ('ETag: "a"', "Cache-Control: no-cache")
    origin.on(path, answer(b"all", *lines))
    ask(one_worker.port, path)

    def script(wire, got):
        if len(origin.asked(path)) == 2:
            assert all_wait(one_worker, number)
            wire.send(answer(b"", *lines, "Vary: X-Which", status=304))
        else:
            (which,) = got.values("X-Which")
            wire.send(answer(which.encode(), *lines, "Vary: X-Which"))

    origin.on(path, script)
    asked = ["abc"[each % 3] for each in range(number)]
    with ThreadPoolExecutor(number) as pool:
        found = [*pool.map(lambda which: ask(one_worker.port, path, ("X-Which", which)).body.decode(), asked)]
    assert all(body in (which, "all") for body, which in zip(found, asked, strict=True))
    assert found.count("all") == number // 3
    assert len(origin.asked(path)) == 4


def test_processes_refresh_one_at_a_time_what_may_serve_meanwhile(make_cache, client, origin):
    caches = [make_cache(CACHE_WORKERS="1", CACHE_COLLAPSE_WAIT="20") for _ in range(3)]
    path, release = fresh_path(), threading.Event()

    def script(wire, _):
        assert len(origin.asked(path)) == 1 or release.wait(10)
        wire.send(answer(b"x", "Cache-Control: max-age=0, stale-while-revalidate=600"))

    origin.on(path, script)
    ask(caches[0].port, path)
    before = locks(client)
    try:
        assert {ask(each.port, path).body for each in caches} == {b"x"}
        assert wait_until(lambda: locks(client) > before + 12, timeout=5)  # the others try, and wait
        assert len(origin.asked(path)) == 2
        release.set()
        assert {ask(each.port, path).body for each in caches} == {b"x"}
    finally:
        release.set()


def test_those_who_waited_for_what_turns_out_uncacheable_do_not_queue(cache, origin):
    path, number = fresh_path(), 20

    def script(wire, _):
        if len(origin.asked(path)) == 1:
            assert all_wait(cache, number)
        else:
            assert wait_until(lambda: len(origin.asked(path)) == number, timeout=10)
        wire.send(answer(b"x", "Cache-Control: private"))

    origin.on(path, script)
    assert {each.body for each in together(cache, path, number).values()} == {b"x"}
    assert len(origin.asked(path)) == number


def test_processes_do_not_queue_for_what_each_has_to_validate(make_cache, client, origin):
    caches = [make_cache(CACHE_WORKERS="1", CACHE_COLLAPSE_WAIT="20") for _ in range(3)]
    path = fresh_path()
    first, second, third = rounds = [threading.Event() for _ in range(3)]
    upto = {1: first, 2: second, 3: second}

    def script(wire, _):
        assert upto.get(len(origin.asked(path)), third).wait(10)
        wire.send(answer(b"x", "Cache-Control: no-cache", 'ETag: "a"'))

    def are_asked(number):
        return wait_until(lambda: len(origin.asked(path)) == number, timeout=5)

    origin.on(path, script)
    try:
        with ThreadPoolExecutor() as pool:
            found = [pool.submit(ask, caches[0].port, path)]
            assert are_asked(1)
            before = locks(client)
            found += [pool.submit(ask, each.port, path) for each in caches[1:]]
            assert wait_until(lambda: locks(client) > before + 6, timeout=5)  # the others try, and wait
            first.set()
            assert are_asked(3)
            second.set()
            assert {each.result(10).body for each in found} == {b"x"}
            found = [pool.submit(ask, each.port, path) for each in caches]
            assert are_asked(6)
            third.set()
            assert {each.result(10).body for each in found} == {b"x"}
    finally:
        for each in rounds:
            each.set()


LARGE = random.Random(2).randbytes(40_000_000)


def test_a_slow_client_does_not_hold_up_those_with_whom_it_shared(shared_cache, origin):
    cache = shared_cache(CACHE_MAX_OBJECT_BYTES="1000000", CACHE_WORKERS="1")
    path = fresh_path()
    when_all_wait(origin, cache, path, 2, answer(LARGE, 'ETag: "a"', "Content-Type: text/plain"))
    with pair(cache, path) as (slow, fast):
        assert content(fast) == LARGE
        assert content(slow) == LARGE
    assert len(origin.asked(path)) == 2


def test_who_is_outrun_gets_the_rest_from_the_store_if_it_is_there(make_cache, origin):
    """The memory for what passes is used up by others who are slow."""
    cache = make_cache(CACHE_MAX_OBJECT_BYTES="30000000", CACHE_WORKERS="1")
    body, paths = LARGE[:25_000_000], [fresh_path() for _ in range(3)]
    with contextlib.ExitStack() as stack:
        for path in paths:
            when_all_wait(origin, cache, path, 2, answer(body, *TAGGED))
            slow, fast = stack.enter_context(pair(cache, path))
            assert content(fast) == body
        assert content(slow) == body
    assert [len(origin.asked(path)) for path in paths] == [1, 1, 1]


def test_a_slow_client_never_gets_the_rest_of_something_else(shared_cache, origin):
    cache = shared_cache(CACHE_MAX_OBJECT_BYTES="1000000", CACHE_WORKERS="1")
    path = fresh_path()

    def script(wire, _):
        first = len(origin.asked(path)) == 1
        assert not first or all_wait(cache, 2)
        wire.send(answer(LARGE if first else LARGE[::-1], f'ETag: "{first}"', "Content-Type: text/plain"))

    origin.on(path, script)
    with pair(cache, path) as (slow, fast):
        assert content(fast) == LARGE
        with pytest.raises((http.client.IncompleteRead, ConnectionError)):
            content(slow)


def test_without_a_tag_the_slow_client_still_gets_everything(shared_cache, origin):
    cache = shared_cache(CACHE_MAX_OBJECT_BYTES="1000000", CACHE_WORKERS="1")
    path = fresh_path()
    when_all_wait(origin, cache, path, 2, answer(LARGE, "Content-Type: text/plain"))
    with pair(cache, path) as (slow, fast), ThreadPoolExecutor() as pool:
        assert [*pool.map(content, (slow, fast))] == [LARGE, LARGE]
    assert len(origin.asked(path)) == 1


@contextlib.contextmanager
def pair(cache, path):
    """Two clients who share an answer; neither has read any of it."""
    clients = [http.client.HTTPConnection("127.0.0.1", cache.port, timeout=20) for _ in range(2)]
    for each in clients:
        each.connect()
        each.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        each.request("GET", path)
    with contextlib.closing(clients[0]), contextlib.closing(clients[1]):
        yield clients


def content(client):
    return client.getresponse().read()
