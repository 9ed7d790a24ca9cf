"""JSON log lines, written in batches, and metrics in memory that all workers share.

A hit may cost a few microseconds in all, so neither a log handler per line nor prometheus_client's locked and
memory-mapped values are affordable here; its exposition is, once per scrape.
"""

from __future__ import annotations

import json
import mmap
import os
import struct
import sys
import threading
import time
from bisect import bisect_left
from collections import deque
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from prometheus_client import Metric

SERVICE = "api-cache"
BUCKETS = (
    0.0001,
    0.00025,
    0.0005,
    0.001,
    0.0025,
    0.005,
    0.01,
    0.025,
    0.05,
    0.1,
    0.25,
    0.5,
    1.0,
    2.5,
    5.0,
    10.0,
    30.0,
)
"""Upper bounds in seconds; hits take fractions of a millisecond, misses up to the origin's timeout."""

# ---- counters
# ----------------------------------------------------------------------------------------------------

_LABEL_BYTES = 120
_CELLS = 3 + len(BUCKETS) + 1
_ROW_BYTES = _LABEL_BYTES + 8 * _CELLS
_ROWS = 512
_COUNT, _BYTES, _SECONDS = range(3)
METHODS = frozenset(("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"))
"""Methods that are named in metrics; all others count as OTHER, so that clients cannot make new series."""


class Counters:
    """One worker's rows, each a label and its cells, in memory that all workers share but only it writes.

    A worker that takes a dead one's place goes on with its rows, so that no counter ever falls.
    """

    def __init__(self, shared: mmap.mmap, worker: int) -> None:
        self._shared = shared
        self._base = worker * _ROWS * _ROW_BYTES
        self._rows: dict[str, memoryview[float]] = {}
        for label, cells in _rows_of(shared, worker):
            self._rows[label] = cells
            if label.startswith("gauge "):
                cells[_COUNT] = 0.0

    @staticmethod
    def allocate(workers: int) -> mmap.mmap:
        """The memory, to be made before the workers are forked."""
        return mmap.mmap(-1, workers * _ROWS * _ROW_BYTES)

    def row(self, label: str) -> memoryview[float]:
        """The cells of a label, which is made when it is new; beyond the last row all share the last one."""
        cells = self._rows.get(label)
        if cells is None:
            number = min(len(self._rows), _ROWS - 1)
            start = self._base + number * _ROW_BYTES
            cells = self._rows[label] = _cells_at(self._shared, start)
            encoded = label.encode()[:_LABEL_BYTES]
            self._shared[start : start + _LABEL_BYTES] = encoded.ljust(_LABEL_BYTES, b"\0")
        return cells

    def add(self, label: str, amount: float = 1.0) -> None:
        self.row(label)[_COUNT] += amount

    def set(self, label: str, value: float) -> None:
        """A gauge; those of all workers are added up."""
        self.row("gauge " + label)[_COUNT] = value

    def observe(self, label: str, size: int, seconds: float) -> None:
        """One finished request."""
        cells = self.row(label)
        cells[_COUNT] += 1.0
        cells[_BYTES] += size
        cells[_SECONDS] += seconds
        cells[3 + bisect_left(BUCKETS, seconds)] += 1.0


def _cells_at(shared: mmap.mmap, start: int) -> memoryview[float]:
    return memoryview(shared)[start + _LABEL_BYTES : start + _ROW_BYTES].cast("d")


def _rows_of(shared: mmap.mmap, worker: int) -> Iterator[tuple[str, memoryview[float]]]:
    for number in range(_ROWS):
        start = (worker * _ROWS + number) * _ROW_BYTES
        label = shared[start : start + _LABEL_BYTES].rstrip(b"\0").decode(errors="replace")
        if not label:
            return
        yield label, _cells_at(shared, start)


# ---- exposition
# --------------------------------------------------------------------------------------------------

_NAMED: dict[str, tuple[str, str, tuple[str, ...]]] = {
    "origin_requests": ("api_cache_origin_requests", "Answers of the origin, by status class.", ("status",)),
    "origin_errors": ("api_cache_origin_errors", "Requests that the origin did not answer.", ("error",)),
    "redis_errors": (
        "api_cache_redis_errors",
        "Operations on Redis that failed, were late, or were not tried.",
        ("error",),
    ),
    "collapsed": ("api_cache_collapsed_requests", "Requests that another request's answer served.", ()),
    "invalidations": ("api_cache_invalidations", "Targets whose entries an unsafe request dropped.", ()),
    "corrupt": ("api_cache_corrupt_entries", "Stored values that were damaged or of another format.", ()),
    "not_stored": (
        "api_cache_not_stored",
        "Answers of the origin that were not stored, by reason.",
        ("reason",),
    ),
    "dropped_log_lines": ("api_cache_dropped_log_lines", "Log lines lost because stdout was too slow.", ()),
}
_GAUGES: dict[str, tuple[str, str, tuple[str, ...]]] = {
    "level_bytes": ("api_cache_level_bytes", "Bytes held, by level.", ("level",)),
    "level_entries": ("api_cache_level_entries", "Targets held, by level.", ("level",)),
    "breaker_open": ("api_cache_redis_breaker_open", "Workers that leave Redis alone after failures.", ()),
    "memory_usable": ("api_cache_memory_usable", "Workers whose memory level is in step with Redis.", ()),
    "waiters": ("api_cache_waiters", "Requests that wait for another one's answer.", ()),
    "connections": ("api_cache_client_connections", "Open connections of clients.", ()),
    "workers": ("api_cache_workers", "Worker processes at work.", ()),
}


class SharedCollector:
    """Reads the rows of all workers, when Prometheus asks."""

    def __init__(self, shared: mmap.mmap) -> None:
        self._shared = shared
        self._workers = len(shared) // (_ROWS * _ROW_BYTES)

    def collect(self) -> Iterable[Metric]:
        sums: dict[str, list[float]] = {}
        for worker in range(self._workers):
            for label, cells in _rows_of(self._shared, worker):
                total = sums.setdefault(label, [0.0] * _CELLS)
                for index, value in enumerate(cells):
                    total[index] += value
        yield from _requests({label[5:]: cells for label, cells in sums.items() if label.startswith("http ")})
        yield from _named(sums)

    def registry(self) -> CollectorRegistry:
        registry = CollectorRegistry()
        registry.register(self)
        return registry


def _requests(sums: dict[str, list[float]]) -> Iterator[Metric]:
    labels = ("method", "status", "cache")
    requests = CounterMetricFamily("http_requests", "Finished requests.", labels=labels)
    sizes = CounterMetricFamily("http_response_bytes", "Bytes of content sent.", labels=labels)
    durations = HistogramMetricFamily(
        "http_request_duration_seconds", "Time from head to last byte.", labels=("cache",)
    )
    ratio = GaugeMetricFamily(
        "api_cache_hit_ratio", "Part of the GET and HEAD requests that the cache answered."
    )
    by_outcome: dict[str, list[float]] = {}
    hits = lookups = 0.0
    for label, cells in sums.items():
        method, status, outcome = label.split(" ")
        requests.add_metric((method, status, outcome), cells[_COUNT])
        sizes.add_metric((method, status, outcome), cells[_BYTES])
        total = by_outcome.setdefault(outcome, [0.0] * _CELLS)
        total[:] = [have + more for have, more in zip(total, cells, strict=True)]
        if method in ("GET", "HEAD") and outcome != "own":
            lookups += cells[_COUNT]
            hits += cells[_COUNT] if outcome == "hit" else 0.0
    for outcome, total in by_outcome.items():
        durations.add_metric((outcome,), _buckets(total[3:]), total[_SECONDS])
    ratio.add_metric((), hits / lookups if lookups else 0.0)
    yield from (requests, sizes, durations, ratio)


def _buckets(counts: list[float]) -> list[tuple[str, float]]:
    bounds = [*(str(bound) for bound in BUCKETS), "+Inf"]
    running = 0.0
    found = []
    for bound, count in zip(bounds, counts, strict=True):
        running += count
        found.append((bound, running))
    return found


def _named(sums: dict[str, list[float]]) -> Iterator[Metric]:
    for name, (metric, text, labels) in _NAMED.items():
        counter = CounterMetricFamily(metric, text, labels=labels)
        _fill(counter, name, labels, sums)
        yield counter
    for name, (metric, text, labels) in _GAUGES.items():
        gauge = GaugeMetricFamily(metric, text, labels=labels)
        _fill(gauge, "gauge " + name, labels, sums)
        yield gauge


def _fill(
    family: CounterMetricFamily | GaugeMetricFamily,
    name: str,
    labels: tuple[str, ...],
    sums: dict[str, list[float]],
) -> None:
    if not labels:
        family.add_metric((), sums.get(name, [0.0])[_COUNT])
        return
    for label, cells in sums.items():
        if label.startswith(name + " "):
            family.add_metric((label.removeprefix(name + " "),), cells[_COUNT])


# ---- log -------------------------------------------------------------------------------------------------

_MAX_WAITING_LINES = 100_000


class Log:
    """Lines of JSON for stdout. A thread writes all that wait with one write(2); no request waits for it."""

    def __init__(self, counters: Counters, descriptor: int = 1) -> None:
        self._counters = counters
        self._descriptor = descriptor
        self._waiting: deque[str] = deque()
        self._wake = threading.Event()
        self._ended = False
        self._second = 0
        self._stamp = ""
        self._thread = threading.Thread(target=self._run, name="log", daemon=True)
        self._thread.start()

    def line(self, level: str, rest: str) -> None:
        """Append a line; `rest` is what follows the level, already JSON."""
        now = time.time()
        second = int(now)
        if second != self._second:
            self._second = second
            self._stamp = time.strftime('{"time": "%Y-%m-%dT%H:%M:%S.', time.gmtime(second))
        if len(self._waiting) >= _MAX_WAITING_LINES:
            self._counters.add("dropped_log_lines")
            return
        milliseconds = int((now - second) * 1000)
        self._waiting.append(
            f'{self._stamp}{milliseconds:03}Z", "level": "{level}", "service": "{SERVICE}", {rest}}}\n'
        )

    def message(self, level: str, message: str, **more: str) -> None:
        self.line(level, json.dumps({"message": message, **more})[1:-1])

    def flush(self) -> None:
        waiting = self._waiting  # others append meanwhile: take only what is there now
        data = "".join([waiting.popleft() for _ in range(len(waiting))]).encode()
        while data:
            try:
                data = data[os.write(self._descriptor, data) :]
            except BlockingIOError:
                time.sleep(0.01)
            except OSError:
                return  # nobody reads stdout any more; that must not stop us

    def close(self) -> None:
        self._ended = True
        self._wake.set()
        self._thread.join(1.0)

    def _run(self) -> None:
        while not self._ended:
            self._wake.wait(0.02)
            self.flush()
        self.flush()


class Access:
    """What is noted of each finished request: one log line, one row of counters."""

    def __init__(self, counters: Counters, log: Log) -> None:
        self.counters = counters
        self.log = log
        self._prefixes: dict[tuple[str, str, int, str], tuple[str, str]] = {}
        self._seed = struct.unpack("<Q", os.urandom(8))[0] & ~0xFFFFFFFF
        self._next = 0

    def request_id(self) -> str:
        """An identifier for a request that came without one."""
        self._next += 1
        return f"{self._seed + self._next:016x}"

    def record(  # pylint: disable=too-many-arguments
        self, method: str, path: str, status: int, *, cache: str, size: int, seconds: float, request_id: str,
        traceparent: str | None = None,
    ) -> None:  # fmt: skip
        """Note a finished request; `cache` is its Cache-Status outcome, or "own" for our own endpoints."""
        known = self._prefixes.get((method, path, status, cache))
        if known is None:
            known = self._prefix(method, path, status, cache)
        fields, label = known
        self.counters.observe(label, size, seconds)
        trace = f', "trace_id": {json.dumps(traceparent[3:35])}' if traceparent else ""
        self.log.line(
            "info",
            f'{fields}, "bytes": {size}, "duration": {seconds:.6f}, "request_id": "{request_id}"{trace}',
        )

    def _prefix(self, method: str, path: str, status: int, cache: str) -> tuple[str, str]:
        if len(self._prefixes) > 10_000:
            self._prefixes.clear()
        fields = json.dumps({"method": method, "path": path, "status": status, "cache": cache})[1:-1]
        outcome = cache.split(";", maxsplit=1)[0].replace("fwd=", "")
        label = f"http {method if method in METHODS else 'OTHER'} {status} {outcome}"
        self._prefixes[method, path, status, cache] = fields, label
        return fields, label


def to_stderr(message: str) -> None:
    """For the time before there is a log."""
    sys.stderr.write(message + "\n")
