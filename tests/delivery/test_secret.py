"""environment.env means the same to each of its readers: the shell, kubectl, people and our own code."""

import base64
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from kubernetes.configmaps import environment
from local.folder import fill_passwords
from tests.delivery.manifests import ROOT

KUBECTL = Path(sys.executable).with_name("kubectl")


@pytest.fixture
def filled(tmp_path: Path) -> Path:
    """A copy whose passwords `make passwords` has filled."""
    file = tmp_path / "environment.env"
    text, _ = fill_passwords((ROOT / file.name).read_text())
    file.write_text(text)
    return file


def secret(file: Path) -> dict[str, str]:
    """What `kubectl create secret` would hand to the cluster."""
    command = [KUBECTL, "create", "secret", "generic", "credentials", f"--from-env-file={file}"]
    done = subprocess.run(
        [*command, "--dry-run=client", "--output=json"], capture_output=True, text=True, check=True
    )
    return {name: base64.b64decode(value).decode() for name, value in json.loads(done.stdout)["data"].items()}


def exported(file: Path) -> dict[str, str]:
    """What `set -a; source environment.env; set +a` hands to Compose."""
    command = ["env", "-i", "bash", "-c", 'set -a; source "$1"; env -0', "bash", file]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return dict(line.split("=", 1) for line in done.stdout.split("\0") if line)


def test_kubectl_makes_the_secret_of_what_the_shell_exports(filled: Path) -> None:
    made, shells = secret(filled), exported(filled)
    assert made.keys() == environment().keys()
    assert made == {name: shells[name] for name in made}
    assert all(made[name] for name in ("POSTGRES_PASSWORD", "POSTGRES_API_PASSWORD", "REDIS_PASSWORD"))


def test_the_readme_tells_of_each_setting_and_its_default() -> None:
    section = (ROOT / "README.md").read_text().partition("\n## Configuration\n")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| `(\w+)` \| (?:`(.*)` )?\| .+ \|$", section, re.MULTILINE)
    assert sorted(rows) == sorted(environment().items())
