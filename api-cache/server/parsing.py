"""Requests out of one connection's bytes, by llhttp's callbacks."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple, Protocol

import httptools

from .incoming import BadRequest, Incoming, is_host

if TYPE_CHECKING:
    from store.memory import Plain, Prepared

    from .application import Fields

MAX_HEAD_BYTES = 64 * 1024
MAX_TARGET_BYTES = 16 * 1024
MAX_FIELDS = 200
_KNOWN = (
    b"GET ", b"HEAD ", b"POST ", b"PUT ", b"DELETE ", b"PATCH ", b"OPTIONS ", b"TRACE ", b"CONNECT ",
)  # fmt: skip
_MAX_METHOD_BYTES = 32
_METHOD = re.compile(rb"([!#$%%&'*+\-.^_`|~0-9A-Za-z]{1,%d}) " % _MAX_METHOD_BYTES)
_STAND_IN = b"POST "
"""llhttp knows only registered methods. For others it is shown this one, whose requests it frames alike."""
_IN_A_LINE = re.compile(rb"[^\r\n]")
"""What a request begins with. Some clients send an empty line after content (RFC 9112 §2.2)."""
_BLANK_LINE = b"\r\n\r\n"
_REST_OF_BLANK_LINE = re.compile(rb"\r?\n(?:\r\n)?")
"""What a piece may begin with when the one before ended within a blank line."""


class Hit(NamedTuple):
    """A plain request, its ready answer, and the age of that."""

    plain: Plain
    found: Prepared
    age: int


class Receiver(Protocol):
    """Whom the requests are told."""

    @property
    def is_free(self) -> bool:
        """Whether a hit may go out at once."""

    def find_hit(self, target: bytes, fields: Fields) -> Hit | None:
        """A ready answer to a GET, perhaps. Else this very request is enqueued next, before `feed` returns.

        Of what may be refused, its target and how its content is framed are not checked yet.
        """

    def send_hit(self, hit: Hit, fields: Fields, begun: float) -> None:
        """Answer a request that is a plain hit, and has come to its end."""

    def enqueue(self, incoming: Incoming) -> None:
        """Answer a request in its turn. Its content, if it has any, is still on its way."""

    def pause_reading(self) -> None: ...

    def take_no_more(self) -> None:
        """The connection ends after the answers that are due."""


class Requests:  # pylint: disable=too-many-instance-attributes  # the state of one parser
    """The requests on one connection, one after the other."""

    def __init__(self, receiver: Receiver, max_content_bytes: int) -> None:
        self._receiver = receiver
        self._max_content_bytes = max_content_bytes
        self._parser = httptools.HttpRequestParser(self)
        self._partial = b""
        """The beginning of a method that is not known to end yet."""
        self._method: bytes | None = None
        """The method in whose place llhttp was shown another."""
        self._is_over = False
        self._lines: list[tuple[bytes, bytes]] = []
        self._head_bytes = 0
        self._hit: tuple[Hit, Fields] | None = None
        self._messages = 0
        self._answered: tuple[Plain, Fields] | None = None
        self._progress = (0, 0, 0)
        """How far the callbacks had come before the last piece of a request, which had..."""
        self._piece_bytes = 0
        """...so many bytes."""
        self._unfinished_bytes = 0
        """Of the pieces since then."""
        self.target = b""
        self.reading: Incoming | None = None
        """The request whose content comes next, or the end of it."""
        self.is_begun = False
        """Whether a part of a request is there whose other part is not."""
        self.begun = 0.0
        """When the first byte of the request came that is or was last read."""

    def feed(self, data: bytes, now: float) -> tuple[Plain, Fields] | None:
        """Read on; what these bytes come down to, and their fields, when they were one plain hit as a whole.

        Raises:
            BadRequest: they are no valid request; nothing more can be read.
        """
        is_new = not self.is_begun
        if is_new:
            self.begun = now
        else:
            self._bound_unfinished(len(data))
        self._messages, self._answered = 0, None
        if self._partial:
            data, self._partial, self.is_begun = self._partial + data, b"", False
        at = 0
        while at < len(data) and not self._is_over:
            if not self.is_begun:
                first = _IN_A_LINE.search(data, at)
                if first is None:
                    break
                at = self._begin(data, first.start())
            end = self._possible_end(data, at)
            self._parse(data[at:end])
            at = end
        return self._answered if is_new and self._messages == 1 and not self.is_begun else None

    def _bound_unfinished(self, size: int) -> None:
        """Let no field, nor a chunk's extension, go on for ever: llhttp tells of them only when they end.

        Before each further piece of a request, of `size` bytes, the former one is looked at: if nothing came
        of it, all of it may be kept. What comes in one piece, as plain hits do, never gets here.
        """
        content_bytes = self.reading.received_bytes if self.reading is not None else 0
        progress = (len(self.target), self._head_bytes, content_bytes)
        is_idle = progress == self._progress and not self._messages and not self._partial
        self._unfinished_bytes = self._unfinished_bytes + self._piece_bytes if is_idle else 0
        self._progress, self._piece_bytes = progress, size
        if self._unfinished_bytes > MAX_HEAD_BYTES:
            raise BadRequest(431, f"A field is longer than {MAX_HEAD_BYTES} bytes.")

    def _begin(self, data: bytes, at: int) -> int:
        """Show llhttp a method that it knows, where a request may begin; where to read on.

        Nothing of it is read as long as its method is incomplete.
        """
        if data.startswith(_KNOWN, at):
            return at
        match = _METHOD.match(data, at)
        if match is not None:
            self._method = match[1]
            self._parse(_STAND_IN)
            return match.end()
        rest = data[at:]
        if len(rest) <= _MAX_METHOD_BYTES and _METHOD.match(rest + b" "):
            self._partial, self.is_begun = rest, True
            return len(data)
        return at  # llhttp will say no

    def _possible_end(self, data: bytes, at: int) -> int:
        """The first place from `at` on where the request may end.

        Llhttp gets no more at once, so that a method that follows there is seen before llhttp sees it.
        """
        reading = self.reading
        if reading is not None and reading.length:
            return at + reading.length - reading.received_bytes
        rest = _REST_OF_BLANK_LINE.match(data, at)
        if rest is not None:
            return rest.end()
        found = data.find(_BLANK_LINE, at)
        return found + len(_BLANK_LINE) if found >= 0 else len(data)

    def _parse(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._pass_over_upgrade(data[upgrade.args[0] :])
        except httptools.HttpParserCallbackError as error:
            if isinstance(error.__context__, BadRequest):
                raise error.__context__ from None
            raise BadRequest(400, "The request cannot be read.") from error
        except httptools.HttpParserError as error:
            raise BadRequest(400, "The request is not valid HTTP/1.1.") from error

    def _pass_over_upgrade(self, rest: bytes) -> None:
        """Nobody here speaks another protocol: the answer is HTTP, and the last.

        What follows the head is still the request's content, though llhttp takes it for the other protocol's.
        """
        incoming = self.reading
        if incoming is None:
            self._end()
            return
        incoming.keep_alive = False
        length = b"Content-Length: %d" % (incoming.length or 0)
        framing = b"Transfer-Encoding: chunked" if incoming.chunked else length
        self._parser = httptools.HttpRequestParser(self)
        self._parse(b"POST / HTTP/1.1\r\n%b\r\n\r\n" % framing + rest)

    # ---- called by llhttp

    def on_message_begin(self) -> None:
        self.is_begun = True
        self._messages += 1
        self.target = b""
        self._lines = []
        self._head_bytes = 0

    def on_url(self, url: bytes) -> None:
        self.target += url
        if len(self.target) > MAX_TARGET_BYTES:
            raise BadRequest(414, f"The target is longer than {MAX_TARGET_BYTES} bytes.")

    def on_header(self, name: bytes, value: bytes) -> None:
        self._head_bytes += len(name) + len(value) + 4
        if self._head_bytes > MAX_HEAD_BYTES or len(self._lines) >= MAX_FIELDS:
            raise BadRequest(
                431, f"The fields are more than {MAX_FIELDS}, or longer than {MAX_HEAD_BYTES} bytes."
            )
        if self.reading is None:  # else it is a trailer, which is dropped (RFC 9110 §6.5.1)
            self._lines.append((name, value.rstrip(b" \t")))  # which is no part of it (RFC 9110 §5.5)

    def on_headers_complete(self) -> None:
        if self.reading is not None:
            return  # the stand-in for the head of a request with Upgrade
        parser = self._parser
        fields = {name.lower(): value for name, value in self._lines}
        if self._is_hit(fields):
            return
        method = self._method or parser.get_method()
        self._method = None
        incoming = Incoming(
            method=method.decode("latin-1"),
            target=self.target,
            lines=self._lines,
            fields=fields,
            version=parser.get_http_version(),
            keep_alive=parser.should_keep_alive(),
            begun=self.begun,
        )
        incoming.check(self._max_content_bytes)
        self.reading = incoming
        if incoming.has_content:
            self._receiver.enqueue(incoming)

    def _is_hit(self, fields: Fields) -> bool:
        """Look for a ready answer, before anything is built that only other requests need."""
        parser = self._parser
        is_ours = self._receiver.is_free and self._method is None and parser.get_method() == b"GET"
        host = fields.get(b"host")
        is_simple = len(fields) == len(self._lines) and host is not None and is_host(host)
        if not (is_ours and is_simple and parser.get_http_version() == "1.1" and parser.should_keep_alive()):
            return False
        hit = self._receiver.find_hit(self.target, fields)
        if hit is not None:
            self._hit = hit, fields
        return hit is not None

    def on_body(self, data: bytes) -> None:
        incoming = self.reading
        if incoming is None:
            return
        incoming.add(data, self._max_content_bytes)
        if incoming.refusal is not None:
            self._receiver.take_no_more()
        if incoming.is_ahead:
            self._receiver.pause_reading()

    def on_message_complete(self) -> None:
        if self.reading is not None and self.reading.has_content and self._parser.should_upgrade():
            return  # its content is still to come
        incoming, self.reading = self.reading, None
        self.target = b""
        found, self._hit = self._hit, None
        self._head_bytes = 0
        self.is_begun = False
        if found is not None:
            hit, fields = found
            self._answered = hit.plain, fields
            self._receiver.send_hit(hit, fields, self.begun)
        elif incoming is not None:
            incoming.finish()
            if not incoming.has_content:
                self._receiver.enqueue(incoming)
            if not incoming.keep_alive:
                self._end()

    def _end(self) -> None:
        """What follows is no request of ours."""
        self._is_over = True
        self._receiver.take_no_more()
