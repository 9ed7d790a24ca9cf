"""One worker's cache, as the server sees it: the short path, the full path, our own endpoints."""

from __future__ import annotations

import asyncio
import contextlib
import time
import traceback
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import problems
from endpoints import OWN, path_of
from hits import Hits, is_plain
from observability.gauges import Gauges
from origin.loops import has_come_back
from replies import Reply
from store.breaker import StoreUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable

    from endpoints import Endpoints
    from httpcache.messages import Request
    from observability.access import Access
    from origin.client import Content, Origin
    from proxy import Proxy
    from server.application import Fields, Patience
    from store.levels import View
    from store.memory import Aged, Memory, Plain
    from store.shared import Store

_LOOP = (
    "The request came back to the cache that sent it: BACKEND_HOST and BACKEND_PORT must name another server."
)


@dataclass(kw_only=True, eq=False)
class Cache:  # pylint: disable=too-many-instance-attributes
    """Begins and ends what it is made of, and says who answers."""

    store: Store
    memory: Memory
    origin: Origin
    proxy: Proxy
    hits: Hits
    endpoints: Endpoints
    access: Access
    patience: Patience
    max_request_bytes: int
    _tasks: list[asyncio.Task[None]] = field(default_factory=list)

    def __post_init__(self) -> None:
        # On the shortest path no call is made that only calls another.
        self.plain: Callable[[bytes, Fields], Plain | None] = self.hits.plain
        self.hit: Callable[[Plain, float], Aged | None] = self.hits.find
        self.note = self.access.note
        self.request_id = self.access.request_id
        self.record = self.access.record

    async def start(self) -> None:
        """Begin to follow Redis and to report what we hold."""
        with contextlib.suppress(StoreUnavailable):
            await self.store.usage()  # the first client should not wait for the connection
        gauges = Gauges(self.access.counters, self.store, self.memory)
        watching = self.store.watch(self.memory, self.proxy.flights.forget)
        following = (watching, self.store.settle(), gauges.follow())
        self._tasks = [asyncio.create_task(each) for each in following]
        self.access.counters.set("workers", 1)

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self.origin.close()
        await self.store.close()
        self.access.counters.set("workers", 0)
        self.access.log.close()

    def begin_look(
        self, target: bytes, fields: Fields, seen: Callable[[Aged | None, View | None], None]
    ) -> bool:
        text = target.decode("latin-1")
        if not is_plain(fields) or path_of(text) in OWN:
            return False

        def done(view: View | None) -> None:
            found = None
            try:
                found = None if view is None else self._first(view, fields)
            finally:
                seen(found, view)

        return self.proxy.levels.begin_view(text, done)

    async def look(self, target: bytes, fields: Fields) -> tuple[Aged | None, View | None]:
        text = target.decode("latin-1")
        if path_of(text) in OWN:
            return None, None
        view = await self.proxy.levels.view(text)
        plain = self.plain(target, fields)
        known = self.hit(plain, time.monotonic()) if plain is not None else None
        return known or self._first(view, fields), view

    def _first(self, view: View, fields: Fields) -> Aged | None:
        found = self.hits.first(view.page, fields)
        if found is not None:
            # Once this client has it.
            asyncio.get_running_loop().call_soon(self.hits.keep, view.page, fields, found[0])
        return found

    async def respond(
        self, request: Request, fields: Fields | None, content: Content | None, view: View | None
    ) -> Reply:
        own = self.endpoints.answer(request)
        if own is not None:
            return own
        if has_come_back(request):
            return self.refuse(508, _LOOP)
        reply = await self.proxy.respond(request, content, view)
        if reply.page is not None and fields is not None and request.method == "GET":
            # Once this client has it.
            asyncio.get_running_loop().call_soon(self.hits.remember, fields, reply)
        return reply

    def refuse(self, status: int, detail: str) -> Reply:
        content = problems.document(status, detail)
        return Reply(status, problems.headers(), content, len(content), "own")

    def connections(self, number: int) -> None:
        self.access.counters.set("connections", number)

    def unexpected(self, _: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """The event loop's handler for what nobody catches: a fault of ours, which only the log may show."""
        error = context.get("exception")
        trace = "".join(traceback.format_exception(error)) if error is not None else ""
        self.access.log.message("error", str(context.get("message")), exception=trace)
