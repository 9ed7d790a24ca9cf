"""What happens to a request: look up, serve, validate, fetch, pass on, invalidate. The rules are httpcache's.

One event loop runs all of a worker's requests, so nothing here needs a lock; whatever waits is a coroutine.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeVar, assert_never, cast

import coding
import problems
from httpcache import fields, freshness, invalidation, ranges, reuse, status, storing, validation, variants
from httpcache.messages import Entry, Exchange, Headers, Policy, Request
from httpcache.reuse import Forward, Fwd, Serve, Unsatisfiable, Validate
from origin.errors import OriginAway, OriginBroken, OriginError, OriginTimeout
from sharing.buffer import Budget, Parts, Reader
from sharing.fetch import IN_THREAD_BYTES, Fetch, Storing
from sharing.flights import Flight, Flights, LookAgain, Outcome, Validated
from store.breaker import StoreUnavailable
from store.memory import Memory, Page
from store.stored import Stored, key_of_request, select, target_hash

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Coroutine

    from observability.counters import Counters
    from origin.answer import Answer
    from origin.client import Content, Origin
    from store.shared import Store

KEPT_OBJECTS = 2
"""How many of the largest objects may be kept in memory while they are stored."""
FAILING_SECONDS = 1.0
"""How often an origin that failed is asked again while stale entries serve."""
_UNKEYED = frozenset(
    (
        "forwarded", "x-host", "x-backend-host", "x-original-url", "x-original-host", "x-rewrite-url",
        "x-http-method-override", "x-http-method", "x-method-override", "x-url-scheme", "front-end-https",
        "x-real-ip", "x-client-ip", "x-cluster-client-ip", "client-ip", "true-client-ip", "cf-connecting-ip",
        "proxy",
    )
)  # fmt: skip
"""Fields by which some origins change their answers though they are no part of the key. They stay here, as
do all whose names begin with X-Forwarded."""
_NEVER_SENT = ("host", "content-length", "expect")
_NO_CONTENT = frozenset((204, 304))


T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer for a client. `length` of streamed content is None when it shows only at its end."""

    status: int
    headers: Headers
    content: bytes | Parts
    length: int | None
    cache: str
    """The outcome as the log has it: Cache-Status without this cache's name and without the ttl."""
    page: Page | None = None
    stored: Stored | None = None
    """What a plain hit came from, for the short path to remember."""


@dataclass(frozen=True, slots=True)
class View:
    """What is stored of a request's target, as seen at one moment."""

    key: str
    page: Page
    generation: bytes | None = None
    uncacheable: bool = False
    storable: bool = True
    """Redis is there to store into."""
    exact: bool = True
    """Seen in Redis just now, so that `generation` holds; not in memory."""

    @property
    def entries(self) -> tuple[Entry, ...]:
        return tuple(each.entry for each in self.page.stored)


@dataclass(kw_only=True)
class Proxy:  # pylint: disable=too-many-instance-attributes
    """The cache between clients and one origin. Durations are in seconds."""

    store: Store
    origin: Origin
    memory: Memory
    policy: Policy
    counters: Counters
    clock: Callable[[], float]
    max_object_bytes: int
    collapse_wait: float
    _failing_until: float = 0.0
    """0 while the origin is well; else when the background may ask it again."""
    _answered_at: float = 0.0

    def __post_init__(self) -> None:
        self._reads: dict[str, asyncio.Task[Any]] = {}
        self._budget = Budget(KEPT_OBJECTS * self.max_object_bytes)
        self._flights = Flights(self.store, self.counters, self.collapse_wait)

    async def respond(self, request: Request, content: Content | None = None) -> Reply:
        """The answer to a request, whatever happens; only its content may still fail, with OriginError."""
        try:
            if request.method not in ("GET", "HEAD") or content is not None:
                return await self._pass_on(request, content)
            return await self._look_up(request)
        except OriginError as error:
            return _failure(error, Fwd.BYPASS if request.method in ("GET", "HEAD") else Fwd.METHOD)

    # ---- look up

    async def _look_up(self, request: Request, *, again: bool = True) -> Reply:
        view = await self._view(request.target)
        decision = reuse.decide(request, view.entries, self.clock(), self.policy)
        match decision:
            case Serve():
                reply = await self._serve(request, view.key, view.page, decision)
                if reply is None:  # its body is gone
                    self.memory.drop(view.key)
                    return await self._ask(
                        request, replace(view, uncacheable=True), Fwd.MISS, None, again=False
                    )
                if decision.revalidate:
                    self._refresh(request, view, decision.entry)
                return reply
            case Validate() | Forward():
                return await self._ask(request, view, decision.fwd, decision.entry, again=again)
            case Unsatisfiable():
                member = status.cache_status(fwd=decision.fwd, detail="only-if-cached")
                return problem(504, "No stored response may answer this request.", member)
            case _:
                assert_never(decision)

    async def _view(self, target: str) -> View:
        key = target_hash(target)
        usable = await self.memory.is_usable()
        page = self.memory.get(key) if usable else None
        if page is not None:
            return View(key, page, exact=False)
        return await self._once(key, lambda: self._read(key, target, for_memory=usable))

    async def _read(self, key: str, target: str, *, for_memory: bool = False) -> View:
        begun = self.memory.begin()
        try:
            found = await self.store.find(key)
        except StoreUnavailable:
            return View(key, Page(target, ()), storable=False)
        page = Page(target, found.stored, self.memory.bodies(key, found.stored))
        if for_memory and found.stored:
            self.memory.put(key, page, begun)
        return View(key, page, found.generation, found.uncacheable)

    async def _once(self, name: str, read: Callable[[], Coroutine[None, None, T]]) -> T:
        """Read something from Redis once for all who want it at this moment."""
        task = self._reads.get(name)
        if task is None:
            task = self._reads[name] = asyncio.create_task(read())
            task.add_done_callback(lambda done: self._forget_read(name, done))
        return cast("T", await asyncio.shield(task))

    def _forget_read(self, name: str, task: asyncio.Task[Any]) -> None:
        if self._reads.get(name) is task:
            del self._reads[name]

    # ---- serve

    async def _serve(
        self, request: Request, key: str, page: Page, decision: Serve, member: str | None = None
    ) -> Reply | None:
        """Answer out of the store, by default as a hit; None when the body cannot be had any more."""
        stored = select(page.stored, decision.entry)
        chosen = coding.negotiate(request.headers.get("accept-encoding"), stored.bodies)
        headers = coding.coded_headers(decision.entry.headers, chosen, coded=stored.is_coded)
        tag = decision.entry.etag
        shown = replace(
            decision.entry,
            headers=headers.without(("content-length",)),
            etag=coding.own_tag(tag, chosen) if tag else None,
        )
        plain = member is None and not decision.stale
        member = member or status.cache_status(hit=True, ttl=decision.ttl)
        headers = _passed(status.served_headers(shown, decision.age), member)
        outcome = _outcome(member)
        if validation.not_modified(request, shown):
            return Reply(304, validation.not_modified_headers(headers), b"", None, outcome)
        length = stored.bodies[chosen].length if chosen in stored.bodies else stored.length
        part = ranges.select(request, shown, length)
        if isinstance(part, ranges.NotSatisfiable):
            return problem(
                416, "The range lies outside of the content.", member, ("Content-Range", part.content_range)
            )
        if request.method == "HEAD":
            return Reply(stored.entry.status, headers, b"", length, outcome)
        content = await self._content(key, page, stored, chosen, length)
        if content is None:
            return None
        if part is not None:
            return _partial(headers, content, part, outcome)
        source = (page, stored) if plain and isinstance(content, bytes) else (None, None)
        return Reply(stored.entry.status, headers, content, length, outcome, *source)

    async def _content(
        self, key: str, page: Page, stored: Stored, chosen: str, length: int
    ) -> bytes | Parts | None:
        name = f"{stored.body_id}:{chosen}"
        held = page.bodies.get(name)
        if held is not None:
            return held
        source = chosen if chosen in stored.bodies else "zstd"
        with contextlib.suppress(StoreUnavailable):
            if max(length, stored.bodies[source].length) > self.memory.max_body_bytes:
                first = await self.store.block(key, stored, source, 0)
                return (
                    None
                    if first is None
                    else self._stream(key, stored, source, first, decode=source != chosen)
                )
            data = await self._once(name, lambda: self._body(key, stored, source, chosen))
            if data is not None and len(data) == length:
                self.memory.add_body(key, page, name, data)
                return data
        return None

    async def _body(self, key: str, stored: Stored, source: str, chosen: str) -> bytes | None:
        data = await self.store.body(key, stored, source)
        return await _decompress(data, source) if data is not None and source != chosen else data

    async def _stream(
        self, key: str, stored: Stored, source: str, first: bytes, *, decode: bool
    ) -> AsyncGenerator[bytes]:
        """A body too large to hold, block by block."""
        decompressor = coding.Decompressor(source if decode else "identity")
        block: bytes | None = first
        number = 0
        while block is not None:
            data = decompressor.feed(block)
            if data:
                yield data
            number += 1
            if number == len(stored.bodies[source].checksums):
                return
            try:
                block = await self.store.block(key, stored, source, number)
            except StoreUnavailable:
                block = None
        raise OriginError("The stored content was lost while it was sent.")

    # ---- ask the origin

    async def _ask(
        self, request: Request, view: View, fwd: Fwd, entry: Entry | None, *, again: bool
    ) -> Reply:
        """Get an answer from the origin; from the store, though stale, should it fail and may that be."""
        if entry is not None and self._is_failing() and self._may_serve_stale(request, entry):
            reply = await self._serve_stale(request, view, entry)
            if reply is not None:
                self._refresh(request, view, entry)
                return reply
        try:
            outcome, own = await self._outcome(request, view, fwd, entry)
            return await self._answer(request, view, fwd, entry, outcome, own=own, again=again)
        except OriginError as error:
            reply = await self._serve_stale(request, view, entry) if entry is not None else None
            return reply or _failure(error, fwd)

    async def _outcome(
        self, request: Request, view: View, fwd: Fwd, entry: Entry | None
    ) -> tuple[Outcome | None, bool]:
        if not _is_shared(request, view, fwd, entry):
            return await self._fetch(request, view, entry), True
        name = key_of_request(request.target, view.page.stored, request.headers)
        return await self._flights.join(name, lambda flight: self._lead(flight, request, entry))

    async def _answer(
        self, request: Request, view: View, fwd: Fwd, entry: Entry | None, outcome: Outcome | None, *, own:
        bool, again: bool
    ) -> Reply:  # fmt: skip
        """What came of the question, as this client's answer."""
        if isinstance(outcome, Fetch) and not own and outcome.is_being_stored and not outcome.is_shareable:
            outcome = await self._stored(outcome)
        if isinstance(outcome, LookAgain) and again:
            return await self._look_up(request, again=False)
        if isinstance(outcome, Validated) and (
            own or variants.matches(outcome.stored.entry, request.headers)
        ):
            reply = await self._serve_validated(request, view.key, fwd, outcome, collapsed=not own)
            if reply is not None:
                return reply
        fetch, place, own = await self._place(request, view, outcome, own=own)
        with contextlib.ExitStack() as unless_taken:
            unless_taken.callback(place.leave)
            reply = await self._instead(request, view, entry, fetch) if entry is not None else None
            if reply is None:
                if fetch.is_bodiless:
                    await fetch.ended()  # with the head a client has all of it, so store it first
                reply = self._reply(request, fwd, fetch, place, collapsed=not own)
                unless_taken.pop_all()
            return reply

    async def _place(
        self, request: Request, view: View, outcome: Outcome | None, *, own: bool
    ) -> tuple[Fetch, Reader, bool]:
        """A place at the beginning of what came, taken before anything else can happen to it.

        Where there is none, or the answer is not for this client, it gets one of its own.
        """
        if isinstance(outcome, Fetch) and (own or _may_share(request, outcome)):
            place = outcome.reader()
            if place is not None:
                return outcome, place, own
        fetch = await self._fetch(request, view, None)
        place = fetch.reader() if isinstance(fetch, Fetch) else None
        if not isinstance(fetch, Fetch) or place is None:
            raise OriginBroken("The origin answered 304 to a request without a condition.")
        return fetch, place, True

    async def _instead(self, request: Request, view: View, entry: Entry, fetch: Fetch) -> Reply | None:
        """The stale answer, should the origin state an error; raises when nothing of the content comes."""
        if fetch.exchange.response.status in reuse.FAILURES:
            return await self._serve_stale(request, view, entry, fetch.exchange.response.status)
        if self._may_serve_stale(request, entry):
            await fetch.begun()
        return None

    async def _stored(self, fetch: Fetch) -> LookAgain | None:
        """Wait, shortly, for the end of what came too far to be joined; then it is in the store."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self.collapse_wait):
                await fetch.ended()
                return LookAgain()
        return None

    async def _lead(self, flight: Flight, request: Request, entry: Entry | None) -> Outcome:
        """Ask for all who wait, once no other process does."""
        latest: list[View] = []

        async def settled() -> bool:
            latest[:] = [await self._read(target_hash(request.target), request.target)]
            return latest[0].uncacheable or self._serves(request, latest[0])

        if not await self._flights.lock(flight, settled):
            return LookAgain()
        view = await self._read(target_hash(request.target), request.target)
        if self._serves(request, view):
            return LookAgain()
        selected = variants.select(view.entries, request.headers)
        return await self._fetch(request, view, selected or entry, flight)

    def _serves(self, request: Request, view: View) -> bool:
        decision = reuse.decide(request, view.entries, self.clock(), self.policy)
        return isinstance(decision, Serve) and not decision.stale

    async def _fetch(
        self, request: Request, view: View, entry: Entry | None, flight: Flight | None = None
    ) -> Outcome:
        """Ask the origin: for an answer that all may share, for a validation, or just for this client."""
        if not view.exact:
            view = replace(await self._read(target_hash(request.target), request.target), page=view.page)
        validates = entry is not None and reuse.may_validate(request, entry)
        exchange, answer = await self._exchange(
            _outgoing(request, entry if validates else None, shared=flight is not None)
        )
        if exchange.response.status == 304 and validates and entry is not None:
            answer.close()
            return await self._freshen(request, view, entry, exchange, flight)
        exchange = replace(exchange, request=request)
        if request.method == "HEAD":
            await self._heed_head(view, exchange)
        done = (lambda: self._flights.end(flight)) if flight is not None else _nothing
        fetch = Fetch(answer, exchange, self._storing(view, exchange), self._budget, done)
        fetch.refusal = storing.refusal(request, exchange.response, self.policy, exchange.response_time)
        if fetch.refusal is not None and flight is not None and request.method == "GET":
            with contextlib.suppress(StoreUnavailable):
                await self.store.mark_uncacheable(view.key)
        return fetch

    async def _exchange(self, request: Request, content: Content | None = None) -> tuple[Exchange, Answer]:
        asked = self.clock()
        try:
            answer = await self.origin.send(request, content)
        except OriginError as error:
            self.counters.add(f"origin_errors {_kind(error)}")
            self._note_failure(error, asked)
            raise
        self.counters.add(f"origin_requests {answer.response.status // 100}xx")
        # An error that it states is about one resource, and costs no waiting: others are still asked for.
        self._failing_until = 0.0
        self._answered_at = self.clock()
        return Exchange(request, answer.response, asked, self.clock()), answer

    def _note_failure(self, error: OriginError, asked: float) -> None:
        """Take the origin for failing when nobody can reach it, or nobody got an answer for a whole timeout.

        Whatever else goes wrong may be the fault of one resource.
        """
        is_silent = isinstance(error, OriginTimeout) and self._answered_at < asked
        if isinstance(error, OriginAway) or is_silent:
            self._failing_until = time.monotonic() + FAILING_SECONDS

    def _storing(self, view: View, exchange: Exchange) -> Storing | None:
        refusal = storing.refusal(exchange.request, exchange.response, self.policy, exchange.response_time)
        if refusal is not None:
            self.counters.add(f"not_stored {refusal.value}")
            return None
        if not view.storable:
            return None
        entry = storing.entry(exchange, self.policy)
        codec = coding.Compressor() if coding.compressible(exchange.response) else coding.Plain()
        writer = self.store.writer(view.key, view.generation)
        return Storing(writer, entry, storing.retention(entry, self.policy), codec, self.max_object_bytes)

    async def _freshen(
        self, request: Request, view: View, entry: Entry, exchange: Exchange, flight: Flight | None
    ) -> Outcome:
        """A 304 updates all that it is about; other processes see it as soon as Redis does."""
        if not validation.confirms(exchange.response, entry):
            return await self._fetch(request, view, None, flight)
        stored = [
            replace(each, entry=validation.freshen(each.entry, exchange, self.policy))
            if each.entry is entry or _has_same_tag(each.entry, entry)
            else each
            for each in view.page.stored
        ]
        page = Page(view.page.target, tuple(stored), view.page.bodies)
        self.memory.changed(view.key)
        for before, after in zip(view.page.stored, stored, strict=True):
            if after is not before:
                await self._put_back(view, after, exchange)
        return Validated(
            page, next(new for old, new in zip(view.page.stored, stored, strict=True) if old.entry is entry)
        )

    async def _put_back(self, view: View, stored: Stored, exchange: Exchange) -> None:
        request = replace(exchange.request, method="GET")
        with contextlib.suppress(StoreUnavailable):
            response, arrival = stored.entry.response, exchange.response_time
            if storing.refusal(request, response, self.policy, arrival) is None:
                ttl = storing.retention(stored.entry, self.policy)
                await self.store.put(view.key, stored, view.generation or b"", ttl)
            else:
                await self.store.drop([view.key])

    async def _heed_head(self, view: View, exchange: Exchange) -> None:
        """An answer to HEAD freshens what is stored, or shows that it is out of date (§4.3.5)."""
        entry = variants.select(view.entries, exchange.request.headers)
        if entry is None:
            return
        stored = select(view.page.stored, entry)
        fresh = validation.freshen_by_head(entry, exchange, self.policy, stored.length)
        if fresh is None:
            await self._invalidate((exchange.request.target,))
        elif fresh is not entry:
            self.memory.changed(view.key)
            await self._put_back(view, replace(stored, entry=fresh), exchange)

    # ---- answers

    async def _serve_validated(
        self, request: Request, key: str, fwd: Fwd, found: Validated, *, collapsed: bool
    ) -> Reply | None:
        entry = found.stored.entry
        decision = Serve(entry, freshness.age(entry, self.clock()))
        member = status.cache_status(fwd=fwd, fwd_status=304, stored=True, collapsed=collapsed)
        return await self._serve(request, key, found.page, decision, member)

    async def _serve_stale(
        self, request: Request, view: View, entry: Entry, fwd_status: int | None = None
    ) -> Reply | None:
        """The stored answer in place of a failing origin's; None where that may not be."""
        if not self._may_serve_stale(request, entry):
            return None
        decision = Serve(entry, freshness.age(entry, self.clock()), stale=True)
        member = status.cache_status(
            fwd=Fwd.STALE, fwd_status=fwd_status, ttl=decision.ttl, detail="stale-if-error"
        )
        return await self._serve(request, view.key, view.page, decision, member)

    def _may_serve_stale(self, request: Request, entry: Entry) -> bool:
        return reuse.may_serve_stale(request, entry, self.clock(), self.policy)

    def _is_failing(self) -> bool:
        return self._failing_until > 0.0

    def _refresh(self, request: Request, view: View, entry: Entry) -> None:
        """Ask the origin in the background, unless someone does already or it has just failed."""
        name = key_of_request(request.target, view.page.stored, request.headers)
        if name in self._flights or time.monotonic() < self._failing_until:
            return
        plain = replace(
            request, method="GET", headers=request.headers.without((*validation.CONDITIONS, "range"))
        )
        if self._is_failing():
            self._failing_until = time.monotonic() + FAILING_SECONDS
        self._flights.start(name, lambda flight: self._lead(flight, plain, entry))

    def _reply(
        self, request: Request, fwd: Fwd, fetch: Fetch, place: Reader, *, collapsed: bool = False
    ) -> Reply:
        """The origin's answer as it passes."""
        response, entry = fetch.exchange.response, fetch.entry
        refusal = fetch.refusal.value if fetch.refusal is not None else None
        member = status.cache_status(fwd=fwd, stored=entry is not None, collapsed=collapsed, detail=refusal)
        headers = fields.end_to_end(response.headers).without(("content-length",))
        if "date" not in headers:
            headers = headers.extended((("Date", fields.format_date(fetch.exchange.response_time)),))
        if entry is not None:
            headers = coding.coded_headers(headers, "identity", coded=fetch.is_coded)
        if collapsed and entry is not None:
            headers = headers.replaced("Age", str(int(freshness.age(entry, self.clock()))))
        headers = _passed(headers, member)
        if _is_not_modified(request, fetch, self.policy):
            place.leave()
            return Reply(304, validation.not_modified_headers(headers), b"", None, _outcome(member))
        if request.method == "HEAD" or response.status in _NO_CONTENT:
            place.leave()
            return Reply(response.status, headers, b"", fetch.length, _outcome(member))
        return Reply(response.status, headers, place, fetch.length, _outcome(member))

    # ---- pass on, invalidate

    async def _pass_on(self, request: Request, content: Content | None) -> Reply:
        """A request that nothing stored answers. What it changes is forgotten before its answer goes out."""
        fwd = Fwd.METHOD if request.method not in ("GET", "HEAD") else Fwd.BYPASS
        headers = fields.one_hop_less(request.method, request.headers)
        if headers is None:
            return _last_hop(request)
        request = replace(request, headers=headers)
        exchange, answer = await self._exchange(_outgoing(request, None, shared=False), content)
        exchange = replace(exchange, request=request)
        await self._invalidate(invalidation.targets(request, exchange.response, self.origin.authority))
        view = None
        arrival = exchange.response_time
        refusal = storing.refusal(request, exchange.response, self.policy, arrival)
        if request.method == "POST" and refusal is None:
            view = await self._read(target_hash(request.target), request.target)
        to_store = self._storing(view, exchange) if view else None
        fetch = Fetch(answer, exchange, to_store, self._budget, _nothing)
        place = fetch.reader()
        assert place is not None  # noqa: S101  # nobody else knows of it
        return self._reply(request, fwd, fetch, place)

    async def _invalidate(self, targets: tuple[str, ...]) -> None:
        keys = [target_hash(target) for target in targets]
        for key in keys:
            self.memory.changed(key)
            self._reads.pop(key, None)
            self._flights.forget(key)
            self.counters.add("invalidations")
        if keys:
            with contextlib.suppress(StoreUnavailable):
                await self.store.drop(keys)


def _nothing() -> None:
    pass


def _kind(error: OriginError) -> str:
    return {OriginTimeout: "timeout", OriginBroken: "broken"}.get(type(error), "unreachable")


def _can_validate(entry: Entry | None) -> bool:
    return entry is not None and entry.has_validator


def _is_shared(request: Request, view: View, fwd: Fwd, entry: Entry | None) -> bool:
    """Whether one answer may serve all who ask now: not those who want it newly made, or a part of it."""
    if request.method != "GET" or view.uncacheable or fwd not in (Fwd.MISS, Fwd.VARY_MISS, Fwd.STALE):
        return False
    if "range" in request.headers and not _can_validate(entry):
        return False
    return "no-store" not in reuse.request_directives(request)


def _has_same_tag(one: Entry, other: Entry) -> bool:
    return one.etag is not None and one.etag == other.etag and not one.etag.startswith("W/")


def _may_share(request: Request, fetch: Fetch) -> bool:
    return fetch.is_shareable and fetch.entry is not None and variants.matches(fetch.entry, request.headers)


def _is_not_modified(request: Request, fetch: Fetch, policy: Policy) -> bool:
    """Whether a whole answer, asked for without the client's conditions, makes its condition false."""
    if fetch.exchange.response.status != 200 or request.method not in ("GET", "HEAD"):
        return False
    return validation.not_modified(request, fetch.entry or storing.entry(fetch.exchange, policy))


def _outgoing(request: Request, entry: Entry | None, *, shared: bool) -> Request:
    """The request as the origin gets it: nothing of this connection, nothing that the key does not hold."""
    headers = (
        validation.condition(request, entry) if entry is not None else fields.end_to_end(request.headers)
    )
    if shared and entry is None:
        headers = headers.without((*validation.CONDITIONS, "range"))
    is_stored = request.method in ("GET", "HEAD")
    lines = [
        (
            name,
            coding.origin_tags(value) if name.lower() in ("if-none-match", "if-match", "if-range") else value,
        )
        for name, value in headers.without(_NEVER_SENT)
        if not (is_stored and _is_unkeyed(name))
    ]
    return replace(request, headers=Headers((*lines, status.via("1.1"))))


def _is_unkeyed(name: str) -> bool:
    # CGI, and so WSGI, cannot tell `_` from `-`.
    plain = name.lower().replace("_", "-")
    return plain.startswith("x-forwarded") or plain in _UNKEYED


def _passed(headers: Headers, member: str) -> Headers:
    return status.with_cache_status(headers.extended((status.via("1.1"),)), member)


def _outcome(member: str) -> str:
    """What the log says of a Cache-Status member; the ttl would make every line different."""
    parts = member.split("; ")[1:]
    return "; ".join(part for part in parts if not part.startswith("ttl="))


def _partial(headers: Headers, content: bytes | Parts, part: ranges.Slice, outcome: str) -> Reply:
    headers = headers.extended((("Content-Range", part.content_range),))
    size = part.last - part.first + 1
    if isinstance(content, bytes):
        return Reply(206, headers, content[part.first : part.last + 1], size, outcome)
    return Reply(206, headers, _sliced(content, part), size, outcome)


async def _sliced(content: Parts, part: ranges.Slice) -> AsyncGenerator[bytes]:
    at = 0
    async with contextlib.aclosing(content):
        async for data in content:
            first, last = max(part.first - at, 0), min(part.last + 1 - at, len(data))
            if first < last:
                yield data[first:last]
            at += len(data)
            if at > part.last:
                return


async def _decompress(data: bytes, source: str) -> bytes:
    decompressor = coding.Decompressor(source)
    if len(data) < IN_THREAD_BYTES:
        return decompressor.feed(data)
    return await asyncio.get_running_loop().run_in_executor(None, decompressor.feed, data)


def problem(code: int, detail: str, member: str, *more: tuple[str, str]) -> Reply:
    """An error of our own."""
    content = problems.document(code, detail)
    return Reply(code, _passed(problems.headers(*more), member), content, len(content), _outcome(member))


def _last_hop(request: Request) -> Reply:
    """Max-Forwards has it that we answer (RFC 9110 §7.6.2): OPTIONS, though not TRACE."""
    member = status.cache_status(detail="max-forwards")
    if request.method == "TRACE":
        return problem(405, "TRACE is not answered here.", member, _ALLOWED)
    return Reply(204, _passed(Headers((_ALLOWED,)), member), b"", None, _outcome(member))


_ALLOWED = ("Allow", "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS")


def _failure(error: OriginError, fwd: Fwd) -> Reply:
    code = 504 if isinstance(error, OriginTimeout) else 502
    member = status.cache_status(fwd=fwd, detail=_kind(error))
    return problem(code, str(error), member, ("Retry-After", "1"))
