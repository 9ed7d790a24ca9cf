"""The scripts behind the pipeline's make targets: with real git; recorders play Docker and Kubernetes."""

import os
import subprocess
from pathlib import Path

import pytest
import yaml
from tests.delivery.manifests import ROOT

DIGEST = "sha256:" + "ab" * 32


def run(script: str, *arguments: str, cwd: Path, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [ROOT / ".ci" / script, *arguments],
        cwd=cwd,
        env=os.environ | environ,
        capture_output=True,
        text=True,
        check=False,
    )


def program(folder: Path, name: str, script: str) -> str:
    """The PATH that finds this program in front of the real one. It records how it was called."""
    folder.mkdir(exist_ok=True)
    path = folder / name
    path.write_text(f'#!/bin/sh\nprintf "%s\\n" "$*" >>"${{0%/*}}/calls"\n{script}\n')
    path.chmod(0o755)
    return f"{folder}:{os.environ['PATH']}"


def calls(folder: Path) -> list[str]:
    return (folder / "calls").read_text().splitlines()


# ---- deploy ------------------------------------------------------------------------------------------------

KUBECTL = """
case "$*" in
  "apply view-last-applied configmap"*) echo '{"kind": "ConfigMap", "data": {"CACHE_TTL": "30"}}' ;;
  apply*)
    to=applied
    [ ! -e "${0%/*}/applied" ] || to=again
    cat >"${0%/*}/$to" ;;
  $FAILING*) exit 1 ;;
  "rollout status $STUCK"*) [ -e "${0%/*}/undone" ] ;;
  "rollout undo $STUCK"*) : >"${0%/*}/undone" ;;
  "get statefulset/"*) echo -n new ;;
  "get deployment/"*.spec.replicas*) echo -n 5 ;;
  "get deployment/"* | "get controllerrevision/new"*)
    if [ -e "${0%/*}/applied" ]; then echo -n 8; else echo -n 7; fi ;;
esac
"""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """What .ci/deploy works on, where it may leave images.digests."""
    folder = tmp_path / "checkout"
    (folder / ".ci").mkdir(parents=True)
    (folder / ".ci" / "deploy").symlink_to(ROOT / ".ci" / "deploy")
    (folder / "kubernetes").symlink_to(ROOT / "kubernetes")
    return folder


def deploy(
    checkout: Path, tools: Path, kubectl: str = KUBECTL, stuck: str = "-", failing: str = "-"
) -> subprocess.CompletedProcess[str]:
    path = program(tools, "kubectl", kubectl)
    return subprocess.run(
        [checkout / ".ci" / "deploy"],
        env=os.environ | {"PATH": path, "STUCK": stuck, "FAILING": failing},
        capture_output=True,
        text=True,
        check=False,
    )


def test_deploy_waits_for_everything(checkout: Path, tmp_path: Path) -> None:
    assert deploy(checkout, tmp_path / "tools").returncode == 0
    waited = [call.split()[2] for call in calls(tmp_path / "tools") if call.startswith("rollout status")]
    assert waited == WORKLOADS


def test_deploy_takes_images_by_digest(checkout: Path, tmp_path: Path) -> None:
    (checkout / "images.digests").write_text(f"api-cache:1.0.0 registry.example/api-cache@{DIGEST}\n")
    deploy(checkout, tmp_path / "tools")
    applied = (tmp_path / "tools" / "applied").read_text()
    assert f"image: registry.example/api-cache@{DIGEST}\n" in applied
    assert "image: api-cache:1.0.0" not in applied
    assert "image: api-rest:1.0.0\n" in applied


WORKLOADS = ["statefulset/postgres", "statefulset/redis", "deployment/api-rest", "deployment/api-cache"]


@pytest.mark.parametrize("stuck", ["deployment/api-cache", "statefulset/postgres"])
def test_deploy_undoes_what_does_not_roll_out(checkout: Path, tmp_path: Path, stuck: str) -> None:
    done = deploy(checkout, tmp_path / "tools", stuck=stuck)
    assert done.returncode == 1
    assert stuck in done.stderr
    undone = [call for call in calls(tmp_path / "tools") if call.startswith("rollout undo")]
    assert undone == [f"rollout undo {name} --to-revision 7" for name in WORKLOADS]


@pytest.mark.parametrize(
    "failing",
    ["rollout status statefulset/postgres", "rollout undo statefulset/postgres", "delete pod", "get pods"],
)
def test_deploy_undoes_the_rest_when_one_does_not_come_back(
    checkout: Path, tmp_path: Path, failing: str
) -> None:
    """Postgres, the first, takes longer than $TIMEOUT, or the API server refuses something."""
    done = deploy(checkout, tmp_path / "tools", stuck="statefulset/postgres", failing=failing)
    assert done.returncode == 1
    assert failing == "get pods" or "statefulset/postgres did not come back" in done.stderr.splitlines()[-1]
    after = calls(tmp_path / "tools")
    after = after[next(index for index, call in enumerate(after) if call.startswith("rollout undo")) :]
    assert [call.split()[2] for call in after if call.startswith("rollout undo")] == WORKLOADS
    waited = [call.split()[2] for call in after if call.startswith("rollout status")]
    assert waited == WORKLOADS[len(WORKLOADS) - len(waited) :]
    assert set(waited) >= set(WORKLOADS[1:])


def test_deploy_undoes_what_was_taken_when_the_rest_is_refused(checkout: Path, tmp_path: Path) -> None:
    kubectl = KUBECTL.replace('/$to" ;;', '/$to"; [ "$to" != applied ] ;;')
    assert kubectl != KUBECTL
    done = deploy(checkout, tmp_path / "tools", kubectl)
    assert done.returncode == 1
    assert "back to what ran before" in done.stderr
    assert '"CACHE_TTL": "30"' in (tmp_path / "tools" / "again").read_text()
    undone = [call.split()[2] for call in calls(tmp_path / "tools") if call.startswith("rollout undo")]
    assert undone == WORKLOADS


def test_deploy_undoes_the_pods_when_the_settings_do_not_come_back(checkout: Path, tmp_path: Path) -> None:
    kubectl = KUBECTL.replace('/$to" ;;', '/$to"; [ "$to" != again ] ;;')
    assert kubectl != KUBECTL
    done = deploy(checkout, tmp_path / "tools", kubectl, stuck="deployment/api-cache")
    assert done.returncode == 1
    assert "the ConfigMaps did not come back" in done.stderr.splitlines()[-1]
    undone = [call.split()[2] for call in calls(tmp_path / "tools") if call.startswith("rollout undo")]
    assert undone == WORKLOADS


def test_deploy_frees_a_stateful_set_from_the_pod_that_it_waits_for(checkout: Path, tmp_path: Path) -> None:
    """The controller replaces no pod of its own that is not ready, whatever its template says by then."""
    deploy(checkout, tmp_path / "tools", stuck="statefulset/postgres")
    done = calls(tmp_path / "tools")
    (deleted,) = (call for call in done if call.startswith("delete"))
    assert deleted.startswith("delete pod postgres-0 ")
    assert done.index(deleted) == done.index("rollout undo statefulset/postgres --to-revision 7") + 1


def test_deploy_brings_the_settings_back_before_the_pods(checkout: Path, tmp_path: Path) -> None:
    deploy(checkout, tmp_path / "tools", stuck="deployment/api-cache")
    assert '"CACHE_TTL": "30"' in (tmp_path / "tools" / "again").read_text()
    order = [call.split()[:2] for call in calls(tmp_path / "tools")]
    applied = max(index for index, call in enumerate(order) if call == ["apply", "--filename"])
    assert applied < order.index(["rollout", "undo"])


def test_deploy_keeps_the_pods_that_an_autoscaler_has_added(checkout: Path, tmp_path: Path) -> None:
    deploy(checkout, tmp_path / "tools")
    applied = yaml.load_all((tmp_path / "tools" / "applied").read_text(), Loader=yaml.CSafeLoader)
    replicas = {
        f"{each['kind']}/{each['metadata']['name']}".lower(): each["spec"]["replicas"]
        for each in applied
        if each and "replicas" in each.get("spec", {})
    }
    assert replicas == dict(zip(WORKLOADS, [1, 1, 5, 5], strict=True))


def test_the_first_deploy_has_nothing_to_go_back_to(checkout: Path, tmp_path: Path) -> None:
    nothing = 'case "$*" in "rollout status"*) exit 1 ;; "apply --filename"*) cat >/dev/null ;; esac'
    assert deploy(checkout, tmp_path / "tools", nothing).returncode == 1
    done = calls(tmp_path / "tools")
    assert [call for call in done if call.startswith("apply --filename")] == ["apply --filename -"]
    assert not [call for call in done if call.startswith(("rollout undo", "delete"))]


def test_deploy_leaves_alone_what_it_did_not_change(checkout: Path, tmp_path: Path) -> None:
    """`rollout undo` without a change would bring back the revision before the last one."""
    same = KUBECTL.replace("echo -n 8", "echo -n 7")
    deploy(checkout, tmp_path / "tools", same, stuck="deployment/api-cache")
    assert not [call for call in calls(tmp_path / "tools") if call.startswith("rollout undo")]


def test_deploy_needs_the_credentials_first(checkout: Path, tmp_path: Path) -> None:
    done = deploy(checkout, tmp_path / "tools", 'case "$*" in "get secret"*) exit 1 ;; esac')
    assert done.returncode != 0
    assert not [call for call in calls(tmp_path / "tools") if call.startswith("apply")]


# ---- push --------------------------------------------------------------------------------------------------

DOCKER = f"""
case "$*" in
  login*)
    cat >"$DOCKER_CONFIG/config.json"
    echo "$DOCKER_CONFIG" >"${{0%/*}}/login" ;;
  "image inspect"*)
    for last in "$@"; do :; done
    echo "elsewhere/x@sha256:00"
    echo "${{last%:*}}@{DIGEST}" ;;
esac
"""


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    folder = tmp_path / "repository"
    folder.mkdir()
    git(folder, "init", "--quiet", "--initial-branch", "develop")
    commit(folder, "first")
    return folder


def git(folder: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=Test", "-c", "user.email=test@example.org"]
    done = subprocess.run(
        ["git", *identity, *arguments], cwd=folder, capture_output=True, text=True, check=True, env=GIT
    )
    return done.stdout.strip()


GIT = {
    **{name: value for name, value in os.environ.items() if not name.startswith("GIT_")},
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_AUTHOR_NAME": "Test",
    "GIT_AUTHOR_EMAIL": "test@example.org",
    "GIT_COMMITTER_NAME": "Test",
    "GIT_COMMITTER_EMAIL": "test@example.org",
}


def commit(folder: Path, name: str) -> str:
    (folder / name).write_text(name)
    git(folder, "add", name)
    git(folder, "commit", "--quiet", "--message", name)
    return git(folder, "rev-parse", "HEAD")


def test_push_writes_digests(repository: Path, tmp_path: Path) -> None:
    path = program(tmp_path / "tools", "docker", DOCKER)
    done = run("push", cwd=repository, PATH=path, REGISTRY="registry.example/air")
    assert done.returncode == 0, done.stderr
    assert (repository / "images.digests").read_text().splitlines() == [
        f"api-rest:1.0.0 registry.example/air/api-rest@{DIGEST}",
        f"api-cache:1.0.0 registry.example/air/api-cache@{DIGEST}",
    ]
    head = git(repository, "rev-parse", "--short=12", "HEAD")
    assert f"push --quiet registry.example/air/api-rest:1.0.0-{head}" in calls(tmp_path / "tools")


def test_push_forgets_its_login_and_never_shows_it(repository: Path, tmp_path: Path) -> None:
    tools = tmp_path / "tools"
    given = {"REGISTRY": "registry.example/air", "REGISTRY_USER": "ci", "REGISTRY_PASSWORD": "top$ecret"}
    done = run("push", cwd=repository, PATH=program(tools, "docker", DOCKER), **given)
    assert done.returncode == 0, done.stderr
    assert "login --username ci --password-stdin registry.example" in calls(tools)
    assert not Path((tools / "login").read_text().strip()).exists()
    assert "top$ecret" not in done.stdout + done.stderr + "".join(calls(tools))


def test_push_names_what_it_lacks(repository: Path) -> None:
    done = run("push", cwd=repository, REGISTRY="")
    assert done.returncode != 0
    assert "REGISTRY" in done.stderr


# ---- merge -------------------------------------------------------------------------------------------------


@pytest.fixture
def feature(repository: Path, tmp_path: Path) -> Path:
    """A clone with a feature branch checked out, one commit ahead of develop."""
    clone = tmp_path / "clone"
    git(repository, "switch", "--quiet", "--create", "feature/x")
    commit(repository, "feature")
    git(repository, "switch", "--quiet", "--detach")
    git(tmp_path, "clone", "--quiet", "--branch", "feature/x", str(repository), str(clone))
    return clone


def test_merge_brings_the_commit_into_the_branch(feature: Path, repository: Path) -> None:
    done = run("merge", "develop", cwd=feature, **GIT, BRANCH_NAME="feature/x")
    assert done.returncode == 0, done.stderr
    assert "Merge feature/x into develop" in git(repository, "log", "--format=%s", "develop")
    assert git(repository, "show", "develop:feature") == "feature"


@pytest.mark.usefixtures("feature")
def test_merge_needs_no_name_and_no_other_branch(repository: Path, tmp_path: Path) -> None:
    """As in an agent of Jenkins: nobody is configured, and the clone follows the built branch alone."""
    clone, home = tmp_path / "agent", tmp_path / "home"
    home.mkdir()
    only = ["--quiet", "--single-branch", "--branch", "feature/x"]
    git(tmp_path, "clone", *only, str(repository), str(clone))
    nobody = {name: value for name, value in GIT.items() if not name.startswith(("GIT_AUTHOR", "GIT_COMM"))}
    done = subprocess.run(
        [ROOT / ".ci" / "merge", "develop"],
        cwd=clone,
        env=nobody | {"HOME": str(home), "XDG_CONFIG_HOME": str(home), "EMAIL": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert git(repository, "show", "develop:feature") == "feature"
    assert git(repository, "log", "-1", "--format=%cn", "develop") == GIT["GIT_COMMITTER_NAME"]


def test_merge_tries_again_when_somebody_was_faster(feature: Path, repository: Path) -> None:
    hook = feature / ".git" / "hooks" / "pre-push"
    # Once, between our fetch and our push, another commit lands.
    hook.write_text(
        f"""#!/bin/sh
[ -e {feature}/raced ] && exit
touch {feature}/raced
cd {repository} && unset GIT_DIR && git switch --quiet develop && echo other >other && git add other \\
  && git commit --quiet --message other && git switch --quiet --detach
"""
    )
    hook.chmod(0o755)
    done = run("merge", "develop", cwd=feature, **GIT)
    assert done.returncode == 0, done.stderr
    assert {"feature", "other"} <= set(git(repository, "ls-tree", "--name-only", "develop").splitlines())


def test_merge_stops_at_a_conflict(feature: Path, repository: Path) -> None:
    git(repository, "switch", "--quiet", "develop")
    (repository / "feature").write_text("something else")
    git(repository, "add", "feature")
    git(repository, "commit", "--quiet", "--message", "clash")
    git(repository, "switch", "--quiet", "--detach")
    before = git(repository, "rev-parse", "develop")
    assert run("merge", "develop", cwd=feature, **GIT).returncode != 0
    assert git(repository, "rev-parse", "develop") == before
