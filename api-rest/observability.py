"""One JSON log line a request, and the metrics of all workers together."""

import logging
import os
import re
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    REGISTRY,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    generate_latest,
)
from prometheus_client.multiprocess import MultiProcessCollector

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

LOG = logging.getLogger("api-rest")

REQUESTS = Counter("http_requests_total", "Requests answered", ["method", "route", "status"])
DURATION = Histogram("http_request_duration_seconds", "From request to last byte", ["method", "route"])
BYTES = Counter("http_response_bytes_total", "Bytes of response bodies", ["route"])
ROWS = Counter("api_rest_rows_total", "Rows sent", ["route"])
POOL_IN_USE = Gauge(
    "api_rest_pool_connections_in_use", "Connections to Postgres in use", multiprocess_mode="livesum"
)
POOL_SIZE = Gauge("api_rest_pool_connections_max", "Bound of the pool", multiprocess_mode="livesum")
NEWEST = Gauge(
    "api_rest_newest_measurement_timestamp_seconds",
    "Instant of the newest measurement, as last read",
    multiprocess_mode="mostrecent",
)
POSTGRES_ERRORS = Counter("api_rest_postgres_errors_total", "Answers that Postgres did not give", ["kind"])

METHODS = frozenset({"GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE"})
ROUTE = "api_rest.route"
REQUEST_ID = "api_rest.request_id"

_USABLE_REQUEST_ID = re.compile(r"[\x21-\x7e]{1,128}")
# W3C Trace Context §3.2: version - trace id - parent id - flags.
_TRACEPARENT = re.compile(r"[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}(?:-.*)?")


def metrics() -> tuple[bytes, str]:
    """The metrics of all workers in the text format, and its media type."""
    registry = REGISTRY
    if "PROMETHEUS_MULTIPROC_DIR" in os.environ:  # gunicorn.conf.py sets it, before the library is imported
        registry = CollectorRegistry()
        MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    return generate_latest(registry), CONTENT_TYPE_LATEST


class Observed:
    """Counts, times and logs each request, whichever way its response leaves."""

    def __init__(self, app: "WSGIApplication") -> None:
        self._app = app

    def __call__(self, environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        seen = _Exchange(environ)
        environ[REQUEST_ID] = seen.request_id
        try:
            return _ObservedBody(self._app(environ, seen.starting(start_response)), seen)
        except BaseException:
            seen.finish(broken=True)
            raise


class _ObservedBody:
    """A body whose exchange is over when the server closes it: after the last byte (PEP 3333)."""

    def __init__(self, body: Iterable[bytes], exchange: "_Exchange") -> None:
        self._body = body
        self._exchange = exchange
        self._whole = False

    def __iter__(self) -> Iterator[bytes]:
        for part in self._body:
            self._exchange.sent_bytes += len(part)
            yield part
        self._whole = True

    def close(self) -> None:
        try:
            if hasattr(self._body, "close"):
                self._body.close()
        finally:
            self._exchange.finish(broken=not self._whole)


class _Exchange:
    def __init__(self, environ: "WSGIEnvironment") -> None:
        self.environ = environ
        self.began = time.perf_counter()
        given = environ.get("HTTP_X_REQUEST_ID", "")
        self.request_id = given if _USABLE_REQUEST_ID.fullmatch(given) else str(uuid.uuid4())
        self.status = 500
        self.sent_bytes = 0

    def starting(self, start_response: "StartResponse") -> "StartResponse":
        def start(status: str, headers: list[tuple[str, str]], *exc_info: Any) -> Callable[[bytes], object]:
            self.status = int(status[:3])
            write = start_response(status, [*headers, ("X-Request-ID", self.request_id)], *exc_info)

            def counted(data: bytes) -> None:
                write(data)
                self.sent_bytes += len(data)

            return counted

        return start

    def finish(self, *, broken: bool) -> None:
        duration = time.perf_counter() - self.began
        method = self.environ["REQUEST_METHOD"]
        bounded, route = method if method in METHODS else "other", self.environ.get(ROUTE, "none")
        REQUESTS.labels(bounded, route, self.status).inc()
        DURATION.labels(bounded, route).observe(duration)
        BYTES.labels(route).inc(self.sent_bytes)
        LOG.info(self._line(method, duration, broken=broken))

    def _line(self, method: str, duration: float, *, broken: bool) -> dict[str, object]:
        line: dict[str, object] = {
            "method": method,
            "path": self.environ.get("RAW_URI") or self.environ.get("REQUEST_URI", ""),
            "status": self.status,
            "bytes": self.sent_bytes,
            "duration": round(duration, 6),
            "request_id": self.request_id,
        }
        if broken:
            line["message"] = "answer broken off"
        if trace := _TRACEPARENT.fullmatch(self.environ.get("HTTP_TRACEPARENT", "")):
            line["trace_id"] = trace[1]
        return line
