"""README.md tells of each alert what its rule does."""

import re

import pytest
from tests.monitoring.rules import ROOT, alerts

ALERTS = {rule["alert"]: rule for rule in alerts()}
ROW = re.compile(r"^\| `(\w+)` \| (\w+) \| (.+?) \| (.+?) \|$", re.MULTILINE)


def documented() -> dict[str, tuple[str, str]]:
    """Alert: severity and runbook line, out of the section's table."""
    _, _, rest = (ROOT / "README.md").read_text().partition("\n## Monitoring and logs\n")
    section = rest.partition("\n## ")[0]
    return {name: (severity, runbook) for name, severity, _, runbook in ROW.findall(section)}


def test_readme_lists_the_alerts_in_their_order() -> None:
    assert list(documented()) == list(ALERTS)


@pytest.mark.parametrize("name", ALERTS)
def test_readme_repeats_severity_and_runbook(name: str) -> None:
    rule = ALERTS[name]
    assert documented()[name] == (rule["labels"]["severity"], rule["annotations"]["runbook"])


@pytest.mark.parametrize("name", ALERTS)
def test_alerts_are_complete(name: str) -> None:
    rule = ALERTS[name]
    assert rule["labels"]["severity"] in {"page", "ticket"}
    assert rule["for"]
    assert rule["annotations"]["summary"].endswith(".")
    assert rule["annotations"]["runbook"].endswith(".")
