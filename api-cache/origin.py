"""The HTTP client for the origin: pooled HTTP/1.1 connections whose answers llhttp parses.

A proxy must pass on exactly what it was given, and believe nothing that is not HTTP. No library does both:
`requests` and `http.client` take 102 and 103 for final answers, keep cookies between clients, read proxies
from the environment, merge repeated fields, add fields of their own, rewrite the target and pass over
malformed fields; aiohttp runs llhttp with its lenient flags on for answers (folded fields, bare LF). Here it
is as strict as it is with clients. tests/test_cache.py and tests/test_origin.py hold each of these.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import time
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, cast

import httptools

from httpcache.messages import Headers, Request, Response

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

MAX_HEADER_BYTES = 64 * 1024
WINDOW_BYTES = 512 * 1024
"""How much of a body may wait for its reader before we stop reading from the origin."""
IDLE_SECONDS = 30.0
"""How long an unused connection is kept: gunicorn and most others would keep it longer."""
MAX_IDLE = 64
_EXPECT_CONTENT = frozenset(("POST", "PUT", "PATCH"))
"""Methods for which an absent length would leave the origin in doubt (RFC 9110 §8.6)."""
_REPEATABLE = frozenset(("GET", "HEAD"))
_NEW_CONNECTIONS = 3
"""On so many may an origin hang up without a word before that is its answer."""


class OriginError(Exception):
    """The origin gave no complete answer. The message is safe to show."""


class OriginUnreachable(OriginError):  # says what is the case
    """No connection, or one that broke before the answer."""


class OriginAway(OriginUnreachable):
    """No connection at all."""


class OriginTimeout(OriginError):  # says what is the case
    """The origin was silent for too long."""


class OriginBroken(OriginError):  # says what is the case
    """The answer is no valid HTTP, or ended before its end."""


@dataclass(frozen=True, slots=True)
class Content:
    """A request's content: its length where the client said one, and its parts as they arrive."""

    length: int | None
    parts: AsyncIterator[bytes]


class Channel(asyncio.Protocol):
    """One connection to the origin, used for one exchange at a time."""

    def __init__(self, closed: Callable[[Channel], None]) -> None:
        self._closed = closed
        self._transport: asyncio.Transport | None = None
        self._exchange: Answer | None = None
        self._writable = asyncio.Event()
        self._writable.set()
        self.idle_since = 0.0

    # -- asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        if self._exchange is None:
            self.close()  # nobody asked: whatever comes next could be taken for another request's answer
        else:
            self._exchange.feed(data)

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        self._transport = None
        self._writable.set()
        self._closed(self)
        if self._exchange is not None:
            self._exchange.eof()

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    # -- for Answer and Origin

    @property
    def usable(self) -> bool:
        return self._transport is not None and not self._transport.is_closing()

    def begin(self, exchange: Answer) -> None:
        self._exchange = exchange

    def end(self) -> None:
        self._exchange = None

    async def write(self, data: bytes) -> None:
        if self._transport is None:
            raise OriginUnreachable("The origin closed the connection.")
        self._transport.write(data)
        await self._writable.wait()

    def pause(self) -> None:
        if self.usable and self._transport is not None:
            self._transport.pause_reading()

    def resume(self) -> None:
        if self.usable and self._transport is not None:
            self._transport.resume_reading()

    def close(self) -> None:
        if self._transport is not None:
            self._transport.abort()


class Answer:  # pylint: disable=too-many-instance-attributes  # the state of one parser
    """One answer on its way: the head first, then the content through `parts`. Close it in any case."""

    def __init__(
        self, channel: Channel, method: str, timeout: float, release: Callable[[Channel], None]
    ) -> None:
        self._channel = channel
        self._method = method
        self._timeout = timeout
        self._release = release
        self._parser = httptools.HttpResponseParser(self)
        self._lines: list[tuple[str, str]] = []
        self._header_bytes = 0
        self._parts: deque[bytes] = deque()
        self._waiting_bytes = 0
        self._paused = False
        self._head_done = self._complete = self._reusable = False
        self._until_eof = False
        self._error: OriginError | None = None
        self._changed = asyncio.Event()
        self.started = False
        self.sent = True
        self.response = Response(0, Headers())
        self.length: int | None = None

    # -- fed by the channel

    def feed(self, data: bytes) -> None:
        self.started = True
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            cause = error.__context__ if isinstance(error, httptools.HttpParserCallbackError) else None
            self._fail(
                cause
                if isinstance(cause, OriginError)
                else OriginBroken("The origin's answer is not valid HTTP.")
            )
        self._changed.set()

    def eof(self) -> None:
        if not self._complete and self._error is None:
            if self._head_done and self._until_eof:
                self._complete = True
            elif self._head_done:
                self._error = OriginBroken("The origin's answer ended before its end.")
            else:
                self._error = OriginUnreachable("The origin closed the connection without an answer.")
        self._changed.set()

    def _fail(self, error: OriginError) -> None:
        self._reusable = False
        if self._error is None and not self._complete:
            self._error = error
        self._channel.close()

    # -- called by llhttp

    def on_message_begin(self) -> None:
        if self._complete:
            self._reusable = False  # a second answer that nobody asked for

    def on_header(self, name: bytes, value: bytes) -> None:
        self._header_bytes += len(name) + len(value)
        if self._header_bytes > MAX_HEADER_BYTES:
            raise OriginBroken("The origin's fields are too large.")
        if not self._head_done:  # else it is a trailer, which is dropped (RFC 9110 §6.5.1)
            self._lines.append((name.decode("latin-1"), value.decode("latin-1")))

    def on_headers_complete(self) -> None:
        if self._head_done:
            return
        status = self._parser.get_status_code()
        if status == 101 or not 100 <= status <= 999:
            raise OriginBroken("The origin's answer has a status that nobody asked for.")
        # That of the request which asked: every client gets its own, also out of the store.
        headers, self._lines = Headers(self._lines).without(("x-request-id",)), []
        if status < 200:
            return  # an interim answer: the final one follows on the same connection (RFC 9110 §15.2)
        codings = [value.strip().lower() for value in headers.values("transfer-encoding")]
        if codings not in ([], ["chunked"]):
            raise OriginBroken("The origin's answer has a transfer coding that nobody asked for.")
        length = headers.get("content-length")
        self.response = Response(status, headers)
        self.length = int(length) if length is not None else None
        self._until_eof = length is None and not codings
        self._head_done = True
        if self._method == "HEAD":
            self._finish()

    def on_body(self, data: bytes) -> None:
        if self._complete:
            self._reusable = False  # content after the end of an answer to HEAD
            return
        self._parts.append(data)
        self._waiting_bytes += len(data)
        if self._waiting_bytes > WINDOW_BYTES and not self._paused:
            self._paused = True
            self._channel.pause()

    def on_message_complete(self) -> None:
        if self._head_done and not self._complete:
            self._finish()

    def _finish(self) -> None:
        self._complete = True
        self._reusable = self._parser.should_keep_alive() and not self._until_eof

    # -- for the proxy

    async def head(self) -> None:
        while not self._head_done:
            if self._error is not None:
                raise self._error
            await self._wait()

    async def parts(self) -> AsyncIterator[bytes]:
        """The content as it arrives.

        Raises:
            OriginError: it will not come to its end.
        """
        while True:
            while self._parts:
                data = self._parts.popleft()
                self._waiting_bytes -= len(data)
                if self._paused and self._waiting_bytes <= WINDOW_BYTES // 2:
                    self._paused = False
                    self._channel.resume()
                yield data
            if self._complete:
                return
            if self._error is not None:
                raise self._error
            await self._wait()

    async def _wait(self) -> None:
        self._changed.clear()
        try:
            async with asyncio.timeout(self._timeout):
                await self._changed.wait()
        except TimeoutError:
            raise OriginTimeout(f"The origin was silent for {self._timeout:g} seconds.") from None

    def close(self) -> None:
        """Give the connection back when the exchange is over in good order; else end it."""
        self._channel.end()
        if self._complete and self._reusable and self.sent and not self._parts:
            self._release(self._channel)
        else:
            self._channel.close()


@dataclass(slots=True)
class Origin:
    """The origin at one address. Timeouts are in seconds."""

    host: str
    port: int
    connect_timeout: float
    timeout: float
    _idle: deque[Channel] = field(default_factory=deque, init=False)

    @property
    def authority(self) -> str:
        """The only Host that the origin sees: a client's is no part of the key, so it must not matter."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == 80 else f"{host}:{self.port}"

    async def send(self, request: Request, content: Content | None = None) -> Answer:
        """Ask, and return as soon as the head of the final answer is there. The caller closes the answer.

        Raises:
            OriginError: there is none.
        """
        repeatable = request.method in _REPEATABLE and content is None
        pooled = self._take() if repeatable else None
        attempts_left = _NEW_CONNECTIONS + (pooled is not None)
        while True:
            answer = self._answer(pooled or await self._connect(), request.method)
            try:
                await self._exchange(answer, request, content)
            except OriginUnreachable:
                answer.close()
                # An idle connection may close at any moment (and the others with it), and a replica that
                # stops drops those that it has not accepted yet. Nothing came back, so ask again on a new
                # one (RFC 9110 §9.2.2).
                pooled = None
                attempts_left -= 1
                if repeatable and attempts_left and not answer.started:
                    continue
                raise
            except BaseException:
                answer.close()
                raise
            return answer

    def _answer(self, channel: Channel, method: str) -> Answer:
        answer = Answer(channel, method, self.timeout, self._put)
        channel.begin(answer)
        return answer

    async def _exchange(self, answer: Answer, request: Request, content: Content | None) -> None:
        channel = answer._channel  # pylint: disable=protected-access
        await channel.write(_head(request, self.authority, content))
        if content is None:
            await answer.head()
            return
        answer.sent = False
        sending = asyncio.ensure_future(_send_content(channel, answer, content))
        waiting = asyncio.ensure_future(answer.head())
        try:
            # An answer may come before all of the content is sent, such as a refusal.
            await asyncio.wait((sending, waiting), return_when=asyncio.FIRST_COMPLETED)
            if not waiting.done() and sending.exception() is not None:
                sending.result()
            await waiting
        finally:
            for task in (sending, waiting):
                task.cancel()
            await asyncio.wait((sending, waiting))
            for task in (sending, waiting):
                if not task.cancelled():
                    task.exception()

    async def _connect(self) -> Channel:
        """To the first address that accepts; each has its share of the time, for one of them may be dead."""
        try:
            async with asyncio.timeout(self.connect_timeout):
                *others, last = await self._addresses()
                for address in others:
                    with contextlib.suppress(OSError):  # TimeoutError is one
                        return await asyncio.wait_for(
                            self._connect_to(address), self.connect_timeout / (len(others) + 1)
                        )
                return await self._connect_to(last)
        except TimeoutError:
            raise OriginTimeout(
                f"No connection to the origin within {self.connect_timeout:g} seconds."
            ) from None
        except OSError:
            raise OriginAway("The origin cannot be reached.") from None

    async def _addresses(self) -> list[str]:
        """One for each replica, in a random order: a resolver would put the same one first for ever."""
        loop = asyncio.get_running_loop()
        found = await loop.getaddrinfo(self.host, self.port, type=socket.SOCK_STREAM)
        addresses = [str(sockaddr[0]) for *_, sockaddr in found]
        return random.sample(addresses, len(addresses))

    async def _connect_to(self, address: str) -> Channel:
        loop = asyncio.get_running_loop()
        _, channel = await loop.create_connection(lambda: Channel(self._forget), address, self.port)
        return channel

    def _take(self) -> Channel | None:
        oldest = time.monotonic() - IDLE_SECONDS
        while self._idle:
            channel = self._idle.pop()
            if channel.usable and channel.idle_since >= oldest:
                return channel
            channel.close()
        return None

    def _put(self, channel: Channel) -> None:
        if len(self._idle) >= MAX_IDLE or not channel.usable:
            channel.close()
            return
        channel.idle_since = time.monotonic()
        channel.resume()
        self._idle.append(channel)

    def _forget(self, channel: Channel) -> None:
        with contextlib.suppress(ValueError):
            self._idle.remove(channel)

    def close(self) -> None:
        while self._idle:
            self._idle.pop().close()


def _head(request: Request, authority: str, content: Content | None) -> bytes:
    lines = [f"{request.method} {request.target} HTTP/1.1", f"Host: {authority}"]
    lines += [f"{name}: {value}" for name, value in request.headers]
    if content is None and request.method in _EXPECT_CONTENT:
        lines.append("Content-Length: 0")
    if content is not None:
        framing = (
            "Transfer-Encoding: chunked" if content.length is None else f"Content-Length: {content.length}"
        )
        lines.append(framing)
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


async def _send_content(channel: Channel, answer: Answer, content: Content) -> None:
    async for part in content.parts:
        await channel.write(part if content.length is not None else b"%x\r\n%b\r\n" % (len(part), part))
    if content.length is None:
        await channel.write(b"0\r\n\r\n")
    answer.sent = True
