"""How fast and how well content codings work on a large answer like /air_quality.

A coding that is slower than the origin's stream would slow down every miss; the origin's own speed, of
formatting rows and sending them, stands at 50 to 200 MB/s.
"""

import statistics
import time
import zlib
from collections.abc import Callable

import brotli  # type: ignore[import-untyped]
from backports import zstd
from isal import isal_zlib

from benchmarks.bodies import air_quality
from benchmarks.tables import table

TOTAL_BYTES = 40_000_000
PART_BYTES = 64 * 1024
"""What arrives from the origin at once."""
_GZIP_WINDOW = 31
_ISAL_GZIP_WINDOW = 31
Feed = tuple[Callable[[bytes], bytes], Callable[[], bytes]]


def section(rounds: int) -> str:
    data = b"".join(air_quality(TOTAL_BYTES))
    parts = [data[start : start + PART_BYTES] for start in range(0, TOTAL_BYTES, PART_BYTES)]
    rows = []
    for name, make in _codings().items():
        speeds = []
        for _ in range(min(rounds, 3)):
            size, seconds = _code(make(), parts)
            speeds.append(TOTAL_BYTES / seconds / 1e6)
        rows.append([name, f"{statistics.median(speeds):,.0f}", f"{TOTAL_BYTES / size:.1f}"])
    title = f"Codings, {TOTAL_BYTES // 10**6} MB of JSON in parts of {PART_BYTES // 1024} KB, one thread"
    return table(title, ["coding", "MB/s", "ratio"], rows)


def _codings() -> dict[str, Callable[[], Feed]]:
    return {
        **{f"zstd -{level}": _zstd(level) for level in (1, 3, 6)},
        **{f"gzip -{level} (isal)": _isal(level) for level in (0, 1, 2, 3)},
        **{f"gzip -{level} (zlib)": _zlib(level) for level in (1, 6)},
        **{f"br -{level}": _brotli(level) for level in (0, 1, 4)},
    }


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
