"""The pods of the manifests come up together, become ready, serve, and bear being deleted."""

import subprocess
from collections.abc import Iterator

import pytest
from tests.delivery.manifests import ROOT, load, long_running
from tests.stack.compose import project_name
from tests.stack.conftest import PASSWORDS
from tests.stack.deployment import ask, until
from tests.stack.pods import Pod, docker, network, ready

NETWORK = project_name("pods")
OURS = {"postgres", "redis", "api-rest", "api-cache"}
Pods = dict[str, Pod]


@pytest.fixture(scope="module")
def pods(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pods]:
    subprocess.run(["make", "build"], cwd=ROOT, check=True, capture_output=True)
    manifests, folder = load(), tmp_path_factory.mktemp("pods")
    workloads = [workload for workload in long_running(manifests) if workload.name in OURS]
    found = {each.name: Pod(each, manifests, PASSWORDS, NETWORK, folder) for each in workloads}
    with network(NETWORK, *(pod.name for pod in found.values())):
        # All at once: a cluster knows no order, and each has to bear that the others are not there yet.
        for pod in found.values():
            pod.start()
        yield found


def stations(pods: Pods) -> int:
    reply = ask(pods["api-cache"].address, 8080, "/air_quality", "GET", {})
    return len({row["id_entity"] for row in reply.json()}) if reply.status == 200 else 0


@pytest.mark.parametrize("name", sorted(OURS))
def test_a_pod_becomes_ready(pods: Pods, name: str) -> None:
    ready(pods[name])


def test_the_pods_serve_the_sample(pods: Pods) -> None:
    for pod in pods.values():
        ready(pod)
    assert until(lambda: stations(pods), 30, "measurements") == 10


@pytest.mark.parametrize("name", sorted(OURS))
def test_a_deleted_pod_is_replaced(pods: Pods, name: str) -> None:
    """By another one at another address, with the volumes of the first."""
    pods[name].delete()
    pods[name].start()
    for pod in pods.values():
        ready(pod)
    assert until(lambda: stations(pods), 30, "measurements") == 10


@pytest.mark.parametrize("name", ["api-rest", "api-cache"])
def test_a_pod_can_run_its_hook(pods: Pods, name: str) -> None:
    ready(pods[name])
    pods[name].run_hook()


@pytest.mark.parametrize("name", sorted(OURS))
def test_memory_stays_far_below_the_limit(pods: Pods, name: str) -> None:
    """At rest, a pod takes no more than it requests."""
    ready(pods[name])
    used = docker("stats", "--no-stream", "--format", "{{.MemUsage}}", pods[name].name).split("/")[0].strip()
    assert megabytes(used) <= megabytes(pods[name].container["resources"]["requests"]["memory"] + "B")


def megabytes(size: str) -> float:
    number, unit = size[:-3], size[-3:]
    return float(number) * {"KiB": 1 / 1024, "MiB": 1, "GiB": 1024}[unit]
