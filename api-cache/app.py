"""Wires the cache: settings, store, origin, proxy, and our own endpoints, which Flask serves."""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
import time
import traceback
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from flask import Flask, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from werkzeug.exceptions import HTTPException

import problems
from config import Config
from hits import Hits
from httpcache.messages import Headers, Policy, Request
from observability.access import Access
from observability.counters import Counters
from observability.exposition import registry
from observability.log import Log
from origin.client import Content, Origin
from origin.pool import Pool
from proxy import Proxy, Reply
from server.application import Patience
from store.breaker import StoreUnavailable
from store.links import way_to_redis
from store.memory import Memory
from store.shared import Store

if TYPE_CHECKING:
    import mmap
    from collections.abc import Callable

    from werkzeug.sansio.response import Response as AnyResponse

    from store.memory import Prepared

OWN = frozenset(("/healthz", "/readyz", "/metrics"))
"""Never forwarded, whatever the method or query."""
_USAGE_SECONDS = 5.0


def create_app(
    config: Config | None = None,
    *,
    store: Store | None = None,
    origin: Origin | None = None,
    clock: Callable[[], float] = time.time,
    shared: mmap.mmap | None = None,
    worker: int = 0,
) -> Cache:
    """The whole of one worker. `shared` is the memory of all workers' counters.

    Raises:
        ConfigError: the environment is no valid configuration.
    """
    config = config or Config.from_environ(os.environ)
    shared = shared or Counters.allocate(worker + 1)
    counters = Counters(shared, worker)
    log = Log(counters)
    return Cache(
        config,
        store or Store(
            way_to_redis(config), counters.add, lambda message: log.message("warning", message),
        ),
        origin or Origin(
            Pool(config.backend_host, config.backend_port, config.cache_connect_timeout),
            config.cache_origin_timeout,
        ),
        clock,
        Access(counters, log),
        create_endpoints(shared),
    )  # fmt: skip


def create_endpoints(shared: mmap.mmap) -> Flask:
    """Our own endpoints. Without Redis or the origin we degrade, and so are ready all the same."""
    flask = Flask(__name__, static_folder=None)
    metrics_of_all = registry(shared)

    @flask.get("/healthz")
    @flask.get("/readyz")
    def healthz() -> dict[str, str]:
        return {"status": "ok"}

    @flask.get("/metrics")
    def metrics() -> Response:
        return Response(generate_latest(metrics_of_all), content_type=CONTENT_TYPE_LATEST)

    @flask.after_request
    def never_stored(response: Response) -> Response:
        response.headers["Cache-Control"] = "no-store"
        return response

    @flask.errorhandler(HTTPException)
    def problem(error: HTTPException) -> AnyResponse:
        return problems.handle(error)

    return flask


class Cache:  # pylint: disable=too-many-instance-attributes
    """What the server serves (server.Application)."""

    def __init__(  # pylint: disable=too-many-arguments,too-many-positional-arguments
        self, config: Config, store: Store, origin: Origin, clock: Callable[[], float], access: Access,
        endpoints: Flask,
    ) -> None:  # fmt: skip
        self.max_request_bytes = config.cache_max_request_bytes
        self.patience = Patience(
            config.cache_client_head_timeout,
            config.cache_client_idle_timeout,
            config.cache_client_stall_timeout,
        )
        self.store = store
        self.origin = origin
        self.memory = Memory(config.cache_memory_bytes)
        self.access = access
        self.endpoints = endpoints
        self.proxy = Proxy(
            store=store,
            origin=origin,
            memory=self.memory,
            policy=replace(
                Policy(), default_ttl=config.cache_ttl, stale_if_error=config.cache_stale_if_error,
                max_stale=config.cache_stale_if_error,
            ),
            counters=access.counters,
            clock=clock,
            max_object_bytes=config.cache_max_object_bytes,
            collapse_wait=config.cache_collapse_wait,
        )  # fmt: skip
        self.hits = Hits(self.memory, clock)
        self.hit: Callable[[bytes, dict[bytes, bytes]], tuple[Prepared, int] | None] = self.hits.find
        self.request_id = access.request_id
        self.record = access.record
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Begin to follow Redis and to report what we hold."""
        with contextlib.suppress(StoreUnavailable):
            await self.store.usage()  # the first client should not wait for the connection
        self._tasks = [asyncio.create_task(self.store.watch(self)), asyncio.create_task(self._report())]
        self.access.counters.set("workers", 1)

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self.origin.close()
        await self.store.close()
        self.access.counters.set("workers", 0)
        self.access.log.close()

    async def catch_up(self, target: bytes) -> bool:
        return self.memory.plain(target) is not None and await self.memory.is_usable()

    async def respond(
        self, request: Request, fields: dict[bytes, bytes] | None, content: Content | None
    ) -> Reply:
        if request.target.partition("?")[0] in OWN:
            return self._own(request)
        reply = await self.proxy.respond(request, content)
        if reply.page is not None and fields is not None and request.method == "GET":
            self.hits.remember(fields, reply)
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

    # ---- store.Events

    def changed(self, key: str) -> None:
        self.memory.changed(key)

    def clear(self) -> None:
        self.memory.clear()

    def vouch(self, until: float) -> None:
        self.memory.vouch(until)

    def _own(self, request: Request) -> Reply:
        path, _, query = request.target.partition("?")
        with self.endpoints.test_request_context(path, method=request.method, query_string=query):
            response = self.endpoints.full_dispatch_request()
        content = response.get_data()
        headers = Headers(
            (name, value) for name, value in response.headers if name.lower() != "content-length"
        )
        return Reply(response.status_code, headers, content, len(content), "own")

    async def _report(self) -> None:
        counters = self.access.counters
        next_usage = -math.inf
        while True:
            counters.set("level_bytes memory", self.memory.size)
            counters.set("level_entries memory", len(self.memory))
            counters.set("breaker_open", float(self.store.breaker.is_open))
            counters.set("memory_usable", float(time.monotonic() < self.memory.usable_until))
            if time.monotonic() >= next_usage:
                next_usage = time.monotonic() + _USAGE_SECONDS
                with contextlib.suppress(StoreUnavailable):
                    size, entries = await self.store.usage()
                    counters.set("level_bytes redis", size)
                    counters.set("level_entries redis", entries)
            await asyncio.sleep(0.25)
