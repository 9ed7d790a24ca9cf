"""Who may share one answer of the origin, and who has to."""

import contextlib
import http.client
import random
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import redis
from local.processes import wait_until

from store.stored import target_hash
from tests.conftest import PASSWORD
from tests.support import answer, ask, fresh_path

CLIENTS = 30
BODY = b"0123456789" * 500
TAGGED = ('ETag: "a"', "Content-Type: image/png", "Cache-Control: max-age=60")


@pytest.fixture
def client(valkey):
    with redis.Redis(valkey.host, valkey.port, password=PASSWORD) as connection:
        yield connection


def together(cache, path, number=CLIENTS):
    """What each of so many clients gets who ask at once, by the name that it gives in `Who`."""
    found = {}

    def one(who):
        found[who] = ask(cache.port, path, ("Who", who), timeout=30)

    threads = [threading.Thread(target=one, args=(f"client-{who}",)) for who in range(number)]
    for each in threads:
        each.start()
    for each in threads:
        each.join(30)
    assert len(found) == number
    return found


def waiting(cache):
    lines = ask(cache.port, "/metrics").body.decode().splitlines()
    return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith("api_cache_waiters"))


@pytest.mark.parametrize("said", ["private", "no-store", "max-age=60, private"])
def test_rfc9111_5_2_2_7_a_304_for_one_client_is_not_shared(make_cache, origin, said):
    cache = make_cache(CACHE_WORKERS="1")
    path = fresh_path()

    def script(wire, received):
        (who,) = received.values("who") or ["nobody"]
        if received.values("if-none-match"):
            wait_until(lambda: waiting(cache) == CLIENTS - 1, timeout=10)
            head = f'HTTP/1.1 304 X\r\nETag: "a"\r\nCache-Control: {said}\r\nWhose: {who}\r\n\r\n'
            wire.send(head.encode())
        else:
            lines = (
                ("Cache-Control: no-store",) if who != "nobody" else ("Cache-Control: max-age=60", "Age: 60")
            )
            wire.send(answer(BODY, 'ETag: "a"', f"Whose: {who}", *lines))

    origin.on(path, script)
    ask(cache.port, path)
    found = together(cache, path)
    assert {who: each["whose"] for who, each in found.items()} == {who: who for who in found}
    assert all("stored" not in each.cache for each in found.values())


@pytest.mark.parametrize(("size", "number"), [(len(BODY), CLIENTS), (20 * 2**20, 4)])
def test_a_lost_body_is_asked_for_once(make_cache, client, origin, size, number):
    """Redis may evict it, though not its entry."""
    cache = make_cache(CACHE_MEMORY_BYTES="0")
    path = fresh_path()

    def script(wire, _):
        time.sleep(0.3)  # so that all come to wait
        wire.send(answer(bytes(size), *TAGGED))

    origin.on(path, script)
    ask(cache.port, path)
    client.delete(*client.keys(f"api-cache:1:b:{target_hash(path)}*"))
    assert {len(each.body) for each in together(cache, path, number).values()} == {size}
    assert len(origin.asked(path)) == 2
    assert b"api_cache_corrupt_entries_total 0.0" in ask(cache.port, "/metrics").body


def test_a_body_lost_when_it_was_validated_is_asked_for_once(make_cache, client, origin):
    cache = make_cache(CACHE_MEMORY_BYTES="0")
    path = fresh_path()

    def script(wire, received):
        time.sleep(0.3)  # so that all come to wait
        is_first = len(origin.asked(path)) == 1
        unchanged = b'HTTP/1.1 304 X\r\nETag: "a"\r\nCache-Control: max-age=60\r\n\r\n'
        age = ("Age: 60",) if is_first else ()
        wire.send(unchanged if received.values("if-none-match") else answer(BODY, *TAGGED, *age))

    origin.on(path, script)
    ask(cache.port, path)
    client.delete(*client.keys(f"api-cache:1:b:{target_hash(path)}*"))
    assert {each.body for each in together(cache, path).values()} == {BODY}
    assert len(origin.asked(path)) == 3


def test_a_body_damaged_at_its_end_breaks_off_once(make_cache, client, origin):
    cache = make_cache(CACHE_MEMORY_BYTES="0")
    path = fresh_path()
    size = 3 * 2**20
    origin.on(path, answer(bytes(size), *TAGGED))
    ask(cache.port, path)
    (key,) = client.keys(f"api-cache:1:b:{target_hash(path)}*")
    client.setrange(key, size - 1, b"x")
    with pytest.raises(Exception):  # noqa: B017, PT011  # http.client's or the socket's, whichever is first
        ask(cache.port, path)
    assert ask(cache.port, path).body == bytes(size)
    assert ask(cache.port, path).cache == "hit"


def slowly(origin, path, *lines, body=BODY):
    """An answer that takes long enough for all to come to wait."""

    def script(wire, _):
        time.sleep(0.5)
        wire.send(answer(body, *lines))

    origin.on(path, script)


@pytest.mark.parametrize("harm", ["dead", "full"])
def test_without_redis_each_process_still_asks_once(own_valkey, make_cache, origin, harm):
    cache = make_cache(redis=own_valkey)
    if harm == "dead":
        own_valkey.process.kill()
    else:
        with redis.Redis(own_valkey.host, own_valkey.port, password=PASSWORD) as connection:
            connection.config_set("maxmemory-policy", "noeviction")
            connection.config_set("maxmemory", 1)
    path = fresh_path()
    slowly(origin, path, *TAGGED)
    ask(cache.port, fresh_path())  # has them notice
    found = together(cache, path)
    assert {each.body for each in found.values()} == {BODY}
    assert len(origin.asked(path)) <= 2
    if harm == "dead":
        assert {each.cache for each in found.values()} == {"fwd=miss", "fwd=miss; collapsed"}


def test_a_slow_origin_is_not_asked_by_all_who_lose_patience(make_cache, origin):
    cache = make_cache(CACHE_COLLAPSE_WAIT="0.3", CACHE_WORKERS="1")
    path = fresh_path()

    def script(wire, _):
        time.sleep(2)
        wire.send(answer(BODY, *TAGGED))

    origin.on(path, script)
    assert {each.body for each in together(cache, path, 100).values()} == {BODY}
    assert len(origin.asked(path)) <= 3


def test_those_who_wait_get_the_answer_of_whoever_succeeds(make_cache, origin):
    cache = make_cache(CACHE_COLLAPSE_WAIT="1", CACHE_WORKERS="1", CACHE_ORIGIN_TIMEOUT="3")
    path = fresh_path()
    released = threading.Event()

    def script(wire, _):
        if len(origin.asked(path)) == 1:
            released.wait(20)
        time.sleep(2.5)
        wire.send(answer(BODY, *TAGGED))

    origin.on(path, script)
    found = [each.status for each in together(cache, path, 20).values()]
    released.set()
    assert (found.count(504), found.count(200)) == (1, 19)  # who asked first, and those who asked anew


@pytest.mark.parametrize("media_type", ["image/png", "text/plain"])
def test_what_is_too_large_is_shared_once_and_then_no_more(make_cache, origin, media_type):
    cache = make_cache(CACHE_MAX_OBJECT_BYTES="100000")
    path = fresh_path()
    body = random.Random(1).randbytes(2_000_000)
    slowly(origin, path, f"Content-Type: {media_type}", "Cache-Control: max-age=60", body=body)
    expected = "fwd=miss; detail=too-large" if media_type == "image/png" else "fwd=miss; stored"
    assert ask(cache.port, path).cache == expected
    begun = time.monotonic()
    assert {each.body for each in together(cache, path, 8).values()} == {body}
    assert time.monotonic() - begun < 4, "they waited for each other"
    assert len(origin.asked(path)) == 9
    assert b'api_cache_not_stored_total{reason="too-large"}' in ask(cache.port, "/metrics").body


LARGE = random.Random(2).randbytes(40_000_000)


def test_a_slow_client_does_not_hold_up_those_with_whom_it_shared(make_cache, origin):
    cache = make_cache(CACHE_MAX_OBJECT_BYTES="1000000", CACHE_WORKERS="1")
    path = fresh_path()
    slowly(origin, path, 'ETag: "a"', "Content-Type: text/plain", body=LARGE)
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
            slowly(
                origin, path, 'ETag: "a"', "Content-Type: image/png", "Cache-Control: max-age=60", body=body
            )
            slow, fast = stack.enter_context(pair(cache, path))
            assert content(fast) == body
        assert content(slow) == body
    assert [len(origin.asked(path)) for path in paths] == [1, 1, 1]


def test_a_slow_client_never_gets_the_rest_of_something_else(make_cache, origin):
    cache = make_cache(CACHE_MAX_OBJECT_BYTES="1000000", CACHE_WORKERS="1")
    path = fresh_path()

    def script(wire, _):
        time.sleep(0.5)
        first = len(origin.asked(path)) == 1
        wire.send(answer(LARGE if first else LARGE[::-1], f'ETag: "{first}"', "Content-Type: text/plain"))

    origin.on(path, script)
    with pair(cache, path) as (slow, fast):
        assert content(fast) == LARGE
        with pytest.raises((http.client.IncompleteRead, ConnectionError)):
            content(slow)


def test_without_a_tag_the_slow_client_still_gets_everything(make_cache, origin):
    cache = make_cache(CACHE_MAX_OBJECT_BYTES="1000000", CACHE_WORKERS="1")
    path = fresh_path()
    slowly(origin, path, "Content-Type: text/plain", body=LARGE)
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
