"""RFC 9110 §15.2: interim answers of the origin are for the client whose request they are about alone."""

import socket
import threading

import pytest
from local.processes import wait_until

from tests.support import answer, ask, fresh_path, raw, waiting

HINTS = b"HTTP/1.1 103 Early Hints\r\nLink: </s.css>; rel=preload\r\nConnection: X-Hop\r\nX-Hop: 1\r\n\r\n"
GOT_HINTS = b"HTTP/1.1 103 Early Hints\r\nLink: </s.css>; rel=preload\r\nVia: 1.1 api-cache\r\n\r\n"
FINAL = answer(b"final", "Cache-Control: max-age=60")


def request(path, *, method="GET", version="1.1", content=b""):
    lines = [f"{method} {path} HTTP/{version}", "Host: h", "Connection: close"]
    lines += [f"Content-Length: {len(content)}"] if content else []
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + content


def heads(data):
    """The status lines."""
    return [line for line in data.split(b"\r\n") if line.startswith(b"HTTP/1.1 ")]


def test_they_pass_on_at_once_and_are_not_stored(cache, origin):
    path = fresh_path()
    seen = threading.Event()

    def script(wire, _):
        wire.send(b"HTTP/1.1 102 Processing\r\n\r\n" + HINTS)
        assert seen.wait(10)
        wire.send(FINAL)

    origin.on(path, script)
    with socket.create_connection(("127.0.0.1", cache.port), timeout=10) as sock:
        sock.sendall(request(path))
        found = b""
        while not found.endswith(GOT_HINTS) and (more := sock.recv(65536)):
            found += more
        assert found == b"HTTP/1.1 102 Processing\r\nVia: 1.1 api-cache\r\n\r\n" + GOT_HINTS
        seen.set()
        found = b"".join(iter(lambda: sock.recv(65536), b""))
    assert found.startswith(b"HTTP/1.1 200 OK\r\n")
    assert found.endswith(b"\r\n\r\nfinal")
    hit = ask(cache.port, path)
    assert (hit.status, hit.cache, hit["Link"], hit["X-Hop"]) == (200, "hit", None, None)


@pytest.mark.parametrize(("method", "content"), [("HEAD", b""), ("POST", b"x"), ("BREW", b"")])
def test_so_do_those_to_other_methods(cache, origin, method, content):
    path = fresh_path()
    final = b"HTTP/1.1 204 No Content\r\n\r\n"
    origin.on(path, HINTS + final)
    assert raw(cache.port, request(path, method=method, content=content)).startswith(
        GOT_HINTS + b"HTTP/1.1 204"
    )


def test_so_do_those_about_a_validation(cache, origin):
    path = fresh_path()
    origin.on(path, answer(b"kept", "Cache-Control: max-age=0", 'ETag: "a"'))
    ask(cache.port, path)
    origin.on(path, HINTS + b'HTTP/1.1 304 Not Modified\r\nETag: "a"\r\n\r\n')
    found = raw(cache.port, request(path))
    assert found.startswith(GOT_HINTS + b"HTTP/1.1 200 OK\r\n")
    assert found.endswith(b"kept")


@pytest.mark.parametrize(
    ("version", "interim"),
    [
        pytest.param("1.0", HINTS, id="an old client cannot read them"),
        pytest.param("1.1", b"HTTP/1.1 100 Continue\r\n\r\n", id="a 100 that nobody asked for"),
    ],
)
def test_what_the_client_cannot_use_stays_here(cache, origin, version, interim):
    path = fresh_path()
    origin.on(path, interim + FINAL)
    found = raw(cache.port, request(path, version=version))
    assert heads(found) == [b"HTTP/1.1 200 OK"]
    assert found.endswith(b"final")


def test_who_shares_the_answer_gets_the_answer_alone(one_worker, origin):
    path = fresh_path()
    joined = threading.Event()

    def script(wire, _):
        assert joined.wait(10)
        wire.send(HINTS + FINAL)

    origin.on(path, script)
    with (
        socket.create_connection(("127.0.0.1", one_worker.port), timeout=10) as first,
        socket.create_connection(("127.0.0.1", one_worker.port), timeout=10) as second,
    ):
        first.sendall(request(path))
        assert wait_until(lambda: origin.asked(path), timeout=5)
        second.sendall(request(path))
        assert wait_until(lambda: waiting(one_worker) == 1, timeout=5)
        joined.set()
        both = [b"".join(iter(lambda sock=sock: sock.recv(65536), b"")) for sock in (first, second)]
    assert [heads(each) for each in both] == [
        [b"HTTP/1.1 103 Early Hints", b"HTTP/1.1 200 OK"],
        [b"HTTP/1.1 200 OK"],
    ]
    assert b"collapsed" in both[1]


def test_they_stay_in_the_order_of_the_requests(cache, origin):
    first, second = fresh_path(), fresh_path()
    for path in (first, second):
        origin.on(path, HINTS + answer(path.encode() + b"\r\n", "Cache-Control: no-store"))
    keep = request(first).replace(b"Connection: close\r\n", b"")
    found = raw(cache.port, keep + request(second))
    assert heads(found) == [b"HTTP/1.1 103 Early Hints", b"HTTP/1.1 200 OK"] * 2
    assert found.index(first.encode()) < found.rindex(b"HTTP/1.1 103") < found.index(second.encode())
