"""One answer as bytes: its head, and its content framed as this client understands it (RFC 9112 §6)."""

from __future__ import annotations

import contextlib
import functools
import time
from http import HTTPStatus
from typing import TYPE_CHECKING

from httpcache.fields import format_date
from origin.errors import OriginError

if TYPE_CHECKING:
    from httpcache.messages import Response
    from replies import Reply
    from sharing.buffer import Parts

    from .incoming import Incoming
    from .wire import Wire

BODILESS = frozenset((204, 304))
"""Status codes of answers without content, and without a length of it (RFC 9110 §8.6)."""
_REASONS = {status.value: status.phrase.encode("latin-1") for status in HTTPStatus}


@functools.cache
def status_line(status: int) -> bytes:
    return b"HTTP/1.1 %d %b\r\n" % (status, _REASONS.get(status, b""))


def interim_head(response: Response) -> bytes:
    """All of an interim answer (RFC 9110 §15.2)."""
    lines = [f"{name}: {value}\r\n" for name, value in response.headers]
    return status_line(response.status) + "".join(lines).encode("latin-1") + b"\r\n"


class Sending:
    """The answer to one request. `size` is how many bytes of content went out so far."""

    def __init__(self, incoming: Incoming, reply: Reply) -> None:
        self._incoming = incoming
        self._reply = reply
        self._is_bodiless = incoming.method == "HEAD" or reply.status in BODILESS
        is_endless = reply.length is None and not self._is_bodiless
        self._is_chunked = is_endless and incoming.version == "1.1"
        self._is_ended_by_connection = is_endless and not self._is_chunked
        self.ends_connection = not incoming.complete or self._is_ended_by_connection
        """What is left of a request would be taken for the next; to HTTP/1.0 nothing else ends content."""
        self.size = 0

    async def send(self, wire: Wire, request_id: str, patience: float, *, is_last: bool) -> None:
        """Write it as the client takes it, within `patience` seconds for each part.

        Raises:
            OriginError: its content breaks off, though its head is out.
        """
        head, content = self._head(request_id, is_last=is_last), self._reply.content
        if isinstance(content, bytes):
            content = b"" if self._is_bodiless else content
            wire.write_whole(head, content)
            self.size = len(content)
            await wire.drained(patience)
        else:
            await self._stream(wire, head, content, patience)

    async def _stream(self, wire: Wire, head: bytes, content: Parts, patience: float) -> None:
        length = self._reply.length
        if self._is_ended_by_connection:
            wire.ends_by_reset(is_so=True)  # until the content is whole (RFC 9112 §8)
        async with contextlib.aclosing(content):
            wire.write(head)
            async for part in content:
                if length is not None and self.size + len(part) > length:
                    raise OriginError("More content than was announced.")
                wire.write(b"%x\r\n%b\r\n" % (len(part), part) if self._is_chunked else part)
                self.size += len(part)
                await wire.drained(patience)
        if self._is_ended_by_connection:
            wire.ends_by_reset(is_so=False)
        if self._is_chunked:
            wire.write(b"0\r\n\r\n")
        elif length is not None and self.size != length:
            raise OriginError("Less content than was announced.")

    def _head(self, request_id: str, *, is_last: bool) -> bytes:
        reply = self._reply
        lines = [*map(": ".join, reply.headers)]
        if "date" not in reply.headers:
            lines.append(f"Date: {format_date(time.time())}")
        if self._is_chunked:
            lines.append("Transfer-Encoding: chunked")
        elif reply.length is not None and reply.status not in BODILESS:
            lines.append(f"Content-Length: {reply.length}")
        if is_last:
            lines.append("Connection: close")
        elif self._incoming.version == "1.0":
            lines.append("Connection: keep-alive")
        lines.append(f"X-Request-ID: {request_id}")
        return status_line(reply.status) + "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n"
