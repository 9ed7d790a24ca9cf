"""Numbers in memory that all workers share: a worker writes its own rows, whoever is scraped reads all."""

from __future__ import annotations

import mmap
from bisect import bisect_left
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

BUCKETS = (
    0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
    30.0,
)  # fmt: skip
"""Upper bounds in seconds; hits take fractions of a millisecond, misses up to the origin's timeout."""
COUNT, BYTES, SECONDS, FIRST_BUCKET = range(4)
"""The cells of a row. One bucket more than there are bounds ends it."""
CELLS = FIRST_BUCKET + len(BUCKETS) + 1
ALIKE = "alike "
"""How the labels of gauges begin that are not added up."""
_LABEL_BYTES = 120
_ROW_BYTES = _LABEL_BYTES + 8 * CELLS
_ROWS = 512


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
            if label.startswith(("gauge ", ALIKE)):
                cells[COUNT] = 0.0

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
        self.row(label)[COUNT] += amount

    def set(self, label: str, value: float) -> None:
        """A gauge; those of all workers are added up."""
        self.row("gauge " + label)[COUNT] = value

    def see(self, label: str, value: float) -> None:
        """A gauge of something that all workers see; the highest that one of them has seen counts."""
        self.row(ALIKE + label)[COUNT] = value


def observe(cells: memoryview[float], size: int, seconds: float) -> None:
    """Add one finished request to a row."""
    cells[COUNT] += 1.0
    cells[BYTES] += size
    cells[SECONDS] += seconds
    cells[FIRST_BUCKET + bisect_left(BUCKETS, seconds)] += 1.0


def totals(shared: mmap.mmap) -> dict[str, list[float]]:
    """The cells of each label, over all workers."""
    found: dict[str, list[float]] = {}
    for worker in range(len(shared) // (_ROWS * _ROW_BYTES)):
        for label, cells in _rows_of(shared, worker):
            if label.startswith(ALIKE):
                name = "gauge " + label.removeprefix(ALIKE)
                found[name] = max(found.get(name, []), list(cells))
            else:
                found[label] = added(found.get(label), cells)
    return found


def added(total: list[float] | None, cells: memoryview[float] | list[float]) -> list[float]:
    return list(cells) if total is None else [have + more for have, more in zip(total, cells, strict=True)]


def _cells_at(shared: mmap.mmap, start: int) -> memoryview[float]:
    return memoryview(shared)[start + _LABEL_BYTES : start + _ROW_BYTES].cast("d")


def _rows_of(shared: mmap.mmap, worker: int) -> Iterator[tuple[str, memoryview[float]]]:
    for number in range(_ROWS):
        start = (worker * _ROWS + number) * _ROW_BYTES
        label = shared[start : start + _LABEL_BYTES].rstrip(b"\0").decode(errors="replace")
        if not label:
            return
        yield label, _cells_at(shared, start)
