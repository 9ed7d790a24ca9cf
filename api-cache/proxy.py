"""What happens to a request: look up, serve, fetch, validate, forward, invalidate. The rules are httpcache's.

One event loop runs all of a worker's requests, so nothing here needs a lock; whatever waits is a coroutine.
"""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, assert_never

import replies
from httpcache import fields, freshness, invalidation, reuse, status, validation, variants
from httpcache.reuse import Forward, Fwd, Serve, Unsatisfiable, Validate
from origin.errors import OriginBroken, OriginError
from origin.outgoing import has_unkeyed, outgoing
from sharing.fetch import Fetch, Storing
from sharing.flights import LookAgain, Validated
from sharing.pursuit import Pursuit
from sharing.question import MAX_LOOKS, Question
from store.layout import is_next
from store.levels import cut
from store.stored import select, target_hash

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable

    from httpcache.messages import Entry, Exchange, Policy, Request
    from keeping import Keeper
    from observability.counters import Counters
    from origin.answer import Answer
    from origin.client import Content
    from origin.exchanges import Exchanges
    from replies import Form, Reply
    from sharing.buffer import Budget, Parts, Reader
    from sharing.flights import Flight, Flights, Outcome
    from store.levels import Levels, View

    Changing = asyncio.Task[tuple[Exchange, Answer]]

_DEMANDS = ("cache-control", "pragma")


@dataclass(frozen=True, slots=True, kw_only=True)
class Proxy:  # pylint: disable=too-many-instance-attributes
    """The cache between clients and one origin. `clock` is in seconds since the epoch."""

    levels: Levels
    exchanges: Exchanges
    keeper: Keeper
    flights: Flights
    budget: Budget
    policy: Policy
    counters: Counters
    clock: Callable[[], float]
    deserted: set[Changing] = field(default_factory=set)
    """What goes on though its client has left."""

    async def respond(
        self, request: Request, content: Content | None = None, view: View | None = None
    ) -> Reply:
        """The answer to a request, whatever happens; only its content may still fail, with OriginError.

        `view`: what was seen just now of its target, if anything was.
        """
        is_read = request.method in ("GET", "HEAD")
        try:
            if is_read and content is None:
                return await self._look_up(request, view)
            return await self._forward(request, content, Fwd.BYPASS if is_read else Fwd.METHOD)
        except OriginError as error:
            return replies.failure(error, Fwd.BYPASS if is_read else Fwd.METHOD)

    # ---- look up

    async def _look_up(self, request: Request, view: View | None = None, *, looks: int = MAX_LOOKS) -> Reply:
        view = view or await self.levels.view(request.target)
        decision = reuse.decide(request, view.entries, self.clock(), self.policy)
        match decision:
            case Serve():
                return await self._hit(request, view, decision, looks)
            case Validate() | Forward():
                return await self._ask(Question(request, view, decision.fwd, decision.entry, looks))
            case Unsatisfiable():
                return replies.unsatisfiable(decision.fwd)
            case _:
                assert_never(decision)

    async def _hit(self, request: Request, view: View, decision: Serve, looks: int) -> Reply:
        reply = await self._serve(request, view, decision)
        if reply is None:
            left = await self.levels.without(view, select(view.page.stored, decision.entry))
            if "only-if-cached" in reuse.request_directives(request):
                return replies.unsatisfiable(Fwd.MISS)
            return await self._ask(Question(request, left, Fwd.MISS, looks=looks))
        if decision.revalidate:
            self._refresh(Question(request, view, Fwd.STALE, decision.entry))
        return reply

    # ---- serve

    async def _serve(
        self, request: Request, view: View, decision: Serve, member: str | None = None
    ) -> Reply | None:
        """Answer out of the store, by default as a hit; None when the body cannot be had any more."""
        shown = replies.form(request, select(view.page.stored, decision.entry))
        plain = view.page if member is None and not decision.stale else None
        member = member or status.cache_status(hit=True, ttl=decision.ttl)
        reply = replies.without_content(request, shown, decision.age, member)
        if reply is not None:
            return reply
        content = await self.levels.content(view, shown.stored, shown.coding, shown.length, shown.slice)
        if content is None:
            return None
        if not isinstance(content, bytes):
            content = self._lasting(request, shown, content)
        return replies.with_content(shown, decision.age, member, content, plain)

    def _lasting(self, request: Request, shown: Form, content: Parts) -> Parts:
        """Content that comes out of Redis as it is sent; from the origin, should Redis fail meanwhile.

        Not in a coding of ours: made anew, its bytes might be others.
        """
        tag = shown.entry.etag
        if shown.coding == "identity" and fields.strong_match(tag, tag):
            return Pursuit(content, lambda: self._part_again(request, shown))
        return content

    async def _part_again(self, request: Request, shown: Form) -> Parts:
        place = await self._fetch_again(request, shown.entry.status, shown.entry.etag)
        return place if shown.slice is None else cut(place, shown.slice.first, shown.slice.last + 1)

    async def _serve_validated(self, question: Question, found: Validated, *, own: bool) -> Reply | None:
        entry = found.stored.entry
        decision = Serve(entry, freshness.age(entry, self.clock()))
        refusal = found.refusal
        member = status.cache_status(
            fwd=question.fwd, fwd_status=304, stored=refusal is None, collapsed=not own, detail=refusal
        )
        if not own:
            self.counters.add("collapsed")
        return await self._serve(question.request, found.view, decision, member)

    async def _serve_stale(
        self, question: Question, fwd: Fwd | None, fwd_status: int | None = None
    ) -> Reply | None:
        """The stored answer in place of a failing origin's; None where that may not be.

        `fwd`: why the origin was asked, None when it was left alone.
        """
        entry = question.entry
        if entry is None or not self._may_serve_stale(question.request, entry):
            return None
        decision = Serve(entry, freshness.age(entry, self.clock()), stale=True)
        member = status.cache_status(
            hit=fwd is None, fwd=fwd, fwd_status=fwd_status, ttl=decision.ttl, detail="stale-if-error"
        )
        return await self._serve(question.request, question.view, decision, member)

    def _may_serve_stale(self, request: Request, entry: Entry) -> bool:
        return reuse.may_serve_stale(request, entry, self.clock(), self.policy)

    # ---- ask, together with all who ask the same

    async def _ask(self, question: Question) -> Reply:
        """Get an answer from the origin; from the store, though stale, should it fail and may that be."""
        if self.exchanges.is_failing:
            reply = await self._serve_stale(question, None)
            if reply is not None:
                self._refresh(question)
                return reply
        try:
            outcome, own = await self._outcome(question)
            return await self._answer(question, outcome, own=own)
        except OriginError as error:
            reply = await self._serve_stale(question, question.fwd)
            return reply or replies.failure(error, question.fwd)

    def _refresh(self, question: Question) -> None:
        """Ask the origin in the background, unless someone does already or it has just failed.

        What is stale is refreshed for everyone, so what this client demands is then no part of the request.
        """
        if question.name in self.flights or not self.exchanges.may_try():
            return
        demands = _DEMANDS if question.fwd is Fwd.STALE else ()
        headers = question.request.headers.without((*validation.CONDITIONS, "range", *demands))
        request = question.request._replace(method="GET", headers=headers, interim=None)
        self.flights.start(question.name, lambda flight: self._lead(flight, request, question.entry))

    async def _outcome(self, question: Question) -> tuple[Outcome | None, bool]:
        """What the origin says, and whether it was asked for this client alone or first."""
        request = question.request
        if not question.is_shared:
            return await self._fetch(request, question.view, question.entry), True
        known = question.entry
        return await self.flights.join(question.name, lambda flight: self._lead(flight, request, known))

    async def _lead(self, flight: Flight, request: Request, known: Entry | None) -> Outcome:
        """Ask for all who wait, once no other process does; at once where its answer would be of no use."""

        async def is_settled() -> bool | None:
            view = await self.levels.latest(request.target)
            if view.is_uncacheable(request) or self._serves(request, view):
                return True
            entry = variants.select(view.entries, request.headers)
            if entry is None or entry == known:
                return False
            return True if freshness.age(entry, self.clock()) < reuse.seconds_of_use(entry) else None

        is_for_each = known is not None and reuse.seconds_of_use(known) <= 0
        if not is_for_each and not await self.flights.lock(flight, is_settled):
            return LookAgain()
        view = await self.levels.latest(request.target)
        if self._serves(request, view) or (known is None and view.is_uncacheable(request)):
            return LookAgain()
        return await self._fetch(request, view, variants.select(view.entries, request.headers), flight)

    def _serves(self, request: Request, view: View) -> bool:
        decision = reuse.decide(request, view.entries, self.clock(), self.policy)
        return isinstance(decision, Serve) and not decision.stale

    async def _answer(self, question: Question, outcome: Outcome | None, *, own: bool) -> Reply:
        """What came of the question, as this client's answer."""
        request = question.request
        if isinstance(outcome, Fetch) and not own and question.looks > 1:
            other = outcome.selecting_others(request)
            if other:
                return await self._ask(replace(question, looks=question.looks - 1, selecting=other))
        if isinstance(outcome, Fetch) and not own and outcome.is_being_stored and not outcome.is_shareable:
            outcome = await self.flights.until_stored(outcome)
        if isinstance(outcome, Validated) and not own and outcome.is_another(request):
            outcome = LookAgain()  # what tells the variants apart is stored now
        if isinstance(outcome, Validated) and (own or outcome.is_for(request)):
            reply = await self._serve_validated(question, outcome, own=own)
            if reply is not None:
                return reply
            await self.levels.without(outcome.view, outcome.stored)
            outcome = LookAgain()
        if isinstance(outcome, LookAgain) and question.looks > 1:
            return await self._look_up(request, looks=question.looks - 1)
        return await self._pass(question, outcome, own=own)

    async def _pass(self, question: Question, outcome: Outcome | None, *, own: bool) -> Reply:
        """The origin's answer as it passes, or a stale one in its place."""
        fetch, place, own = await self._place(question, outcome, own=own)
        with contextlib.ExitStack() as unless_taken:
            unless_taken.callback(place.leave)
            reply = await self._instead(question, fetch)
            if reply is None:
                if fetch.is_bodiless:
                    await fetch.ended()  # with the head a client has all of it, so store it first
                reply = self._passing(question.request, question.fwd, fetch, place, own=own)
                unless_taken.pop_all()
            return reply

    async def _place(
        self, question: Question, outcome: Outcome | None, *, own: bool
    ) -> tuple[Fetch, Reader, bool]:
        """A place at the beginning of what came, taken before anything else can happen to it.

        Where there is none, or the answer is not for this client, it gets one of its own.
        """
        request = question.request
        if isinstance(outcome, Fetch) and (own or outcome.is_for(request)):
            place = outcome.reader()
            if place is not None:
                return outcome, place, own
        fetch = await self._fetch_whole(request, question.view)
        place = fetch.reader()
        assert place is not None  # noqa: S101  # nobody else knows of it
        return fetch, place, True

    async def _instead(self, question: Question, fetch: Fetch) -> Reply | None:
        """The stale answer, should the origin state an error; raises when nothing of the content comes."""
        if fetch.exchange.response.status in reuse.FAILURES:
            return await self._serve_stale(question, question.fwd, fetch.exchange.response.status)
        if question.entry is not None and self._may_serve_stale(question.request, question.entry):
            await fetch.begun()
        return None

    def _passing(self, request: Request, fwd: Fwd, fetch: Fetch, place: Reader, *, own: bool) -> Reply:
        if not own:
            self.counters.add("collapsed")
        reply = replies.passing(
            request, fwd, fetch, place, now=self.clock(), policy=self.policy, collapsed=not own
        )
        if reply.content is place and fetch.is_repeatable:
            return reply._replace(content=Pursuit(place, lambda: self._repeat(request, fetch)))
        return reply

    async def _repeat(self, request: Request, fetch: Fetch) -> Parts:
        """The same content once more, for a client that is slower than those with whom it shared it."""
        if fetch.is_being_stored:
            await fetch.ended()
            content = await self._stored_content(request, fetch)
            if content is not None:
                return content
        response = fetch.exchange.response
        return await self._fetch_again(request, response.status, response.headers.get("etag"))

    async def _stored_content(self, request: Request, fetch: Fetch) -> Parts | None:
        view = await self.levels.latest(request.target)
        entry = variants.select(view.entries, request.headers)
        if entry is None or entry.etag != fetch.exchange.response.headers.get("etag"):
            return None
        stored = select(view.page.stored, entry)
        content = await self.levels.content(view, stored, "identity", stored.length)
        return _at_once(content) if isinstance(content, bytes) else content

    async def _fetch_again(self, request: Request, code: int, tag: str | None) -> Reader:
        """What the origin has, if it is the same still: a strong tag tells (RFC 9110 §8.8.1)."""
        exchange, answer = await self.exchanges.send(outgoing(request, shared=True))
        place = Fetch(answer, exchange, None, self.budget, _nothing).reader()
        assert place is not None  # noqa: S101  # nobody else knows of it
        if (exchange.response.status, exchange.response.headers.get("etag")) != (code, tag):
            place.leave()
            raise OriginBroken("The content has changed while it was sent.")
        return place

    # ---- fetch, validate

    async def _fetch(
        self, request: Request, view: View, entry: Entry | None, flight: Flight | None = None
    ) -> Outcome:
        """Ask the origin: for an answer that all may share, for a validation, or just for this client."""
        if not view.exact:
            # Memory may lag behind an invalidation, of which no validator need tell within the same second.
            view = await self.levels.latest(request.target)
            entry = variants.select(view.entries, request.headers)
        if entry is None or not reuse.may_validate(request, entry):
            return await self._fetch_whole(request, view, flight)
        exchange, answer = await self.exchanges.send(outgoing(request, entry, shared=flight is not None))
        if exchange.response.status == 304:
            answer.close()
            return await self._validate(request, view, entry, exchange, flight)
        return await self._fetched(request, view, exchange, answer, flight)

    async def _fetch_whole(self, request: Request, view: View, flight: Flight | None = None) -> Fetch:
        """Ask the origin without a condition of ours."""
        view = await self.levels.exact(view)
        exchange, answer = await self.exchanges.send(outgoing(request, shared=flight is not None))
        return await self._fetched(request, view, exchange, answer, flight)

    async def _fetched(
        self, request: Request, view: View, exchange: Exchange, answer: Answer, flight: Flight | None
    ) -> Fetch:
        """The answer as it passes, stored where it may be."""
        exchange = replace(exchange, request=request)
        with answer.closed_on_failure():
            if request.method == "HEAD" and not await self.keeper.freshen_by_head(view, exchange):
                await self._invalidate((request.target,))
            to_store = self.keeper.storing(view, exchange)
            if not isinstance(to_store, Storing):
                await self.keeper.supersede(view, exchange)
        done = (lambda: self.flights.end(flight)) if flight is not None else _nothing
        fetch = Fetch(answer, exchange, to_store, self.budget, done)
        if fetch.refusal is not None and flight is not None:
            await self.levels.mark_uncacheable(view, request)
        return fetch

    async def _validate(
        self, request: Request, view: View, entry: Entry, exchange: Exchange, flight: Flight | None
    ) -> Outcome:
        """A 304: what it confirms is as good as new."""
        if not validation.confirms(exchange.response, entry):
            return await self._fetch_whole(request, view, flight)
        return await self.keeper.freshen(view, entry, exchange)

    # ---- forward, invalidate

    async def _forward(self, request: Request, content: Content | None, fwd: Fwd) -> Reply:
        """A request that nothing stored answers. What it changes is forgotten before its answer goes out."""
        headers = fields.one_hop_less(request.method, request.headers)
        if headers is None:
            return replies.last_hop(request)
        request = request._replace(headers=headers)
        # An answer to POST may say that it is what a GET would get, whose unkeyed fields had stayed here.
        is_such = request.method == "POST" and not has_unkeyed(request)
        before = await self.levels.latest(request.target) if is_such else None
        exchange, answer = await self._change(request, content)
        with answer.closed_on_failure():
            to_store = await self._storing_for_get(before, exchange) if before is not None else None
        fetch = Fetch(answer, exchange, to_store, self.budget, _nothing)
        place = fetch.reader()
        assert place is not None  # noqa: S101  # nobody else knows of it
        return self._passing(request, fwd, fetch, place, own=True)

    async def _change(self, request: Request, content: Content | None) -> tuple[Exchange, Answer]:
        """Ask, and forget what that changes, though the client leave meanwhile."""
        changing = asyncio.create_task(self._change_whoever_waits(request, content))
        try:
            await asyncio.wait((changing,))
        except asyncio.CancelledError:
            if request.method in invalidation.SAFE_METHODS:
                changing.cancel()
            self.deserted.add(changing)
            changing.add_done_callback(self._close_deserted)
            raise
        return changing.result()

    async def _change_whoever_waits(
        self, request: Request, content: Content | None
    ) -> tuple[Exchange, Answer]:
        exchange, answer = await self.exchanges.send(outgoing(request), content)
        exchange = replace(exchange, request=request)
        with answer.closed_on_failure():
            authority = self.exchanges.origin.authority
            await self._invalidate(invalidation.targets(request, exchange.response, authority))
        return exchange, answer

    def _close_deserted(self, changing: Changing) -> None:
        self.deserted.discard(changing)
        if not changing.cancelled() and changing.exception() is None:
            _, answer = changing.result()
            answer.close()

    async def _storing_for_get(self, before: View, exchange: Exchange) -> Storing | None:
        """How an answer to POST is stored, unless another request has changed the target since `before`."""
        if not self.keeper.may_store(exchange):
            return None
        view = await self.levels.latest(exchange.request.target)
        if not is_next(view.generation, before.generation):
            return None
        found = self.keeper.storing(view, exchange)
        return found if isinstance(found, Storing) else None

    async def _invalidate(self, targets: tuple[str, ...]) -> None:
        keys = [target_hash(target) for target in targets]
        for key in keys:
            self.flights.forget(key)
            self.counters.add("invalidations")
        await self.levels.drop(keys)


async def _at_once(content: bytes) -> AsyncGenerator[bytes]:
    yield content


def _nothing() -> None:
    pass
