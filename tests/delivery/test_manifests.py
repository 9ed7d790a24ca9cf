"""The manifests keep every rule, and every rule notices a manifest that does not."""

import inspect
from collections.abc import Callable

import pytest
from kubernetes import configmaps
from tests.delivery import rules
from tests.delivery.manifests import KUBERNETES, Manifest, load, named
from tests.delivery.rules import Rule

Breach = Callable[[list[Manifest]], object]


def pod(manifests: list[Manifest], name: str, kind: str = "Deployment") -> Manifest:
    workload = named(manifests, kind, name)
    assert workload
    spec: Manifest = workload["spec"]["template"]["spec"]
    return spec


def container(manifests: list[Manifest], name: str, kind: str = "Deployment") -> Manifest:
    found: Manifest = pod(manifests, name, kind)["containers"][0]
    return found


def spec(manifests: list[Manifest], kind: str, name: str) -> Manifest:
    found = named(manifests, kind, name)
    assert found
    wanted: Manifest = found["spec"]
    return wanted


def remove(manifests: list[Manifest], kind: str, name: str) -> None:
    found = named(manifests, kind, name)
    assert found
    manifests.remove(found)


def data(manifests: list[Manifest], name: str) -> Manifest:
    found = named(manifests, "ConfigMap", name)
    assert found
    values: Manifest = found["data"]
    return values


BREACHES: list[tuple[Rule, str, Breach]] = [
    (rules.schema, "misspelt field", lambda m: pod(m, "api-rest").update(automountToken=False)),
    (rules.schema, "wrong type", lambda m: spec(m, "Deployment", "api-rest").update(replicas="two")),
    (rules.stable_api_groups, "custom resource", lambda m: m[0].update(apiVersion="traefik.io/v1alpha1")),
    (rules.size, "large file", lambda m: data(m, "postgres-sample").update(more="x" * 100_000)),
    (rules.probes, "no liveness", lambda m: container(m, "redis", "StatefulSet").pop("livenessProbe")),
    (
        rules.probes_ask_the_right_question,
        "liveness depends on Postgres",
        lambda m: container(m, "api-rest")["livenessProbe"]["httpGet"].update(path="/readyz"),
    ),
    (rules.resources, "no limit", lambda m: container(m, "api-cache")["resources"]["limits"].pop("memory")),
    (rules.resources, "no request", lambda m: container(m, "api-cache")["resources"].pop("requests")),
    (rules.restricted, "root", lambda m: pod(m, "api-rest")["securityContext"].pop("runAsNonRoot")),
    (rules.restricted, "no seccomp", lambda m: pod(m, "api-rest")["securityContext"].pop("seccompProfile")),
    (rules.restricted, "host network", lambda m: pod(m, "api-rest").update(hostNetwork=True)),
    (
        rules.restricted,
        "host path",
        lambda m: pod(m, "api-rest")["volumes"].append({"name": "etc", "hostPath": {"path": "/etc"}}),
    ),
    (
        rules.restricted,
        "writable root",
        lambda m: container(m, "postgres", "StatefulSet")["securityContext"].pop("readOnlyRootFilesystem"),
    ),
    (
        rules.restricted,
        "capability",
        lambda m: container(m, "redis", "StatefulSet")["securityContext"]["capabilities"].update(
            add=["CHOWN"]
        ),
    ),
    (
        rules.restricted,
        "escalation",
        lambda m: container(m, "api-cache")["securityContext"].pop("allowPrivilegeEscalation"),
    ),
    (
        rules.restricted,
        "root in one container",
        lambda m: container(m, "api-cache")["securityContext"].update(runAsUser=0, runAsNonRoot=False),
    ),
    (rules.restricted, "host port", lambda m: container(m, "api-cache")["ports"][0].update(hostPort=80)),
    (rules.no_token, "token", lambda m: pod(m, "api-cache").pop("automountServiceAccountToken")),
    (rules.no_service_links, "links", lambda m: pod(m, "api-cache").update(enableServiceLinks=True)),
    (rules.images, "latest", lambda m: container(m, "api-cache").update(image="api-cache:latest")),
    (rules.images, "another version", lambda m: container(m, "api-cache").update(image="api-cache:0.9")),
    (rules.images, "pulled", lambda m: container(m, "api-cache").update(imagePullPolicy="Always")),
    (
        rules.selectors,
        "service",
        lambda m: spec(m, "Service", "redis").update(selector={"app.kubernetes.io/name": "cache"}),
    ),
    (
        rules.selectors,
        "deployment",
        lambda m: spec(m, "Deployment", "api-rest").update(selector={"matchLabels": {"app": "api-rest"}}),
    ),
    (
        rules.selectors,
        "without the common label",
        lambda m: spec(m, "Deployment", "api-rest")["template"]["metadata"]["labels"].pop(
            "app.kubernetes.io/part-of"
        ),
    ),
    (
        rules.service_ports,
        "port",
        lambda m: spec(m, "Service", "redis")["ports"][0].update(targetPort="http"),
    ),
    (rules.references, "config map", lambda m: remove(m, "ConfigMap", "redis-files")),
    (
        rules.references,
        "scaler",
        lambda m: spec(m, "HorizontalPodAutoscaler", "api-rest")["scaleTargetRef"].update(name="rest"),
    ),
    (rules.references, "backend", lambda m: remove(m, "Service", "api-cache")),
    (rules.variables_are_given, "missing", lambda m: data(m, "api-cache").pop("CACHE_TTL")),
    (rules.variables_are_given, "how many backups", lambda m: data(m, "backup").pop("BACKUP_DAILY")),
    (rules.settings_reach_the_pods, "changed", lambda m: data(m, "api-cache").update(CACHE_TTL="1")),
    (rules.settings_reach_the_pods, "changed file", lambda m: data(m, "redis-files").update(serve="")),
    (
        rules.settings_reach_the_pods,
        "without a checksum",
        lambda m: spec(m, "Deployment", "api-rest")["template"]["metadata"]["annotations"].pop(
            "checksum/settings"
        ),
    ),
    (
        rules.settings_reach_the_pods,
        "too late",
        lambda m: m.append(m.pop(rules.position(m, "ConfigMap", "api-cache"))),
    ),
    (rules.variables_are_read, "idle", lambda m: data(m, "api-cache").update(CACHE_TTTL="1")),
    (
        rules.secrets,
        "unknown key",
        lambda m: container(m, "api-cache")["env"][0]["valueFrom"]["secretKeyRef"].update(key="PASSWORD"),
    ),
    (rules.secrets, "in the open", lambda m: data(m, "postgres").update(REDIS_PASSWORD="x")),
    (
        rules.rolls_without_loss,
        "unavailable",
        lambda m: spec(m, "Deployment", "api-rest")["strategy"]["rollingUpdate"].update(maxUnavailable=1),
    ),
    (rules.rolls_without_loss, "no preStop", lambda m: container(m, "api-rest").pop("lifecycle")),
    (
        rules.rolls_without_loss,
        "no grace",
        lambda m: pod(m, "api-rest").update(terminationGracePeriodSeconds=5),
    ),
    (rules.replicated, "single", lambda m: spec(m, "Deployment", "api-rest").update(replicas=1)),
    (rules.replicated, "no scaler", lambda m: remove(m, "HorizontalPodAutoscaler", "api-rest")),
    (rules.replicated, "no budget", lambda m: remove(m, "PodDisruptionBudget", "api-rest")),
    (
        rules.replicated,
        "no drain",
        lambda m: spec(m, "PodDisruptionBudget", "api-rest").pop("unhealthyPodEvictionPolicy"),
    ),
    (rules.replicated, "one node", lambda m: pod(m, "api-rest").pop("topologySpreadConstraints")),
    (rules.denied_by_default, "no wall", lambda m: remove(m, "NetworkPolicy", "air-quality-deny-all")),
    (rules.network_edges, "closed", lambda m: remove(m, "NetworkPolicy", "redis")),
    (
        rules.network_edges,
        "other port",
        lambda m: spec(m, "NetworkPolicy", "api-cache")["egress"][0]["ports"][0].update(port=80),
    ),
    (
        rules.network_edges,
        "too open",
        lambda m: spec(m, "NetworkPolicy", "postgres")["ingress"][0]["from"].append(
            {"podSelector": {"matchLabels": {"app.kubernetes.io/name": "api-cache"}}}
        ),
    ),
    (rules.names_are_looked_up, "no DNS", lambda m: remove(m, "NetworkPolicy", "air-quality-dns")),
    (
        rules.names_are_looked_up,
        "no DNS by TCP",
        lambda m: spec(m, "NetworkPolicy", "air-quality-dns")["egress"][0]["ports"].pop(),
    ),
    (
        rules.names_are_looked_up,
        "too open",
        lambda m: spec(m, "NetworkPolicy", "air-quality-dns")["podSelector"]["matchExpressions"].pop(),
    ),
    (rules.stores, "no volume", lambda m: spec(m, "StatefulSet", "postgres").pop("volumeClaimTemplates")),
    (rules.stores, "not headless", lambda m: spec(m, "Service", "postgres").pop("clusterIP")),
    (rules.stores, "no bound", lambda m: data(m, "redis-files").update({"redis.conf": "save x\n"})),
    (
        rules.stores,
        "no eviction",
        lambda m: data(m, "redis-files").update({"redis.conf": "maxmemory 1\nmaxmemory-policy noeviction\n"}),
    ),
    (
        rules.scraped,
        "no annotation",
        lambda m: spec(m, "Deployment", "api-rest")["template"]["metadata"].pop("annotations"),
    ),
    (
        rules.scraped,
        "kept out",
        lambda m: spec(m, "NetworkPolicy", "api-rest")["ingress"][0]["from"].pop(),
    ),
    (
        rules.only_the_cache_faces_users,
        "service",
        lambda m: spec(m, "Service", "api-rest").update(type="LoadBalancer"),
    ),
    (
        rules.only_the_cache_faces_users,
        "ingress",
        lambda m: spec(m, "Ingress", "api-cache")["rules"][0]["http"]["paths"][0].update(
            backend={"service": {"name": "api-rest", "port": {"name": "http"}}}
        ),
    ),
    (
        rules.ingress_keeps_internals_in,
        "all paths",
        lambda m: spec(m, "Ingress", "api-cache")["rules"][0]["http"]["paths"][0].update(pathType="Prefix"),
    ),
    (
        rules.ingress_keeps_internals_in,
        "everything else",
        lambda m: spec(m, "Ingress", "api-cache").update(
            defaultBackend={"service": {"name": "api-cache", "port": {"name": "http"}}}
        ),
    ),
    (rules.ingress_has_tls, "no class", lambda m: spec(m, "Ingress", "api-cache").pop("ingressClassName")),
    (rules.ingress_has_tls, "no TLS", lambda m: spec(m, "Ingress", "api-cache").pop("tls")),
    (
        rules.ingress_has_tls,
        "host twice",
        lambda m: spec(m, "Ingress", "api-cache")["tls"][0].update(hosts=["air-quality.example"]),
    ),
]
RULES = sorted({rule for rule, _, _ in BREACHES}, key=lambda rule: rule.__name__)


def test_every_rule_is_proven_by_a_breach() -> None:
    def is_rule(found: object) -> bool:
        return inspect.isfunction(found) and inspect.signature(found) == inspect.signature(rules.schema)

    ours = {found for _, found in inspect.getmembers(rules, is_rule) if found.__module__ == rules.__name__}
    assert ours == set(RULES)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_the_manifests_keep_the_rule(rule: Rule) -> None:
    assert list(rule(load())) == []


@pytest.mark.parametrize(
    ("rule", "breach"),
    [pytest.param(rule, breach, id=f"{rule.__name__}: {name}") for rule, name, breach in BREACHES],
)
def test_the_rule_notices(rule: Rule, breach: Breach) -> None:
    manifests = load()
    breach(manifests)
    assert list(rule(manifests))


def test_config_maps_repeat_their_files() -> None:
    """`make kubernetes` writes them anew."""
    for path, text in configmaps.manifests():
        assert path.read_text() == text


def test_subfolders_hold_what_needs_other_resource_types() -> None:
    others = load(KUBERNETES / "traefik")
    assert {manifest["apiVersion"] for manifest in others} == {"traefik.io/v1alpha1"}
