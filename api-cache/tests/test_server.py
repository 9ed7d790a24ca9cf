"""What hostile, broken and slow clients get: raw bytes over a socket."""

import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from local.processes import free_port, wait_until

from config import Config, ConfigError
from tests.conftest import settings
from tests.support import answer, ask, fresh_path, metrics, page_faults, raw, resident, warm, workers

POST = b"POST {} HTTP/1.1\r\nHost: h\r\n"
REFUSED = {
    "both-lengths": (
        400,
        POST + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ),
    "two-lengths": (
        400,
        POST + b"Content-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
    ),
    "plus-length": (400, POST + b"Content-Length: +3\r\n\r\nabc"),
    "huge-length": (400, POST + b"Content-Length: 99999999999999999999\r\n\r\n"),
    "list-length": (400, POST + b"Content-Length: 3, 3\r\n\r\nabc"),
    "other-coding": (
        501,
        POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    ),
    "coding-on-another-line": (
        501,
        POST + b"Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ),
    "not-last-chunked": (
        400,
        POST + b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
    ),
    "old-chunked": (501, b"POST {} HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    "bad-chunk-size": (
        400,
        POST + b"Transfer-Encoding: chunked\r\n\r\n0x3\r\nabc\r\n0\r\n\r\n",
    ),
    "bare-lf-chunk": (
        400,
        POST + b"Transfer-Encoding: chunked\r\n\r\n3\nabc\r\n0\r\n\r\n",
    ),
    "obs-fold": (400, b"GET {} HTTP/1.1\r\nHost: h\r\nX: a\r\n b\r\n\r\n"),
    "nul": (400, b"GET {} HTTP/1.1\r\nHost: h\r\nX: a\x00b\r\n\r\n"),
    "bare-cr": (400, b"GET {} HTTP/1.1\r\nHost: h\r\nX: a\rb\r\n\r\n"),
    "bare-lf": (400, b"GET {} HTTP/1.1\nHost: h\n\n"),
    "space-before-colon": (400, b"GET {} HTTP/1.1\r\nHost : h\r\n\r\n"),
    "no-host": (400, b"GET {} HTTP/1.1\r\n\r\n"),
    "two-hosts": (400, b"GET {} HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n"),
    "two-hosts-of-old": (400, b"GET {} HTTP/1.0\r\nHost: a\r\nHost: b\r\n\r\n"),
    "space-in-host": (400, b"GET {} HTTP/1.1\r\nHost: a b\r\n\r\n"),
    "path-in-host": (400, b"GET {} HTTP/1.1\r\nHost: a/b\r\n\r\n"),
    "user-in-host": (400, b"GET {} HTTP/1.0\r\nHost: a@b\r\n\r\n"),
    "word-for-port": (400, b"GET {} HTTP/1.1\r\nHost: a:b\r\n\r\n"),
    "half-a-literal": (400, b"GET {} HTTP/1.1\r\nHost: [::1\r\n\r\n"),
    "space-in-target": (400, b"GET {} x HTTP/1.1\r\nHost: h\r\n\r\n"),
    "raw-8-bit-target": (400, b"GET {}\xe9 HTTP/1.1\r\nHost: h\r\n\r\n"),
    "fragment": (400, b"GET {}#f HTTP/1.1\r\nHost: h\r\n\r\n"),
    "http-0.9": (505, b"GET {}\r\n\r\n"),
    "http-2.0": (505, b"GET {} HTTP/2.0\r\nHost: h\r\n\r\n"),
    "tunnel": (501, b"CONNECT h:1 HTTP/1.1\r\nHost: h:1\r\n\r\n"),
    "tunnel-to-a-path": (501, b"CONNECT {} HTTP/1.1\r\nHost: h:1\r\n\r\n"),
    "long-target": (414, b"GET {}" + b"x" * 20_000 + b" HTTP/1.1\r\nHost: h\r\n\r\n"),
    "huge-field": (431, b"GET {} HTTP/1.1\r\nHost: h\r\nX: " + b"y" * 70_000 + b"\r\n\r\n"),
    "many-fields": (431, b"GET {} HTTP/1.1\r\nHost: h\r\n" + b"X: y\r\n" * 300 + b"\r\n"),
    "strange-method": (400, b"G\x01T {} HTTP/1.1\r\nHost: h\r\n\r\n"),
    "other-protocol": (400, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_smuggling_and_nonsense_is_refused_and_reaches_no_origin(cache, origin, name):
    status, request = REFUSED[name]
    path = fresh_path()
    origin.on(path, answer(b"reached", "Cache-Control: no-store"))
    follower = b"GET %b HTTP/1.1\r\nHost: h\r\n\r\n" % path.encode()
    found = raw(cache.port, request.replace(b"{}", path.encode()) + follower)
    head, _, body = found.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 %d " % status), found[:200]
    assert b"application/problem+json" in head
    assert json.loads(body)["status"] == status
    assert not [each for each in origin.received if each.target.startswith(path) and each.method == "GET"]


@pytest.mark.parametrize("host", ["a b", "a/b", "a@b", "a:b", "::1", "[::1", "[]", "a%2", "a,b/", "\xe9"])
def test_an_invalid_host_gets_no_hit_either(one_worker, origin, host):
    path = fresh_path()
    origin.on(path, answer(b"hit", "Cache-Control: max-age=60"))
    warm(one_worker, path)
    assert ask(one_worker.port, path, ("Host", host)).status == 400


@pytest.mark.parametrize(
    "host", ["", "h:", "h:80", "a_b.test", "[::1]:80", "[v1.x:y]", "a%20b", "192.0.2.1", "h \t"]
)
def test_each_valid_host_is_the_same(one_worker, origin, host):
    path = fresh_path()
    origin.on(path, answer(b"x", "Cache-Control: max-age=60"))
    assert [ask(one_worker.port, path, ("Host", host)).body for _ in range(4)] == [b"x"] * 4
    assert len(origin.asked(path)) == 1


@pytest.mark.parametrize(
    "beginning",
    [
        b"GET / HTTP/1.1\r\nHost: h\r\nX",
        b"GET / HTTP/1.1\r\nHost: h\r\nX: ",
        b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX: ",
        b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n1;x=",
    ],
    ids=["name", "value", "trailer", "chunk-extension"],
)
def test_a_field_without_an_end_is_refused_before_it_fills_memory(cache, beginning):
    found = raw(cache.port, beginning + b"y" * 1_000_000, until=b"\r\n\r\n")
    assert found.startswith(b"HTTP/1.1 431 "), found[:200]


def test_an_absolute_target_is_the_same_as_its_path(cache, origin):
    path = fresh_path()
    origin.on(path, answer(b"x"))
    assert ask(cache.port, path).cache == "fwd=miss; stored"
    found = raw(
        cache.port, b"GET http://evil.test%b HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n" % path.encode()
    )
    assert b"api-cache; hit" in found
    assert [each.target for each in origin.received if path in each.target] == [path]


def test_pipelined_requests_are_answered_in_order(cache, origin):
    slow, fast = fresh_path(), fresh_path()
    origin.on(slow, answer(b"slow", "Cache-Control: no-store"))
    origin.on(fast, answer(b"fast"))
    ask(cache.port, fast)
    requests = [
        b"GET %b HTTP/1.1\r\nHost: h\r\n\r\n" % slow.encode(),
        b"POST %b HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabc" % slow.encode(),
        b"GET %b HTTP/1.1\r\nHost: h\r\n\r\n" % fast.encode(),
        b"GET %b HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n" % slow.encode(),
    ]
    found = raw(cache.port, b"".join(requests))
    assert [part[:4] for part in found.split(b"\r\n\r\n")[1:]] == [b"slow", b"slow", b"fast", b"slow"]


def test_a_method_in_two_pieces_is_not_taken_for_the_last_of_them(one_worker, origin):
    """Though the last one is to the byte a request that was a plain hit before."""
    path, other = fresh_path(), fresh_path()
    origin.on(path, lambda wire, got: wire.send(answer(got.method.encode(), "Cache-Control: max-age=60")))
    request = b"GET %b HTTP/1.1\r\nHost: h\r\n\r\n" % path.encode()
    found = [raw(one_worker.port, request, until=b"\r\n\r\nGET") for _ in range(5)]
    assert b"; hit" in found[-1]
    with socket.create_connection(("127.0.0.1", one_worker.port), timeout=10) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.sendall(b"FOR")
        ask(one_worker.port, other)  # by then its only worker has read that
        sock.sendall(request)
        answered = b""
        while not answered.endswith(b"GET"):
            answered += sock.recv(65536)
    assert answered.endswith(b"\r\n\r\nFORGET")


def test_what_cannot_be_read_is_refused_after_the_answers_that_are_due(cache, origin):
    path = fresh_path()
    origin.on(path, answer(b"due", "Cache-Control: no-store"))
    found = raw(cache.port, b"GET %b HTTP/1.1\r\nHost: h\r\n\r\nno HTTP at all\r\n\r\n" % path.encode())
    assert found.startswith(b"HTTP/1.1 200 ")
    assert b"\r\n\r\ndueHTTP/1.1 400 " in found


def test_what_follows_an_answer_that_broke_off_is_not_answered(cache, origin, log):
    path, hit = fresh_path(), fresh_path()
    origin.on(hit, answer(b"hit", "Cache-Control: max-age=60"))
    for _ in range(16):  # each worker holds it in memory
        ask(cache.port, hit)

    def script(wire, _):
        wire.send(b"HTTP/1.1 200 X\r\nCache-Control: no-store\r\nContent-Length: 9\r\n\r\nhalf")
        return False

    origin.on(path, script)
    follower = b"GET %b HTTP/1.1\r\nHost: h\r\nX-Request-ID: follower\r\n\r\n" % hit.encode()
    assert raw(cache.port, b"GET %b HTTP/1.1\r\nHost: h\r\n\r\n" % path.encode() + follower).endswith(b"half")
    for _ in range(16):  # by which each worker has something later to note
        ask(cache.port, hit, ("X-Request-ID", "later"))
    assert wait_until(lambda: log.read_text().count('"later"') == 16, timeout=5)
    assert '"follower"' not in log.read_text()


def test_a_client_that_leaves_before_its_answer_is_noted(cache, origin, log):
    path = fresh_path()
    released = threading.Event()
    origin.on(path, lambda wire, _: released.wait(10) and wire.send(answer(b"x")))
    with socket.create_connection(("127.0.0.1", cache.port), timeout=10) as sock:
        sock.sendall(b"GET %b HTTP/1.1\r\nHost: h\r\n\r\n" % path.encode())
        assert wait_until(lambda: origin.asked(path), timeout=5)

    def noted():
        lines = [json.loads(line) for line in log.read_text().splitlines() if f'"{path}"' in line]
        return [(line["status"], line["bytes"], line["cache"]) for line in lines]

    assert wait_until(lambda: noted() == [(499, 0, "detail=client-left")], timeout=5), noted()
    released.set()


BEFORE = {
    "nothing": b"",
    "an-empty-line": b"\r\n",
    "get": b"GET {} HTTP/1.1\r\nHost: h\r\n\r\n",
    "unknown": b"STEEP {} HTTP/1.1\r\nHost: h\r\n\r\n",
    "content": POST + b"Content-Length: 9\r\n\r\n\r\n\r\nBREW ",
    "content-and-an-empty-line": POST + b"Content-Length: 3\r\n\r\nabc\r\n",
    "chunks": POST + b"Transfer-Encoding: chunked\r\n\r\n9\r\n\r\n\r\nBREW \r\n0\r\n\r\n",
    "chunks-and-a-trailer": POST + b"Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\nX: y\r\n\r\n",
    "chunks-of-an-unknown": (
        b"STEEP {} HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n"
    ),
}


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
@pytest.mark.parametrize("before", BEFORE.values(), ids=BEFORE)
def test_rfc9112_9_3_2_a_request_with_any_method_may_come_in_any_pieces_behind_another(
    cache, origin, size, before
):
    """And after empty lines (RFC 9112 §2.2)."""
    path = fresh_path()
    origin.on(path, lambda wire, got: wire.send(answer(got.method.encode() + got.body)))
    last = b"BREW {} HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\nConnection: close\r\n\r\nbody"
    requests = (before + last).replace(b"{}", path.encode())
    with socket.create_connection(("127.0.0.1", cache.port), timeout=10) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for at in range(0, len(requests), size):
            sock.sendall(requests[at : at + size])
        found = b"".join(iter(lambda: sock.recv(65536), b""))
    assert found.endswith(b"\r\n\r\nBREWbody")
    assert found.count(b"HTTP/1.1 200 ") == 1 + bool(before.strip())


def test_continue_is_said_when_content_is_wanted(cache, origin):
    path = fresh_path()
    origin.on(path, lambda wire, got: wire.send(answer(got.body)))
    with socket.create_connection(("127.0.0.1", cache.port), timeout=10) as sock:
        fields = b"Host: h\r\nContent-Length: 2\r\nExpect: 100-continue\r\nConnection: close\r\n\r\n"
        sock.sendall(b"PUT %b HTTP/1.1\r\n%b" % (path.encode(), fields))
        assert sock.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        sock.sendall(b"ok")
        assert b"".join(iter(lambda: sock.recv(65536), b"")).endswith(b"ok")


def test_an_old_client_gets_an_answer_that_it_can_read(cache, origin):
    path = fresh_path()
    origin.on(path, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n")
    found = raw(cache.port, b"GET %b HTTP/1.0\r\n\r\n" % path.encode())
    assert b"chunked" not in found
    assert found.endswith(b"\r\n\r\nabc")


def test_an_old_client_sees_that_its_answer_broke_off(cache, origin):
    """Where only the connection's end shows that of the content, it must not look like one (RFC 9112 §8)."""
    path = fresh_path()

    def script(wire, _):
        wire.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")
        return False

    origin.on(path, script)
    with socket.create_connection(("127.0.0.1", cache.port), timeout=10) as sock:
        sock.sendall(b"GET %b HTTP/1.0\r\n\r\n" % path.encode())
        with pytest.raises(ConnectionResetError):
            _ = list(iter(lambda: sock.recv(65536), b""))


def test_a_slow_client_slows_neither_the_storing_nor_others(cache, origin):
    path = fresh_path()
    body = os.urandom(8_000_000)
    origin.on(path, answer(body, "Cache-Control: max-age=60"))
    with socket.create_connection(("127.0.0.1", cache.port), timeout=10) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sock.sendall(b"GET %b HTTP/1.1\r\nHost: h\r\n\r\n" % path.encode())
        sock.recv(1000)  # and no more
        assert wait_until(lambda: ask(cache.port, path).cache == "hit", timeout=10)
    assert ask(cache.port, path).body == body
    assert len(origin.asked(path)) == 1


def test_a_slow_miss_holds_up_no_hit(one_worker, origin):
    hit = fresh_path()
    origin.on(hit, answer(b"x"))
    ask(one_worker.port, hit)
    release = threading.Event()
    slow = fresh_path()
    origin.on(
        slow, lambda wire, _: release.wait(20) and wire.send(answer(b"slow", "Cache-Control: no-store"))
    )
    clients = [
        threading.Thread(target=ask, args=(one_worker.port, f"{slow}?{number}")) for number in range(50)
    ]
    for client in clients:
        client.start()
    assert wait_until(
        lambda: len([each for each in origin.received if each.target.startswith(slow)]) == 50, timeout=10
    )
    begun = time.monotonic()
    assert all(ask(one_worker.port, hit).cache == "hit" for _ in range(20))
    assert time.monotonic() - begun < 5
    release.set()
    for client in clients:
        client.join()


def test_a_client_that_leaves_ends_what_only_it_wanted(cache, origin):
    path = fresh_path()
    ended = threading.Event()

    def script(wire, _):
        wire.send(b"HTTP/1.1 200 OK\r\nCache-Control: no-store\r\nTransfer-Encoding: chunked\r\n\r\n")
        try:
            while True:
                wire.send(b"4000\r\n" + b"x" * 0x4000 + b"\r\n")
        except OSError:
            ended.set()
        return False

    origin.on(path, script)
    with socket.create_connection(("127.0.0.1", cache.port), timeout=10) as sock:
        sock.sendall(b"GET %b HTTP/1.1\r\nHost: h\r\n\r\n" % path.encode())
        sock.recv(1000)
    assert ended.wait(10)


@dataclass
class EndlessOrigin:
    """Answers one request, at once and without end."""

    listener: socket.socket
    answering: threading.Event = field(default_factory=threading.Event)
    ended: threading.Event = field(default_factory=threading.Event)

    @property
    def port(self):
        return str(self.listener.getsockname()[1])

    def run(self):
        connection, _ = self.listener.accept()
        with connection:
            connection.recv(65536)
            connection.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
            self.answering.set()
            try:
                while True:
                    connection.sendall(b"4000\r\n" + b"x" * 0x4000 + b"\r\n")
            except OSError:
                self.ended.set()


@pytest.fixture
def endless_origin():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        origin = EndlessOrigin(listener)
        threading.Thread(target=origin.run, daemon=True).start()
        yield origin


def test_an_answer_that_a_refusal_replaces_is_given_up(own_valkey, make_cache, endless_origin):
    """The origin answers early; while Redis hears of the invalidation, the content grows too large."""
    cache = make_cache(redis=own_valkey, CACHE_MAX_REQUEST_BYTES="1000", BACKEND_PORT=endless_origin.port)
    own_valkey.process.pause()
    with socket.create_connection(("127.0.0.1", cache.port), timeout=10) as sock:
        sock.sendall(b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n")
        assert endless_origin.answering.wait(10)
        sock.sendall(b"800\r\n" + b"b" * 0x800 + b"\r\n0\r\n\r\n")
        assert sock.recv(65536).startswith(b"HTTP/1.1 413 ")
        assert endless_origin.ended.wait(10)
    own_valkey.process.resume()


def test_an_answer_whose_client_leaves_before_its_head_is_given_up(own_valkey, make_cache, endless_origin):
    """The origin has answered, and Redis is still to hear of the invalidation."""
    cache = make_cache(redis=own_valkey, BACKEND_PORT=endless_origin.port)
    own_valkey.process.pause()
    with socket.create_connection(("127.0.0.1", cache.port), timeout=10) as sock:
        sock.sendall(b"POST / HTTP/1.1\r\nHost: h\r\n\r\n")
        assert endless_origin.answering.wait(10)
    assert endless_origin.ended.wait(10)
    own_valkey.process.resume()


def test_two_gigabytes_pass_in_flat_memory(make_cache, origin):
    cache = make_cache(CACHE_WORKERS="1")
    (worker,) = workers(cache)
    path = fresh_path()
    size = 2 * 2**30
    block = os.urandom(2**20)

    def script(wire, _):
        wire.send(b"HTTP/1.1 200 OK\r\nCache-Control: no-store\r\nContent-Length: %d\r\n\r\n" % size)
        for _ in range(size // len(block)):
            wire.send(block)

    origin.on(path, script)
    connection = http.client.HTTPConnection("127.0.0.1", cache.port, timeout=20)
    connection.request("GET", path)
    response = connection.getresponse()
    buffer = bytearray(2**20)
    got, peak = 0, 0
    while count := response.readinto(buffer):
        got += count
        if got % 2**27 < count:
            peak = max(peak, resident(worker))
    connection.close()
    assert got == size
    assert peak < 250 * 2**20


@pytest.mark.parametrize(
    ("size", "media_type"),
    [(60_000, "application/json"), (200_000, "application/json"), (200_000, "image/png")],
)
def test_first_hits_wait_for_no_memory(make_cache, origin, cache, size, media_type):
    """It was taken from the kernel before the first client came: else each would wait for all its pages."""
    path, body = fresh_path(), bytes(size)
    origin.on(path, answer(body, f"Content-Type: {media_type}", "Cache-Control: max-age=60"))
    paths = [f"{path}?{number}" for number in range(50)]
    for each in paths:
        assert ask(cache.port, each).body == body
    other = make_cache(CACHE_WORKERS="1")
    (worker,) = workers(other)
    ask(other.port, fresh_path())
    before = page_faults(worker)
    assert {ask(other.port, each).cache for each in paths} == {"hit"}
    assert page_faults(worker) - before < 8 * len(paths)


def test_memory_is_taken_at_the_start(make_cache):
    (without,), (with_it,) = (
        workers(make_cache(CACHE_WORKERS="1", CACHE_MEMORY_BYTES=size)) for size in ("0", str(2**30))
    )
    assert 60 * 2**20 < resident(with_it) - resident(without) < 70 * 2**20


def test_a_killed_worker_is_replaced_and_its_counts_stay(make_cache, origin):
    cache = make_cache()
    path = fresh_path()
    origin.on(path, answer(b"x"))
    for _ in range(10):
        ask(cache.port, path)
    assert wait_until(lambda: _hits(cache) == 9, timeout=5)
    before = workers(cache)
    os.kill(before[0], signal.SIGKILL)
    assert wait_until(lambda: len(workers(cache)) == 2 and before[0] not in workers(cache), timeout=10)
    for _ in range(10):
        assert ask(cache.port, path).body == b"x"
    assert wait_until(lambda: _hits(cache) == 19, timeout=5)


def _hits(cache):
    return metrics(cache).get('http_requests_total{cache="hit",method="GET",status="200"}', 0)


def test_sigterm_finishes_what_was_begun(make_cache, origin):
    cache = make_cache()
    path = fresh_path()
    asked, release = threading.Event(), threading.Event()

    def script(wire, _):
        asked.set()
        assert release.wait(10)
        wire.send(answer(b"finished"))

    origin.on(path, script)
    found = []
    client = threading.Thread(target=lambda: found.append(ask(cache.port, path)))
    client.start()
    assert asked.wait(10)
    cache.process.signal(signal.SIGTERM)
    assert wait_until(lambda: not _accepts(cache.port), timeout=5)
    release.set()
    client.join(10)
    assert found[0].body == b"finished"
    assert wait_until(lambda: not cache.process.running, timeout=10)


SIGNALLED = """
import os, signal, sys, workers
fork = os.fork

def forked():
    pid = fork()
    if pid:
        signal.raise_signal(signal.SIGTERM)
    return pid

os.fork = forked
sys.exit(workers.main())
"""


def test_a_sigterm_in_the_moment_of_a_fork_ends_the_worker(valkey, origin):
    more = {"HOST": "127.0.0.1", "PORT": str(free_port()), "CACHE_WORKERS": "1"}
    environ = {**os.environ, **settings(valkey, origin, **more)}
    folder = Path(__file__).parents[1]
    started = subprocess.Popen([sys.executable, "-c", SIGNALLED], cwd=folder, env=environ)
    try:
        assert started.wait(10) == 0
    finally:
        started.kill()
        started.wait()


def test_sigterm_lets_a_request_come_to_its_end(make_cache, origin):
    cache = make_cache()
    path = fresh_path()
    origin.on(path, lambda wire, got: wire.send(answer(got.body)))
    address = ("127.0.0.1", cache.port)
    with socket.create_connection(address, timeout=10) as sock, socket.create_connection(address, 10) as idle:
        sock.sendall(b"POST %b HTTP/1.1\r\nHost: h\r\nContent-Length: 8\r\n\r\nhalf" % path.encode())
        are_three = lambda: metrics(cache)["api_cache_client_connections"] == 3  # noqa: E731  # with who asks
        assert wait_until(are_three, timeout=5)
        cache.process.signal(signal.SIGTERM)
        assert idle.recv(1) == b""  # no new request would be taken any more
        sock.sendall(b"more")
        assert b"".join(iter(lambda: sock.recv(65536), b"")).endswith(b"\r\n\r\nhalfmore")
    assert wait_until(lambda: not cache.process.running, timeout=5)


def test_sigterm_waits_until_slow_clients_have_their_answers(make_cache, origin):
    """What is only in the kernel's hands would be lost with the network of a container."""
    cache = make_cache()
    path = fresh_path()
    body = bytes(300_000)
    origin.on(path, answer(body))
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.connect(("127.0.0.1", cache.port))
        client.sendall(b"GET %b HTTP/1.1\r\nHost: a\r\n\r\n" % path.encode())
        got = client.recv(1)
        cache.process.signal(signal.SIGTERM)
        assert not wait_until(lambda: not cache.process.running, timeout=1)
        while part := client.recv(65536):
            got += part
    assert got.endswith(body)
    assert wait_until(lambda: not cache.process.running, timeout=10)


def _finishing_late(origin, path):
    """What releases the last byte of the origin's answer."""
    release = threading.Event()

    def script(wire, _):
        wire.send(answer(b"finished")[:-1])
        assert release.wait(10)
        wire.send(b"d")

    origin.on(path, script)
    return release


def test_sigterm_waits_until_what_a_proxy_between_holds_is_taken(make_cache, origin):
    """As a container engine's proxy: it takes all at once, hands it on slowly, and ends with its server."""
    cache = make_cache()
    path = fresh_path()
    release = _finishing_late(origin, path)
    with socket.create_connection(("127.0.0.1", cache.port), timeout=10) as proxy:
        proxy.sendall(b"GET %b HTTP/1.1\r\nHost: a\r\n\r\n" % path.encode())
        held = proxy.recv(1)
        cache.process.signal(signal.SIGTERM)
        assert not wait_until(lambda: not cache.process.running, timeout=1)  # the answer is under way
        release.set()
        while part := proxy.recv(65536):
            held += part
        assert held.endswith(b"finished")
        assert not wait_until(lambda: not cache.process.running, timeout=1)  # the proxy's client still reads
    assert wait_until(lambda: not cache.process.running, timeout=5)


def test_sigterm_does_not_wait_for_idle_clients(make_cache, origin):
    cache = make_cache()
    path = fresh_path()
    origin.on(path, answer(b"x"))
    with socket.create_connection(("127.0.0.1", cache.port), timeout=10) as client:
        client.sendall(b"GET %b HTTP/1.1\r\nHost: a\r\n\r\n" % path.encode())
        found = b""
        while not found.endswith(b"\r\n\r\nx"):
            found += client.recv(65536)
        cache.process.signal(signal.SIGTERM)
        assert wait_until(lambda: not cache.process.running, timeout=5)


@pytest.fixture
def ending(make_cache, origin):
    """A cache on its way out: it accepts no more connections, but has one, on which it gave an answer."""
    cache = make_cache()
    path = fresh_path()
    origin.on(path, answer(path.encode(), "Cache-Control: max-age=60"))
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", cache.port, timeout=10)) as connection:
        for _ in range(3):  # the last of which is a ready answer to bytes that it remembers
            assert _asked(connection, path).read() == path.encode()
        cache.process.signal(signal.SIGTERM)
        assert wait_until(lambda: not _accepts(cache.port), timeout=5)
        yield cache, connection, path


def _asked(connection, path):
    connection.request("GET", path)
    return connection.getresponse()


@pytest.mark.parametrize("is_hit", [True, False], ids=["hit", "miss"])
def test_a_client_that_asks_once_more_after_sigterm_has_its_answer(ending, origin, is_hit):
    """It cannot know yet: its request may be on the way when the end of its idle connection is."""
    cache, connection, path = ending
    if not is_hit:
        path = fresh_path()
        origin.on(path, answer(path.encode()))
    found = _asked(connection, path)
    assert (found.read(), found.headers["Connection"]) == (path.encode(), "close")
    assert wait_until(lambda: not cache.process.running, timeout=5)


def test_sigterm_in_an_answer_leaves_its_client_another_one(make_cache, origin):
    """Its head was out, and could not say that it is the last one."""
    cache = make_cache()
    path, other = fresh_path(), fresh_path()
    release = _finishing_late(origin, path)
    origin.on(other, answer(b"other"))
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", cache.port, timeout=10)) as connection:
        found = _asked(connection, path)
        cache.process.signal(signal.SIGTERM)
        assert wait_until(lambda: not _accepts(cache.port), timeout=5)
        release.set()
        assert (found.read(), found.headers["Connection"]) == (b"finished", None)
        found = _asked(connection, other)
        assert (found.read(), found.headers["Connection"]) == (b"other", "close")
    assert wait_until(lambda: not cache.process.running, timeout=5)


def _accepts(port):
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


def test_one_sentence_names_each_wrong_setting(tmp_path):
    environ = {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PORT": "http",
        "CACHE_TTL": "-1",
    }
    ended = subprocess.run(
        [Path(__file__).parents[1] / "serve"],
        env=environ,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    assert ended.returncode == 2
    assert ended.stderr.splitlines() == [
        "PORT: 'http' is not a port number from 1 to 65535.",
        "REDIS_PASSWORD is empty: set it, or run `make passwords`.",
        "CACHE_TTL: '-1' is not a number, at least 0.",
    ]


def test_a_secret_that_is_no_text_is_named_and_not_shown(tmp_path):
    file = tmp_path / "password"
    file.write_bytes(b"p\xe9ss")
    with pytest.raises(ConfigError) as caught:
        Config.from_environ({"REDIS_PASSWORD_FILE": str(file), "PORT": "http"})
    assert str(caught.value).splitlines() == [
        "PORT: 'http' is not a port number from 1 to 65535.",
        "REDIS_PASSWORD_FILE: is not UTF-8 text: write nothing but the value into it, in UTF-8.",
    ]


def test_equal_bytes_are_answered_anew_each_time(cache, origin):
    """The shortest path remembers requests by their bytes, but never their answers."""
    path, other = fresh_path(), fresh_path()
    origin.on(
        path,
        lambda wire, got: wire.send(answer(got.method.encode(), "Vary: X-A", "Cache-Control: max-age=60")),
    )
    origin.on(other, answer(b"other"))
    request = b"GET %b HTTP/1.1\r\nHost: h\r\nX-A: 1\r\n\r\n" % path.encode()
    with socket.create_connection(("127.0.0.1", cache.port), timeout=10) as sock:

        def exchange(data):
            sock.sendall(data)
            found = b""
            while b"\r\n\r\n" not in found or not found.split(b"\r\n\r\n")[1]:
                found += sock.recv(65536)
            return found

        for _ in range(5):
            assert exchange(request).endswith(b"GET")
        ids = {
            line
            for _ in range(5)
            for line in exchange(request).split(b"\r\n")
            if line.startswith(b"X-Request-ID")
        }
        assert len(ids) == 5
        assert exchange(request.replace(path.encode(), other.encode())).endswith(b"other")
        assert b"api-cache; hit" in exchange(request)
        ask(cache.port, path, method="DELETE")
        assert wait_until(lambda: b"; stored" in exchange(request), timeout=1)
        both = request + request.replace(path.encode(), other.encode())
        sock.sendall(both)
        assert wait_until(lambda: sock.recv(65536).endswith(b"other"), timeout=5)
