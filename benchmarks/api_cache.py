"""`make bench-api-cache`: api-cache beside nginx and Varnish, in one run, in a few minutes.

All three answer the same bodies of the same origin out of their caches, each with its access log written to a
file; api-cache runs as it is shipped, with metrics and a real Valkey. wrk shares the processors with the
servers, and so does whatever else runs here. Therefore rounds are interleaved and medians compared, and the
CPU time that a server spends on a request stands beside.

Which Python runs api-cache counts: the images' and Debian's are built with profile-guided optimisation. One
that was compiled without, as pyenv does it by default, takes 1.3 to 1.7 times as long for the same code.
"""

import argparse
import contextlib
import itertools
import json
import os
import platform
import random
import secrets
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from http import HTTPStatus
from pathlib import Path
from typing import Self

import hiredis
import httptools
from backports import zstd
from local.processes import ProcessError
from local.services import ApiCache
from local.valkey import Valkey

from benchmarks import codings
from benchmarks.bodies import air_quality
from benchmarks.peers import NginxCache, Origin, Peer, Varnish, cpu_seconds, demand_programs, program
from benchmarks.tables import table

SIZES = {"2 KB": 2 * 1024, "60 KB": 60 * 1024, "4 MB": 4 * 1024 * 1024}
CONNECTIONS = 16
RESULTS = Path(__file__).with_name("results") / "api_cache.md"
PATHS_IN_A_ROW = 20
RECEIVED_BYTES = 256 * 1024
_REPORT = """
done = function(summary, latency)
  local errors = summary.errors
  io.write(string.format('{"requests":%d,"us":%d,"p50":%d,"p99":%d,"errors":%d}', summary.requests,
    summary.duration, latency:percentile(50), latency:percentile(99),
    errors.connect + errors.read + errors.write + errors.status + errors.timeout))
end
"""


class Cache(Peer):
    """api-cache with its shipped settings; only where to find Redis and the origin is given."""

    def __init__(self, folder: Path, environ: Mapping[str, str]) -> None:
        self._folder = folder
        self._environ = environ
        service = ApiCache(environ, output=folder / f"api-cache-{secrets.token_hex(2)}.log")
        self.port = service.port
        self.process = service.process

    def replica(self) -> "Cache":
        return Cache(self._folder, self._environ)


class Client:
    """One connection, whose client takes next to no time itself, however many fields an answer has."""

    def __init__(self, peer: Peer) -> None:
        self._socket = socket.create_connection((peer.host, peer.port), timeout=10)
        self._is_complete = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def on_message_complete(self) -> None:
        """What the parser calls at the last byte of an answer."""
        self._is_complete = True

    def timed(self, path: str) -> float:
        """Seconds from a request to the last byte of its answer, which is a 200."""
        request = f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
        parser = httptools.HttpResponseParser(self)
        self._is_complete = False
        begun = time.perf_counter()
        self._socket.sendall(request)
        while not self._is_complete:
            data = self._socket.recv(RECEIVED_BYTES)
            if not data:
                raise SystemExit(f"The connection ended within the answer to {path}.")
            parser.feed_data(data)
        seconds = time.perf_counter() - begun
        if parser.get_status_code() != HTTPStatus.OK:
            raise SystemExit(f"{path} was answered with {parser.get_status_code()}.")
        return seconds


class RedisAlone:
    """A GET from Redis of as many bytes as api-cache gets from there: no hit in it can take less."""

    def __init__(self, valkey: Valkey, value: bytes) -> None:
        self._socket = socket.create_connection((valkey.host, valkey.port), timeout=10)
        self._replies = hiredis.Reader()
        self._ask("AUTH", valkey.environ["REDIS_PASSWORD"])
        self._ask("SET", "alone", value)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def _ask(self, *command: str | bytes) -> None:
        self._socket.sendall(hiredis.pack_command(command))  # type: ignore[arg-type]  # any tuple will do
        while (reply := self._replies.gets()) is False:
            self._replies.feed(self._socket.recv(RECEIVED_BYTES))
        if isinstance(reply, hiredis.ReplyError):
            raise SystemExit(f"Redis refuses {command[0]!r}: {reply}")

    def timed(self, _: str) -> float:
        """Seconds from the command to the last byte of its reply."""
        begun = time.perf_counter()
        self._ask("GET", "alone")
        return time.perf_counter() - begun


@dataclass(frozen=True)
class Round:
    """What wrk saw of one server in one round. Durations are in microseconds."""

    per_second: float
    p50: float
    p99: float
    cpu: float
    """CPU time of the server's processes, per request."""
    errors: int


def main() -> None:
    options = _options()
    demand_programs()
    try:
        report = "\n\n".join(_sections(options))
    except ProcessError as error:
        sys.exit(f"make bench-api-cache: {error}")
    if options.write:
        RESULTS.parent.mkdir(exist_ok=True)
        RESULTS.write_text(f"# api-cache beside nginx and Varnish\n\n{_machine()}\n\n{report}\n")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make bench-api-cache", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="of each server at each size (5)")
    parser.add_argument("--seconds", type=int, default=3, help="that a round takes (3)")
    parser.add_argument("--write", action="store_true", help=f"keep the tables in {RESULTS.name}")
    return parser.parse_args()


def _sections(options: argparse.Namespace) -> Iterator[str]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for section in (
            # The first, while no log lines of millions of requests are on their way to the disk.
            second_level(folder / "levels"),
            hits(folder / "hits", options.rounds, options.seconds),
            codings.section(folder / "codings", options.rounds),
        ):
            print(section, end="\n\n", flush=True)
            yield section


def _machine() -> str:
    today = datetime.now(UTC).date().isoformat()
    return f"{today}, {os.cpu_count()} processors ({platform.machine()}), Python {platform.python_version()}."


# ---- hits


def hits(folder: Path, rounds: int, seconds: int) -> str:
    with _servers(folder) as (origin, peers, *_):
        for size in SIZES.values():
            (origin.bodies / f"{size}.json").write_bytes(b"".join(air_quality(size)))
        for peer, size in itertools.product(peers.values(), SIZES.values()):
            warm_up(peer, f"/{size}.json")
        seen = _interleaved(folder, peers, rounds, seconds)
    rows = [[label, name, *_figures(seen, name, label)] for label in SIZES for name in peers]
    header = [
        "body",
        "server",
        "requests/s",
        "of Varnish's",
        "of nginx's",
        "p50 ms",
        "p99 ms",
        "CPU µs/request",
        "errors",
    ]
    title = f"Hits, {CONNECTIONS} connections, medians of {rounds} interleaved rounds of {seconds} s"
    return table(title, header, rows)


@contextlib.contextmanager
def _servers(folder: Path) -> Iterator[tuple[Origin, Mapping[str, Peer], Cache, Valkey]]:
    with contextlib.ExitStack() as stack:
        origin = stack.enter_context(Origin(folder))
        valkey = stack.enter_context(
            Valkey(folder / "valkey", environ={"REDIS_PASSWORD": secrets.token_hex()})
        )
        backend = {"BACKEND_HOST": origin.host, "BACKEND_PORT": str(origin.port)}
        cache = Cache(folder, valkey.environ | backend)
        peers = {"nginx": NginxCache(folder, origin), "Varnish": Varnish(folder, origin), "api-cache": cache}
        for peer in peers.values():
            stack.enter_context(peer)
        yield origin, peers, cache, valkey


def warm_up(peer: Peer, path: str) -> None:
    """Ask over many connections, so that every process of the server has the entry."""
    for _ in range(20):
        if peer.status_of(path) != 200:
            raise ProcessError(f"{peer.process.name} does not answer {path}.")


def _interleaved(
    folder: Path, peers: Mapping[str, Peer], rounds: int, seconds: int
) -> dict[tuple[str, str], list[Round]]:
    script = folder / "report.lua"
    script.write_text(_REPORT)
    seen: dict[tuple[str, str], list[Round]] = {}
    for _, (label, size) in itertools.product(range(rounds), SIZES.items()):
        for name in random.sample(sorted(peers), len(peers)):
            seen.setdefault((name, label), []).append(load(peers[name], f"/{size}.json", seconds, script))
    return seen


def load(peer: Peer, path: str, seconds: int, script: Path) -> Round:
    before = cpu_seconds(peer.pids())
    done = subprocess.run(
        [
            *(program("wrk"), "-t2", f"-c{CONNECTIONS}", f"-d{seconds}s", "-s", script),
            f"http://{peer.host}:{peer.port}{path}",
        ],
        capture_output=True,
        text=True,
        check=True,
        timeout=seconds + 30,
    )
    spent = cpu_seconds(peer.pids()) - before
    seen = json.loads(done.stdout[done.stdout.rindex("{") :])
    requests = seen["requests"] or 1
    return Round(
        requests / seen["us"] * 1e6, seen["p50"], seen["p99"], spent / requests * 1e6, seen["errors"]
    )


def _figures(seen: Mapping[tuple[str, str], Sequence[Round]], name: str, label: str) -> list[str]:
    def median(what: Callable[[Round], float], of: str = name) -> float:
        return statistics.median(map(what, seen[of, label]))

    speed = median(lambda each: each.per_second)
    return [
        f"{speed:,.0f}",
        *(f"{speed / median(lambda each: each.per_second, other):.2f}" for other in ("Varnish", "nginx")),
        f"{median(lambda each: each.p50) / 1000:.2f}",
        f"{median(lambda each: each.p99) / 1000:.1f}",
        f"{median(lambda each: each.cpu):.1f}",
        str(sum(each.errors for each in seen[name, label])),
    ]


# ---- the level that all processes share


def second_level(folder: Path, targets: int = 200) -> str:
    """Each target is asked for once of each server, after another process has stored it."""
    with contextlib.ExitStack() as stack:
        origin, peers, cache, valkey = stack.enter_context(_servers(folder))
        clients = {name: stack.enter_context(Client(peer)) for name, peer in peers.items()}
        ours = clients.pop("api-cache")
        other = stack.enter_context(Client(stack.enter_context(cache.replica())))
        rows = []
        for label, size in itertools.islice(SIZES.items(), 2):
            body = b"".join(air_quality(size))
            (origin.bodies / f"{size}.json").write_bytes(body)
            paths = [f"/{size}.json?{number}" for number in range(targets)]
            _in_turn({**clients, "other": other}, paths)
            alone = stack.enter_context(RedisAlone(valkey, zstd.compress(body, level=1)))
            # The same connection, and so the same process, has it in memory when it is asked again.
            twice = {"api-cache, out of Redis": ours, "api-cache, out of memory": ours}
            rows += _beside_nginx(label, _in_turn({**clients, "Redis alone": alone, **twice}, paths))
    header = ["body", "answered by", "p50 ms", "p99 ms", "p50 above nginx's, ms"]
    return table(
        f"First hit after another process has stored it, 1 connection, {targets} targets", header, rows
    )


def _beside_nginx(label: str, seconds: Mapping[str, Sequence[float]]) -> list[list[str]]:
    reference = statistics.median(seconds["nginx"])
    return [
        [label, name, *(f"{value * 1000:.3f}" for value in _summary(seen, reference))]
        for name, seen in seconds.items()
    ]


def _summary(seen: Sequence[float], reference: float) -> tuple[float, float, float]:
    p50 = statistics.median(seen)
    return p50, statistics.quantiles(seen, n=100)[98], p50 - reference


def _in_turn(asked: Mapping[str, Client | RedisAlone], paths: Sequence[str]) -> dict[str, list[float]]:
    """Seconds that each took for each path; a machine that slows down for a while does so for all of them."""
    times: dict[str, list[float]] = {name: [] for name in asked}
    parts = [paths[at : at + PATHS_IN_A_ROW] for at in range(0, len(paths), PATHS_IN_A_ROW)]
    for part, (name, client) in itertools.product(parts, asked.items()):
        times[name] += [client.timed(path) for path in part]
    return times


if __name__ == "__main__":
    main()
