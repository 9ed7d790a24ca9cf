"""Real HTTP for the tests: an origin that sends the very bytes a test wants, a client that sees each."""

from __future__ import annotations

import contextlib
import http.client
import itertools
import os
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from local.processes import wait_until

_numbers = itertools.count(1)


def fresh_path(name: str = "x") -> str:
    """A target that no other test has asked for."""
    return f"/{name}-{next(_numbers)}"


@dataclass(frozen=True)
class Received:
    """A request as it reached the origin."""

    method: str
    target: str
    headers: list[tuple[str, str]]
    body: bytes
    connection: int

    def values(self, name: str) -> list[str]:
        return [value for each, value in self.headers if each.lower() == name.lower()]


Script = Callable[["Wire", Received], bool | None]
"""Answers one request; False ends the connection."""


class Wire:
    """The origin's side of one connection."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock

    def send(self, data: bytes) -> None:
        self._sock.sendall(data)

    def reset(self) -> None:
        """Have the connection end by a reset as soon as it is closed."""
        self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def answer(body: bytes = b"", *lines: str, status: int = 200) -> bytes:
    """The bytes of a complete answer."""
    head = [f"HTTP/1.1 {status} X", *lines, f"Content-Length: {len(body)}"]
    return "\r\n".join(head).encode() + b"\r\n\r\n" + body


class Origin:
    """An HTTP server that follows scripts, one per path, each connection in a thread of its own."""

    def __init__(self) -> None:
        self.received: list[Received] = []
        self.begun: list[str] = []
        """The targets of those whose content may still be on its way, too."""
        self._scripts: dict[str, Script] = {}
        self._lock = threading.Lock()
        self._connections = 0
        self._socket = socket.create_server(("127.0.0.1", 0), backlog=1024)
        self._open: set[socket.socket] = set()
        self.port: int = self._socket.getsockname()[1]
        threading.Thread(target=self._accept, args=(self._socket,), daemon=True).start()

    def on(self, path: str, script: Script | bytes) -> None:
        """What to do with requests for a path, whatever their query; bytes are sent as they are."""
        if isinstance(script, bytes):
            data = script
            self._scripts[path] = lambda wire, _: wire.send(data)
        else:
            self._scripts[path] = script

    def asked(self, target: str) -> list[Received]:
        with self._lock:
            return [each for each in self.received if each.target == target]

    def stop(self) -> None:
        """Refuse connections, and end those that are open."""
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        with self._lock:
            for each in self._open:
                with contextlib.suppress(OSError):
                    each.shutdown(socket.SHUT_RDWR)

    def start(self) -> None:
        self._socket = socket.create_server(("127.0.0.1", self.port), backlog=1024)
        threading.Thread(target=self._accept, args=(self._socket,), daemon=True).start()

    def _accept(self, listener: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                sock, _ = listener.accept()
                with self._lock:
                    self._open.add(sock)
                    self._connections += 1
                    number = self._connections
                threading.Thread(target=self._serve, args=(sock, number), daemon=True).start()

    def _serve(self, sock: socket.socket, number: int) -> None:
        try:
            with sock, sock.makefile("rb") as stream, contextlib.suppress(OSError, ValueError):
                for received in _requests(stream, number, self.begun):
                    with self._lock:
                        self.received.append(received)
                    script = self._scripts.get(received.target.partition("?")[0])
                    wire = Wire(sock)
                    if script is None:
                        wire.send(answer(b"no such script", status=404))
                    elif script(wire, received) is False:
                        return
        finally:
            with self._lock:
                self._open.discard(sock)


def _requests(stream, number: int, begun: list[str]) -> Iterator[Received]:
    while line := stream.readline():
        method, target, _ = line.decode("latin-1").split(" ", 2)
        headers = []
        while (line := stream.readline()) not in (b"\r\n", b""):
            name, _, value = line.decode("latin-1").rstrip("\r\n").partition(": ")
            headers.append((name, value))
        begun.append(target)
        fields = {name.lower(): value for name, value in headers}
        body = b""
        if "content-length" in fields:
            body = stream.read(int(fields["content-length"]))
        elif fields.get("transfer-encoding") == "chunked":
            while size := int(stream.readline(), 16):
                body += stream.read(size)
                stream.readline()
            stream.readline()
        yield Received(method, target, headers, body, number)


@dataclass
class Answer:
    """An answer as the client got it."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes = field(repr=False)

    def values(self, name: str) -> list[str]:
        return [value for each, value in self.headers if each.lower() == name.lower()]

    def __getitem__(self, name: str) -> str | None:
        values = self.values(name)
        return ", ".join(values) if values else None

    @property
    def cache(self) -> str:
        """Cache-Status without the name and the ttl."""
        parts = (self["Cache-Status"] or "").split("; ")
        return "; ".join(part for part in parts[1:] if not part.startswith("ttl="))


def ask(  # the client's side of one exchange
    port: int,
    target: str,
    *lines: tuple[str, str],
    method: str = "GET",
    body: bytes | None = None,
    timeout: float = 15,
) -> Answer:
    """One request on a connection of its own, with no other fields than these and Host.

    Raises:
        http.client.IncompleteRead: the content broke off.
    """
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)
    try:
        connection.putrequest(method, target, skip_host=True, skip_accept_encoding=True)
        names = {name.lower() for name, _ in lines}
        if "host" not in names:
            connection.putheader("Host", "cache.test")
        for name, value in lines:
            connection.putheader(name, value)
        if body is not None and "transfer-encoding" not in names:
            connection.putheader("Content-Length", str(len(body)))
        connection.endheaders()
        if body is not None:
            connection.send(body)
        response = connection.getresponse()
        return Answer(response.status, response.getheaders(), response.read())
    finally:
        connection.close()


def raw(port: int, data: bytes, *, until: bytes | None = None, timeout: float = 10) -> bytes:
    """All that comes back for these bytes, until the server ends the connection, or `until` has come."""
    found = b""
    with socket.create_connection(("127.0.0.1", port), timeout=timeout) as sock:
        sock.sendall(data)
        with contextlib.suppress(ConnectionResetError):
            while chunk := sock.recv(65536):
                found += chunk
                if until is not None and until in found:
                    break
    return found


def warm(cache, path: str) -> None:
    """Ask until each worker holds it in memory, be it that Redis is only just there again."""
    assert wait_until(lambda: {ask(cache.port, path).cache for _ in range(8)} == {"hit"}, timeout=10)


def metrics(cache) -> dict[str, float]:
    """What /metrics says, by the name with its labels."""
    lines = ask(cache.port, "/metrics").body.decode().splitlines()
    named = (line.rpartition(" ") for line in lines if not line.startswith("#"))
    return {name: float(value) for name, _, value in named}


def waiting(cache) -> int:
    """How many requests wait for another one's answer."""
    return int(metrics(cache)["api_cache_waiters"])


def all_wait(cache, number: int) -> bool:
    """Wait until so many ask for one thing: one in each worker, and the others for that one's answer.

    They do so at ten looks one after the other: by then one worker has seen that the other asks already.
    """
    expected, looks = number - len(workers(cache)), 0

    def again() -> bool:
        nonlocal looks
        looks = looks + 1 if waiting(cache) >= expected else 0
        return looks == 10

    return wait_until(again, timeout=10)


def together(cache, path: str, number: int) -> dict[str, Answer]:
    """What each of so many clients gets who ask at once, by the name that it gives in `Who`."""
    found = {}

    def one(who: str) -> None:
        found[who] = ask(cache.port, path, ("Who", who), timeout=30)

    threads = [threading.Thread(target=one, args=(f"client-{who}",)) for who in range(number)]
    for each in threads:
        each.start()
    for each in threads:
        each.join(30)
    assert len(found) == number
    return found


def workers(cache) -> list[int]:
    """The process ids of its workers."""
    pid = cache.process.pid
    return [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def resident(pid: int) -> int:
    """The bytes of memory that a process has."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")


def page_faults(pid: int) -> int:
    """How often a process has waited for a page of memory from the kernel."""
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[7])


def tracebacks(folder: Path) -> list[str]:
    """What the caches whose logs lie there said of faults of their own."""
    lines = [line for path in folder.glob("cache-*.log") for line in path.read_text().splitlines()]
    return [line for line in lines if "Traceback" in line]
