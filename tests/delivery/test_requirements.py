"""What pip installs is what somebody has looked at: pinned, by hash, by one target."""

import json
import re
import subprocess
from pathlib import Path

import pytest
from tests.delivery.manifests import ROOT

LISTED = [
    str(path.relative_to(ROOT))
    for path in sorted([*ROOT.glob("*.in"), *ROOT.glob("[!.]*/*.in")])  # not those of .venv
]


def recipe(*targets: str) -> list[str]:
    """The commands that make would run on a machine that has nothing."""
    done = subprocess.run(
        ["make", "--dry-run", "--always-make", *targets], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return done.stdout.replace("\\\n", " ").splitlines()


@pytest.mark.parametrize(
    "target", ["run", "lint", "test-delivery", "test-schemathesis", "test-conformance", "bench-api-cache"]
)
def test_pip_takes_nothing_without_its_hash(target: str) -> None:
    installs = [line for line in recipe(target) if re.search(r"pip\b.* install\b", line)]
    assert installs
    for line in installs:
        assert "--require-hashes" in line
        assert Path(line.split(" -r ")[1].strip()).name.endswith(".txt")


@pytest.mark.parametrize("file", LISTED)
def test_every_list_is_locked_by_make_lock(file: str) -> None:
    locks = "\n".join(recipe("lock"))
    assert file.removesuffix(".in") in locks
    pinned = (ROOT / file).with_suffix(".txt").read_text()
    names = [line for line in pinned.splitlines() if line and line[0] not in "# "]
    assert names
    assert all("==" in name for name in names)
    assert len(re.findall(r"==.*\\\n +--hash=sha256:", pinned)) == len(names)


def test_npm_takes_nothing_without_its_hash() -> None:
    (install,) = (line for line in recipe("test-conformance") if "npm(" in line)
    assert '"ci"' in install
    lock = json.loads((ROOT / "api-cache/tests/conformance/package-lock.json").read_text())
    packages = {name: package for name, package in lock["packages"].items() if name}
    assert packages
    assert all("integrity" in package for package in packages.values())
