"""A client of the embedded Valkey, for tests: `make run` needs none."""

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from local.valkey import Valkey


def connect(server: Valkey, *, socket_timeout: float) -> redis.Redis:
    """A client that tries everything once.

    Args:
        server: whom it asks.
        socket_timeout: seconds for which it waits for an answer.
    """
    once = Retry(NoBackoff(), 0)
    return redis.Redis(
        server.host, server.port, password=server.password, socket_timeout=socket_timeout, retry=once
    )
