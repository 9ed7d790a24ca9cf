"""Redis dies, hangs, fills up or lies: clients get what the origin or memory says, in time."""

import os
import random
import socket
import threading
import time

import pytest
import redis
from local.client import connect

from store.stored import FORMAT
from tests.faults.breaking import SECONDS, emptied, full, killed, paused, restarted, stuttering
from tests.faults.load import Load, metric, until, warm_paths, warm_up

LONGEST = 5.0
"""The timeouts of Redis, collapsing and the origin in turn, on a machine that does other things, too."""


class Garbage:
    """Something on Redis's port that answers everything with nonsense."""

    def __init__(self, port: int, answer: bytes) -> None:
        self._answer = answer
        self._listener = socket.create_server(("127.0.0.1", port), backlog=256)
        self._open: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        try:
            while True:
                connection, _ = self._listener.accept()
                self._open.append(connection)
                threading.Thread(target=self._talk, args=(connection,), daemon=True).start()
        except OSError:
            pass

    def _talk(self, connection: socket.socket) -> None:
        try:
            while connection.recv(65536):
                connection.sendall(self._answer)
        except OSError:
            pass

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for connection in self._open:
            connection.close()


def garbage(answer: bytes):
    def fault(valkey, load):
        valkey.kill()
        server = Garbage(valkey.port, answer)
        load.go_on(SECONDS)
        server.close()
        valkey.start()

    return fault


FAULTS = {
    "killed": killed,
    "restarted": restarted,
    "paused": paused,
    "stuttering": stuttering,
    "full": full,
    "emptied": emptied,
    "no-resp": garbage(b"HTTP/1.1 400 Bad Request\r\n\r\n"),
    "endless": garbage(b"$1000000000\r\nabc"),
    "wrong-types": garbage(b"*3\r\n:1\r\n+OK\r\n$2\r\nhm\r\n"),
    "errors": garbage(b"-LOADING Redis is loading the dataset in memory\r\n" * 3),
    "binary": garbage(bytes(range(256)) * 4),
}


@pytest.mark.parametrize("name", FAULTS)
def test_clients_notice_nothing(cache, valkey, name):
    paths = warm_paths()
    warm_up([cache.port], paths)
    with Load([cache.port], paths) as load:
        load.go_on(0.5)
        FAULTS[name](valkey, load)
        load.go_on(1.0)
    load.check(longest=LONGEST)
    until(lambda: metric(cache.port, "api_cache_memory_usable") == 2, "the memory level does not come back")
    fresh = warm_paths()
    warm_up([cache.port], fresh)


def damage(client: redis.Redis, key: bytes, rng: random.Random) -> None:
    kind = client.type(key)
    if kind == b"hash":
        for field, value in client.hgetall(key).items():
            client.hset(key, field, damaged(value, rng))
    elif kind == b"string":
        value = client.get(key)
        if value is not None:
            client.set(key, damaged(value, rng), keepttl=True)


def damaged(value: bytes, rng: random.Random) -> bytes:
    at = rng.randrange(len(value) + 1)
    return rng.choice(
        (
            b"",
            value[:at],
            value[at:],
            value + value,
            b"0 00000000 {}",
            value.replace(b"%d " % FORMAT, b"0 ", 1),
            value[:at] + bytes((rng.randrange(256),)) + value[at + 1 :],
            rng.randbytes(len(value)),
        )
    )


def test_damaged_entries_are_never_sent(cache, valkey):
    paths = warm_paths()
    warm_up([cache.port], paths)
    rng = random.Random(1)
    with connect(valkey, socket_timeout=5) as client, Load([cache.port], paths) as load:
        deadline = time.monotonic() + 2 * SECONDS
        while time.monotonic() < deadline:
            for key in client.keys("api-cache:*"):
                damage(client, key, rng)
    load.check(longest=LONGEST)
    assert metric(cache.port, "api_cache_corrupt_entries_total") > 0
    warm_up([cache.port], paths)


@pytest.mark.parametrize("kind", ["list", "set", "string", "hash"])
def test_keys_of_another_type_are_no_entries(cache, valkey, kind):
    paths = warm_paths()
    warm_up([cache.port], paths)
    with connect(valkey, socket_timeout=5) as client, Load([cache.port], paths) as load:
        for key in client.keys("api-cache:*"):
            step = client.pipeline()  # in one, or else the cache writes it anew in between
            step.delete(key)
            {
                "list": lambda step, key: step.rpush(key, os.urandom(100)),
                "set": lambda step, key: step.sadd(key, os.urandom(100)),
                "string": lambda step, key: step.set(key, os.urandom(100)),
                "hash": lambda step, key: step.hset(key, "a", os.urandom(100)),
            }[kind](step, key)
            step.execute()
        load.go_on(SECONDS)
    load.check(longest=LONGEST)
