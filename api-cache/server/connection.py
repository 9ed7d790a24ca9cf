"""One client's connection: which request is answered when, and how it ends."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from typing import TYPE_CHECKING, cast

from observability.access import HIT
from origin.client import Content
from origin.errors import OriginError

from .incoming import BadRequest, Incoming, given_id, traceparent
from .parsing import Hit, Requests
from .sending import Sending, interim_head
from .wire import Wire

if TYPE_CHECKING:
    from httpcache.messages import Response
    from replies import Reply
    from store.levels import View
    from store.memory import Aged, Plain, Prepared

    from .application import Application, Fields
    from .remembered import Remembered

LEAVE_SECONDS = 10.0
"""How long a client may take to end its connection after its answer, where it may not have taken all of that,
or still sends."""
CLIENT_LEFT = 499
"""What is noted as the status of a request whose client left before its answer; nginx's number for it."""


class Connection(asyncio.Protocol):  # pylint: disable=too-many-instance-attributes
    """Plain hits are answered at once, out of memory or Redis, all else by a task, one after the other."""

    def __init__(self, app: Application, connections: set[Connection], remembered: Remembered) -> None:
        self._app = app
        self._connections = connections
        self._remembered = remembered
        self._wire = Wire()
        self._requests = Requests(self, app.max_request_bytes)
        self._queue: deque[Incoming] = deque()
        self._task: asyncio.Task[None] | None = None
        self._is_looking = False
        """Whether Redis was asked for a ready answer, without a task..."""
        self._sought: Incoming | None = None
        """...and the request that it is for, as soon as that is read."""
        self._last = False
        """Whether no further request is taken."""
        self._answered = time.monotonic()
        """When it last had an answer, or was made."""
        self._is_draining = False
        """Whether the next answer that begins is the last one, and says so."""
        self._is_awaited = False
        """When draining: whether an answer was under way, whose client has to end the connection, too."""
        self._left: float | None = None
        """When our own end of it was sent."""

    # ---- asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._wire.made(cast("asyncio.Transport", transport))
        self._connections.add(self)
        self._app.connections(len(self._connections))

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        self._wire.lost()
        self._connections.discard(self)
        self._app.connections(len(self._connections))
        if self._requests.reading is not None:
            self._requests.reading.abandon()
        if self._task is not None:
            self._task.cancel()

    def pause_writing(self) -> None:
        self._wire.pause()

    def resume_writing(self) -> None:
        self._wire.resume()

    def data_received(self, data: bytes) -> None:
        if self._last and not self._is_taking_content:
            return  # the connection ends after the answer under way
        now = time.monotonic()
        plain = self._remembered.get(data)
        if plain is not None and self.is_free and not self._requests.is_begun and self._again(plain, now):
            return
        try:
            answered = self._requests.feed(data, now)
        except BadRequest as why:
            self._refuse(why)
        else:
            if answered is not None:
                self._remembered.keep(data, *answered)

    @property
    def _is_taking_content(self) -> bool:
        """Whether a request is under way that needs more of its content."""
        reading = self._requests.reading
        is_under_way = reading is not None and reading.has_content and reading.refusal is None
        return is_under_way and self._left is None

    # ---- plain hits

    @property
    def is_free(self) -> bool:
        """Whether a hit may go out at once: no answer is under way, and the client takes what it gets."""
        return self._task is None and not self._is_looking and self._wire.is_free

    @property
    def _is_busy(self) -> bool:
        return self._task is not None or self._is_looking

    def _again(self, plain: Plain, now: float) -> bool:
        """Answer a request whose very bytes were a plain hit before, without an identifier of their own."""
        hit = self._app.hit(plain, now)
        if hit is not None:
            self._send_found(*hit, now, self._app.request_id())
        return hit is not None

    def find_hit(self, target: bytes, fields: Fields) -> Hit | None:
        if self._is_draining:
            return None  # a ready answer does not say that it is the last one
        plain = self._app.plain(target, fields)
        found = self._app.hit(plain, time.monotonic()) if plain is not None else None
        if plain is not None and found is not None:
            return Hit(plain, *found)
        self._begin_look(target, fields)
        return None

    def send_hit(self, hit: Hit, fields: Fields, begun: float) -> None:
        if not self._wire.is_lost:
            identifier = given_id(fields) or self._app.request_id()
            self._send_found(hit.found, hit.age, begun, identifier, traceparent(fields))

    def _send_found(
        self, found: Prepared, age: int, begun: float, identifier: str, trace: str | None = None
    ) -> None:
        body = found.body
        self._wire.write_whole(found.render(age) + identifier.encode() + b"\r\n\r\n", body)
        self._answered = now = time.monotonic()
        self._app.record(found.note, len(body), now - begun, identifier, trace)

    def pause_reading(self) -> None:
        self._wire.pause_reading()

    def take_no_more(self) -> None:
        self._last = True

    def enqueue(self, incoming: Incoming) -> None:
        if self._is_looking and self._sought is None:
            self._sought = incoming
            return
        self._queue.append(incoming)
        if not self._is_busy:
            self._begin_work()
        elif len(self._queue) > 1:
            self.pause_reading()

    # ---- first hits

    def _begin_look(self, target: bytes, fields: Fields) -> None:
        """Look in Redis for a ready answer; a task would be the larger part of it.

        Meanwhile the request is read to its end, which comes at once: it has no content, nothing in it can be
        refused any more, and its target is the one to look for.
        """
        if target.startswith(b"/") and b"#" not in target:
            self._is_looking = self._app.begin_look(target, fields, self._looked)

    def _looked(self, hit: Aged | None, view: View | None) -> None:
        incoming, self._sought, self._is_looking = self._sought, None, False
        assert incoming is not None  # noqa: S101  # see _begin_look
        identifier = given_id(incoming.fields) or self._app.request_id()
        if self._wire.is_lost:
            self._record(incoming, identifier, CLIENT_LEFT, "detail=client-left", 0)
        elif hit is None or self._is_last:
            incoming.view = view
            self._queue.appendleft(incoming)
            self._begin_work()
        else:
            self._send_first(incoming, *hit, identifier)
            if self._queue:
                self._begin_work()
            else:
                self._wire.resume_reading()

    def _send_first(self, incoming: Incoming, found: Prepared, age: int, identifier: str) -> None:
        """Send an answer of which nothing is noted yet."""
        self._wire.write_whole(found.render(age) + identifier.encode() + b"\r\n\r\n", found.body)
        self._record(incoming, identifier, found.status, HIT, len(found.body))
        self._answered = time.monotonic()

    # ---- one after the other

    def _begin_work(self) -> None:
        self._task = asyncio.get_running_loop().create_task(self._work())

    async def _work(self) -> None:
        try:
            while self._queue:
                incoming = self._queue.popleft()
                await self._answer(incoming)
                if not incoming.keep_alive or not incoming.complete or (self._last and not self._queue):
                    self._end_after(incoming)
                    return
        except OriginError:  # or the client's own fault
            # A head is out, so this is the only way left to say that the content is not whole.
            self._wire.abort()
        except BaseException:
            self._wire.abort()
            raise
        finally:
            self._task = None
        self._answered = time.monotonic()
        self._wire.resume_reading()

    def _end_after(self, incoming: Incoming) -> None:
        """End the connection, unless drain() does, in a way that lets the client have its answer.

        Were it closed while the client sends, its system would drop what it has not read yet (RFC 9112 §9.6).
        """
        if self._is_draining:
            self._last = self._is_awaited = True
        elif incoming.complete:
            self._wire.close()
        else:
            self._leave(time.monotonic())

    @property
    def _is_last(self) -> bool:
        """Whether an answer that begins now is the last one."""
        return (self._last or self._is_draining) and not self._queue

    async def _answer(self, incoming: Incoming) -> None:
        identifier = given_id(incoming.fields) or self._app.request_id()
        hit, reply = None, None
        try:
            hit, view = await self._look(incoming)
            if hit is None:
                reply = await self._reply(incoming, view, identifier)
        except asyncio.CancelledError:
            self._record(incoming, identifier, CLIENT_LEFT, "detail=client-left", 0)
            raise
        if reply is not None:
            incoming.is_answered = True
            await self._send(incoming, reply, identifier)
        elif hit is not None:
            self._send_first(incoming, *hit, identifier)
            await self._wire.drained(self._app.patience.stall)

    async def _look(self, incoming: Incoming) -> tuple[Aged | None, View | None]:
        """A ready answer that is not in memory, unless it is to be the last and say so; and what was seen."""
        fields = incoming.plain_fields if incoming.is_simple and incoming.refusal is None else None
        if incoming.view is not None or fields is None:
            return None, incoming.view
        hit, view = await self._app.look(incoming.target, fields)
        return None if self._is_last else hit, view

    async def _reply(self, incoming: Incoming, view: View | None, identifier: str) -> Reply:
        """What the application says, or that it is refused, which may show only as its content comes."""
        refused = self._refusal(incoming)
        if refused is not None:
            return refused
        reply = await self._ask(incoming, view, identifier)
        refused = self._refusal(incoming)
        if refused is None:
            return reply
        if not isinstance(reply.content, bytes):
            await reply.content.aclose()
        return refused

    def _refusal(self, incoming: Incoming) -> Reply | None:
        why = incoming.refusal
        return None if why is None else self._app.refuse(why.status, why.detail)

    async def _ask(self, incoming: Incoming, view: View | None, identifier: str) -> Reply:
        content = None
        if incoming.has_content:
            parts = incoming.content(self._wire, self._app.patience.stall)
            content = Content(incoming.length, parts)
        request = incoming.request(identifier, lambda interim: self._send_interim(incoming, interim))
        return await self._app.respond(request, incoming.plain_fields, content, view)

    def _send_interim(self, incoming: Incoming, interim: Response) -> None:
        """Hand on what precedes the final answer, if the client can read it, and takes what it gets.

        The origin may go on asking for this client, or repeat an answer, when it already has the head of one.
        """
        if incoming.version == "1.1" and not incoming.is_answered and self._wire.is_free:
            self._wire.write_whole(interim_head(interim), b"")

    async def _send(self, incoming: Incoming, reply: Reply, identifier: str) -> None:
        sending = Sending(incoming, reply)
        if sending.ends_connection or self._is_last:
            incoming.keep_alive = False
        is_last = not incoming.keep_alive
        try:
            await sending.send(self._wire, identifier, self._app.patience.stall, is_last=is_last)
        finally:
            self._record(incoming, identifier, reply.status, reply.cache, sending.size)

    def _record(self, incoming: Incoming, identifier: str, status: int, cache: str, size: int) -> None:
        note = self._app.note(incoming.method, incoming.target.decode("latin-1"), status, cache)
        seconds = time.monotonic() - incoming.begun
        self._app.record(note, size, seconds, identifier, traceparent(incoming.fields))

    # ---- refusals

    def _refuse(self, why: BadRequest) -> None:
        """Answer what cannot be read, after the answers that are still due, and read nothing more."""
        reading = self._requests.reading
        if reading is not None and reading.has_content:
            reading.refuse(why)  # its task ends it
        elif not self._last:  # else it comes after the last request
            self.enqueue(self._unreadable(why))
        self.take_no_more()

    def _unreadable(self, why: BadRequest) -> Incoming:
        """What stands for a request whose head is refused; more of it may come."""
        target, begun = self._requests.target[:200] or b"-", self._requests.begun
        return Incoming("-", target, [], {}, "1.1", keep_alive=False, begun=begun, refusal=why)

    # ---- for the worker

    def expire(self, now: float) -> None:
        """Cut off whoever is too slow; called from time to time."""
        if self._wire.is_lost or self._is_busy:
            return
        requests, patience = self._requests, self._app.patience
        if self._wire.is_taking(now):
            if now - self._wire.taken > patience.stall:
                self._wire.abort()
        elif self._left is not None:
            self._leave(now)
        elif requests.is_begun:
            if now - requests.begun > patience.head:
                self._refuse(BadRequest(408, "The request did not come to its end in time."))
        elif now - max(self._answered, self._wire.taken) > patience.idle:
            self._wire.close()

    def drain(self, now: float, *, is_over: bool) -> bool:
        """Begin one more answer at most, none when `is_over`; True when the client has taken all there is.

        A client with a persistent connection may be about to use it, and many take its end for a failure.
        So while there is time, an idle one gets an answer, which says that it is the last (RFC 9112 §9.6).

        The kernel goes on sending what it got from us, but not in a container, whose network ends with it.
        Nor is what was acknowledged there at the client yet: the engine's proxy of a published port may hold
        megabytes, and ends with the container, too. So whoever has had an answer since draining began is told
        its end, and has LEAVE_SECONDS to end the connection as well.
        """
        if self._wire.is_lost:
            return True
        is_under_way = self._is_busy or self._wire.untaken_bytes > 0
        self._is_draining = True
        self._is_awaited = self._is_awaited or is_under_way or self._left is not None
        self._last = self._last or is_over
        if self._last and not is_under_way:
            self._leave(now)
        return self._wire.is_lost

    def _leave(self, now: float) -> None:
        """Tell the client that nothing more comes, and wait for its end; what it sends until then is lost."""
        is_needless = self._is_draining and not self._is_awaited
        if is_needless or (self._left is not None and now - self._left > LEAVE_SECONDS):
            self._wire.close()
        elif self._left is None:
            self._last, self._left = True, now
            self._wire.end()
            self._wire.resume_reading()
