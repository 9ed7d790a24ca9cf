"""The workers' numbers as Prometheus reads them, through prometheus_client."""

from __future__ import annotations

from itertools import accumulate
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily

from .counters import BUCKETS, BYTES, COUNT, FIRST_BUCKET, SECONDS, added, totals

if TYPE_CHECKING:
    import mmap
    from collections.abc import Iterable, Iterator, Mapping

    from prometheus_client import Metric

    Cells = Mapping[str, list[float]]
    Family = CounterMetricFamily | GaugeMetricFamily
    Finished = Mapping[tuple[str, str, str], list[float]]

_COUNTERS: dict[str, tuple[str, str, tuple[str, ...]]] = {
    "origin_requests": ("api_cache_origin_requests", "Answers of the origin, by status class.", ("status",)),
    "origin_errors": (
        "api_cache_origin_errors",
        "Requests without a whole answer of the origin.",
        ("error",),
    ),
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
"""By the first word of a row's label: the metric, its text, and the name of what the other word says."""
_GAUGES: dict[str, tuple[str, str, tuple[str, ...]]] = {
    "level_bytes": ("api_cache_level_bytes", "Bytes held, by level.", ("level",)),
    "level_entries": ("api_cache_level_entries", "Targets in memory; keys in Redis.", ("level",)),
    "breaker_open": ("api_cache_redis_breaker_open", "Workers whose last use of Redis failed.", ()),
    "memory_usable": ("api_cache_memory_usable", "Workers whose memory level is in step with Redis.", ()),
    "waiters": ("api_cache_waiters", "Requests that wait for another one's answer.", ()),
    "connections": ("api_cache_client_connections", "Open connections of clients.", ()),
    "workers": ("api_cache_workers", "Worker processes at work.", ()),
}


def registry(shared: mmap.mmap) -> CollectorRegistry:
    """What `generate_latest` takes: every scrape reads the rows of all workers anew."""
    made = CollectorRegistry()
    made.register(_Collector(shared))
    return made


class _Collector:
    def __init__(self, shared: mmap.mmap) -> None:
        self._shared = shared

    def collect(self) -> Iterable[Metric]:
        cells = totals(self._shared)
        yield from _requests(cells)
        for name, (metric, text, labels) in _COUNTERS.items():
            yield _filled(CounterMetricFamily(metric, text, labels=labels), name, labels, cells)
        for name, (metric, text, labels) in _GAUGES.items():
            yield _filled(GaugeMetricFamily(metric, text, labels=labels), "gauge " + name, labels, cells)


def _filled(family: Family, name: str, labels: tuple[str, ...], cells: Cells) -> Family:
    """The family with the rows of this name: the only one, or one for each value of its label."""
    if not labels:
        family.add_metric((), cells[name][COUNT] if name in cells else 0.0)
    for label, row in cells.items() if labels else ():
        if label.startswith(name + " "):
            family.add_metric((label.removeprefix(name + " "),), row[COUNT])
    return family


def _requests(cells: Cells) -> Iterator[Metric]:
    finished: dict[tuple[str, str, str], list[float]] = {}
    for label, row in cells.items():
        if label.startswith("http "):
            _, method, status, outcome = label.split(" ")
            finished[method, status, outcome] = row
    names = ("method", "status", "cache")
    requests = CounterMetricFamily("http_requests", "Finished requests.", labels=names)
    sizes = CounterMetricFamily("http_response_bytes", "Bytes of content sent.", labels=names)
    for labels, row in finished.items():
        requests.add_metric(labels, row[COUNT])
        sizes.add_metric(labels, row[BYTES])
    yield from (requests, sizes, _durations(finished), _hit_ratio(finished))


def _durations(finished: Finished) -> HistogramMetricFamily:
    family = HistogramMetricFamily(
        "http_request_duration_seconds", "Time from head to last byte.", labels=("cache",)
    )
    by_outcome: dict[str, list[float]] = {}
    for (_, _, outcome), row in finished.items():
        by_outcome[outcome] = added(by_outcome.get(outcome), row)
    for outcome, row in by_outcome.items():
        family.add_metric((outcome,), _buckets(row[FIRST_BUCKET:]), row[SECONDS])
    return family


def _buckets(counts: list[float]) -> list[tuple[str, float]]:
    bounds = [*(str(bound) for bound in BUCKETS), "+Inf"]
    return list(zip(bounds, accumulate(counts), strict=True))


def _hit_ratio(finished: Finished) -> GaugeMetricFamily:
    family = GaugeMetricFamily(
        "api_cache_hit_ratio", "Part of the GET and HEAD requests that the cache answered."
    )
    lookups = {
        labels: row[COUNT]
        for labels, row in finished.items()
        if labels[0] in ("GET", "HEAD") and labels[2] != "own"
    }
    hits = sum(count for (_, _, outcome), count in lookups.items() if outcome == "hit")
    family.add_metric((), hits / (sum(lookups.values()) or 1.0))
    return family
