"""Who may share one answer of the origin, and who has to."""

import threading
import time

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


@pytest.mark.parametrize("size", [len(BODY), 20 * 2**20])
def test_a_lost_body_is_asked_for_once(make_cache, client, origin, size):
    """Redis may evict it, though not its entry."""
    cache = make_cache(CACHE_MEMORY_BYTES="0")
    path = fresh_path()

    def script(wire, _):
        time.sleep(0.3)  # so that all come to wait
        wire.send(answer(bytes(size), *TAGGED))

    origin.on(path, script)
    ask(cache.port, path)
    client.delete(*client.keys(f"api-cache:1:b:{target_hash(path)}*"))
    assert {len(each.body) for each in together(cache, path).values()} == {size}
    assert len(origin.asked(path)) == 2


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
