"""A first start of Postgres that is broken off begins anew by itself; a whole database is never touched."""

import copy
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.delivery.manifests import ROOT, Manifest, load, long_running, named
from tests.stack.compose import project_name
from tests.stack.conftest import PASSWORDS
from tests.stack.deployment import until
from tests.stack.pods import Pod, network, ready

NETWORK = project_name("first-start")
ROWS = 300_000  # a few seconds to load
DATA = "/var/lib/postgresql/18/docker"
PSQL = ["-h", "/var/run/postgresql", "-XAtqU", "postgres", "-c"]
COUNT = "SELECT count(*) FROM api.air_quality_measurements"
OWN_ROW = "INSERT INTO api.air_quality_measurements VALUES ('2030-01-01', 'aq_own')"


@pytest.fixture(scope="module")
def measurements() -> str:
    options = ["--stations", "100", "--rows", str(ROWS), "--start", "2020-01-01"]
    command = [sys.executable, str(ROOT / "postgres" / "generate_measurements.py"), *options]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


@pytest.fixture
def manifests(measurements: str) -> list[Manifest]:
    found = load()
    sample(found)["air_quality_measurements.csv"] = measurements
    return found


def sample(manifests: list[Manifest]) -> Manifest:
    config_map = named(manifests, "ConfigMap", "postgres-sample")
    assert config_map
    data: Manifest = config_map["data"]
    return data


@pytest.fixture
def _network() -> Iterator[None]:
    with network(NETWORK, f"{NETWORK}-postgres"):
        yield


def postgres(manifests: list[Manifest], folder: Path) -> Pod:
    (workload,) = (found for found in long_running(manifests) if found.name == "postgres")
    return Pod(workload, manifests, PASSWORDS, NETWORK, folder)


def query(pod: Pod, sql: str) -> str:
    """The answer, also while the server listens on its socket file alone; empty where there is none."""
    command = ["docker", "exec", pod.name, "psql", *PSQL, sql]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.strip()


def initdb_runs(pod: Pod) -> bool:
    command = ["docker", "exec", pod.name, "test", "-e", f"{DATA}/PG_VERSION"]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def rows_arrive(pod: Pod) -> bool:
    progress = query(pod, "SELECT sum(tuples_processed) FROM pg_stat_progress_copy")
    return progress.isdigit() and 0 < int(progress) < ROWS


def is_marked(pod: Pod) -> bool:
    return (pod.folder / "postgres" / "data" / "18" / "docker.unfinished").exists()


@pytest.mark.usefixtures("_network")
def test_a_first_start_that_was_broken_off_begins_anew(manifests: list[Manifest], tmp_path: Path) -> None:
    pod = postgres(manifests, tmp_path)
    for moment in (initdb_runs, rows_arrive):
        pod.start()
        until(lambda moment=moment: moment(pod), 60, moment.__name__)
        pod.delete()
        assert is_marked(pod)
    pod.start()
    ready(pod)
    assert query(pod, COUNT) == str(ROWS)
    assert not is_marked(pod)

    query(pod, OWN_ROW)
    pod.delete()
    pod.start()
    ready(pod)
    assert query(pod, COUNT) == str(ROWS + 1)


@pytest.mark.usefixtures("_network")
def test_a_first_start_that_failed_begins_anew(tmp_path: Path) -> None:
    bad, good = load(), load()
    sample(bad)["air_quality_measurements.csv"] += "yesterday noon,aq_own,,,,,,\n"
    first = postgres(bad, tmp_path / "bad")
    first.start()
    until(lambda: not first.running, 60, "the bad line ends it")
    assert "yesterday noon" in first.last_words()
    first.delete()

    second = postgres(good, tmp_path / "good")
    (second.folder / "postgres").mkdir(parents=True)
    (first.folder / "postgres" / "data").rename(second.folder / "postgres" / "data")
    second.start()
    ready(second)
    assert int(query(second, COUNT)) > 1000


@pytest.mark.usefixtures("_network")
def test_a_database_of_before_the_marker_is_never_touched(tmp_path: Path) -> None:
    manifests = load()
    before = copy.deepcopy(manifests)
    stateful_set = named(before, "StatefulSet", "postgres")
    assert stateful_set
    del stateful_set["spec"]["template"]["spec"]["containers"][0]["command"]
    old, new = postgres(before, tmp_path), postgres(manifests, tmp_path)
    old.start()
    ready(old)
    query(old, OWN_ROW)
    rows = query(old, COUNT)
    old.delete()
    new.start()
    ready(new)
    assert query(new, COUNT) == rows
