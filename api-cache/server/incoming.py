"""One request as its connection reads it; its content may still be on its way."""

from __future__ import annotations

import asyncio
import re
import time
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from httpcache.fields import end_to_end
from httpcache.messages import Headers, Request
from origin.errors import ContentLost

from .wire import WINDOW_BYTES, ClientGone

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from httpcache.messages import Response
    from store.levels import View

    from .application import Fields
    from .wire import Wire

MIN_CONTENT_RATE = 500
"""Bytes of content a second that a client has to send on average, after its first `patience`. As long as one
drips, it occupies the origin, which may have few threads."""
_REQUEST_ID = re.compile(rb"[A-Za-z0-9._:/+=-]{1,128}")
_REG_NAME = rb"[\w.~!$&'()*+,;=-]*(?:%[0-9A-Fa-f]{2}[\w.~!$&'()*+,;=-]*)*"
_IP_LITERAL = rb"\[[\w.~!$&'()*+,;=:-]+\]"
is_host = re.compile(rb"(?:%b|%b)(?::[0-9]*)?" % (_REG_NAME, _IP_LITERAL)).fullmatch
"""Of Host's value without white space around it: whether it is one by its grammar (RFC 9110 §7.2, RFC 3986
§3.2.2), which allows an empty name. What an IP literal consists of is looked at no further."""
_TRACEPARENT = re.compile(rb"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}(-.*)?")


class BadRequest(Exception):  # says what is the case
    """A request that is refused before anyone looks at what it asks for."""

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail


class ContentTooLarge(ContentLost):
    """The client's content is larger than configured."""


@dataclass(slots=True, eq=False)
class Incoming:  # pylint: disable=too-many-instance-attributes
    """A request. `begun` is the monotonic time of its first byte."""

    method: str
    target: bytes
    lines: list[tuple[bytes, bytes]]
    fields: Fields
    version: str
    keep_alive: bool
    begun: float
    length: int | None = None
    chunked: bool = False
    has_content: bool = False
    expects: bool = False
    complete: bool = False
    is_answered: bool = False
    """Whether the final answer is known, which no interim one may follow."""
    view: View | None = None
    """What was seen of its target, if somebody has looked."""
    refusal: BadRequest | None = None
    """Why its content is read no further; that is then its answer."""
    _parts: deque[bytes] = field(default_factory=deque)
    _waiting_bytes: int = 0
    received_bytes: int = 0
    _waited: float = 0.0
    """For how many seconds its content was waited for."""
    _arrived: asyncio.Event | None = None
    """For who waits for more of it, or last did."""

    @property
    def is_simple(self) -> bool:
        """Whether a plain hit may answer it, as far as its head shows: one whose answer is not the last."""
        return self.method == "GET" and self.version == "1.1" and self.keep_alive

    @property
    def plain_fields(self) -> Fields | None:
        """Its fields, when none is repeated and no content follows."""
        return None if self.has_content or len(self.fields) != len(self.lines) else self.fields

    # ---- as it is read

    def check(self, max_bytes: int) -> None:
        """Take from the head how the content is framed, and the target's path and query.

        Raises:
            BadRequest: its head is not acceptable, or announces more than `max_bytes` of content.
        """
        fields = self.fields
        if self.version not in ("1.1", "1.0"):
            raise BadRequest(505, "Only HTTP/1.1 and HTTP/1.0 are spoken here.")
        hosts = self._values(b"host")
        if len(hosts) > 1 or (self.version == "1.1" and not hosts):
            raise BadRequest(400, "An HTTP/1.1 request has exactly one Host field.")
        if not all(map(is_host, hosts)):
            raise BadRequest(400, "A Host field is a name or an address, and perhaps a port.")
        codings = self._values(b"transfer-encoding")
        if codings and ([coding.lower() for coding in codings] != [b"chunked"] or self.version == "1.0"):
            raise BadRequest(501, "No other transfer coding than chunked is understood.")
        self.chunked = bool(codings)
        length = fields.get(b"content-length")
        self.length = int(length) if length is not None else None
        self.has_content = self.chunked or bool(self.length)
        expected = fields.get(b"expect")
        self.expects = expected is not None and self.version == "1.1" and expected.lower() == b"100-continue"
        if (self.length or 0) > max_bytes:
            raise _too_large(max_bytes)
        self.target = _origin_form(self.method, self.target)

    def _values(self, name: bytes) -> list[bytes]:
        """Those of all lines of that name, which is in lower case."""
        if name not in self.fields:
            return []
        if len(self.fields) == len(self.lines):
            return [self.fields[name]]
        return [value for each, value in self.lines if each.lower() == name]

    def add(self, data: bytes, max_bytes: int) -> None:
        """Part of its content; beyond `max_bytes` in all it is refused."""
        self.received_bytes += len(data)
        if self.received_bytes > max_bytes:
            self.refuse(_too_large(max_bytes))
            return
        self._parts.append(data)
        self._waiting_bytes += len(data)
        self._wake()

    @property
    def is_ahead(self) -> bool:
        """Whether so much of its content waits that no more should be read."""
        return self._waiting_bytes > WINDOW_BYTES

    def finish(self) -> None:
        """It is complete."""
        self.complete = True
        self._wake()

    def refuse(self, why: BadRequest) -> None:
        """Read no more of its content. What was wrong first is the answer."""
        self.refusal = self.refusal or why
        self._wake()

    def abandon(self) -> None:
        """Nothing more of it will come: the connection is lost."""
        self._wake()

    def _wake(self) -> None:
        if self._arrived is not None:
            self._arrived.set()

    # ---- for who answers it

    async def content(self, wire: Wire, patience: float) -> AsyncIterator[bytes]:
        """The parts of its content. No more than `patience` seconds are waited for each, and for no drip.

        Raises:
            ContentLost: they will not come to their end.
        """
        if self.expects and not self.received_bytes:
            wire.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        while True:
            while self._parts:
                part = self._parts.popleft()
                self._waiting_bytes -= len(part)
                if self._waiting_bytes <= WINDOW_BYTES // 2:
                    wire.resume_reading()
                yield part
            if self.refusal is not None:
                raise ContentTooLarge(self.refusal.detail)
            if self.complete:
                return
            if wire.is_lost:
                raise ClientGone("The client left before the end of its content.")
            wire.resume_reading()  # which had ended, if it waited behind other requests
            await self._more(patience)

    async def _more(self, patience: float) -> None:
        self._arrived = asyncio.Event()
        begun = time.monotonic()
        left = patience + self.received_bytes / MIN_CONTENT_RATE - self._waited
        try:
            async with asyncio.timeout(min(patience, left)):
                await self._arrived.wait()
        except TimeoutError:
            self.refusal = BadRequest(408, "The content did not come in time.")
            raise ClientGone(self.refusal.detail) from None
        self._waited += time.monotonic() - begun

    def request(self, request_id: str, interim: Callable[[Response], None]) -> Request:
        """The request without what is only for this connection, which the origin does not get.

        It must not select variants either, or else nominating a field in Connection would poison that
        variant.
        """
        lines = [
            (name.decode("latin-1"), value.decode("latin-1"))
            for name, value in self.lines
            if name.lower() != b"x-request-id"
        ]
        return Request(
            method=self.method,
            target=self.target.decode("latin-1"),
            headers=end_to_end(Headers(lines)).extended((("X-Request-ID", request_id),)),
            authority=self.fields.get(b"host", b"").decode("latin-1"),
            version=self.version,
            interim=interim,
        )


def given_id(fields: Fields) -> str | None:
    """The identifier that a request came with, if it can be used as it is in a log line and a field."""
    given = fields.get(b"x-request-id")
    return given.decode() if given is not None and _REQUEST_ID.fullmatch(given) else None


def traceparent(fields: Fields) -> str | None:
    given = fields.get(b"traceparent")
    return given.decode("latin-1") if given is not None and _TRACEPARENT.fullmatch(given) else None


def _too_large(max_bytes: int) -> BadRequest:
    return BadRequest(413, f"The content is larger than {max_bytes} bytes.")


def _origin_form(method: str, target: bytes) -> bytes:
    """The path and query of a target in any form that a proxy may get (RFC 9112 §3.2)."""
    if method == "CONNECT":  # nor to a path: an origin that agrees would end the HTTP on its connection
        raise BadRequest(501, "This is no tunnel.")
    if b"#" in target:
        raise BadRequest(400, "A target has no fragment.")
    if target.startswith(b"/") or (target == b"*" and method == "OPTIONS"):
        return target
    scheme, mark, rest = target.partition(b"://")
    if not mark or scheme.lower() not in (b"http", b"https"):
        raise BadRequest(400, "The target is neither a path nor an http URL.")
    ends = [at for at in (rest.find(b"/"), rest.find(b"?")) if at >= 0]
    if method == "OPTIONS" and not ends:
        return b"*"  # §3.2.4: about the server as a whole
    path = rest[min(ends) :] if ends else b""
    return path if path.startswith(b"/") else b"/" + path
