"""Requests made to be misread, and fields meant to change what others get."""

import contextlib
import http.client
import random
import socket
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from local.services import ApiCache
from local.valkey import Valkey

from tests import support
from tests.support import answer, ask, raw

EVIL = "evil.test"


@pytest.fixture(scope="module")
def guarded(tmp_path_factory):
    folder = tmp_path_factory.mktemp("hostile")
    recorder = Recorder()
    with Valkey(folder / "valkey", environ={"REDIS_PASSWORD": "x"}) as valkey:
        environ = {**valkey.environ, "BACKEND_HOST": "127.0.0.1", "BACKEND_PORT": str(recorder.port)}
        with ApiCache(environ, output=folder / "cache.log") as cache:
            yield recorder, cache


@pytest.fixture(scope="module")
def cache(guarded):
    return guarded[1]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("Host", EVIL),
        ("X-Forwarded-Host", EVIL),
        ("X-Forwarded-Proto", EVIL),
        ("X-Forwarded-For", EVIL),
        ("X-Forwarded-Port", EVIL),
        ("X-Forwarded-Prefix", EVIL),
        ("X-Forwarded-Scheme", EVIL),
        ("X-Forwarded-Server", EVIL),
        ("X-Forwarded-Path", EVIL),
        ("X-Forwarded-Uri", EVIL),
        ("X-Forwarded", EVIL),
        ("Forwarded", f"host={EVIL}"),
        ("X-Host", EVIL),
        ("X-Original-Host", EVIL),
        ("X-Original-URL", f"/{EVIL}"),
        ("X-Rewrite-URL", f"/{EVIL}"),
        ("X-HTTP-Method-Override", EVIL),
        ("X-HTTP-Method", EVIL),
        ("X-Method-Override", EVIL),
        ("X-Real-IP", EVIL),
        ("X-Client-IP", EVIL),
        ("True-Client-IP", EVIL),
        ("Client-IP", EVIL),
        ("CF-Connecting-IP", EVIL),
        ("X-Cluster-Client-IP", EVIL),
        ("X_Forwarded_Host", EVIL),
        ("Front-End-Https", EVIL),
        ("X-URL-Scheme", EVIL),
        ("X-Backend-Host", EVIL),
        ("Proxy", EVIL),
    ],
)
def test_what_is_no_part_of_the_key_reaches_no_stored_answer(cache, name, value):
    path = f"/echo/{name}"
    ask(cache.port, path, (name, value))
    later = ask(cache.port, path)
    assert later.status == 200
    assert EVIL not in later.body.decode()


@pytest.mark.parametrize("body", [b"evil.test", b"_method=DELETE&x=evil.test"])
def test_a_get_with_content_is_never_stored(cache, body):
    path = f"/echo/fat-{len(body)}"
    ask(cache.port, path, ("Content-Type", "application/x-www-form-urlencoded"), body=body)
    later = ask(cache.port, path)
    assert later.cache.startswith("fwd=miss")
    assert EVIL not in later.body.decode()


@pytest.mark.parametrize(
    "target", [f"http://{EVIL}/echo/absolute", f"http://user:x@{EVIL}:81/echo/absolute2"]
)
def test_an_absolute_target_gives_no_host(cache, target):
    path = "/" + target.split("/", 3)[3]
    raw(cache.port, f"GET {target} HTTP/1.1\r\nHost: {EVIL}\r\nConnection: close\r\n\r\n".encode())
    assert EVIL not in ask(cache.port, path).body.decode()


def test_nominated_fields_take_nothing_away_that_decides(cache):
    """Connection may name Authorization; the answer to it is a private one all the same."""
    path = "/echo/nominated"
    ask(cache.port, path, ("Authorization", "Basic evil.test"), ("Connection", "Authorization"))
    assert EVIL not in ask(cache.port, path).body.decode()


# ---- smuggling

STARTS = (
    b"GET /allowed HTTP/1.1\r\n",
    b"POST /allowed HTTP/1.1\r\n",
    b"HEAD /allowed HTTP/1.1\r\n",
    b"GET http://h/allowed HTTP/1.1\r\n",
    b"PUT /allowed HTTP/1.0\r\n",
    b"BREW /allowed HTTP/1.1\r\n",
)
FIELDS = (
    *(
        b"X: y\r\n",
        b"X: y\n",
        b"X: y\r",
        b" X: y\r\n",
        b"X\r\n",
        b": y\r\n",
        b"X: a\x00b\r\n",
        b"X: \xff\r\n",
    ),
    *(
        b"Host : h\r\n",
        b"Host: g\r\n",
        b"Expect: 100-continue\r\n",
        b"Upgrade: h2c\r\nConnection: Upgrade\r\n",
    ),
    *(
        b"Content-Length: 0\r\n",
        b"Content-Length: 5\r\n",
        b"Content-Length: 40\r\n",
        b"Content-Length: 5, 5\r\n",
    ),
    *(
        b"Content-Length: +5\r\n",
        b"Content-Length: 0x5\r\n",
        b"Content-Length : 5\r\n",
        b"Content_Length: 5\r\n",
    ),
    b"Content-Length:5\x0b\r\n",
    b"Content-Length: \r\n",
    b"Content-Length: 05\r\n",
    *(
        b"Transfer-Encoding: chunked\r\n",
        b"Transfer-Encoding: CHUNKED\r\n",
        b"Transfer-Encoding:\tchunked\r\n",
    ),
    *(
        b"Transfer-Encoding : chunked\r\n",
        b"Transfer-Encoding: xchunked\r\n",
        b"Transfer-Encoding: identity\r\n",
    ),
    b"Transfer-Encoding: \x0bchunked\r\n",
    b"Transfer-Encoding:\r\n chunked\r\n",
    b"TE: chunked\r\n",
    b"Transfer_Encoding: chunked\r\n",
    b"Connection: Content-Length, Transfer-Encoding\r\n",
)
CONTENT = (
    b"0\r\n\r\n",
    b"5\r\nhello\r\n0\r\n\r\n",
    b'5;x="\n\r\n"\r\nhello\r\n',
    b"5\nhello\n0\n\n",
    b"hello",
    b"5 \r\nhello\r\n0\r\n\r\n",
    b"-5\r\nhello\r\n",
    b"fffffffffffffffff\r\n",
    b"0\r\nX: y\r\n\r\n",
    b"00000000000000000005\r\nhello\r\n0\r\n\r\n",
    b"\r\n",
    b"GET /smuggled HTTP/1.1\r\nHost: h\r\n\r\n",
)


class Recorder:
    """An origin that keeps each connection's bytes, and reads them as strictly as the RFC does."""

    def __init__(self) -> None:
        self.targets: list[str] = []
        self.faults: list[str] = []
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=256)
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with connection, connection.makefile("rb") as stream, contextlib.suppress(OSError):
            try:
                for received in support._requests(stream, 0, []):
                    self._judge(received)
                    connection.sendall(_answer(received))
            except ValueError as error:
                if "b''" not in str(error):  # the proxy ended the connection, because its client broke off
                    self.faults.append(repr(error))

    def _judge(self, received: support.Received) -> None:
        self.targets.append(received.target)
        if len(received.values("Host")) != 1 or not received.values("Via"):
            self.faults.append(f"not made by the proxy: {received}")
        lengths, codings = received.values("Content-Length"), received.values("Transfer-Encoding")
        if len(lengths) + len(codings) > 1 or codings not in ([], ["chunked"]):
            self.faults.append(f"ambiguous: {received}")
        if any("\n" in value or "\r" in value or "\0" in value for _, value in received.headers):
            self.faults.append(f"injected: {received}")


def _answer(received: support.Received) -> bytes:
    """Of /echo/..., everything that was asked, to be stored; else nothing of interest."""
    if received.target.startswith("/echo"):
        return answer(repr(received).encode(), "Cache-Control: max-age=60")
    return answer(b"ok", "Cache-Control: no-store")


def composed(rng: random.Random) -> bytes:
    """A request that has a fair chance of being taken, and one of being misread."""
    lines = [b"Host: h\r\n", *(rng.choice(FIELDS) for _ in range(rng.randrange(1, 4)))]
    rng.shuffle(lines)
    content = b"".join(rng.choice(CONTENT) for _ in range(rng.randrange(4)))
    return rng.choice(STARTS) + b"".join(lines) + b"\r\n" + content


def test_random_pieces_never_become_a_request_that_nobody_sent(guarded):
    recorder, cache = guarded
    recorder.targets.clear()
    rng = random.Random(20161001)
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda data: shouted(cache.port, data), [composed(rng) for _ in range(800)]))
    assert not recorder.faults, recorder.faults[:3]
    assert len(recorder.targets) > 100  # or else nothing was tried
    assert set(recorder.targets) <= {"/allowed", "/smuggled"}
    assert ask(cache.port, "/allowed").status == 200


def shouted(port: int, data: bytes) -> None:
    """Send, and go when nothing more comes back."""
    with socket.create_connection(("127.0.0.1", port), timeout=0.3) as sock, contextlib.suppress(OSError):
        sock.sendall(data)
        while sock.recv(65536):
            pass


@pytest.mark.parametrize(
    "framing",
    [
        b"Content-Length: %d\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"Transfer-Encoding: chunked\r\nContent-Length: %d\r\n\r\n0\r\n\r\n",
        b"Content-Length: %d\r\nTransfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
        b"Content-Length: %d\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
        b"Content-Length: 5\r\nContent-Length: %d\r\n\r\n0\r\n\r\n",
        b"Content-Length: %d\r\nX: y\r\n Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"Content-Length: %d\r\nTransfer-Encoding: chunked\r\nConnection: Transfer-Encoding\r\n\r\n0\r\n\r\n",
        b"Content-Length: %d\r\nConnection: Content-Length\r\n\r\n0\r\n\r\n",
        b"Content-Length: %d\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"Transfer-Encoding: chunked\r\n\r\n5;\n%d\r\nhello\r\n0\r\n\r\n",
    ],
)
@pytest.mark.parametrize("method", [b"GET", b"POST", b"HEAD"])
def test_a_request_within_content_is_content(guarded, method, framing):
    """The hidden request is either content or the connection is over; it never gets an answer of its own."""
    recorder, cache = guarded
    recorder.targets.clear()
    hidden = b"GET /smuggled HTTP/1.1\r\nHost: h\r\n\r\n"
    framing = framing.replace(b"%d", b"%d" % (len(hidden) + 5))
    shouted(cache.port, method + b" /allowed HTTP/1.1\r\nHost: h\r\n" + framing + hidden)
    assert "/smuggled" not in recorder.targets
    assert not recorder.faults


def test_half_a_request_is_ended_in_time(cache):
    """Slow and silent clients do not keep others from being served."""
    idle = [socket.create_connection(("127.0.0.1", cache.port), timeout=10) for _ in range(300)]
    for number, each in enumerate(idle):
        each.sendall(b"GET /allowed HTTP/1.1\r\nHost: h\r\nX: "[: number % 40])
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", cache.port, timeout=5)) as connection:
        connection.request("GET", "/allowed")
        assert connection.getresponse().status == 200
    for each in idle:
        each.close()
