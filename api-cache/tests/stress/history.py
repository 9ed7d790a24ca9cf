"""The versions of one target's contents, and which of them may still be served."""

import threading
import time
from typing import NamedTuple

EVERYBODY = "everybody"
"""In the place of a client's name, in what all of them may get."""
REACH = 0.1
"""Seconds in which every process knows of a change that was acknowledged to a client."""


class Form(NamedTuple):
    """Which of a target's contents: of which variant, of which version, and for whom."""

    variant: str
    version: int
    whom: str


class Known(NamedTuple):
    """A version than which no older one may be served to requests from a moment on."""

    since: float
    version: int
    by_client: bool
    """Its answer told a client; else the client left, and the origin alone knows."""


class History:
    """The versions of one target's contents."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.version = 1
        self.begun = [(0.0, 1)]
        self.known: list[Known] = []

    def change(self) -> int:
        """The version from now on."""
        with self._lock:
            self.version += 1
            self.begun.append((time.monotonic(), self.version))
            return self.version

    def acknowledge(self, version: int) -> None:
        """A client was told of the change to this version."""
        self.known.append(Known(time.monotonic() + REACH, version, by_client=True))

    def see_to_its_end(self, version: int) -> None:
        """The origin has answered the request that made this version, be the client still there or not."""
        self.known.append(Known(time.monotonic() + 1, version, by_client=False))
