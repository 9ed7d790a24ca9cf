"""Clients that ask without a pause while something breaks, and check every byte that they get."""

import http.client
import itertools
import random
import threading
import time
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Self

from backports import zstd

from tests.faults import bodies

CODINGS = (None, "gzip", "zstd", "gzip, zstd;q=0.5")
_numbers = itertools.count(1)


@dataclass(frozen=True)
class Seen:
    """What became of one request. `at` and `seconds` are its begin and its duration."""

    path: str
    at: float
    seconds: float
    status: int | None
    cache: str
    version: str | None
    """Of a 200; None when its body is wrong."""
    error: str

    @property
    def wrong(self) -> bool:
        return self.status == 200 and self.version is None


def warm_paths() -> list[str]:
    """New targets: entries that turn stale all the time, and some that stay fresh."""
    kinds = ("text", "bytes", "large")
    return [f"/{kind}/{seconds}/{next(_numbers)}" for kind in kinds for seconds in (1, 600)]


def cold_path() -> str:
    return f"/{random.choice(('text', 'bytes'))}/600/{next(_numbers)}"


class Client:
    """One persistent connection, made anew when it broke."""

    def __init__(self, port: int, timeout: float = 20.0) -> None:
        self._port = port
        self._timeout = timeout
        self._connection: http.client.HTTPConnection | None = None

    def get(self, path: str, coding: str | None = None) -> Seen:
        begun = time.monotonic()
        try:
            response, body = self._exchange(path, coding)
        except (OSError, http.client.HTTPException) as error:
            self.close()
            return Seen(path, begun, time.monotonic() - begun, None, "", None, repr(error)[:100])
        seconds = time.monotonic() - begun
        version = bodies.version(path, body) if response.status == 200 else None
        cache = response.headers["Cache-Status"] or ""
        return Seen(path, begun, seconds, response.status, cache, version, "")

    def _exchange(self, path: str, coding: str | None) -> tuple[http.client.HTTPResponse, bytes]:
        if self._connection is None:
            self._connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=self._timeout)
        self._connection.putrequest("GET", path, skip_accept_encoding=True)
        if coding is not None:
            self._connection.putheader("Accept-Encoding", coding)
        self._connection.endheaders()
        response = self._connection.getresponse()
        return response, _decoded(response, response.read())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def _decoded(response: http.client.HTTPResponse, body: bytes) -> bytes:
    match response.headers["Content-Encoding"]:
        case "gzip":
            return zlib.decompress(body, 31)
        case "zstd":
            return zstd.decompress(body)
        case _:
            return body


class Load:
    """`clients` threads that ask for `paths`, and now and then for what nobody has asked for yet."""

    def __init__(
        self, ports: Sequence[int], paths: Sequence[str], *, clients: int = 8, cold: float = 0.05
    ) -> None:
        self.seen: list[Seen] = []
        self._paths = paths
        self._cold = cold
        self._ended = threading.Event()
        self._failures: list[BaseException] = []
        self._threads = [
            threading.Thread(target=self._run, args=(ports[number % len(ports)], number))
            for number in range(clients)
        ]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join(30)
        assert not any(thread.is_alive() for thread in self._threads), "a client hangs"
        assert not self._failures, self._failures

    def _run(self, port: int, number: int) -> None:
        client, rng = Client(port), random.Random(number)
        try:
            while not self._ended.is_set():
                path = cold_path() if rng.random() < self._cold else rng.choice(self._paths)
                self.seen.append(client.get(path, rng.choice(CODINGS)))
        except BaseException as error:
            self._failures.append(error)
            raise
        finally:
            client.close()

    def go_on(self, seconds: float) -> None:
        """Let the clients ask for a while."""
        time.sleep(seconds)

    # ---- claims

    def warm(self) -> list[Seen]:
        return [each for each in self.seen if each.path in self._paths]

    def check(self, *, longest: float, breaks: bool = False, cold_fails: bool = False) -> None:
        """Nothing wrong ever, no error for what an entry may serve, and no request longer than that.

        `breaks`: connections may break, as those of a killed process do. `cold_fails`: the origin cannot
        answer, so what is not stored may be an error or break off.
        """
        assert len(self.seen) > 50, f"only {len(self.seen)} requests were made"
        assert not (wrong := [each for each in self.seen if each.wrong]), wrong[:3]
        judged = self.warm() if cold_fails else self.seen
        failed = [each for each in judged if each.status != 200 and not (breaks and each.status is None)]
        assert not failed, (Counter((each.status, each.error) for each in failed), failed[:3])
        slow = sorted((each for each in self.seen if each.seconds > longest), key=lambda each: -each.seconds)
        assert not slow, (len(slow), slow[:3])


def warm_up(ports: Iterable[int], paths: Iterable[str]) -> None:
    """Ask until everything is stored."""
    for port, path in itertools.product(ports, paths):
        with Client(port) as client:
            until(lambda client=client, path=path: "hit" in client.get(path).cache, f"{path} is never a hit")


def until(claim: Callable[[], bool], otherwise: str, timeout: float = 10.0) -> None:
    deadline = time.monotonic() + timeout
    while not claim():
        assert time.monotonic() < deadline, otherwise
        time.sleep(0.02)


def metric(port: int, name: str) -> float:
    """The sum of a metric over its labels."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request("GET", "/metrics")
    lines = connection.getresponse().read().decode().splitlines()
    connection.close()
    found = [line.rpartition(" ")[2] for line in lines if line.split("{")[0].split(" ")[0] == name]
    assert found, f"no metric {name}"
    return sum(map(float, found))
