"""kubernetes/monitoring and kubernetes/logging keep the rules of the other manifests, and fit them."""

import pytest
import yaml
from tests.delivery import rules
from tests.delivery.manifests import KUBERNETES, Manifest, compose, load, named, of_kind, workloads
from tests.delivery.rules import Rule
from tests.monitoring.rules import MONITORING

KEPT: list[Rule] = [
    *(rules.schema, rules.size, rules.probes, rules.resources, rules.no_service_links, rules.images),
    *(rules.selectors, rules.service_ports, rules.references, rules.secrets, rules.denied_by_default),
    rules.settings_reach_the_pods,
]
NETWORK = {"postgres-exporter", "postgres-role", "redis-exporter", "backup-exporter", "grafana", "prometheus"}


def monitoring() -> list[Manifest]:
    return load(KUBERNETES / "monitoring")


def everything() -> list[Manifest]:
    return load() + monitoring() + load(KUBERNETES / "logging")


@pytest.mark.parametrize("rule", KEPT, ids=lambda rule: rule.__name__)
def test_the_rules_hold(rule: Rule) -> None:
    assert list(rule(everything())) == []


def test_monitoring_is_restricted() -> None:
    assert list(rules.restricted(load() + monitoring())) == []


def test_only_the_reader_of_the_nodes_logs_is_not() -> None:
    breaches = list(rules.restricted(load(KUBERNETES / "logging")))
    assert breaches
    assert all(breach.startswith("fluent-bit ") for breach in breaches)


def test_only_prometheus_asks_the_api_server() -> None:
    assert list(rules.no_token(everything())) == ["prometheus gets a service-account token"]


def test_both_ends_of_a_way_are_open() -> None:
    found = everything()
    out, into = rules.allowed(found, "egress"), rules.allowed(found, "ingress")
    # Anyone may enter api-cache: no policy names Prometheus there; in api-rest's it is in any namespace.
    open_to_all = {("prometheus", "api-cache", 8080), ("prometheus", "api-rest", 5000)}
    one_sided = {edge for edge in out ^ into if NETWORK & {*edge[:2]}} - open_to_all
    assert one_sided == set()
    assert {edge for edge in out if edge[0] == "prometheus"} == open_to_all | {
        ("prometheus", "postgres-exporter", 9187),
        ("prometheus", "redis-exporter", 9121),
        ("prometheus", "backup-exporter", 9100),
    }


def test_every_scraped_pod_lets_prometheus_in() -> None:
    found = everything()
    scraped = {
        (workload.name, int(annotations["prometheus.io/port"]))
        for workload in workloads(found)
        if (annotations := workload.pod["metadata"].get("annotations", {})).get("prometheus.io/scrape")
    }
    ways = {edge[1:] for edge in rules.allowed(found, "egress") if edge[0] == "prometheus"}
    assert scraped == ways


def test_the_jobs_are_those_of_the_rules() -> None:
    """The pods' names, less `-exporter`: the rules know targets by these."""
    named_so = {workload.labels["app.kubernetes.io/name"] for workload in workloads(everything())}
    assert {"api-cache", "api-rest", "postgres-exporter", "redis-exporter"} <= named_so
    configuration = (MONITORING / "kubernetes.yml").read_text()
    operator = (KUBERNETES / "monitoring-operator" / "pod-monitor.yaml").read_text()
    for text in (configuration, operator):
        assert "(.+?)(?:-exporter)?" in text


def test_containers_get_what_compose_gives_them() -> None:
    """Images and settings of the exporters and of Grafana are the same in both deployments."""
    services = compose()["services"]
    for name in ("postgres-exporter", "redis-exporter", "grafana"):
        deployment = named(monitoring(), "Deployment", name)
        assert deployment
        (container,) = deployment["spec"]["template"]["spec"]["containers"]
        assert container["image"] == services[name]["image"]
        plain = {n: v for n, v in services[name]["environment"].items() if "${" not in v}
        assert plain.items() <= {e["name"]: e.get("value") for e in container["env"]}.items()


def test_mounted_files_are_where_the_programs_look() -> None:
    prometheus = named(monitoring(), "StatefulSet", "prometheus")
    assert prometheus
    (container,) = prometheus["spec"]["template"]["spec"]["containers"]
    mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    assert f"--config.file={mounts['configuration']}/kubernetes.yml" in container["args"]
    configuration = yaml.safe_load((MONITORING / "kubernetes.yml").read_text())
    assert configuration["rule_files"] == [f"{mounts['rules']}/*.yml"]
    (alertmanagers,) = configuration["alerting"]["alertmanagers"]
    assert alertmanagers["file_sd_configs"] == [{"files": [f"{mounts['alertmanagers']}/*.yml"]}]


def test_the_operator_gets_the_same_rules() -> None:
    (rule,) = of_kind(load(KUBERNETES / "monitoring-operator"), "PrometheusRule")
    names = [group["name"] for group in rule["spec"]["groups"]]
    assert len(names) == len(set(names))
    files = sorted((MONITORING / "rules").glob("*.yml"))
    assert rule["spec"]["groups"] == [
        group for file in files for group in yaml.safe_load(file.read_text())["groups"]
    ]
