"""docker-compose.yml: hardened, separated, complete."""

import os
import re
import subprocess
from itertools import combinations
from pathlib import PurePath

import pytest
import yaml
from kubernetes.configmaps import environment, variables_in, variables_of
from tests.delivery.manifests import ROOT, Manifest, compose, load, workloads

PASSWORDS = ["POSTGRES_PASSWORD", "POSTGRES_API_PASSWORD", "REDIS_PASSWORD"]
SERVICES: dict[str, Manifest] = compose()["services"]
VOLUMES: dict[str, Manifest] = compose()["volumes"]
STACK = {"api-cache", "api-rest", "postgres", "redis"}
# They do something once, and end.
JOBS = {name for name, service in SERVICES.items() if service["restart"].startswith("on-failure:")}
# Their images write into their own folders.
WRITING = {"elasticsearch", "kibana"}
# Docker's files are root's alone; it has no capability, and no network but Elasticsearch's.
READER = "fluent-bit"
each_service = pytest.mark.parametrize("name", sorted(SERVICES))


def has_compose() -> bool:
    """Whether the client is here, and has the plugin."""
    try:
        return (
            subprocess.run(["docker", "compose", "version"], capture_output=True, check=False).returncode == 0
        )
    except FileNotFoundError:
        return False


needs_compose = pytest.mark.skipif(not has_compose(), reason="docker compose is not installed here")
PROFILES = sorted({profile for service in SERVICES.values() for profile in service.get("profiles", [])})


def config(*options: str, **environ: str) -> subprocess.CompletedProcess[str]:
    kept = {name: os.environ[name] for name in ("PATH", "HOME")}
    return subprocess.run(
        ["docker", "compose", *options, "config", "--quiet"],
        cwd=ROOT,
        env=kept | environ,
        capture_output=True,
        text=True,
        check=False,
    )


@needs_compose
@pytest.mark.parametrize("profile", ["", *PROFILES, "*"])
def test_compose_accepts_the_file(profile: str) -> None:
    done = config("--profile", profile, **dict.fromkeys(PASSWORDS, "x"))
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@needs_compose
@pytest.mark.parametrize("empty", PASSWORDS)
def test_empty_passwords_are_refused_in_one_sentence(empty: str) -> None:
    done = config(**(dict.fromkeys(PASSWORDS, "x") | {empty: ""}))
    assert done.returncode != 0
    assert len(done.stderr.strip().splitlines()) == 1
    assert all(name in done.stderr for name in PASSWORDS)


def test_the_stack_is_whole() -> None:
    assert {name for name, service in SERVICES.items() if "profiles" not in service} == STACK


@each_service
def test_containers_are_hardened(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"] is (name not in WRITING)
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert "privileged" not in service
    assert service["deploy"]["resources"]["limits"].keys() >= {"memory", "pids"}
    assert name == READER or service.get("user", "app") not in {"root", "0", "0:0"}


@pytest.mark.parametrize("name", sorted(set(SERVICES) - JOBS))
def test_containers_that_serve_are_watched(name: str) -> None:
    service = SERVICES[name]
    assert service["restart"] == "unless-stopped"
    assert service["stop_grace_period"]
    assert service["healthcheck"]["test"]


@each_service
def test_only_jobs_are_waited_for_to_end(name: str) -> None:
    for needed, how in SERVICES[name].get("depends_on", {}).items():
        assert (how["condition"] == "service_completed_successfully") == (needed in JOBS)


@pytest.mark.parametrize("name", sorted(STACK))
def test_images_have_versions(name: str) -> None:
    image = re.sub(r"\$\{\w+:-(.*?)\}", r"\1", SERVICES[name]["image"])
    assert re.fullmatch(r"[a-z-]+:\d+(\.\d+)*", image)


def test_only_the_cache_is_published() -> None:
    assert {name for name in STACK if "ports" in SERVICES[name]} == {"api-cache"}
    assert SERVICES["api-cache"]["ports"] == ["${PORT:-8080}:8080"]


def test_who_can_reach_whom() -> None:
    def meet(one: str, other: str) -> bool:
        return bool(set(SERVICES[one]["networks"]) & set(SERVICES[other]["networks"]))

    pairs = {pair for pair in combinations(sorted(STACK), 2) if meet(*pair)}
    assert pairs == {("api-cache", "api-rest"), ("api-cache", "redis"), ("api-rest", "postgres")}


def test_only_the_cache_reaches_the_outside() -> None:
    internal = {
        name for name, network in compose()["networks"].items() if network and network.get("internal")
    }
    assert {name for name in STACK if not set(SERVICES[name]["networks"]) <= internal} == {"api-cache"}


@pytest.mark.parametrize("store", ["postgres", "redis"])
def test_a_store_starts_as_in_kubernetes(store: str) -> None:
    (container,) = next(found for found in workloads(load()) if found.name == store).spec["containers"]
    assert SERVICES[store]["command"] == container["command"]
    assert container["command"][0].endswith("/serve")


@pytest.mark.parametrize("service", ["api-rest", "api-cache"])
def test_every_variable_is_given(service: str) -> None:
    assert variables_of(service) <= set(SERVICES[service]["environment"])


@pytest.mark.parametrize("service", ["api-rest", "api-cache"])
def test_every_variable_is_read(service: str) -> None:
    assert set(SERVICES[service]["environment"]) <= variables_of(service) | {"HOST", "PORT"}


@pytest.mark.parametrize("script", ["backup.sh", "connection.sh", "restore.sh"])
def test_every_variable_of_a_backup_script_is_given(script: str) -> None:
    # Its own superuser's password, Compose gives as it is.
    read = variables_in(f"backup/{script}", "(?:BACKUP|POSTGRES)") - {"POSTGRES_PASSWORD_FILE"}
    assert read <= set(SERVICES["backup"]["environment"])


def test_whoever_takes_the_api_role_s_password_while_it_runs_takes_it_from_the_file() -> None:
    """What the README adds for the rotation: a restore, too, gives the role its password."""
    (text,) = re.findall(r"^    services:\n(?:    .*\n)+", (ROOT / "README.md").read_text(), re.MULTILINE)
    added = yaml.safe_load(text)["services"]
    file = "POSTGRES_API_PASSWORD_FILE"
    takes = {name for name, service in SERVICES.items() if file in service.get("environment", {})}
    assert added.keys() == takes == {"api-rest", "backup"}
    for service in added.values():
        folder = PurePath(service["environment"][file]).parent
        assert [mount.split(":")[1] for mount in service["volumes"]] == [str(folder)]


@each_service
def test_defaults_are_those_of_environment_env(name: str) -> None:
    known = environment()
    for value in SERVICES[name].get("environment", {}).values():
        for variable, default in re.findall(r"\$\{(\w+):-(.*?)\}", str(value)):
            assert known[variable] == default


@each_service
def test_variables_are_in_environment_env(name: str) -> None:
    for variable, value in SERVICES[name].get("environment", {}).items():
        referred = re.findall(r"\$\{(\w+)", str(value)) if value else [variable]
        assert set(referred) <= set(environment())


@each_service
def test_mounts_stay_within_the_repository(name: str) -> None:
    for mount in SERVICES[name].get("volumes", []):
        if (name, mount) == (READER, "/var/lib/docker/containers:/var/lib/docker/containers:ro"):
            continue
        source, _, rest = mount.partition(":")
        assert source in VOLUMES or (ROOT / source).resolve().is_relative_to(ROOT)
        assert source in VOLUMES or rest.endswith(":ro")
