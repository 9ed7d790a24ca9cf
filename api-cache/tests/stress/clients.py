"""Clients that ask without a pause, one request or several in one piece, and leave as they like."""

import http.client
import socket
import struct
import threading
import time
from collections.abc import Sequence
from random import Random

from tests.stress.judge import Judge
from tests.stress.requests import Asker, Request
from tests.support import Answer

TIMEOUT = 12.0
"""Seconds without a byte: more than all timeouts of api-cache in turn take here."""
MAX_REQUESTS = 20_000
"""Of each client."""


class Broken(Exception):
    """The connection ended before the answer did."""


class Connection:
    def __init__(self, port: int) -> None:
        self.port = port
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.stream = self._socket.makefile("rb")

    def send(self, data: bytes) -> None:
        self._socket.sendall(data)

    def reset(self) -> None:
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close()

    def close(self) -> None:
        self.stream.close()
        self._socket.close()


class Client:
    """One client, with one connection at a time."""

    def __init__(self, ports: Sequence[int], asker: Asker, judge: Judge, rng: Random) -> None:
        self._ports = ports
        self._asker = asker
        self._judge = judge
        self._rng = rng
        self._connection: Connection | None = None

    def run(self, over: threading.Event) -> None:
        made = 0
        while not over.is_set() and made < MAX_REQUESTS:
            if self._rng.random() < 0.08:
                self._leave()
            requests = self._asker.requests()
            made += len(requests)
            self._exchange(requests, over)
        self._leave()

    def _exchange(self, requests: list[Request], over: threading.Event) -> None:
        begun, port = time.monotonic(), self._rng.choice(self._ports)
        try:
            connection = self._connection = self._connection or Connection(port)
            port = connection.port
            self._send(connection, b"".join(map(self._encoded, requests)), over)
            if self._rng.random() < (0.2 if requests[0].is_unsafe else 0.03):
                self._leave_amid(connection, over)
                return
            for request in requests:
                answer = read_answer(connection, request.method)
                self._judge.answered(request, answer, begun, port)
                if answer["Connection"] == "close":
                    self._leave()
                    break
        except (OSError, Broken) as error:
            self._judge.unanswered(requests, error, begun, port)
            self._leave()

    def _encoded(self, request: Request) -> bytes:
        """Some clients send an empty line after content (RFC 9112 §2.2)."""
        return bytes(request) + (b"\r\n" if request.content and self._rng.random() < 0.2 else b"")

    def _send(self, connection: Connection, data: bytes, over: threading.Event) -> None:
        """In one piece, or sometimes in two."""
        if self._rng.random() < 0.12:
            at = self._rng.randrange(1, len(data))
            connection.send(data[:at])
            over.wait(self._rng.choice((0, 0.002)))
            data = data[at:]
        connection.send(data)

    def _leave_amid(self, connection: Connection, over: threading.Event) -> None:
        """Go when nothing, or something, of the answer is there."""
        over.wait(self._rng.choice((0, 0.1)) * self._rng.random())
        if self._rng.random() < 0.5:
            connection.stream.read1(self._rng.choice((1, 300)))
        if self._rng.random() < 0.5:
            connection.reset()
        self._leave()

    def _leave(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def read_answer(connection: Connection, method: str) -> Answer:
    """The next final answer.

    Raises:
        Broken: there is none, or not all of it.
        OSError: the connection was reset, or nothing came for TIMEOUT seconds.
    """
    status = 100
    while status < 200:
        line = connection.stream.readline()
        if not line:
            raise Broken("before the answer")
        status = int(line.split()[1])
        headers = http.client.parse_headers(connection.stream).items()
    answer = Answer(status, list(headers), b"")
    if method != "HEAD" and status not in (204, 304):
        answer.body = _read_content(connection, answer)
    return answer


def _read_content(connection: Connection, answer: Answer) -> bytes:
    if answer["Transfer-Encoding"] != "chunked":
        return _read(connection, int(answer["Content-Length"] or 0))
    content = b""
    while size := int(connection.stream.readline() or b"bad", 16):
        content += _read(connection, size)
        _read(connection, 2)
    _read(connection, 2)
    return content


def _read(connection: Connection, size: int) -> bytes:
    data = connection.stream.read(size)
    if len(data) < size:
        raise Broken(f"after {len(data)} of {size} bytes")
    return data
