"""The dashboard asks for series that exist, by names that Prometheus gives, and Grafana finds its files."""

import json
import re

import pytest
import yaml
from tests.delivery.manifests import compose
from tests.monitoring.conftest import Observed
from tests.monitoring.rules import (
    MONITORING,
    ROOT,
    dashboard,
    expressions,
    metric,
    panel_expressions,
    panels,
    rules,
    selectors,
)

# Of the exporters and of Prometheus itself: `make test-prometheus` sees that they are there, too.
OF_OTHERS = {
    *("up", "ALERTS"),
    *("pg_up", "pg_database_size_bytes", "pg_settings_max_connections", "pg_stat_activity_count"),
    *("redis_up", "redis_evicted_keys_total", "redis_expired_keys_total", "redis_memory_used_bytes"),
    *("node_filesystem_avail_bytes", "node_filesystem_size_bytes"),
    *("kubelet_volume_stats_available_bytes", "kubelet_volume_stats_capacity_bytes"),
    "backup_last_success_timestamp_seconds",
}
FAMILY = re.compile(r"^# TYPE (\S+) (\S+)$", re.MULTILINE)
JOB = re.compile(r'job="([^"]+)"')


@pytest.fixture(scope="module")
def exported(observed: Observed) -> dict[str, set[str]]:
    """The names that each service exports."""
    return {service: names_in(text) for service, text in observed.metrics.items()}


def names_in(text: str) -> set[str]:
    return {name for family, kind in FAMILY.findall(text) for name in names_of(family, kind)}


def names_of(family: str, kind: str) -> set[str]:
    if kind == "histogram":
        return {f"{family}_bucket", f"{family}_sum", f"{family}_count"}
    return {family}


def of_services() -> list[tuple[str, str]]:
    """Each series of our services that is asked for: its job and its name."""
    return sorted(
        (JOB.search(selector)[1], metric(selector))  # type: ignore[index]
        for selector in {each for _, expression in expressions() for each in selectors(expression)}
        if metric(selector) not in OF_OTHERS and ":" not in metric(selector)
    )


@pytest.mark.parametrize(("job", "name"), of_services())
def test_series_are_exported_by_their_service(exported: dict[str, set[str]], job: str, name: str) -> None:
    assert name in exported[job]


def test_recorded_series_are_recorded() -> None:
    recorded = {rule["record"] for rule in rules() if "record" in rule}
    asked = {metric(selector) for _, expression in expressions() for selector in selectors(expression)}
    assert {name for name in asked if ":" in name} == recorded


def test_jobs_are_scraped() -> None:
    scraped = yaml.safe_load((MONITORING / "prometheus.yml").read_text())["scrape_configs"]
    asked = {job for _, expression in expressions() for job in JOB.findall(expression)}
    assert asked <= {job["job_name"] for job in scraped}


def test_targets_are_services_of_compose() -> None:
    configuration = yaml.safe_load((MONITORING / "prometheus.yml").read_text())
    services = compose()["services"]
    for job in configuration["scrape_configs"]:
        names = [name for sd in job.get("dns_sd_configs", []) for name in sd["names"]]
        targets = [target for each in job.get("static_configs", []) for target in each["targets"]]
        names += [target.split(":")[0] for target in targets]
        for name in set(names) - {"localhost"}:
            assert set(services[name]["networks"]) & set(services["prometheus"]["networks"]), name


def test_panels_are_whole() -> None:
    """Grafana's own fields, as far as a slip in them would leave a panel blank."""
    identifiers = [panel["id"] for panel in dashboard()["panels"]]
    assert len(identifiers) == len(set(identifiers))
    for panel in panels():
        assert panel["title"], panel["id"]
        assert panel["description"], panel["title"]
        assert panel["datasource"]["uid"] == "prometheus"
        assert panel["fieldConfig"]["defaults"]["unit"]
        assert all(target["datasource"]["uid"] == "prometheus" for target in panel["targets"])


def test_panels_do_not_overlap() -> None:
    taken: dict[tuple[int, int], str] = {}
    for panel in dashboard()["panels"]:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        for x in range(place["x"], place["x"] + place["w"]):
            for y in range(place["y"], place["y"] + place["h"]):
                assert (x, y) not in taken, f"{panel['title']} lies upon {taken[x, y]}"
                taken[x, y] = panel["title"]


def test_the_dashboard_answers_the_four_questions() -> None:
    rows = [panel["title"] for panel in dashboard()["panels"] if panel["type"] == "row"]
    assert rows == ["Is it up?", "Is it fast?", "Is the cache working?", "Is the data fresh and safe?"]
    assert len(list(panel_expressions())) > 30


def test_what_is_down_shows_as_down_although_it_has_no_series() -> None:
    """Who has no replica left is in no DNS any more: Prometheus forgets its targets, and their `up`."""
    lights = [panel for panel in panels() if "down" in json.dumps(panel["fieldConfig"])]
    assert [panel["title"] for panel in lights] == ["api-cache", "api-rest", "Postgres", "Redis"]
    for panel in lights:
        (target,) = panel["targets"]
        assert target["expr"].endswith(" or vector(0)"), panel["title"]


def test_grafana_finds_its_files() -> None:
    mounts = [mount.split(":") for mount in grafana()["volumes"]]
    inside = {target: ROOT / source for source, target, _ in mounts}
    provisioning = inside["/etc/grafana/provisioning"]
    (datasource,) = yaml.safe_load((provisioning / "datasources/prometheus.yaml").read_text())["datasources"]
    assert datasource["uid"] == "prometheus"
    assert datasource["url"] == "http://prometheus:9090"
    (provider,) = yaml.safe_load((provisioning / "dashboards/air-quality.yaml").read_text())["providers"]
    home = grafana()["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    folder, _, name = home.rpartition("/")
    assert provider["options"]["path"] == folder
    assert (inside[folder] / name).exists()


def grafana() -> dict[str, dict[str, str]]:
    service: dict[str, dict[str, str]] = compose()["services"]["grafana"]
    return service
