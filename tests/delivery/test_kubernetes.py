"""The README's way with Kubernetes: its commands, by the real kubectl, against a stand-in for the cluster."""

import base64
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from kubernetes.configmaps import environment
from local.folder import fill_passwords
from tests.delivery.apiserver import serve
from tests.delivery.cluster import Cluster, name_of
from tests.delivery.manifests import KUBERNETES, ROOT, load

Shell = Callable[[str], str]


@pytest.fixture
def cluster() -> Cluster:
    return Cluster()


@pytest.fixture
def shell(cluster: Cluster, tmp_path: Path) -> Iterator[Shell]:
    """Runs a line where a checkout with passwords is, and returns what it prints."""
    text, _ = fill_passwords((ROOT / "environment.env").read_text())
    (tmp_path / "environment.env").write_text(text)
    shutil.copytree(KUBERNETES, tmp_path / "kubernetes")
    with serve(cluster, tmp_path) as environ:
        yield (
            lambda line: (
                subprocess.run(
                    ["bash", "-c", line],
                    cwd=tmp_path,
                    env=environ,
                    stdout=subprocess.PIPE,
                    text=True,
                    check=True,
                ).stdout
            )
        )


def commands() -> dict[str, str]:
    """The kubectl commands in the README's section, by their first words; the first of each."""
    section = (ROOT / "README.md").read_text().partition("\n### Kubernetes\n")[2].partition("\n### ")[0]
    found = re.findall(r"^    (kubectl .*)|`(kubectl [^`]+)`|\$\((kubectl [^)]+)\)", section, re.MULTILINE)
    told: dict[str, str] = {}
    for line in ("".join(each) for each in found):
        told.setdefault(" ".join(line.split()[:3]), line)
    return told


def test_the_commands_of_the_readme(cluster: Cluster, shell: Shell) -> None:
    told = commands()
    shell(told["kubectl create secret"])
    assert cluster.objects["secret/credentials"]["data"].keys() == environment().keys()
    assert base64.b64decode(cluster.objects["secret/credentials"]["data"]["POSTGRES_API_USER"]) == b"api"

    shell(told["kubectl apply -f"])
    applied = {name_of(manifest) for manifest in load()}
    assert applied < cluster.objects.keys()
    assert {f"create {name}" for name in applied} == set(cluster.changes) - {"create secret/credentials"}

    (port,) = cluster.objects["service/api-cache"]["spec"]["ports"]
    assert shell(told["kubectl get svc"]) == str(port["nodePort"])

    generations = {name: each["metadata"]["generation"] for name, each in cluster.objects.items()}
    again = [line.split()[1] for line in shell(told["kubectl apply -f"]).splitlines()]
    assert len(again) == len(applied)
    assert set(again) <= {"unchanged", "configured"}
    assert {name: each["metadata"]["generation"] for name, each in cluster.objects.items()} == generations

    # What holds the claim `backups`; the rest of the monitoring never was.
    before = set(cluster.objects)
    shell("kubectl apply -f kubernetes/monitoring/exporters.yaml")
    shell(told["kubectl delete --ignore-not-found"])
    assert cluster.objects.keys() == before

    shell(told["kubectl delete -f"])
    assert list(cluster.objects) == ["persistentvolumeclaim/data-postgres-0"]
    shell(told["kubectl delete pvc"])
    assert not cluster.objects
