"""Wires the cache together: settings, store, origin, proxy, and our own endpoints."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

from cache import Cache
from config import Config
from endpoints import Endpoints
from hits import Hits
from httpcache.messages import Policy
from keeping import Keeper
from observability.access import Access
from observability.counters import Counters
from observability.log import Log
from origin.client import Origin
from origin.exchanges import Exchanges
from origin.pool import Pool
from proxy import Proxy
from server.application import Patience
from sharing.buffer import Budget
from sharing.flights import Flights
from store.levels import Levels
from store.links import way_to_redis
from store.memory import Memory
from store.shared import Store

if TYPE_CHECKING:
    import mmap
    from collections.abc import Callable

KEPT_OBJECTS = 2
"""How many of the largest objects may be kept in memory while they are stored."""


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
    store = store or create_store(config, counters, log)
    origin = origin or create_origin(config)
    memory = Memory(config.cache_memory_bytes)
    access = Access(counters, log)
    return Cache(
        store=store,
        memory=memory,
        origin=origin,
        proxy=create_proxy(config, store, memory, origin, counters, clock),
        hits=Hits(memory, clock, access.note),
        endpoints=Endpoints(shared),
        access=access,
        patience=patience_of(config),
        max_request_bytes=config.cache_max_request_bytes,
    )


def create_store(config: Config, counters: Counters, log: Log) -> Store:
    return Store(way_to_redis(config), counters.add, lambda message: log.message("warning", message))


def create_origin(config: Config) -> Origin:
    pool = Pool(config.backend_host, config.backend_port, config.cache_connect_timeout)
    return Origin(pool, config.cache_origin_timeout)


def create_proxy(  # pylint: disable=too-many-arguments,too-many-positional-arguments
    config: Config,
    store: Store,
    memory: Memory,
    origin: Origin,
    counters: Counters,
    clock: Callable[[], float],
) -> Proxy:
    """The full path of a request."""
    levels, policy = Levels(store, memory), policy_of(config)
    return Proxy(
        levels=levels,
        exchanges=Exchanges(origin, counters, clock),
        keeper=Keeper(levels, policy, counters, config.cache_max_object_bytes),
        flights=Flights(store, counters, config.cache_collapse_wait),
        budget=Budget(KEPT_OBJECTS * config.cache_max_object_bytes),
        policy=policy,
        counters=counters,
        clock=clock,
    )


def policy_of(config: Config) -> Policy:
    return Policy(
        default_ttl=config.cache_ttl,
        stale_if_error=config.cache_stale_if_error,
        max_stale=config.cache_stale_if_error,
    )


def patience_of(config: Config) -> Patience:
    return Patience(
        config.cache_client_head_timeout, config.cache_client_idle_timeout, config.cache_client_stall_timeout
    )
