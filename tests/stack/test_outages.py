"""Each part dies in turn while clients keep asking: no stack trace, no hang, and it heals by itself."""

import http.client
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import pytest
from tests.stack.deployment import Deployment, Reply, fresh_target, until

LONGEST = 8.0  # seconds: longer than every timeout of the services, shorter than a client's patience


@dataclass
class Curling:
    """What a client saw who asked again and again."""

    replies: list[Reply] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)

    def assert_decent(self, statuses: set[int], *, cut_off: int = 0) -> None:
        """`cut_off`: how many answers may have lost their rest, which their length then tells."""
        assert self.replies
        assert len(self.broken) <= cut_off, self.broken
        assert all(error.startswith("IncompleteRead(") for error in self.broken), self.broken
        assert {reply.status for reply in self.replies} <= statuses
        assert max(reply.seconds for reply in self.replies) < LONGEST
        for reply in self.replies:
            assert b"Traceback" not in reply.body
            if reply.status >= 500:
                assert reply.headers["content-type"] == "application/problem+json"
                assert reply.json()["status"] == reply.status


@contextmanager
def curling(stack: Deployment) -> Iterator[Curling]:
    """Ask for a known and for an unknown URL in turn, until the block is left."""
    seen, over = Curling(), threading.Event()
    known = fresh_target()

    def ask() -> None:
        while not over.is_set():
            for target in (known, fresh_target()):
                try:
                    seen.replies.append(stack.request("api-cache", target))
                except (OSError, http.client.HTTPException) as error:
                    seen.broken.append(repr(error))
            over.wait(0.05)

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        yield seen
    finally:
        over.set()
        thread.join()


@pytest.fixture
def outage(stack: Deployment) -> Iterator[Deployment]:
    """The stack, to be broken; whole again for the next test."""
    yield stack
    until(lambda: works(stack), 60, "the whole stack works after an outage")


def works(stack: Deployment) -> bool:
    return stack.request("api-cache", fresh_target()).status == 200 and hits(stack)


def hits(stack: Deployment) -> bool:
    target = fresh_target()
    stack.request("api-cache", target)
    return "hit" in stack.request("api-cache", target).headers["cache-status"]


def watch(seconds: float) -> None:
    """Let the clients meet the outage for a while: its length is the test's subject, nothing is awaited."""
    time.sleep(seconds)


def test_redis_dies_and_comes_back(outage: Deployment) -> None:
    with curling(outage) as seen:
        outage.kill("redis")
        watch(2)
        outage.start("redis")
        until(lambda: hits(outage), 30, "hits again")
    seen.assert_decent({200})


def test_postgres_dies_and_comes_back(outage: Deployment) -> None:
    with curling(outage) as seen:
        outage.kill("postgres")
        refused = until(lambda: fails(outage), 10, "an answer that says so")
        watch(1)
        outage.start("postgres")
        until(lambda: outage.request("api-cache", fresh_target()).status == 200, 60, "measurements again")
    seen.assert_decent({200, 503})
    assert int(refused.headers["retry-after"]) > 0


def test_api_rest_says_when_it_is_not_ready(outage: Deployment) -> None:
    outage.kill("postgres")
    until(lambda: outage.request("api-rest", "/readyz").status == 503, 10, "readyz fails")
    assert outage.request("api-rest", "/healthz").status == 200
    assert outage.request("api-cache", "/readyz").status == 200
    outage.start("postgres")
    until(lambda: outage.request("api-rest", "/readyz").status == 200, 60, "readyz answers")


def test_api_rest_dies_and_comes_back(outage: Deployment) -> None:
    with curling(outage) as seen:
        outage.kill("api-rest")
        until(lambda: fails(outage), 10, "an answer that says so")
        watch(1)
        outage.start("api-rest")
        until(lambda: outage.request("api-cache", fresh_target()).status == 200, 60, "measurements again")
    # One answer may have been on its way when its origin died: its head was out, and the rest is nowhere.
    seen.assert_decent({200, 502, 503, 504}, cut_off=1)


def test_a_stored_answer_serves_while_api_rest_is_down(outage: Deployment) -> None:
    target = fresh_target()
    stored = outage.request("api-cache", target)
    outage.kill("api-rest")
    assert outage.request("api-cache", target).body == stored.body
    assert outage.request("api-cache", "/healthz").status == 200
    outage.start("api-rest")


def test_api_cache_dies_and_comes_back(outage: Deployment) -> None:
    target = fresh_target()
    stored = outage.request("api-cache", target)
    outage.kill("api-cache")
    outage.start("api-cache")
    again = until(lambda: answered(outage, target), 60, "api-cache answers again")
    assert again.body == stored.body


def fails(stack: Deployment) -> Reply | None:
    reply = stack.request("api-cache", fresh_target())
    return reply if reply.status >= 500 else None


def answered(stack: Deployment, target: str) -> Reply | None:
    try:
        return stack.request("api-cache", target)
    except (OSError, http.client.HTTPException):
        return None
