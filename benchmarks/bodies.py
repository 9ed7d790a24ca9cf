"""Bodies such as api-rest's GET /air_quality, of any size."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from itertools import chain

from postgres.generate_measurements import HEADER, measurements

_NAMES = HEADER.strip().split(",")


def air_quality(size: int) -> Iterator[bytes]:
    """JSON rows of the synthetic measurements, `size` bytes in all (the last row may be cut)."""
    lines = chain.from_iterable(measurements(10, datetime(2016, 10, 1), timedelta(minutes=15), 1))  # noqa: DTZ001
    left = size
    for line in lines:
        row = _row(line)[:left]
        yield row
        left -= len(row)
        if not left:
            return


def _row(line: str) -> bytes:
    instant, station, *values = line.strip().split(",")
    members = [f'"time_instant":"{instant.replace(" ", "T")}","id_entity":"{station}"']
    members += [f'"{name}":{value or "null"}' for name, value in zip(_NAMES[2:], values, strict=True)]
    return b"{" + ",".join(members).encode() + b"},\n"
