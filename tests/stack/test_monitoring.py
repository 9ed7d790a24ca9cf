"""The profile `monitoring` beside the composed stack."""

import http.client
import json
import urllib.parse
from collections.abc import Iterator
from typing import Any

import pytest
from local.processes import free_port
from tests.monitoring.rules import rules
from tests.stack.compose import Compose, need
from tests.stack.deployment import until

EXPORTERS = ["postgres-exporter", "redis-exporter", "node-exporter"]


def get(port: str, target: str) -> Any:
    connection = http.client.HTTPConnection("127.0.0.1", int(port), timeout=10)
    try:
        connection.request("GET", target)
        response = connection.getresponse()
        body = response.read()
        assert response.status == 200, body
        return json.loads(body)
    finally:
        connection.close()


@pytest.fixture(scope="module")
def monitored(stack: Compose) -> Iterator[Compose]:
    need("prometheus", *EXPORTERS)
    stack.environ |= {"PROMETHEUS_PORT": str(free_port()), "GRAFANA_PORT": str(free_port())}
    stack.run(*UP, "prometheus", *EXPORTERS, timeout=240)
    yield stack
    stack.run("--profile", "*", "rm", "--stop", "--force", "backup", "prometheus", "grafana", *EXPORTERS)


UP = ["--profile", "monitoring", "up", "--detach", "--no-recreate", "--wait", "--wait-timeout", "120"]


def query(monitored: Compose, expression: str) -> list[dict[str, Any]]:
    target = "/api/v1/query?" + urllib.parse.urlencode({"query": expression})
    samples: list[dict[str, Any]] = get(monitored.environ["PROMETHEUS_PORT"], target)["data"]["result"]
    return samples


def test_everything_is_scraped(monitored: Compose) -> None:
    jobs = {"api-cache", "api-rest", "postgres", "redis", "node", "prometheus"}

    def up() -> bool:
        return {sample["metric"]["job"] for sample in query(monitored, "up == 1")} == jobs

    until(up, 60, "every job is up")
    assert query(monitored, "up == 0") == []


def test_the_exporters_can_log_in(monitored: Compose) -> None:
    until(lambda: query(monitored, "pg_up == 1 and on () redis_up == 1"), 60, "both stores are up")


def test_the_space_left_is_known(monitored: Compose) -> None:
    def volumes() -> bool:
        found = query(monitored, "volume:available:ratio > 0")
        return {sample["metric"]["volume"] for sample in found} == {"postgres", "backups"}

    until(volumes, 60, "both volumes are seen")


def test_the_newest_backup_is_known(monitored: Compose) -> None:
    monitored.run("--profile", "backup", "up", "--detach", "--no-recreate", "--wait", "backup", timeout=180)
    until(
        lambda: query(monitored, "time() - backup_last_success_timestamp_seconds < 600"),
        60,
        "a backup is seen",
    )


def test_rules_record(monitored: Compose) -> None:
    wanted = {rule["record"] for rule in rules() if "record" in rule}

    def missing() -> set[str]:
        monitored.request("api-cache", "/air_quality?limit=1")
        monitored.request("api-cache", "/air_quality?limit=1")
        return {name for name in wanted if not query(monitored, name)}

    until(lambda: not missing(), 90, "every recorded series has data")


def test_nobody_is_paged(monitored: Compose) -> None:
    """What the other tests broke was short."""
    paging = query(monitored, 'ALERTS{severity="page", alertstate="firing"}')
    assert [sample["metric"]["alertname"] for sample in paging] == []


@pytest.mark.no_stand_in
def test_grafana_shows_the_dashboard(monitored: Compose) -> None:
    need("grafana")
    monitored.run(*UP, "grafana", timeout=240)
    port = monitored.environ["GRAFANA_PORT"]
    found = until(lambda: get(port, "/api/dashboards/uid/air-quality"), 60, "the dashboard is provisioned")
    assert found["dashboard"]["title"] == "Air quality"
    assert get(port, "/api/datasources/uid/prometheus/health")["status"] == "OK"
