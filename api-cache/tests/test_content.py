"""Requests with content: it reaches the origin whole, whatever else is said of the request, and at a pace."""

import contextlib
import itertools
import socket
import threading
import time

import pytest

from tests.support import answer, ask, fresh_path, raw

MEGABYTE = 1_000_000


class Echo:
    """An origin that answers before it reads, and sends back what it gets."""

    def __init__(self):
        self.has_lost_one = threading.Event()
        """Set when a request broke off."""
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port = self._socket.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(target=self._serve, args=self._socket.accept()[:1], daemon=True).start()

    def _serve(self, sock):
        with sock, sock.makefile("rb") as stream, contextlib.suppress(ConnectionError):
            head = b"".join(iter(stream.readline, b"\r\n"))
            left = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
            sock.sendall(b"HTTP/1.1 200 X\r\nContent-Length: %d\r\n\r\n" % left)
            while left and (data := stream.read1(min(left, 65536))):
                sock.sendall(data)
                left -= len(data)
        if left:
            self.has_lost_one.set()

    def close(self):
        self._socket.close()


@pytest.fixture(scope="module")
def echo():
    with contextlib.closing(Echo()) as origin:
        yield origin


@pytest.fixture
def echoed(shared_cache, echo):
    """A cache in front of it."""
    return shared_cache(BACKEND_PORT=str(echo.port))


def test_an_origin_may_answer_while_it_reads(echoed):
    with socket.create_connection(("127.0.0.1", echoed.port), timeout=10) as sock:
        sock.sendall(b"POST / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n")
        sock.sendall(b"Content-Length: %d\r\n\r\n" % MEGABYTE)
        found = sock.recv(65536)  # before it has any of the content
        sock.sendall(b"x" * MEGABYTE)
        while data := sock.recv(65536):
            found += data
    assert found.partition(b"\r\n\r\n")[2] == b"x" * MEGABYTE


def test_a_client_that_leaves_amid_its_content_ends_the_answer_that_has_begun(echoed, echo):
    with socket.create_connection(("127.0.0.1", echoed.port), timeout=10) as sock:
        sock.sendall(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n" % MEGABYTE)
        assert sock.recv(65536).startswith(b"HTTP/1.1 200 ")
        sock.sendall(b"x" * 1000)
        back = b""
        while len(back) < 1000:  # so that nothing is under way that could not be handed on
            back += sock.recv(65536)
        assert not echo.has_lost_one.is_set()
    assert echo.has_lost_one.wait(5)
    assert ask(echoed.port, "/healthz").status == 200


def test_content_may_take_longer_than_the_origin_may_be_silent(shared_cache, origin):
    cache = shared_cache(CACHE_ORIGIN_TIMEOUT="0.5")
    path = fresh_path()
    origin.on(path, answer(b"done"))
    with socket.create_connection(("127.0.0.1", cache.port), timeout=10) as sock:
        sock.sendall(b"POST %b HTTP/1.1\r\nHost: h\r\nContent-Length: 15\r\n\r\n" % path.encode())
        for _ in range(15):
            sock.sendall(b"x")
            time.sleep(0.1)  # a client takes its time
        assert sock.recv(65536).startswith(b"HTTP/1.1 200 ")
    assert origin.asked(path)[0].body == b"x" * 15


def test_an_origin_that_is_silent_after_the_content_is_a_504(shared_cache, origin):
    cache = shared_cache(CACHE_ORIGIN_TIMEOUT="0.5")
    path = fresh_path()
    released = threading.Event()
    origin.on(path, lambda *_: released.wait(10))
    begun = time.monotonic()
    assert ask(cache.port, path, method="POST", body=b"abc").status == 504
    assert time.monotonic() - begun < 3
    released.set()


@pytest.mark.parametrize(
    "framing", [b"Content-Length: 3\r\n\r\nabc", b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"]
)
@pytest.mark.parametrize("size", [1, 1000])
def test_rfc9110_7_8_an_upgrade_that_nobody_follows_takes_no_content_away(cache, origin, framing, size):
    path = fresh_path()
    origin.on(path, answer(b"done"))
    head = (
        b"POST %b HTTP/1.1\r\nHost: h\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n"
        % path.encode()
    )
    request = head + b"HTTP2-Settings: x\r\n" + framing
    with socket.create_connection(("127.0.0.1", cache.port), timeout=5) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for start in range(0, len(request), size):
            sock.sendall(request[start : start + size])
        assert sock.recv(65536).startswith(b"HTTP/1.1 200 ")
    (received,) = origin.asked(path)
    assert received.body == b"abc"
    assert received.values("upgrade") == received.values("http2-settings") == []


def test_what_follows_an_upgrade_is_no_request(cache, origin):
    path = fresh_path()
    origin.on(path, answer(b"done"))
    head = b"GET %b HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n" % path.encode()
    found = raw(cache.port, head + b"GET /another HTTP/1.1\r\nHost: h\r\n\r\n")
    assert found.count(b"HTTP/1.1 ") == 1
    assert not origin.asked("/another")


def test_rfc9110_10_1_1_an_old_client_is_not_told_to_continue(cache, origin):
    path = fresh_path()
    origin.on(path, answer(b"done"))
    with socket.create_connection(("127.0.0.1", cache.port), timeout=5) as sock:
        head = b"POST %b HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n" % path.encode()
        sock.sendall(head)
        sock.settimeout(0.3)
        with pytest.raises(TimeoutError):
            sock.recv(65536)
        sock.settimeout(5)
        sock.sendall(b"abc")
        assert sock.recv(65536).startswith(b"HTTP/1.1 200 ")


def test_content_that_comes_after_its_head_is_read_behind_other_requests(cache, origin):
    path = fresh_path()
    origin.on(path, lambda wire, got: wire.send(answer(got.method.encode() + got.body)))
    gets = b"GET %b HTTP/1.1\r\nHost: h\r\n\r\n" % path.encode() * 2
    head = b"PUT %b HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\n" % path.encode()
    with socket.create_connection(("127.0.0.1", cache.port), timeout=5) as sock:
        sock.sendall(gets + head)
        found = b""
        while found.count(b"\r\n\r\nGET") < 2:
            found += sock.recv(65536)
        sock.sendall(b"abc")
        while b"PUTabc" not in found:
            found += sock.recv(65536)


@pytest.mark.parametrize("chunked", [False, True])
def test_content_that_drips_is_not_waited_for(shared_cache, origin, chunked):
    cache = shared_cache(CACHE_CLIENT_STALL_TIMEOUT="0.5", CACHE_WORKERS="1")
    path = fresh_path()
    origin.on(path, answer(b"done"))
    framing = b"Transfer-Encoding: chunked" if chunked else b"Content-Length: 1000"
    head = b"PUT %b HTTP/1.1\r\nHost: h\r\n%b\r\n\r\n" % (path.encode(), framing)
    begun = time.monotonic()
    with socket.create_connection(("127.0.0.1", cache.port), timeout=0.1) as sock:
        sock.sendall(head)
        for piece in itertools.repeat(b"1\r\nx\r\n" if chunked else b"x"):
            assert time.monotonic() - begun < 4, "it waits for ever"
            sock.sendall(piece)
            with contextlib.suppress(TimeoutError):
                found = sock.recv(65536)
                break
    assert found.startswith(b"HTTP/1.1 408 ")


def test_rfc9112_8_a_reset_is_no_end_of_content(cache, origin):
    path = fresh_path()
    passed = threading.Event()

    def script(wire, _):
        wire.send(b"HTTP/1.1 200 X\r\nCache-Control: max-age=60\r\n\r\n" + b"x" * 1000)
        assert passed.wait(5)
        wire.reset()
        return False

    origin.on(path, script)
    for asked in (1, 2):  # the second time, too, since nothing is stored
        passed.clear()
        with socket.create_connection(("127.0.0.1", cache.port), timeout=5) as sock:
            sock.sendall(b"GET %b HTTP/1.1\r\nHost: h\r\n\r\n" % path.encode())
            found = b""
            while b"x" * 1000 not in found:
                found += sock.recv(65536)
            passed.set()
            with contextlib.suppress(ConnectionResetError):
                found += sock.recv(65536)
        assert not found.endswith(b"0\r\n\r\n")
        assert len(origin.asked(path)) == asked
