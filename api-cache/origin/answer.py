"""One answer of the origin on its way, as llhttp parses it."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from typing import TYPE_CHECKING

import httptools

from httpcache.fields import end_to_end
from httpcache.messages import Headers, Response
from httpcache.status import via

from .errors import OriginBroken, OriginError, OriginTimeout, OriginUnreachable

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine, Iterator

    from httpcache.messages import Request

    from .channel import Channel

MAX_HEADER_BYTES = 64 * 1024
WINDOW_BYTES = 512 * 1024
"""How much of a body may wait for its reader before we stop reading from the origin."""


class Answer:  # pylint: disable=too-many-instance-attributes  # the state of one parser
    """One answer on its way: the head first, then the content through `parts`. Close it in any case."""

    def __init__(
        self, channel: Channel, request: Request, timeout: float, release: Callable[[Channel], None]
    ) -> None:
        self._channel = channel
        self._method = request.method
        self._interim = request.interim
        self._timeout = timeout
        self._release = release
        self._parser = httptools.HttpResponseParser(self)
        self._lines: list[tuple[str, str]] = []
        self._header_bytes = 0
        self._unfinished_bytes = 0
        """What came since the parser last told of anything, and so no less than what it keeps: of a field it
        tells only when that ends."""
        self._parts: deque[bytes] = deque()
        self._waiting_bytes = 0
        self._paused = False
        self._head_done = self._complete = self._reusable = False
        self._until_eof = False
        self._error: OriginError | None = None
        self._changed = asyncio.Event()
        self._sending: asyncio.Task[None] | None = None
        """Sends the request's content, also while the answer comes in already."""
        self.started = False
        self.owing_since: float | None = 0.0
        """Since when it is the origin's turn; None while the client's content is waited for."""
        self.broke_off: Callable[[OriginError], None] = lambda _: None
        """Told if the content does not come to its end."""
        self.response = Response(0, Headers())
        self.length: int | None = None

    # ---- fed by the channel

    def feed(self, data: bytes) -> None:
        self.started = True
        self._unfinished_bytes += len(data)
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            cause = error.__context__ if isinstance(error, httptools.HttpParserCallbackError) else None
            self._fail(
                cause
                if isinstance(cause, OriginError)
                else OriginBroken("The origin's answer is not valid HTTP.")
            )
        if self._unfinished_bytes > MAX_HEADER_BYTES:
            self._fail(OriginBroken("The origin's fields are too large."))
        self._changed.set()

    def eof(self, *, in_order: bool) -> None:
        """The connection has ended; a reset is no end of content that only an end delimits (RFC 9112 §8)."""
        if not self._complete and self._error is None:
            if self._head_done and self._until_eof and in_order:
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

    # ---- called by llhttp

    def on_message_begin(self) -> None:
        if self._complete:
            self._reusable = False  # a second answer that nobody asked for

    def on_header(self, name: bytes, value: bytes) -> None:
        self._unfinished_bytes = 0
        self._header_bytes += len(name) + len(value)
        if self._header_bytes > MAX_HEADER_BYTES:
            raise OriginBroken("The origin's fields are too large.")
        if not self._head_done:  # else it is a trailer, which is dropped (RFC 9110 §6.5.1)
            self._lines.append((name.decode("latin-1"), value.decode("latin-1").rstrip(" \t")))

    def on_headers_complete(self) -> None:
        if self._head_done:
            return
        if self._parser.get_http_version() not in ("1.1", "1.0"):  # llhttp takes 2.0 and 0.9, too
            raise OriginBroken("The origin's answer is of another version than HTTP/1.1 and HTTP/1.0.")
        status = self._parser.get_status_code()
        if status == 101 or not 100 <= status <= 999:
            raise OriginBroken("The origin's answer has a status that nobody asked for.")
        headers, self._lines = self._received(self._lines), []
        if status < 200:
            self._hand_on(Response(status, end_to_end(headers).without(("content-length",))))
            return
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

    def _hand_on(self, interim: Response) -> None:
        """An interim answer, whose final one follows on the same connection (RFC 9110 §15.2).

        But not 100, for which nobody asks the origin: `outgoing` leaves Expect out.
        """
        if self._interim is not None and interim.status != 100:
            self._interim(interim)

    def _received(self, lines: list[tuple[str, str]]) -> Headers:
        """The fields as they are handed on and stored: with the version that the origin spoke.

        Not with the id of the request which asked: every client gets its own, also out of the store.
        """
        line = via(self._parser.get_http_version())
        return Headers((*lines, line)).without(("x-request-id",))

    def on_body(self, data: bytes) -> None:
        self._unfinished_bytes = 0
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

    # ---- for the proxy

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
            try:
                await self._more()
            except OriginError as error:
                self.broke_off(error)
                raise

    async def _more(self) -> None:
        if self._error is not None:
            raise self._error
        await self._wait()

    async def _wait(self) -> None:
        self._changed.clear()
        begun = time.monotonic()
        while (left := self._patience_left(begun)) > 0:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(left):
                    await self._changed.wait()
                    return
        raise OriginTimeout(f"The origin was silent for {self._timeout:g} seconds.")

    def _patience_left(self, begun: float) -> float:
        """For how long the origin may still be silent, having been so since `begun`, on its turn."""
        if self.owing_since is None:
            return self._timeout
        return max(begun, self.owing_since) + self._timeout - time.monotonic()

    def send(self, content: Coroutine[None, None, None]) -> None:
        """Send the request's content from now on, for as long as the answer lasts."""
        self._sending = asyncio.create_task(content)
        self._sending.add_done_callback(self._sent)

    def _sent(self, sending: asyncio.Task[None]) -> None:
        error = None if sending.cancelled() else sending.exception()
        if isinstance(error, OriginError):
            self._fail(error)
            self._changed.set()

    def _is_sent(self) -> bool:
        task = self._sending
        return task is None or (task.done() and not task.cancelled() and task.exception() is None)

    @contextlib.contextmanager
    def closed_on_failure(self) -> Iterator[None]:
        """Close it if what is done before someone takes its content fails, or is cancelled."""
        try:
            yield
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Give the connection back when the exchange is over in good order; else end it."""
        self._channel.end()
        is_sent = self._is_sent()
        if self._sending is not None:
            self._sending.cancel()
        if self._complete and self._reusable and is_sent and not self._parts:
            self._release(self._channel)
        else:
            self._channel.close()
