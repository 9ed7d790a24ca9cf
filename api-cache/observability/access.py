"""What is noted of each finished request: one log line, one row of counters."""

from __future__ import annotations

import itertools
import os
import struct
from json.encoder import encode_basestring_ascii as quoted
from typing import TYPE_CHECKING, NamedTuple

from .counters import observe

if TYPE_CHECKING:
    from .counters import Counters
    from .log import Log

METHODS = frozenset(("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"))
"""Methods that are named in metrics; all others count as OTHER, so that clients cannot make new series."""
HIT = "hit"
"""The Cache-Status outcome of a plain hit."""
_MAX_NOTES_BYTES = 8 * 1024 * 1024
"""Of those that are kept; clients choose how long a path is."""
_OVERHEAD_BYTES = 600
"""What one takes beside its path, which is in it twice."""


class Note(NamedTuple):
    """What is alike in what is noted of many requests: the beginning of their lines, and where they count."""

    text: str
    cells: memoryview[float]


class Access:
    """Notes requests."""

    def __init__(self, counters: Counters, log: Log) -> None:
        self.counters = counters
        self.log = log
        self._notes: dict[tuple[str, str, int, str], Note] = {}
        self._notes_bytes = 0
        self._identifiers = itertools.count(struct.unpack("<Q", os.urandom(8))[0] & ~0xFFFFFFFF)

    def request_id(self) -> str:
        """An identifier for a request that came without one."""
        return f"{next(self._identifiers):016x}"

    def note(self, method: str, path: str, status: int, cache: str) -> Note:
        """For `record`; `cache` is the Cache-Status outcome, or "own" for our own endpoints."""
        known = self._notes.get((method, path, status, cache))
        if known is not None:
            return known
        size = _OVERHEAD_BYTES + 2 * len(path)
        if self._notes_bytes + size > _MAX_NOTES_BYTES:
            self._notes.clear()
            self._notes_bytes = 0
        self._notes_bytes += size
        # What json.dumps() calls for a string, without the five calls before.
        asked = f'"method": {quoted(method)}, "path": {quoted(path)}'
        text = f'{asked}, "status": {status}, "cache": {quoted(cache)}'
        outcome = cache.split(";", maxsplit=1)[0].replace("fwd=", "")
        label = f"http {method if method in METHODS else 'OTHER'} {status} {outcome}"
        made = self._notes[method, path, status, cache] = Note(text, self.counters.row(label))
        return made

    def record(
        self, note: Note, size: int, seconds: float, request_id: str, traceparent: str | None = None
    ) -> None:
        """Log and count a finished request."""
        text, cells = note
        observe(cells, size, seconds)
        trace = f', "trace_id": {quoted(traceparent[3:35])}' if traceparent else ""
        self.log.line(
            "info", f'{text}, "bytes": {size}, "duration": {seconds:.6f}, "request_id": "{request_id}"{trace}'
        )
