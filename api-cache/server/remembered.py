"""Requests that were plain hits of late, by all their bytes: equal bytes mean the same, unparsed."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from store.memory import Plain

    from .application import Fields

_REQUESTS = 4096
_REQUEST_BYTES = 2048
_OF_ONE_REQUEST = frozenset((b"x-request-id", b"traceparent"))
"""Fields by which no two requests are alike."""


class Remembered(dict[bytes, "Plain"]):
    """What they come down to, by the bytes of the whole request, on any connection of the process."""

    def keep(self, data: bytes, plain: Plain, fields: Fields) -> None:
        """Remember a request, if its bytes may well come again."""
        if len(data) > _REQUEST_BYTES or not _OF_ONE_REQUEST.isdisjoint(fields):
            return
        if len(self) >= _REQUESTS:
            self.clear()
        self[data] = plain
