"""Lines of JSON for stdout. A thread writes all that wait with one write(2); no request waits for it."""

from __future__ import annotations

import functools
import json
import os
import threading
import time
from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .counters import Counters

SERVICE = "api-cache"
_MAX_WAITING_BYTES = 32 * 1024 * 1024
"""Some 100,000 lines, unless clients ask for very long paths."""
_SECONDS_BETWEEN_WRITES = 0.02


class Log:
    """Takes lines at any time, and writes them to `descriptor`."""

    def __init__(self, counters: Counters, descriptor: int = 1) -> None:
        self._counters = counters
        self._descriptor = descriptor
        self._waiting: deque[str] = deque()
        self._taken_bytes = 0
        self._written_bytes = 0
        """By the thread, which alone changes it; lines are ASCII."""
        self._wake = threading.Event()
        self._ended = False
        self._millisecond = 0
        self._stamp = ""
        self._thread = threading.Thread(target=self._run, name="log", daemon=True)
        self._thread.start()

    def line(self, level: str, rest: str) -> None:
        """Append a line; `rest` is what follows the level, already JSON."""
        now = int(time.time() * 1000)
        if now != self._millisecond:
            self._millisecond = now
            self._stamp = _stamp(now)
        if self._taken_bytes - self._written_bytes > _MAX_WAITING_BYTES:
            self._counters.add("dropped_log_lines")
            return
        line = f'{{"time": "{self._stamp}", "level": "{level}", "service": "{SERVICE}", {rest}}}\n'
        self._taken_bytes += len(line)
        is_first = not self._waiting
        self._waiting.append(line)
        if is_first:
            self._wake.set()

    def message(self, level: str, message: str, **more: str) -> None:
        self.line(level, json.dumps({"message": message, **more})[1:-1])

    def close(self) -> None:
        """Write what waits, and end."""
        self._ended = True
        self._wake.set()
        self._thread.join(1.0)

    def _run(self) -> None:
        while not self._ended:
            if not self._waiting:
                self._wake.wait()
                self._wake.clear()
            if not self._ended:
                time.sleep(_SECONDS_BETWEEN_WRITES)
            self._flush()
        self._flush()

    def _flush(self) -> None:
        waiting = self._waiting  # others append meanwhile: take only what is there now
        data = "".join([waiting.popleft() for _ in range(len(waiting))]).encode()
        self._write(memoryview(data))  # a slice of which is no copy
        self._written_bytes += len(data)

    def _write(self, data: memoryview) -> None:
        while data:
            try:
                data = data[os.write(self._descriptor, data) :]
            except BlockingIOError:
                time.sleep(0.01)
            except OSError:
                return  # nobody reads stdout any more; that must not stop us


def _stamp(milliseconds: int) -> str:
    """Since the epoch, as ISO 8601 in UTC."""
    seconds, rest = divmod(milliseconds, 1000)
    return f"{_to_the_second(seconds)}.{rest:03}Z"


@functools.lru_cache(maxsize=1)
def _to_the_second(seconds: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))
