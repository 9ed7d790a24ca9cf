"""The scripts behind the pipeline's make targets: with real git; a recorder plays Docker."""

import os
import subprocess
from pathlib import Path

import pytest
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
    done = subprocess.run(
        ["git", *arguments], cwd=folder, capture_output=True, text=True, check=True, env=GIT
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


def test_a_push_that_fails_leaves_the_digests_of_the_last_one(repository: Path, tmp_path: Path) -> None:
    """Half of the new ones would have `make deploy` roll out one image and not the other."""
    fails = 'case "$*" in "push --quiet "*/api-cache:*) exit 1 ;; esac' + DOCKER
    (repository / "images.digests").write_text("those of the last push")
    path = program(tmp_path / "tools", "docker", fails)
    assert run("push", cwd=repository, PATH=path, REGISTRY="registry.example/air").returncode == 1
    assert (repository / "images.digests").read_text() == "those of the last push"
    assert list(repository.glob("images.digests*")) == [repository / "images.digests"]


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
    assert state(feature) == ("feature/x", "", 1)


def state(clone: Path) -> tuple[str, str, int]:
    """What a person finds again after a merge: the branch, the changes, and how many working trees."""
    trees = git(clone, "worktree", "list").splitlines()
    return git(clone, "branch", "--show-current"), git(clone, "status", "--porcelain"), len(trees)


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
    assert state(feature) == ("feature/x", "", 1)
