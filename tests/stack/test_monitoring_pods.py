"""The exporters' pods of kubernetes/monitoring, beside those of the stores that they look at."""

import re
import time
from collections.abc import Iterator

import pytest
from tests.delivery.manifests import KUBERNETES, load, workloads
from tests.stack.compose import need, project_name
from tests.stack.conftest import PASSWORDS
from tests.stack.deployment import ask, until
from tests.stack.pods import Pod, docker, network, ready

NETWORK = project_name("monitoring")
STORES = ["postgres", "redis"]
EXPORTERS = ["postgres-exporter", "redis-exporter", "backup-exporter"]
Pods = dict[str, Pod]


@pytest.fixture(scope="module")
def pods(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pods]:
    need("postgres-exporter", "redis-exporter", "node-exporter")
    manifests, folder = load() + load(KUBERNETES / "monitoring"), tmp_path_factory.mktemp("monitoring")
    wanted = [*STORES, "postgres-role", *EXPORTERS]
    found = {
        each.name: Pod(each, manifests, PASSWORDS, NETWORK, folder)
        for each in workloads(manifests)
        if each.name in wanted
    }
    with network(NETWORK, *(pod.name for pod in found.values())):
        for pod in found.values():
            pod.start()
        yield found


def metrics(pod: Pod) -> dict[str, float]:
    (port,) = pod.workload.ports().values()
    text = ask(pod.address, port, "/metrics", "GET", {}).body.decode()
    return {name: float(value) for name, value in re.findall(r"^(\w+)(?:{.*})? (\S+)$", text, re.MULTILINE)}


def succeeded(pod: Pod) -> bool:
    """Once; a kubelet starts a pod of a Job again until it succeeds, here while Postgres is not up yet."""
    docker("wait", pod.name)
    if docker("inspect", "--format", "{{.State.ExitCode}}", pod.name) == "0":
        return True
    docker("start", pod.name)
    return False


@pytest.mark.parametrize("name", EXPORTERS)
def test_a_pod_becomes_ready(pods: Pods, name: str) -> None:
    ready(pods[name])


def test_postgres_is_seen_once_the_job_has_made_the_role(pods: Pods) -> None:
    ready(pods["postgres"])
    until(lambda: succeeded(pods["postgres-role"]), 60, "the role is made")
    ready(pods["postgres-exporter"])
    until(lambda: metrics(pods["postgres-exporter"]).get("pg_up") == 1, 60, "pg_up is 1")


def test_redis_is_seen(pods: Pods) -> None:
    ready(pods["redis"])
    ready(pods["redis-exporter"])
    until(lambda: metrics(pods["redis-exporter"]).get("redis_up") == 1, 30, "redis_up is 1")


def test_the_backup_is_seen(pods: Pods) -> None:
    exporter = pods["backup-exporter"]
    ready(exporter)
    metric = "backup_last_success_timestamp_seconds"
    (exporter.folder / exporter.workload.name / "backups" / "backup.prom").write_text(
        f"{metric} {time.time()}\n"
    )
    until(lambda: time.time() - metrics(exporter).get(metric, 0) < 600, 30, "the backup's age")
