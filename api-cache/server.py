"""HTTP/1.1 for the clients: llhttp parses (httptools), libuv moves the bytes (uvloop).

Measured against granian in benchmarks/api_cache.py, which is slower for hits, hands on only decoded paths,
and ends a chunked answer in good order when its content breaks off; here such a connection is cut, so that
nobody takes half an answer for a whole one.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import re
import socket
import struct
import termios
import time
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, Protocol, cast

import httptools

from hits import REASONS
from httpcache.fields import end_to_end, format_date
from httpcache.messages import Headers, Request
from origin.client import Content
from origin.errors import OriginError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from proxy import Reply
    from sharing.buffer import Parts
    from store.memory import Prepared

MAX_HEAD_BYTES = 64 * 1024
MAX_TARGET_BYTES = 16 * 1024
MAX_FIELDS = 200
WINDOW_BYTES = 256 * 1024
"""How much of a request's content, or of an answer, may wait before its source is paused."""
SEND_BUFFER_BYTES = 512 * 1024
"""Of the kernel, for each connection. Large answers pass in pieces that the processor's caches still hold
when the network takes them: of 4 MB, a fifth more a second than with Linux's own growing buffer."""
LEAVE_SECONDS = 10.0
"""How long a client may take, at the end of this process, to end its connection after its answer."""
_KNOWN = (
    b"GET ",
    b"HEAD ",
    b"POST ",
    b"PUT ",
    b"DELETE ",
    b"PATCH ",
    b"OPTIONS ",
    b"TRACE ",
    b"CONNECT ",
    b"\r\n",
)
_TOKEN = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]{1,32} ")
_STAND_IN = b"POST "
"""llhttp knows only registered methods. For others it is shown this one, whose requests it frames alike."""
_REQUEST_ID = re.compile(rb"[A-Za-z0-9._:/+=-]{1,128}")
_TRACEPARENT = re.compile(rb"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}(-.*)?")
_JOINED_BYTES = 16 * 1024
"""Up to this size, copying head and body together is faster than sending them as two pieces."""
_REMEMBERED = 4096
_REMEMBERED_BYTES = 2048
_OF_ONE_REQUEST = frozenset((b"x-request-id", b"traceparent"))
_BODILESS = frozenset((204, 304))


class BadRequest(Exception):  # says what is the case
    """A request that is refused before anyone looks at what it asks for."""

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail


class ContentTooLarge(OriginError):  # says what is the case
    """The client's content is larger than configured."""


class ClientGone(OriginError):  # says what is the case
    """The client's content did not come to its end."""


@dataclass(frozen=True, slots=True)
class Patience:
    """How many seconds a client may take."""

    head: float = 15.0
    """For a request's head, from its first byte."""
    idle: float = 75.0
    """Between two requests."""
    stall: float = 60.0
    """Until the next part of its content comes, or until it takes the next part of its answer."""


class Application(Protocol):
    """What the server serves."""

    max_request_bytes: int
    patience: Patience

    def hit(self, target: bytes, fields: dict[bytes, bytes]) -> tuple[Prepared, int] | None:
        """A ready answer to a plain GET, and its age."""

    async def catch_up(self, target: bytes) -> bool:
        """Wait until memory is known to be in step with Redis, when `hit` may know this target."""

    async def respond(
        self, request: Request, fields: dict[bytes, bytes] | None, content: Content | None
    ) -> Reply:
        """Any answer. `fields` are those that `hit` would see, None where it would not be asked."""

    def refuse(self, status: int, detail: str) -> Reply:
        """The answer to what is no valid request."""

    def request_id(self) -> str:
        """A new request's identifier."""

    def record(  # pylint: disable=too-many-arguments
        self, method: str, path: str, status: int, *, cache: str, size: int, seconds: float, request_id: str,
        traceparent: str | None,
    ) -> None:  # fmt: skip
        """Log and count a finished request."""

    def connections(self, number: int) -> None:
        """The number of open connections."""


@dataclass(slots=True, eq=False)
class Incoming:  # pylint: disable=too-many-instance-attributes
    """A request as its connection reads it."""

    method: str
    target: bytes
    lines: list[tuple[bytes, bytes]]
    fields: dict[bytes, bytes]
    version: str
    keep_alive: bool
    begun: float
    length: int | None = None
    chunked: bool = False
    expects: bool = False
    parts: deque[bytes] = field(default_factory=deque)
    waiting_bytes: int = 0
    received_bytes: int = 0
    complete: bool = False
    refusal: BadRequest | None = None
    arrived: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def has_content(self) -> bool:
        return self.chunked or bool(self.length)


class Connection(asyncio.Protocol):  # pylint: disable=too-many-instance-attributes
    """One client's connection. Plain hits are answered at once, all else by a task, one after the other."""

    _requests: ClassVar[dict[bytes, tuple[bytes, dict[bytes, bytes]]]] = {}
    """Target and fields of plain hits of late, on any connection, by all the bytes of the request."""

    def __init__(self, app: Application, connections: set[Connection]) -> None:
        self._app = app
        self._connections = connections
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpRequestParser(self)
        self._partial = b""
        self._method: bytes | None = None
        self._target = b""
        self._lines: list[tuple[bytes, bytes]] = []
        self._head_bytes = 0
        self._reading: Incoming | None = None
        self._hit: tuple[Prepared, int, dict[bytes, bytes]] | None = None
        self._is_between = True
        self._messages = 0
        self._hits: list[tuple[bytes, dict[bytes, bytes]]] = []
        self._descriptor = -1
        self._queue: deque[Incoming] = deque()
        self._task: asyncio.Task[None] | None = None
        self._resumed = asyncio.Event()
        self._resumed.set()
        self._reading_paused = False
        self._last = False
        self._is_awaited: bool | None = None
        """When draining: whether an answer was under way, whose client has to end the connection, too."""
        self._left: float | None = None
        """When our own end of it was sent."""
        self._begun = 0.0
        self._answered = time.monotonic()
        """When it last had an answer, or was made."""
        self._untaken = 0
        self._taken = 0.0
        """When the client last took something of what waits for it."""

    # ---- asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._transport.set_write_buffer_limits(WINDOW_BYTES)
        sock = transport.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
        self._descriptor = sock.fileno()
        self._connections.add(self)
        self._app.connections(len(self._connections))

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        self._transport = None
        self._connections.discard(self)
        self._app.connections(len(self._connections))
        self._resumed.set()
        if self._reading is not None:
            self._reading.arrived.set()
        if self._task is not None:
            self._task.cancel()

    def pause_writing(self) -> None:
        self._resumed.clear()

    def resume_writing(self) -> None:
        self._resumed.set()

    def data_received(self, data: bytes) -> None:
        if self._last:
            return  # the connection ends after the answer under way
        if not self._is_between:
            self._feed(data)
            return
        if not self._partial:
            self._begun = time.monotonic()
        if self._is_free and self._again(data):
            return
        if self._partial or not data.startswith(_KNOWN):
            data = self._show_known_method(self._partial + data)
        self._messages = 0
        self._hits.clear()
        if data:
            self._feed(data)
        if self._hits and self._messages == 1 and self._is_between:
            self._remember(data, *self._hits[0])

    @property
    def _is_free(self) -> bool:
        """Whether a hit may go out at once: no answer is under way, and the client takes what it gets."""
        return self._task is None and self._resumed.is_set()

    def _again(self, data: bytes) -> bool:
        """Answer a request whose very bytes were a plain hit before: equal bytes mean the same."""
        known = self._requests.get(data)
        found = self._app.hit(*known) if known is not None else None
        if known is None or found is None:
            return False
        self._send_hit(known[0], *found, known[1], self._begun)
        return True

    def _remember(self, data: bytes, target: bytes, fields: dict[bytes, bytes]) -> None:
        """Keep the bytes of a request that was a plain hit, if they may well come again."""
        if len(data) > _REMEMBERED_BYTES or not _OF_ONE_REQUEST.isdisjoint(fields):
            return
        if len(self._requests) >= _REMEMBERED:
            self._requests.clear()
        self._requests[data] = target, fields

    def _feed(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._last = True  # nobody here speaks another protocol: the answer is HTTP, and the last
        except httptools.HttpParserCallbackError as error:
            cause = error.__context__
            self._refuse(
                cause if isinstance(cause, BadRequest) else BadRequest(400, "The request cannot be read.")
            )
        except httptools.HttpParserError:
            self._refuse(BadRequest(400, "The request is not valid HTTP/1.1."))

    def _show_known_method(self, data: bytes) -> bytes:
        """Llhttp's view of a request whose method it may not know; empty while the method is incomplete."""
        self._partial = b""
        match = _TOKEN.match(data)
        if match is None:
            if len(data) <= 32 and _TOKEN.match(data + b" "):
                self._partial = data
                return b""
            return data  # llhttp will say no
        if data.startswith(_KNOWN):
            return data
        self._method = match[0][:-1]
        return _STAND_IN + data[match.end() :]

    # ---- called by llhttp

    def on_message_begin(self) -> None:
        self._is_between = False
        self._messages += 1
        self._target = b""
        self._lines = []
        self._head_bytes = 0

    def on_url(self, url: bytes) -> None:
        self._target += url
        if len(self._target) > MAX_TARGET_BYTES:
            raise BadRequest(414, f"The target is longer than {MAX_TARGET_BYTES} bytes.")

    def on_header(self, name: bytes, value: bytes) -> None:
        self._head_bytes += len(name) + len(value) + 4
        if self._head_bytes > MAX_HEAD_BYTES or len(self._lines) >= MAX_FIELDS:
            raise BadRequest(
                431, f"The fields are more than {MAX_FIELDS}, or longer than {MAX_HEAD_BYTES} bytes."
            )
        if self._reading is None:  # else it is a trailer, which is dropped (RFC 9110 §6.5.1)
            self._lines.append((name, value))

    def on_headers_complete(self) -> None:
        parser = self._parser
        fields = {name.lower(): value for name, value in self._lines}
        if self._find_hit(fields):
            return
        method = self._method or parser.get_method()
        self._method = None
        incoming = Incoming(
            method=method.decode("latin-1"),
            target=self._target,
            lines=self._lines,
            fields=fields,
            version=parser.get_http_version(),
            keep_alive=parser.should_keep_alive(),
            begun=self._begun,
        )
        self._check(incoming)
        self._reading = incoming
        if incoming.has_content:
            self._enqueue(incoming)

    def _find_hit(self, fields: dict[bytes, bytes]) -> bool:
        """Look for a ready answer, before anything is built that only other requests need."""
        parser = self._parser
        is_ours = self._is_free and self._method is None and parser.get_method() == b"GET"
        is_simple = len(fields) == len(self._lines) and b"host" in fields
        if not (is_ours and is_simple and parser.get_http_version() == "1.1" and parser.should_keep_alive()):
            return False
        found = self._app.hit(self._target, fields)
        if found is not None:
            self._hit = *found, fields
        return found is not None

    def _check(self, incoming: Incoming) -> None:
        fields = incoming.fields
        if incoming.version not in ("1.1", "1.0"):
            raise BadRequest(505, "Only HTTP/1.1 and HTTP/1.0 are spoken here.")
        if incoming.version == "1.1" and sum(name.lower() == b"host" for name, _ in incoming.lines) != 1:
            raise BadRequest(400, "An HTTP/1.1 request has exactly one Host field.")
        coding = fields.get(b"transfer-encoding")
        if coding is not None:
            if coding.lower() != b"chunked" or incoming.version == "1.0":
                raise BadRequest(501, "No other transfer coding than chunked is understood.")
            incoming.chunked = True
        length = fields.get(b"content-length")
        incoming.length = int(length) if length is not None else None
        incoming.expects = fields.get(b"expect", b"").lower() == b"100-continue"
        if (incoming.length or 0) > self._app.max_request_bytes:
            raise BadRequest(413, f"The content is larger than {self._app.max_request_bytes} bytes.")
        incoming.target = _origin_form(incoming.method, incoming.target)

    def on_body(self, data: bytes) -> None:
        incoming = self._reading
        if incoming is None:
            return
        incoming.received_bytes += len(data)
        if incoming.received_bytes > self._app.max_request_bytes:
            incoming.refusal = BadRequest(
                413, f"The content is larger than {self._app.max_request_bytes} bytes."
            )
            self._last = True
        else:
            incoming.parts.append(data)
            incoming.waiting_bytes += len(data)
        if incoming.waiting_bytes > WINDOW_BYTES:
            self._pause_reading()
        incoming.arrived.set()

    def on_message_complete(self) -> None:
        incoming, self._reading = self._reading, None
        target, self._target = self._target, b""
        self._head_bytes = 0
        self._is_between = True
        if self._hit is not None:
            found, age, fields = self._hit
            self._hit = None
            self._hits.append((target, fields))
            self._send_hit(target, found, age, fields, self._begun)
        elif incoming is not None:
            incoming.complete = True
            incoming.arrived.set()
            if not incoming.has_content:
                self._enqueue(incoming)

    # ---- one after the other

    def _send_hit(
        self, target: bytes, found: Prepared, age: int, fields: dict[bytes, bytes], begun: float
    ) -> None:
        transport = self._transport
        if transport is None:
            return
        request_id = _request_id(fields) or self._app.request_id()
        head = b"%bX-Request-ID: %b\r\n\r\n" % (found.render(age), request_id.encode())
        if len(found.body) < _JOINED_BYTES:
            transport.write(head + found.body)
        else:
            self._write_at_once(transport, head, found.body)
        self._answered = time.monotonic()
        self._app.record(
            "GET", target.decode("latin-1"), found.status, cache="hit", size=len(found.body),
            seconds=self._answered - begun, request_id=request_id, traceparent=_traceparent(fields),
        )  # fmt: skip

    def _write_at_once(self, transport: asyncio.Transport, head: bytes, body: bytes) -> None:
        """Give the socket what it takes by one writev(2), the transport the rest. Neither copies the body."""
        sent = 0
        if transport.get_write_buffer_size() == 0 and not transport.is_closing():
            with contextlib.suppress(OSError):  # full, or broken, as the transport will notice
                sent = os.writev(self._descriptor, (head, body))
        if sent < len(head):
            transport.writelines((head[sent:], body))
        elif sent < len(head) + len(body):
            transport.write(memoryview(body)[sent - len(head) :])

    def _enqueue(self, incoming: Incoming) -> None:
        self._queue.append(incoming)
        if self._task is None:
            self._task = self._loop.create_task(self._work())
        elif len(self._queue) > 1:
            self._pause_reading()

    async def _work(self) -> None:
        try:
            while self._queue:
                incoming = self._queue.popleft()
                await self._answer(incoming)
                if not incoming.keep_alive or not incoming.complete or (self._last and not self._queue):
                    if self._is_awaited is None:  # else drain() ends the connection
                        self._close()
                    return
        except ClientGone:
            self._abort()
        except BaseException:
            self._abort()
            raise
        finally:
            self._task = None
        self._answered = time.monotonic()
        self._resume_reading()

    async def _answer(self, incoming: Incoming) -> None:
        request_id = _request_id(incoming.fields) or self._app.request_id()
        content = Content(incoming.length, self._content(incoming)) if incoming.has_content else None
        is_repeating = len(incoming.fields) != len(incoming.lines)
        plain = None if is_repeating or content is not None else incoming.fields
        if plain is not None and await self._hit_late(incoming, plain):
            return
        reply = await self._app.respond(_request(incoming, request_id), plain, content)
        if incoming.refusal is not None:
            if not isinstance(reply.content, bytes):
                await reply.content.aclose()
            reply = self._app.refuse(incoming.refusal.status, incoming.refusal.detail)
        await self._send(incoming, reply, request_id)

    async def _hit_late(self, incoming: Incoming, fields: dict[bytes, bytes]) -> bool:
        """A plain hit that had to wait until memory was known to be in step with Redis."""
        is_simple = incoming.method == "GET" and incoming.version == "1.1" and incoming.keep_alive
        if not is_simple or self._last or not await self._app.catch_up(incoming.target):
            return False
        found = self._app.hit(incoming.target, fields)
        if found is not None:
            self._send_hit(incoming.target, *found, fields, incoming.begun)
            await self._drained()
        return found is not None

    async def _send(self, incoming: Incoming, reply: Reply, request_id: str) -> None:
        if not incoming.complete:
            incoming.keep_alive = False  # what is left of its content would be taken for the next request
        is_bodiless = incoming.method == "HEAD" or reply.status in _BODILESS
        is_chunked = reply.length is None and not is_bodiless and incoming.version == "1.1"
        if reply.length is None and not is_bodiless and not is_chunked:
            incoming.keep_alive = False  # for HTTP/1.0 the end of the connection is the end of the content
        head = self._head(incoming, reply, request_id, chunked=is_chunked)
        size = 0
        try:
            if isinstance(reply.content, bytes):
                self._write(head if is_bodiless else head + reply.content)
                size = 0 if is_bodiless else len(reply.content)
                await self._drained()
            else:
                size = await self._stream(head, reply.content, reply.length, chunked=is_chunked)
        except OriginError:
            # The head is out, so this is the only way left to say that the content is not whole.
            self._abort()
        finally:
            self._record(incoming, reply.status, reply.cache, size, request_id)

    async def _stream(self, head: bytes, content: Parts, length: int | None, *, chunked: bool) -> int:
        size = 0
        async with contextlib.aclosing(content):
            self._write(head)
            async for part in content:
                size += len(part)
                if length is not None and size > length:
                    raise OriginError("More content than was announced.")
                self._write(b"%x\r\n%b\r\n" % (len(part), part) if chunked else part)
                await self._drained()
        if chunked:
            self._write(b"0\r\n\r\n")
        elif length is not None and size != length:
            raise OriginError("Less content than was announced.")
        return size

    def _head(self, incoming: Incoming, reply: Reply, request_id: str, *, chunked: bool) -> bytes:
        lines = [f"HTTP/1.1 {reply.status} {REASONS.get(reply.status, b'').decode()}"]
        lines += [f"{name}: {value}" for name, value in reply.headers]
        if "date" not in reply.headers:
            lines.append(f"Date: {format_date(time.time())}")
        if chunked:
            lines.append("Transfer-Encoding: chunked")
        elif reply.length is not None and reply.status not in _BODILESS:
            lines.append(f"Content-Length: {reply.length}")
        if not incoming.keep_alive or (self._last and not self._queue):
            lines.append("Connection: close")
        elif incoming.version == "1.0":
            lines.append("Connection: keep-alive")
        lines.append(f"X-Request-ID: {request_id}")
        return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")

    async def _content(self, incoming: Incoming) -> AsyncIterator[bytes]:
        if incoming.expects and not incoming.received_bytes:
            self._write(b"HTTP/1.1 100 Continue\r\n\r\n")
        while True:
            while incoming.parts:
                part = incoming.parts.popleft()
                incoming.waiting_bytes -= len(part)
                if incoming.waiting_bytes <= WINDOW_BYTES // 2:
                    self._resume_reading()
                yield part
            if incoming.refusal is not None:
                raise ContentTooLarge(incoming.refusal.detail)
            if incoming.complete:
                return
            if self._transport is None:
                raise ClientGone("The client left before the end of its content.")
            incoming.arrived.clear()
            try:
                async with asyncio.timeout(self._app.patience.stall):
                    await incoming.arrived.wait()
            except TimeoutError:
                incoming.refusal = BadRequest(408, "The content did not come in time.")
                raise ClientGone(incoming.refusal.detail) from None

    # ---- refusals, the wire

    def _refuse(self, why: BadRequest) -> None:
        """Answer what cannot be read, after the answers that are still due, and read nothing more."""
        self._last = True
        if self._reading is not None and self._reading.has_content:
            self._reading.refusal = why  # its task ends it
            self._reading.arrived.set()
            return
        self._task = self._loop.create_task(self._finish(self._task, why))

    async def _finish(self, before: asyncio.Task[None] | None, why: BadRequest) -> None:
        if before is not None:
            await asyncio.wait((before,))
        target = self._target[:200] or b"-"
        incoming = Incoming("-", target, [], {}, "1.1", keep_alive=False, begun=self._begun, complete=True)
        await self._send(incoming, self._app.refuse(why.status, why.detail), self._app.request_id())
        self._close()

    def _write(self, data: bytes) -> None:
        if self._transport is None:
            raise asyncio.CancelledError
        self._transport.write(data)

    async def _drained(self) -> None:
        """Wait until the client has taken nearly all; however slow it is, it must go on."""
        while not self._resumed.is_set() and self._transport is not None:
            untaken = self._transport.get_write_buffer_size()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._app.patience.stall):
                    await self._resumed.wait()
            if not self._resumed.is_set() and self._transport.get_write_buffer_size() == untaken:
                raise ClientGone("The client takes nothing.")

    def _pause_reading(self) -> None:
        if not self._reading_paused and self._transport is not None:
            self._reading_paused = True
            self._transport.pause_reading()

    def _resume_reading(self) -> None:
        if self._reading_paused and self._transport is not None and not self._transport.is_closing():
            self._reading_paused = False
            self._transport.resume_reading()

    def _close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    def _abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def _record(self, incoming: Incoming, status: int, cache: str, size: int, request_id: str) -> None:
        seconds = time.monotonic() - incoming.begun
        path = incoming.target.decode("latin-1")
        self._app.record(
            incoming.method, path, status, cache=cache, size=size, seconds=seconds, request_id=request_id,
            traceparent=_traceparent(incoming.fields),
        )  # fmt: skip

    # ---- for the worker

    def expire(self, now: float) -> None:
        """Cut off whoever is too slow; called from time to time."""
        if self._transport is None or self._task is not None:
            return
        if self._reading is not None and self._reading.has_content:
            return  # the wait for its content ends by itself
        patience = self._app.patience
        is_begun = bool(self._partial) or not self._is_between
        if self._is_taking(self._transport, now):
            if now - self._taken > patience.stall:
                self._abort()
        elif is_begun and now - self._begun > patience.head:
            self._refuse(BadRequest(408, "The request did not come to its end in time."))
        elif not is_begun and now - self._answered > patience.idle:
            self._close()

    def _is_taking(self, transport: asyncio.Transport, now: float) -> bool:
        """Whether some of an answer still waits for the client; notes when that gets less."""
        untaken, self._untaken = self._untaken, transport.get_write_buffer_size()
        if self._untaken != untaken:
            self._taken = self._answered = now
        return self._untaken > 0

    def drain(self, now: float) -> bool:
        """Take no further request; True when nothing is under way, and the client has taken all there is.

        The kernel goes on sending what it got from us, but not in a container, whose network ends with it.
        Nor is what was acknowledged there at the client yet: the engine's proxy of a published port may hold
        megabytes, and ends with the container, too. So whoever had an answer under way when draining began is
        told its end (RFC 9112 §9.6), and has LEAVE_SECONDS to end the connection as well.
        """
        transport = self._transport
        if transport is None:
            return True
        is_under_way = self._task is not None or self._untaken_bytes(transport) > 0
        if self._is_awaited is None:
            self._last, self._is_awaited = True, is_under_way
        if not is_under_way:
            self._leave(transport, now)
        return self._transport is None

    def _leave(self, transport: asyncio.Transport, now: float) -> None:
        if not self._is_awaited or now - (self._left or now) > LEAVE_SECONDS:
            self._close()
        elif self._left is None:
            self._left = now
            transport.write_eof()

    def _untaken_bytes(self, transport: asyncio.Transport) -> int:
        if (waiting := transport.get_write_buffer_size()) or transport.is_closing():
            return waiting
        (unacknowledged,) = struct.unpack("i", fcntl.ioctl(self._descriptor, termios.TIOCOUTQ, bytes(4)))
        return int(unacknowledged)


def _request_id(fields: dict[bytes, bytes]) -> str | None:
    """The identifier that a request came with, if it can be used as it is in a log line and a field."""
    given = fields.get(b"x-request-id")
    return given.decode() if given is not None and _REQUEST_ID.fullmatch(given) else None


def _traceparent(fields: dict[bytes, bytes]) -> str | None:
    given = fields.get(b"traceparent")
    return given.decode("latin-1") if given is not None and _TRACEPARENT.fullmatch(given) else None


def _origin_form(method: str, target: bytes) -> bytes:
    """The path and query of a target in any form that a proxy may get (RFC 9112 §3.2)."""
    if b"#" in target:
        raise BadRequest(400, "A target has no fragment.")
    if target.startswith(b"/") or (target == b"*" and method == "OPTIONS"):
        return target
    if method == "CONNECT":
        raise BadRequest(501, "This is no tunnel.")
    scheme, mark, rest = target.partition(b"://")
    if not mark or scheme.lower() not in (b"http", b"https"):
        raise BadRequest(400, "The target is neither a path nor an http URL.")
    ends = [at for at in (rest.find(b"/"), rest.find(b"?")) if at >= 0]
    path = rest[min(ends) :] if ends else b""
    return path if path.startswith(b"/") else b"/" + path


def _request(incoming: Incoming, request_id: str) -> Request:
    """The request without what is only for this connection, which the origin does not get.

    It must not select variants either, or else nominating a field in Connection would poison that variant.
    """
    lines = [
        (name.decode("latin-1"), value.decode("latin-1"))
        for name, value in incoming.lines
        if name.lower() != b"x-request-id"
    ]
    return Request(
        method=incoming.method,
        target=incoming.target.decode("latin-1"),
        headers=end_to_end(Headers(lines)).extended((("X-Request-ID", request_id),)),
        authority=incoming.fields.get(b"host", b"").decode("latin-1"),
    )
