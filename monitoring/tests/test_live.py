"""A real Prometheus scrapes the live services, in traffic and outages: panels and alerts find their data."""

import contextlib
import math
import time
from collections.abc import Iterator
from typing import Any

import pytest
from monitoring.tests.watched import PASSWORDS, Watched
from tests.monitoring.rules import alerts, expressions, metric, panel_expressions, rules, selectors

ALERTS = [rule["alert"] for rule in alerts()]
# Series of a cluster's kubelet, which no single machine has.
ONLY_IN_KUBERNETES = {"kubelet_volume_stats_available_bytes", "kubelet_volume_stats_capacity_bytes"}


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    with Watched(tmp_path_factory.mktemp("watched")).running() as running:
        disturb(running)
        yield running


def disturb(watched: Watched) -> None:
    """Requests of each kind, and each part down once, until Prometheus has seen it down and up again."""
    stack = watched.stack
    number = 0

    def traffic() -> None:
        nonlocal number
        for _ in range(3):
            number += 1
            for method in ("GET", "GET", "HEAD"):
                stack.ask(f"/air_quality?limit={number}", method)
        stack.ask("/nothing-here")

    def until(expression: str) -> None:
        deadline = time.monotonic() + 90
        while not watched.query(expression):
            assert time.monotonic() < deadline, f"never: {expression}"
            traffic()
            time.sleep(0.2)

    until('rate(http_requests_total{job="api-rest"}[1m]) > 0')
    stack.redis.kill()
    until('rate(api_cache_redis_errors_total{job="api-cache"}[1m]) > 0')
    stack.redis.start()
    stack.postgres.kill()
    until('rate(api_rest_postgres_errors_total{job="api-rest"}[1m]) > 0')
    until("pg_up == 0")
    stack.postgres.start()
    stack.api_rest.kill()
    until('rate(api_cache_origin_errors_total{job="api-cache"}[1m]) > 0')
    until("api_cache:errors:ratio_rate5m > 0")
    stack.api_rest.start()
    until('redis_up == 1 and on () pg_up == 1 and on () up{job="api-rest"} == 1')
    until('rate(api_cache_origin_requests_total{job="api-cache", status="5xx"}[1m]) > 0')


def finite(samples: list[dict[str, Any]]) -> list[float]:
    values = [float(sample["value"][1]) for sample in samples]
    return [value for value in values if math.isfinite(value)]


@pytest.mark.parametrize(("title", "expression"), list(panel_expressions()))
def test_every_panel_shows_data(watched: Watched, title: str, expression: str) -> None:
    samples = watched.query(expression.replace("$__rate_interval", "1m"))
    assert finite(samples), f"{title}: {samples}"


@pytest.mark.parametrize("recorded", [rule["record"] for rule in rules() if "record" in rule])
def test_every_recorded_series_has_data(watched: Watched, recorded: str) -> None:
    assert finite(watched.query(recorded))


SELECTORS = sorted({each for _, expression in expressions() for each in selectors(expression)})


@pytest.mark.parametrize("selector", SELECTORS)
def test_every_selector_of_rules_and_panels_finds_series(watched: Watched, selector: str) -> None:
    if metric(selector) in ONLY_IN_KUBERNETES | {"ALERTS"}:
        return
    assert watched.query(f"last_over_time({selector}[10m])")


def test_every_target_is_up(watched: Watched) -> None:
    up = {sample["metric"]["job"]: sample["value"][1] for sample in watched.query("up")}
    assert up == dict.fromkeys(["api-cache", "api-rest", "postgres", "redis", "node", "prometheus"], "1")


def test_every_rule_evaluates(watched: Watched) -> None:
    found = watched.rules()
    assert {rule["name"] for rule in found if rule["type"] == "alerting"} == set(ALERTS)
    assert {rule["name"]: rule.get("lastError") for rule in found if rule["health"] != "ok"} == {}


def test_the_exporter_of_postgres_sees_no_row(watched: Watched) -> None:
    session = watched.stack.postgres.connect(
        user="monitoring", password=PASSWORDS["POSTGRES_MONITORING_PASSWORD"]
    )
    with contextlib.closing(session), session.cursor() as cursor:
        cursor.execute(
            """SELECT c.oid::regclass FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace
            WHERE nspname NOT IN ('pg_catalog', 'information_schema') AND relkind IN ('r', 'v', 'm', 'p', 'f')
            AND has_table_privilege('monitoring', c.oid, 'SELECT, INSERT, UPDATE, DELETE, TRUNCATE')"""
        )
        assert cursor.fetchall() == []
        cursor.execute(
            "SELECT rolsuper, rolcreatedb, rolcreaterole FROM pg_roles WHERE rolname = 'monitoring'"
        )
        assert cursor.fetchone() == (False, False, False)
