"""Both services, live, and the lines that they write."""

from typing import Any

import pytest
from local.processes import wait_until
from tests.monitoring.stack import Stack

TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
REQUEST_ID = "story-42"


@pytest.fixture(scope="session")
def lines(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[dict[str, Any]]]:
    """Each service's JSON lines: requests of all kinds, and what else it has to say until it has stopped."""
    stack = Stack(tmp_path_factory.mktemp("stack"))
    with stack.running():
        stack.ask("/air_quality?limit=2", **{"X-Request-ID": REQUEST_ID, "traceparent": TRACE})
        stack.ask("/air_quality?limit=2")
        stack.ask("/air_quality?limit=2", "HEAD")
        stack.ask("/nothing-here")
        stack.ask("/air_quality", "DELETE")
        stack.redis.kill()
        stack.ask("/air_quality?limit=3")
        stack.postgres.kill()
        stack.ask("/air_quality?limit=4")
        stack.api_rest.kill()
        stack.ask("/air_quality?limit=5")
        assert wait_until(lambda: "limit=5" in str(stack.lines("api-cache")), timeout=10)
    return {service: stack.lines(service) for service in ("api-rest", "api-cache")}
