"""COPY straight into the client's socket: no answer is ever held in memory.

The thread that reads from Postgres is the one that writes to the client, by the `write` callable of WSGI
(PEP 3333): a slow reader slows Postgres down, and nothing piles up between the two.
"""

import errno
import io
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from flask import Response, current_app
from werkzeug.wsgi import ClosingIterator

import problems
from database import ClientGone, Snapshot, Statement, Unavailable
from departures import client_of
from formats import Field, Format
from observability import LOG, ROUTE, ROWS

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

BUFFER_BYTES = 1 << 16

# Sends the head, with a Content-Length if that is known by then, and gives back what sends the body.
Start = Callable[[int | None], Callable[[bytes], object]]


class _Body(io.RawIOBase):
    """Frames what COPY writes, and puts the response's start off until there is something to send.

    Until then an error can still become a problem document, and a short body gets a Content-Length.
    """

    def __init__(self, form: Format, columns: Sequence[Field], start: Start) -> None:
        self._form = form
        self._head = form.head(columns)
        self._rewritten = form.rewriter(columns)
        self._start = start
        self._send: Callable[[bytes], object] | None = None
        self._last = self._ended = False
        self.given_up = False

    @property
    def started(self) -> bool:
        return self._send is not None

    def writable(self) -> bool:
        return True

    def write(self, data: Any, /) -> int:
        if not self.given_up:  # a BufferedWriter that is collected tries once more
            self._pass_on(bytes(data))
        return len(data)

    def _pass_on(self, part: bytes) -> None:
        part = self._rewritten(part)
        if not self.started:
            part = self._head + part[self._form.skipped :]
        if self._last:
            part += self._form.closing
            self._ended = True
        if self._send is None:
            self._send = self._start(len(part) if self._last else None)
        if part:  # an empty chunk would end the response
            self._send(part)

    def end(self, buffered: io.BufferedIOBase) -> None:
        """Send what is left."""
        self._last = True
        buffered.flush()
        if not self._ended:
            self._pass_on(b"")


@dataclass(frozen=True, slots=True)
class Rows:
    """What is to be read, and the columns that it has."""

    statement: Statement
    columns: Sequence[Field]

    def bind(self, values: Mapping[str, Any]) -> "Rows":
        return replace(self, statement=self.statement.bind(values))


class CopyResponse(Response):
    """A response whose body is what COPY makes of a SELECT."""

    def __init__(self, snapshot: Snapshot, rows: Rows, form: Format) -> None:
        super().__init__(iter(()), content_type=form.content_type)
        self._snapshot = snapshot
        self._rows = rows
        self._form = form

    def __call__(self, environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        if environ["REQUEST_METHOD"] == "HEAD":
            return super().__call__(environ, start_response)

        def start(length: int | None) -> Callable[[bytes], object]:
            if length is not None:
                self.content_length = length
            return start_response(self.status, self.get_wsgi_headers(environ).to_wsgi_list())

        body = _Body(self._form, self._rows.columns, start)
        with ExitStack() as unless_whole:
            unless_whole.callback(self.close)
            try:
                self._stream(environ, body)
            except (ClientGone, OSError) as error:
                raise _broken_off() from error
            except Unavailable as error:
                if body.started:
                    LOG.error("answer broken off: %s", error)
                    raise _broken_off() from error
                problem = current_app.process_response(problems.of_unavailable(error))
                return problem(environ, start_response)
            finally:
                body.given_up = True
            unless_whole.pop_all()
        return ClosingIterator((), self.close)

    def _stream(self, environ: "WSGIEnvironment", body: _Body) -> None:
        client = client_of(environ)
        if client is not None:
            client.settimeout(current_app.config["SEND_TIMEOUT"])
        buffered = io.BufferedWriter(body, BUFFER_BYTES)
        count = self._snapshot.copy(self._rows.statement, self._form.copy_options, buffered)
        ROWS.labels(environ.get(ROUTE, "none")).inc(count)
        body.end(buffered)


def _broken_off() -> OSError:
    # What the server takes for a lost connection: it closes, without the last chunk (RFC 9112 §8).
    return ConnectionResetError(errno.ECONNRESET, "answer broken off")
