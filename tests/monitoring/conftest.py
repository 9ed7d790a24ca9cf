"""Both services, live, once for all tests of this folder: their metrics, and the lines that they write."""

from typing import Any, NamedTuple

import pytest
from local.processes import wait_until
from tests.monitoring.stack import Stack

SERVICES = ["api-rest", "api-cache"]
TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
REQUEST_ID = "story-42"
Lines = dict[str, list[dict[str, Any]]]


class Observed(NamedTuple):
    metrics: dict[str, str]
    lines: Lines


@pytest.fixture(scope="session")
def observed(tmp_path_factory: pytest.TempPathFactory) -> Observed:
    stack = Stack(tmp_path_factory.mktemp("stack"))
    with stack.running():
        metrics = metrics_after_an_outage(stack)
        ask_for_all_kinds_of_answers(stack)
    return Observed(metrics, {service: stack.lines(service) for service in SERVICES})


def metrics_after_an_outage(stack: Stack) -> dict[str, str]:
    """What each service exports, once it has had something to count; nobody has asked api-cache yet."""
    assert stack.ask("/air_quality?limit=1", service="api-rest") == 200
    stack.postgres.kill()
    assert stack.ask("/air_quality?limit=1", service="api-rest") == 503
    stack.postgres.start()
    return {service: stack.metrics(service) for service in SERVICES}


def ask_for_all_kinds_of_answers(stack: Stack) -> None:
    assert wait_until(lambda: stack.ask("/air_quality?limit=1", service="api-rest") == 200, timeout=20)
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


@pytest.fixture(scope="session")
def lines(observed: Observed) -> Lines:
    """Each service's JSON lines: requests of all kinds, and what else it has to say until it has stopped."""
    return observed.lines
