"""Writes the ConfigMaps that repeat files of the repository, and their checksums: `make kubernetes`."""

import ast
import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

Manifest = dict[str, Any]

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "kubernetes"
# Quoted, because an annotation has to be a string, and some checksums look like a number.
CHECKSUM = re.compile(r"^( +checksum/settings: ).*$", re.MULTILINE)
SERVICES = ["api-rest", "api-cache"]
# Manifest: the ConfigMaps in it, and the files that each holds.
FILES = {
    "postgres-files.yaml": {
        "postgres-scripts": ["postgres/init-script.sh", "postgres/serve", "postgres/*.sql"],
        # By itself: `kubectl apply` writes the whole object into an annotation, which ends at 256 KiB.
        "postgres-sample": ["postgres/air_quality_measurements.csv"],
    },
    "backup-files.yaml": {"backup-files": ["backup/*"]},
    "redis-files.yaml": {"redis-files": ["redis/redis.conf", "redis/serve"]},
    "monitoring/prometheus-files.yaml": {
        "prometheus": ["monitoring/kubernetes.yml"],
        "prometheus-rules": ["monitoring/rules/*.yml"],
        "postgres-role": ["monitoring/postgres-role.sh"],
    },
    "monitoring/grafana-files.yaml": {
        "grafana-datasources": ["monitoring/grafana/provisioning/datasources/*.yaml"],
        "grafana-providers": ["monitoring/grafana/provisioning/dashboards/*.yaml"],
        "grafana-dashboards": ["monitoring/grafana/dashboards/*.json"],
    },
    "logging/fluent-bit-files.yaml": {"fluent-bit": ["logs/kubernetes.yaml"]},
}


class Text(str):
    """A string that YAML shows line by line."""

    __slots__ = ()


class Dumper(yaml.SafeDumper):
    pass


Dumper.add_representer(
    Text, lambda dumper, text: dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|")
)


def manifests() -> Iterator[tuple[Path, str]]:
    """Each manifest of which something is made, and its text."""
    made = config_maps()
    for file_name, documents in made.items():
        yield FOLDER / file_name, rendered(documents)
    yield FOLDER / "monitoring-operator" / "rules.yaml", rendered([prometheus_rule()])
    data = {each["metadata"]["name"]: each["data"] for documents in made.values() for each in documents}
    for path in sorted(FOLDER.rglob("*.yaml")):
        if CHECKSUM.search(text := path.read_text()):
            yield path, with_checksums(text, data)


def config_maps() -> dict[str, list[Manifest]]:
    """Manifest: the ConfigMaps in it.

    By these names they come before those who read them: kubectl goes by the alphabet, and a pod that starts
    between the two would have the settings of before.
    """
    found = {
        file_name: [
            config_map(name, Path(file_name).name.removesuffix("-files.yaml"), contents(globs))
            for name, globs in held.items()
        ]
        for file_name, held in FILES.items()
    }
    settings = {
        "postgres": settings_of_script("postgres/init-script.sh", "POSTGRES"),
        **{name: settings_of_service(name) for name in SERVICES},
        "backup": settings_of_script("backup/backup.sh", "BACKUP"),
    }
    return found | {
        f"{name}-settings.yaml": [config_map(name, name, each)] for name, each in settings.items()
    }


def with_checksums(text: str, data: Mapping[str, Mapping[str, str]]) -> str:
    """A manifest's text, each `checksum/settings` in it that of the ConfigMaps which that object reads."""

    def renewed(document: str) -> str:
        names = config_maps_in(yaml.safe_load(document))
        return CHECKSUM.sub(rf'\1"{checksum({name: data[name] for name in names})}"', document)

    return "---\n".join(
        renewed(document) if CHECKSUM.search(document) else document
        for document in re.split(r"^---\n", text, flags=re.MULTILINE)
    )


def config_maps_in(manifest: object) -> Iterator[str]:
    """The names of the ConfigMaps that an object reads, by whatever way; not of those that may be missing."""
    if isinstance(manifest, list):
        for each in manifest:
            yield from config_maps_in(each)
    elif isinstance(manifest, dict):
        for key, value in manifest.items():
            if key not in {"configMap", "configMapRef", "configMapKeyRef"}:
                yield from config_maps_in(value)
            elif not value.get("optional"):
                yield value["name"]


def checksum(data: Mapping[str, Mapping[str, str]]) -> str:
    """Of ConfigMaps by name; another one for other data, by which a controller sees that its pods are old."""
    return hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()


def rendered(documents: list[Manifest]) -> str:
    text = yaml.dump_all(documents, Dumper=Dumper, sort_keys=False, allow_unicode=True, width=1000)
    return f"# Made by `make kubernetes` from files of this repository; a test compares. Do not edit.\n{text}"


def config_map(name: str, component: str, data: dict[str, str]) -> Manifest:
    labels = {"app.kubernetes.io/name": component, "app.kubernetes.io/part-of": "air-quality"}
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": name, "labels": labels},
        "data": data,
    }


def prometheus_rule() -> Manifest:
    """The rules, as the Prometheus operator reads them."""
    files = sorted((ROOT / "monitoring" / "rules").glob("*.yml"))
    groups = [group for file in files for group in yaml.safe_load(file.read_text())["groups"]]
    return {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PrometheusRule",
        "metadata": {"name": "air-quality", "labels": {"app.kubernetes.io/part-of": "air-quality"}},
        "spec": {"groups": groups},
    }


def contents(globs: list[str]) -> dict[str, str]:
    paths = sorted(path for glob in globs for path in ROOT.glob(glob))
    return {path.name: Text(path.read_text()) for path in paths}


def settings_of_service(service: str) -> dict[str, str]:
    """environment.env, as far as the service reads it; api-rest listens where api-cache asks."""
    known = environment()
    if service == "api-rest":
        known["PORT"] = known["BACKEND_PORT"]
    fields = variables_of(service)
    return {name: value for name, value in known.items() if name in fields and not is_secret(name)}


def settings_of_script(script: str, prefix: str) -> dict[str, str]:
    """environment.env, as far as the script reads it."""
    named = variables_in(script, prefix)
    return {name: value for name, value in environment().items() if name in named and not is_secret(name)}


def environment() -> dict[str, str]:
    """environment.env: each variable and its default."""
    lines = (ROOT / "environment.env").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


def is_secret(variable: str) -> bool:
    return variable.endswith("_PASSWORD")


def variables_of(service: str) -> set[str]:
    """What a service reads: the fields of its Config, in upper case."""
    module = ast.parse((ROOT / service / "config.py").read_text())
    (config,) = (node for node in module.body if isinstance(node, ast.ClassDef) and node.name == "Config")
    fields = (node.target for node in config.body if isinstance(node, ast.AnnAssign))
    return {field.id.upper() for field in fields if isinstance(field, ast.Name)}


def variables_in(script: str, prefix: str) -> set[str]:
    """The variables PREFIX_... that a shell script names."""
    return set(re.findall(rf"\b{prefix}_\w+", (ROOT / script).read_text()))


def write() -> None:
    for path, text in manifests():
        path.write_text(text)


if __name__ == "__main__":
    write()
