"""promtool's own checks, and its unit tests of every alert."""

import re
import subprocess
from pathlib import Path

import pytest
import yaml
from tests.monitoring.rules import MONITORING, alerts

UNIT_TESTS = sorted((MONITORING / "tests").glob("*.yml"))
VERDICT = re.compile(r"name: '(\w+) (fires|keeps still): ")


def promtool(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = ["promtool", *map(str, arguments)]
    return subprocess.run(command, cwd=MONITORING, capture_output=True, text=True, check=False)


def test_the_configuration_is_valid() -> None:
    done = promtool("check", "config", "prometheus.yml")
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_configuration_for_kubernetes_is_valid(tmp_path: Path) -> None:
    """Debian's Prometheus is built without the discovery of pods and nodes; everything else is checked."""
    configuration = yaml.safe_load((MONITORING / "kubernetes.yml").read_text())
    found = [job.pop("kubernetes_sd_configs", None) for job in configuration["scrape_configs"]]
    assert [each and each[0]["role"] for each in found] == ["pod", "node", None]
    for job in configuration["scrape_configs"]:
        for of_files in ("authorization", "tls_config"):  # which only a pod has
            job.pop(of_files, None)
    file = tmp_path / "prometheus.yml"
    file.write_text(yaml.safe_dump(configuration))
    done = promtool("check", "config", file)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_rules_are_valid() -> None:
    done = promtool("check", "rules", *sorted((MONITORING / "rules").glob("*.yml")))
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("file", UNIT_TESTS, ids=lambda file: file.stem)
def test_alerts_fire_and_keep_still(file: object) -> None:
    done = promtool("test", "rules", file)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_is_seen_to_fire_and_to_keep_still() -> None:
    seen = set(VERDICT.findall("".join(file.read_text() for file in UNIT_TESTS)))
    wanted = {(rule["alert"], verdict) for rule in alerts() for verdict in ("fires", "keeps still")}
    assert seen == wanted
