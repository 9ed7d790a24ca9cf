"""How fast and how well content codings work on GET /air_quality, beside the speed of api-rest's stream.

A coding that is slower than the origin's stream would slow down every miss.
"""

import http.client
import statistics
import time
import zlib
from collections.abc import Callable
from pathlib import Path

import brotli  # type: ignore[import-untyped]
from backports import zstd
from isal import isal_zlib
from local.services import ApiRest

from benchmarks.api_rest import database
from benchmarks.tables import table

ROWS = 1_000_000
TOTAL_BYTES = 40_000_000
"""Of its dump, that is coded."""
PART_BYTES = 64 * 1024
"""What arrives from the origin at once."""
_GZIP_WINDOW = 31
_ISAL_GZIP_WINDOW = 31
Feed = tuple[Callable[[bytes], bytes], Callable[[], bytes]]


def section(folder: Path, rounds: int) -> str:
    with (
        database(folder, ROWS) as postgres,
        ApiRest(postgres.environ, output=folder / "api-rest.log") as service,
    ):
        dumps = [_dump(service) for _ in range(min(rounds, 3))]
    origin = statistics.median(speed for _, speed in dumps)
    data = dumps[0][0]
    parts = [data[start : start + PART_BYTES] for start in range(0, len(data), PART_BYTES)]
    rows = [["none: api-rest sends", f"{origin:,.0f}", "1.00", "1.0"]]
    for name, make in _codings().items():
        found = [_code(make(), parts) for _ in range(min(rounds, 3))]
        speed = statistics.median(len(data) / seconds / 1e6 for _, seconds in found)
        rows.append([name, f"{speed:,.0f}", f"{speed / origin:.2f}", f"{len(data) / found[0][0]:.1f}"])
    title = f"Codings of {TOTAL_BYTES // 10**6} MB of /air_quality over {ROWS:,} rows, one thread"
    return table(title, ["coding", "MB/s", "of the origin's", "shrinks by"], rows)


def _dump(service: ApiRest) -> tuple[bytes, float]:
    """The first TOTAL_BYTES of the dump, and the MB/s of the whole."""
    connection = http.client.HTTPConnection(service.host, service.port, timeout=300)
    begun = time.perf_counter()
    connection.request("GET", "/air_quality")
    response = connection.getresponse()
    data = response.read(TOTAL_BYTES)
    size = len(data)
    while more := len(response.read(2**20)):
        size += more
    connection.close()
    return data, size / (time.perf_counter() - begun) / 1e6


def _codings() -> dict[str, Callable[[], Feed]]:
    return {
        "zstd -1 and gzip -2, as stored": _stored,
        **{f"zstd -{level}": _zstd(level) for level in (1, 3)},
        **{f"gzip -{level} (isal)": _isal(level) for level in (1, 2, 3)},
        **{f"gzip -{level} (zlib)": _zlib(level) for level in (1, 6)},
        **{f"br -{level}": _brotli(level) for level in (0, 1, 2, 3, 4)},
    }


def _stored() -> Feed:
    (zstd_feed, zstd_flush), (gzip_feed, gzip_flush) = _zstd(1)(), _isal(2)()
    return lambda part: zstd_feed(part) + gzip_feed(part), lambda: zstd_flush() + gzip_flush()


def _zstd(level: int) -> Callable[[], Feed]:
    def make() -> Feed:
        stream = zstd.ZstdCompressor(level)
        return stream.compress, stream.flush

    return make


def _isal(level: int) -> Callable[[], Feed]:
    def make() -> Feed:
        stream = isal_zlib.compressobj(level, isal_zlib.DEFLATED, _ISAL_GZIP_WINDOW)
        return stream.compress, stream.flush

    return make


def _zlib(level: int) -> Callable[[], Feed]:
    def make() -> Feed:
        stream = zlib.compressobj(level, zlib.DEFLATED, _GZIP_WINDOW)
        return stream.compress, stream.flush

    return make


def _brotli(level: int) -> Callable[[], Feed]:
    def make() -> Feed:
        stream = brotli.Compressor(quality=level)
        return stream.process, stream.finish

    return make


def _code(feed: Feed, parts: list[bytes]) -> tuple[int, float]:
    compress, flush = feed
    begun = time.perf_counter()
    size = sum(len(compress(part)) for part in parts) + len(flush())
    return size, time.perf_counter() - begun
