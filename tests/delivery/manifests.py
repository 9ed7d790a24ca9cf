"""The manifests as values: what `kubectl apply -f kubernetes/` would read, and questions about it."""

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
KUBERNETES = ROOT / "kubernetes"
WORKLOADS = {"Deployment", "StatefulSet", "DaemonSet", "Job", "CronJob"}

Manifest = dict[str, Any]


def load(folder: Path = KUBERNETES) -> list[Manifest]:
    """All documents directly in the folder, as kubectl reads them; a copy that may be broken."""
    return copy.deepcopy(_parsed(folder))


@cache
def _parsed(folder: Path) -> list[Manifest]:
    return [
        document
        for path in sorted(folder.glob("*.y*ml"))
        for document in yaml.load_all(path.read_text(), Loader=yaml.CSafeLoader)
        if document
    ]


@dataclass(frozen=True)
class Workload:
    kind: str
    name: str
    pod: Manifest  # its template: metadata and spec

    @property
    def labels(self) -> dict[str, str]:
        labels: dict[str, str] = self.pod["metadata"]["labels"]
        return labels

    @property
    def spec(self) -> Manifest:
        spec: Manifest = self.pod["spec"]
        return spec

    @property
    def containers(self) -> list[Manifest]:
        return [*self.spec.get("initContainers", []), *self.spec["containers"]]

    def ports(self) -> dict[str, int]:
        return {
            port["name"]: port["containerPort"]
            for container in self.containers
            for port in container.get("ports", [])
        }


def of_kind(manifests: list[Manifest], *kinds: str) -> list[Manifest]:
    return [manifest for manifest in manifests if manifest["kind"] in kinds]


def named(manifests: list[Manifest], kind: str, name: str) -> Manifest | None:
    return next((found for found in of_kind(manifests, kind) if found["metadata"]["name"] == name), None)


def workloads(manifests: list[Manifest]) -> Iterator[Workload]:
    for manifest in of_kind(manifests, *WORKLOADS):
        spec = manifest["spec"]
        if manifest["kind"] == "CronJob":
            spec = spec["jobTemplate"]["spec"]
        yield Workload(manifest["kind"], manifest["metadata"]["name"], spec["template"])


def long_running(manifests: list[Manifest]) -> Iterator[Workload]:
    """Those that serve; a Job ends by itself and needs no probe."""
    return (found for found in workloads(manifests) if found.kind not in {"Job", "CronJob"})


def variables(manifests: list[Manifest], container: Manifest) -> dict[str, str]:
    """A container's environment: values of ConfigMaps and of its own; `secret:KEY` for those of a Secret, and
    `field:PATH` for those of the pod itself.
    """
    found: dict[str, str] = {}
    for source in container.get("envFrom", []):
        config_map = named(manifests, "ConfigMap", source["configMapRef"]["name"])
        found |= config_map["data"] if config_map else {}
    for entry in container.get("env", []):
        found[entry["name"]] = (
            entry["value"] if "value" in entry else value_from(manifests, entry["valueFrom"])
        )
    return found


def value_from(manifests: list[Manifest], source: Manifest) -> str:
    if "configMapKeyRef" in source:
        config_map = named(manifests, "ConfigMap", source["configMapKeyRef"]["name"])
        return str(config_map["data"][source["configMapKeyRef"]["key"]]) if config_map else ""
    if "fieldRef" in source:
        return f"field:{source['fieldRef']['fieldPath']}"
    return f"secret:{source['secretKeyRef']['key']}"


def selects(selector: Manifest, labels: dict[str, str]) -> bool:
    """A LabelSelector against a pod's labels; the empty one selects everything."""
    if any(labels.get(name) != value for name, value in selector.get("matchLabels", {}).items()):
        return False
    for expression in selector.get("matchExpressions", []):
        assert expression["operator"] == "In", "the tests know no other operator"
        if labels.get(expression["key"]) not in expression["values"]:
            return False
    return True


def compose() -> Manifest:
    """docker-compose.yml; a copy that may be broken."""
    return copy.deepcopy(_composed())


@cache
def _composed() -> Manifest:
    parsed: Manifest = yaml.load((ROOT / "docker-compose.yml").read_text(), Loader=yaml.CSafeLoader)
    return parsed
