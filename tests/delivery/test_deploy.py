"""`.ci/deploy` with the real kubectl, against a stand-in for the cluster: told by what that then holds."""

import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.delivery.apiserver import serve
from tests.delivery.cluster import REVISION, Cluster
from tests.delivery.manifests import KUBERNETES, ROOT
from tests.delivery.patches import Object

DIGEST = "sha256:" + "ab" * 32
WORKLOADS = ["statefulset/postgres", "statefulset/redis", "deployment/api-rest", "deployment/api-cache"]
BEFORE = dict(zip(WORKLOADS, ["postgres:18", "redis:8", "api-rest:1.0.0", "api-cache:1.0.0"], strict=True))
AFTER = {
    "statefulset/postgres": "postgres:18.1",
    "statefulset/redis": "redis:8.1",
    "deployment/api-rest": f"registry.example/api-rest@{DIGEST}",
    "deployment/api-cache": f"registry.example/api-cache@{DIGEST}",
}
LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"


def broken(name: str, *others: str) -> dict[str, str]:
    """An image that does not become ready, and good ones of others."""
    return {other: AFTER[other] for other in others} | {name: f"{name.split('/')[1]}:broken"}


CREDENTIALS: Object = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "credentials"}}


@dataclass(frozen=True)
class Delivery:
    """A checkout, and the cluster that it is deployed to."""

    checkout: Path
    cluster: Cluster
    environ: dict[str, str]

    def release(self, images: dict[str, str]) -> None:
        """What `make push` leaves behind, and a setting that is another."""
        lines = [f"{BEFORE[name]} {image}\n" for name, image in images.items()]
        (self.checkout / "images.digests").write_text("".join(lines))
        self.edit("api-cache-settings.yaml", "CACHE_TTL: '30'", "CACHE_TTL: '60'")

    def edit(self, name: str, old: str, new: str) -> None:
        path = self.checkout / "kubernetes" / name
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new))

    def deploy(self, timeout: str = "10s") -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [self.checkout / ".ci" / "deploy"],
            env=self.environ | {"TIMEOUT": timeout},
            capture_output=True,
            text=True,
            check=False,
        )

    @property
    def cache_ttl(self) -> str:
        return str(self.cluster.objects["configmap/api-cache"]["data"]["CACHE_TTL"])


@contextmanager
def delivery(folder: Path, cluster: Cluster) -> Iterator[Delivery]:
    checkout = folder / "checkout"
    (checkout / ".ci").mkdir(parents=True)
    (checkout / ".ci" / "deploy").symlink_to(ROOT / ".ci" / "deploy")
    (checkout / "kubernetes").mkdir()
    for path in KUBERNETES.glob("*.yaml"):
        shutil.copy(path, checkout / "kubernetes")
    with serve(cluster, folder) as environ:
        yield Delivery(checkout, cluster, environ)


@dataclass(frozen=True)
class Outcome:
    done: subprocess.CompletedProcess[str]
    cluster: Cluster

    @property
    def objects(self) -> dict[str, Object]:
        return self.cluster.objects


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    """The first deploy, into a cluster that holds the Secret alone."""
    with delivery(tmp_path_factory.mktemp("first"), Cluster([CREDENTIALS])) as given:
        return Outcome(given.deploy(), given.cluster)


@pytest.fixture
def running(first: Outcome, tmp_path: Path) -> Iterator[Delivery]:
    """What the first deploy has brought runs."""
    with delivery(tmp_path, Cluster(first.objects.values())) as given:
        yield given


@pytest.fixture(scope="module")
def second(first: Outcome, tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    """A deploy of other images, while autoscalers have more pods at work than the manifests say."""
    cluster = Cluster(first.objects.values())
    for name in ("deployment/api-rest", "deployment/api-cache"):
        cluster.objects[name]["spec"]["replicas"] = 5
    with delivery(tmp_path_factory.mktemp("second"), cluster) as given:
        given.release(AFTER)
        return Outcome(given.deploy(), cluster)


VARIABLE = """
          env:
            - name: REDIS_PASSWORD
              valueFrom: {secretKeyRef: {name: credentials, key: REDIS_PASSWORD}}
"""


@pytest.fixture(scope="module")
def undone(first: Outcome, tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    """A deploy whose api-cache does not become ready; it drops a variable, too."""
    with delivery(tmp_path_factory.mktemp("undone"), Cluster(first.objects.values())) as given:
        given.release(broken("deployment/api-cache", *WORKLOADS))
        given.edit("api-cache.yaml", VARIABLE, "\n")
        return Outcome(given.deploy(), given.cluster)


@pytest.fixture(scope="module")
def undone_postgres(first: Outcome, tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    """A deploy whose Postgres, the first that is waited for, does not become ready."""
    with delivery(tmp_path_factory.mktemp("undone"), Cluster(first.objects.values())) as given:
        given.release(broken("statefulset/postgres", *WORKLOADS))
        return Outcome(given.deploy(timeout="1s"), given.cluster)


def test_deploy_waits_for_everything(first: Outcome) -> None:
    assert first.done.returncode == 0, first.done.stderr
    waited = [line for line in first.done.stdout.splitlines() if "roll" in line]
    assert waited == [
        *["partitioned roll out complete: 1 new pods have been updated..."] * 2,
        'deployment "api-rest" successfully rolled out',
        'deployment "api-cache" successfully rolled out',
    ]


def test_deploy_takes_images_by_digest(first: Outcome, second: Outcome) -> None:
    assert first.cluster.images() == BEFORE
    assert second.done.returncode == 0, second.done.stderr
    assert second.cluster.images() == AFTER


def test_deploy_keeps_the_pods_that_an_autoscaler_has_added(second: Outcome) -> None:
    replicas = [second.objects[name]["spec"]["replicas"] for name in WORKLOADS]
    assert replicas == [1, 1, 5, 5]


@pytest.mark.parametrize(
    ("story", "stuck"), [("undone", "deployment/api-cache"), ("undone_postgres", "statefulset/postgres")]
)
def test_deploy_undoes_what_does_not_roll_out(
    request: pytest.FixtureRequest, first: Outcome, story: str, stuck: str
) -> None:
    after: Outcome = request.getfixturevalue(story)
    assert after.done.returncode == 1
    assert f"{stuck} did not roll out" in after.done.stderr
    assert "did not come back" not in after.done.stderr
    assert after.cluster.images() == BEFORE
    for name in WORKLOADS:
        new, old = after.objects[name], first.objects[name]
        assert new["spec"]["template"] == old["spec"]["template"]
        assert new["metadata"]["annotations"][LAST_APPLIED] == old["metadata"]["annotations"][LAST_APPLIED]
    assert after.objects["deployment/api-rest"]["metadata"]["annotations"][REVISION] == "3"


def test_deploy_frees_a_stateful_set_from_the_pod_that_it_waits_for(undone_postgres: Outcome) -> None:
    """The controller replaces no pod of its own that is not ready, whatever its template says by then."""
    changes = undone_postgres.cluster.changes
    assert [change for change in changes if change.startswith("delete")] == ["delete pod/postgres-0"]
    assert changes[: changes.index("delete pod/postgres-0")].count("patch statefulset/postgres") >= 2
    pod = undone_postgres.objects["pod/postgres-0"]
    assert pod["template"]["spec"]["containers"][0]["image"] == "postgres:18"


def test_deploy_brings_the_settings_back_before_the_pods(undone: Outcome) -> None:
    assert undone.objects["configmap/api-cache"]["data"]["CACHE_TTL"] == "30"
    changes = undone.cluster.changes
    (_, back) = (index for index, change in enumerate(changes) if change == "patch configmap/api-cache")
    for name in WORKLOADS:
        assert changes[:back].count(f"patch {name}") == 1
        assert changes[back:].count(f"patch {name}") >= 1


def test_what_a_bad_deploy_dropped_the_next_one_can_drop(undone: Outcome, tmp_path: Path) -> None:
    """`rollout undo` brings it back, but not the manifest by which the next `apply` would know of it."""

    def variables(cluster: Cluster) -> list[Object]:
        (container,) = cluster.objects["deployment/api-cache"]["spec"]["template"]["spec"]["containers"]
        return list(container.get("env", []))

    assert [each["name"] for each in variables(undone.cluster)] == ["REDIS_PASSWORD"]
    with delivery(tmp_path, Cluster(undone.objects.values())) as given:
        given.edit("api-cache.yaml", VARIABLE, "\n")
        done = given.deploy()
    assert done.returncode == 0, done.stderr
    assert not variables(given.cluster)


def again(cluster: Cluster, request: str) -> Callable[[str], bool]:
    """Grants this request once."""
    return lambda asked: asked == request and request in cluster.changes


def stick(cluster: Cluster) -> None:
    cluster.stick("statefulset/postgres")


def keep_the_pods(cluster: Cluster) -> None:
    cluster.refuses = {"get pod", "delete pod/postgres-0"}.__contains__


def keep_the_template(cluster: Cluster) -> None:
    cluster.refuses = again(cluster, "patch deployment/api-rest")


@pytest.mark.parametrize(
    ("hinder", "name"),
    [
        (stick, "statefulset/postgres"),
        (keep_the_pods, "statefulset/postgres"),
        (keep_the_template, "deployment/api-rest"),
    ],
)
def test_deploy_undoes_the_rest_when_one_does_not_come_back(
    running: Delivery, hinder: Callable[[Cluster], None], name: str
) -> None:
    """It takes longer than $TIMEOUT, or the API server refuses something; the rest comes after it."""
    running.release(broken(name, "deployment/api-cache"))
    hinder(running.cluster)
    done = running.deploy(timeout="1s")
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith(f"{name} did not come back")
    assert running.cluster.changes.count("patch deployment/api-cache") >= 2
    assert running.cluster.images()["deployment/api-cache"] == "api-cache:1.0.0"
    assert 'deployment "api-cache" successfully rolled out' in done.stdout.rpartition("rolled back")[2]


def test_deploy_undoes_what_was_taken_when_the_rest_is_refused(running: Delivery) -> None:
    running.release({name: AFTER[name] for name in ("statefulset/postgres", "statefulset/redis")})
    running.cluster.refuses = "patch statefulset/redis".__eq__
    done = running.deploy()
    assert done.returncode == 1
    assert "back to what ran before" in done.stderr
    assert running.cluster.changes.count("patch statefulset/postgres") >= 2
    assert running.cluster.images() == BEFORE
    assert running.cache_ttl == "30"


def test_deploy_undoes_the_pods_when_the_settings_do_not_come_back(running: Delivery) -> None:
    running.release(broken("deployment/api-cache"))
    running.cluster.refuses = again(running.cluster, "patch configmap/api-cache")
    done = running.deploy()
    assert done.returncode == 1
    assert "the ConfigMaps did not come back" in done.stderr.splitlines()[-1]
    assert running.cache_ttl == "60"
    assert running.cluster.images() == BEFORE


def test_the_first_deploy_has_nothing_to_go_back_to(tmp_path: Path) -> None:
    with delivery(tmp_path, Cluster([CREDENTIALS])) as given:
        given.release(broken("deployment/api-cache"))
        done = given.deploy()
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("redis-0")  # what it shows of the pods, and no more
    assert {change.split()[0] for change in given.cluster.changes} == {"create"}
    assert given.cluster.images() == BEFORE | broken("deployment/api-cache")


def test_deploy_leaves_alone_what_it_did_not_change(second: Outcome, tmp_path: Path) -> None:
    """`rollout undo` without a change would bring back the revision before the last one."""
    with delivery(tmp_path, Cluster(second.objects.values())) as given:
        given.release(AFTER)
        given.cluster.stick("deployment/api-cache")
        done = given.deploy()
    assert done.returncode == 1
    assert "deployment/api-cache did not roll out" in done.stderr
    assert given.cluster.images() == AFTER
    assert not {f"patch {name}" for name in WORKLOADS} & set(given.cluster.changes)


def test_deploy_needs_the_credentials_first(tmp_path: Path) -> None:
    with delivery(tmp_path, Cluster()) as given:
        assert given.deploy().returncode != 0
    assert not given.cluster.objects
