"""Clients that take their time: each wait for them has a bound that is configured."""

import contextlib
import itertools
import socket
import time

import pytest
from local.processes import wait_until

from tests.support import answer, ask, fresh_path, metrics, resident, workers

LIMIT = 0.5
LONGEST = LIMIT + 1.0 + 2.0
"""api-cache looks once a second, and the machine does other things, too."""
LARGE = 20_000_000


@pytest.fixture
def cache(shared_cache):
    return shared_cache(
        CACHE_CLIENT_HEAD_TIMEOUT=str(LIMIT),
        CACHE_CLIENT_IDLE_TIMEOUT=str(LIMIT),
        CACHE_CLIENT_STALL_TIMEOUT=str(LIMIT),
        CACHE_WORKERS="1",
    )


def dripped(port, pieces):
    """What comes back when one piece is sent after the other, and after how long the connection ends."""
    begun = time.monotonic()
    with socket.create_connection(("127.0.0.1", port), timeout=0.1) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        found = b""
        for piece in pieces:
            assert time.monotonic() - begun < LONGEST, "it waits for ever"
            try:
                if piece:
                    sock.sendall(piece)
                data = sock.recv(65536)
            except TimeoutError:
                continue
            except ConnectionError:
                data = b""
            if not data:
                return found
            found += data
    return found


HEAD = b"GET / HTTP/1.1\r\nHost: h\r\nX: "
SLOW = {
    "head-byte-by-byte": (
        b"408",
        lambda: (b"%c" % byte for byte in itertools.chain(HEAD, itertools.repeat(97))),
    ),
    "head-unfinished": (b"408", lambda: itertools.chain((HEAD,), itertools.repeat(b""))),
    "method-byte-by-byte": (b"408", lambda: itertools.repeat(b"A", 30)),
    "only-empty-lines": (b"", lambda: itertools.repeat(b"\r\n")),
    "nothing-at-all": (b"", lambda: itertools.repeat(b"")),
    "nothing-more": (
        b"404",
        lambda: itertools.chain((b"GET /none HTTP/1.1\r\nHost: h\r\n\r\n",), itertools.repeat(b"")),
    ),
}


@pytest.mark.parametrize("name", SLOW)
def test_a_request_that_does_not_come_is_not_waited_for(cache, name):
    status, pieces = SLOW[name]
    found = dripped(cache.port, pieces())
    assert found.startswith(b"HTTP/1.1 " + status if status else b"")
    assert bool(found) == bool(status)


@pytest.mark.parametrize(
    "framing", [b"Content-Length: 10\r\n\r\nabc", b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n"]
)
def test_content_that_stalls_is_not_waited_for(cache, framing):
    path = fresh_path()
    request = b"PUT %b HTTP/1.1\r\nHost: h\r\n%b" % (path.encode(), framing)
    found = dripped(cache.port, itertools.chain((request,), itertools.repeat(b"")))
    assert found.startswith(b"HTTP/1.1 408 ")


@pytest.mark.parametrize("outcome", ["hit", "miss", "pipelined"])
def test_a_client_that_takes_nothing_of_its_answer_is_cut_off(cache, origin, outcome):
    path = fresh_path()
    lifetime = "no-store" if outcome == "miss" else "max-age=60"
    size = LARGE // 50 if outcome == "pipelined" else LARGE // 2
    origin.on(path, answer(bytes(size), f"Cache-Control: {lifetime}", "Content-Type: image/png"))
    ask(cache.port, path)
    number = 50 if outcome == "pipelined" else 1
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sock.settimeout(10)
        sock.connect(("127.0.0.1", cache.port))
        sock.sendall(b"GET %b HTTP/1.1\r\nHost: h\r\n\r\n" % path.encode() * number)
        # It takes nothing until it is cut off. Who asks for the metrics is a client, too.
        is_alone = lambda: metrics(cache)["api_cache_client_connections"] == 1  # noqa: E731
        assert wait_until(is_alone, timeout=LONGEST, interval=0.1)
        got = 0
        with contextlib.suppress(ConnectionError):
            while data := sock.recv(1_000_000):
                got += len(data)
    assert 0 < got < size * number


def test_a_client_that_takes_its_time_gets_everything(cache, origin):
    path = fresh_path()
    origin.on(path, answer(bytes(LARGE // 4), "Cache-Control: max-age=60", "Content-Type: image/png"))
    ask(cache.port, path)
    begun = time.monotonic()
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        sock.settimeout(10)
        sock.connect(("127.0.0.1", cache.port))
        sock.sendall(b"GET %b HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n" % path.encode())
        got = 0
        while data := sock.recv(100_000):
            got += len(data)
            time.sleep(0.04)
    assert got > LARGE // 4
    assert time.monotonic() - begun > 2 * LIMIT


def test_requests_without_end_from_a_client_that_takes_nothing_fill_no_memory(make_cache, origin):
    # No more memory than that, which is taken at once, so that what is measured did not lie free before.
    cache = make_cache(CACHE_WORKERS="1", CACHE_MEMORY_BYTES=str(2**20))
    path = fresh_path()
    origin.on(path, answer(bytes(12_000), "Cache-Control: max-age=60", "Content-Type: image/png"))
    assert [ask(cache.port, path).cache for _ in range(3)][-1] == "hit"
    (worker,) = workers(cache)
    before = resident(worker)
    requests = b"GET %b HTTP/1.1\r\nHost: h\r\n\r\n" % path.encode() * 20_000
    with socket.create_connection(("127.0.0.1", cache.port), timeout=1) as sock:
        with contextlib.suppress(TimeoutError):
            sock.sendall(requests)
        assert ask(cache.port, path).status == 200
        assert resident(worker) - before < 40 * 2**20
