"""A user's requests through the whole stack: the sample comes out, and the cache works as the README says."""

import json
import re

import pytest
from tests.delivery.manifests import load, of_kind
from tests.delivery.rules import INTERNAL_PATHS, covers, paths_of
from tests.stack.deployment import Deployment, Reply, fresh_target, records, until

COLUMNS = ["time_instant", "id_entity", "so2", "no2", "co", "o3", "pm10", "pm2_5"]


@pytest.fixture
def target() -> str:
    return fresh_target()


def get(stack: Deployment, target: str, method: str = "GET", **headers: str) -> Reply:
    return stack.request(
        "api-cache", target, method, {name.replace("_", "-"): v for name, v in headers.items()}
    )


def seen_by(stack: Deployment, service: str, target: str) -> int:
    """How many requests for the target the service has logged."""
    return sum(line.get("path") == target for line in records(stack.logs(service)))


def logged(stack: Deployment, service: str, request_id: str) -> bool:
    return any(line.get("request_id") == request_id for line in records(stack.logs(service)))


def test_all_measurements_come_out(stack: Deployment) -> None:
    reply = get(stack, "/air_quality")
    assert (reply.status, reply.headers["content-type"]) == (200, "application/json")
    rows = reply.json()
    assert len(rows) > 1000
    assert all(list(row) == COLUMNS for row in rows)
    assert rows == sorted(rows, key=lambda row: (row["time_instant"], row["id_entity"]))
    assert len({row["id_entity"] for row in rows}) == 10


def test_the_service_describes_itself(stack: Deployment) -> None:
    reply = get(stack, "/")
    assert reply.status == 200
    assert "/air_quality" in json.dumps(reply.json())


def hit(stack: Deployment, target: str, method: str = "GET") -> Reply:
    """Ask until the answer is a hit: on a busy machine it may be stored a moment after it was given."""

    def asked() -> Reply | None:
        reply = get(stack, target, method)
        return reply if "hit" in reply.headers["cache-status"].split(";")[1] else None

    reply: Reply = until(asked, 10, "a hit")
    return reply


def test_a_second_request_is_a_hit_and_the_same(stack: Deployment, target: str) -> None:
    first, second = get(stack, target), hit(stack, target)
    assert re.fullmatch(r"api-cache; ?fwd=(uri-)?miss; ?(.*; ?)?stored(;.*)?", first.headers["cache-status"])
    assert (second.status, second.body) == (first.status, first.body)
    assert second.headers["content-type"] == first.headers["content-type"]
    assert int(second.headers["age"]) >= 0


def test_the_check_of_the_readme(stack: Deployment, ttl: float) -> None:
    """Ask twice: the second request shows in api-cache's log alone. After the TTL, it shows in both again."""

    def asked_twice() -> str | None:
        target = fresh_target()
        get(stack, target)
        get(stack, target)
        until(lambda: seen_by(stack, "api-cache", target) == 2, 10, "two requests in api-cache's log")
        until(lambda: seen_by(stack, "api-rest", target), 10, "a request in api-rest's log")
        return target if seen_by(stack, "api-rest", target) == 1 else None

    target = until(asked_twice, 20, "the second request in api-cache's log alone")

    def asked_again() -> bool:
        get(stack, target)
        return seen_by(stack, "api-rest", target) > 1

    until(asked_again, 5 * ttl + 10, "a request in api-rest's log again, after the TTL")


def test_head_is_answered_from_the_entry_of_get(stack: Deployment, target: str) -> None:
    whole = get(stack, target)
    head = hit(stack, target, "HEAD")
    assert (head.status, head.body) == (200, b"")
    assert head.headers["content-type"] == whole.headers["content-type"]
    if "content-length" in head.headers:
        assert int(head.headers["content-length"]) == len(whole.body)


def test_errors_of_the_origin_pass_as_they_are(stack: Deployment) -> None:
    through = get(stack, "/no/such/path")
    direct = stack.request("api-rest", "/no/such/path")
    assert (through.status, through.json()) == (404, direct.json())


def test_a_request_id_runs_through_both_services(stack: Deployment, target: str) -> None:
    get(stack, target, X_Request_ID="through-both")
    for service in ("api-cache", "api-rest"):
        until(
            lambda service=service: logged(stack, service, "through-both"), 10, f"the id in {service}'s log"
        )


def test_a_hit_carries_the_id_of_its_own_request(stack: Deployment, target: str) -> None:
    get(stack, target, X_Request_ID="who-filled-it")
    assert get(stack, target, X_Request_ID="who-hits-it").headers["x-request-id"] == "who-hits-it"


def test_the_ingress_passes_on_all_that_the_api_publishes(stack: Deployment) -> None:
    """kubernetes/ingress.yaml lists paths; so does the API."""
    published = {path for path in get(stack, "/openapi.json").json()["paths"] if path not in INTERNAL_PATHS}
    page = get(stack, "/docs").body.decode()
    published |= set(re.findall(r'(?:src|href)="(/[^"?#]*)', page))
    (ingress,) = of_kind(load(), "Ingress")
    outside = {path for path in published if not any(covers(each, path) for each in paths_of(ingress))}
    assert "/air_quality" in published
    assert not outside
