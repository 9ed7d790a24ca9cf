"""How fast and how well content codings work on GET /air_quality, beside the speed of api-rest's stream.

A coding that is slower than the origin's stream would slow down every miss.
"""

import http.client
import statistics
import time
import zlib
from collections.abc import Callable
from functools import partial
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
GZIP_WINDOW = 31
"""Of zlib and its like: 15 bits, and 16 for gzip's head and tail."""
Coder = tuple[Callable[[bytes], bytes], Callable[[], bytes]]
"""What codes a part, and what ends the stream."""


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
    for name, new_coder in _codings().items():
        found = [_code(new_coder(), parts) for _ in range(min(rounds, 3))]
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


def _codings() -> dict[str, Callable[[], Coder]]:
    return {
        "zstd -1 and gzip -2, as stored": _stored,
        **{f"zstd -{level}": partial(_zstd, level) for level in (1, 3)},
        **{f"gzip -{level} (isal)": partial(_isal, level) for level in (1, 2, 3)},
        **{f"gzip -{level} (zlib)": partial(_zlib, level) for level in (1, 6)},
        **{f"br -{level}": partial(_brotli, level) for level in (0, 1, 2, 3, 4)},
    }


def _stored() -> Coder:
    (zstd_part, zstd_end), (gzip_part, gzip_end) = _zstd(1), _isal(2)
    return lambda part: zstd_part(part) + gzip_part(part), lambda: zstd_end() + gzip_end()


def _zstd(level: int) -> Coder:
    stream = zstd.ZstdCompressor(level)
    return stream.compress, stream.flush


def _isal(level: int) -> Coder:
    stream = isal_zlib.compressobj(level, isal_zlib.DEFLATED, GZIP_WINDOW)
    return stream.compress, stream.flush


def _zlib(level: int) -> Coder:
    stream = zlib.compressobj(level, zlib.DEFLATED, GZIP_WINDOW)
    return stream.compress, stream.flush


def _brotli(level: int) -> Coder:
    stream = brotli.Compressor(quality=level)
    return stream.process, stream.finish


def _code(coder: Coder, parts: list[bytes]) -> tuple[int, float]:
    """Bytes of the coded parts, and seconds that it took."""
    code, end = coder
    begun = time.perf_counter()
    size = sum(len(code(part)) for part in parts) + len(end())
    return size, time.perf_counter() - begun
