"""What is noted of each finished request: one log line, one row of counters."""

from __future__ import annotations

import json
import os
import struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .counters import Counters
    from .log import Log

METHODS = frozenset(("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"))
"""Methods that are named in metrics; all others count as OTHER, so that clients cannot make new series."""
_MAX_PREFIX_BYTES = 8 * 1024 * 1024
"""Of what is remembered of lines; clients choose how long a path is."""
_OVERHEAD_BYTES = 600
"""What one takes beside its path, which is in it twice."""


class Access:
    """Notes requests. What is alike in the lines of many is put into JSON once."""

    def __init__(self, counters: Counters, log: Log) -> None:
        self.counters = counters
        self.log = log
        self._prefixes: dict[tuple[str, str, int, str], tuple[str, str]] = {}
        self._prefix_bytes = 0
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
        """The beginning of the request's line, and the label of its row."""
        self._prefix_bytes += _OVERHEAD_BYTES + 2 * len(path)
        if self._prefix_bytes > _MAX_PREFIX_BYTES:
            self._prefixes.clear()
            self._prefix_bytes = 0
        fields = json.dumps({"method": method, "path": path, "status": status, "cache": cache})[1:-1]
        outcome = cache.split(";", maxsplit=1)[0].replace("fwd=", "")
        label = f"http {method if method in METHODS else 'OTHER'} {status} {outcome}"
        self._prefixes[method, path, status, cache] = fields, label
        return fields, label
