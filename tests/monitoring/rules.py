"""The rules and the dashboard as values, and the series that their PromQL selects."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
MONITORING = ROOT / "monitoring"

# Of PromQL, what we use; an identifier that is not here is taken for a metric.
WORDS = {
    *("absent", "avg_over_time", "count", "histogram_quantile", "label_replace", "max", "min"),
    *("predict_linear", "rate", "sum", "time", "vector"),
    *("and", "or", "unless", "by", "offset"),
}
MARK = "ß"  # a letter that no name has
_STRING = r'"[^"]*"'
_SELECTOR = re.compile(rf"([A-Za-z_:][\w:]*)\s*(\{{(?:{_STRING}|[^}}\"])*\}})?")
_NOISE = re.compile(r"\bby\s*\([^)]*\)|\[[^\]]*\]|\boffset\s+\w+|\b\d[\d.]*\b")


def alerts() -> list[dict[str, Any]]:
    return [rule for rule in rules() if "alert" in rule]


def rules() -> list[dict[str, Any]]:
    """Every alert and every recorded series, in the order of the files."""
    files = sorted((MONITORING / "rules").glob("*.yml"))
    groups = [group for file in files for group in yaml.safe_load(file.read_text())["groups"]]
    return [rule for group in groups for rule in group["rules"]]


def dashboard() -> dict[str, Any]:
    file = MONITORING / "grafana" / "dashboards" / "air-quality.json"
    parsed: dict[str, Any] = json.loads(file.read_text())
    return parsed


def panels() -> list[dict[str, Any]]:
    return [panel for panel in dashboard()["panels"] if panel["type"] != "row"]


def panel_expressions() -> Iterator[tuple[str, str]]:
    """Each panel's title with each of its expressions."""
    for panel in panels():
        for target in panel["targets"]:
            yield panel["title"], target["expr"]


def expressions() -> Iterator[tuple[str, str]]:
    """Where it stands, and the expression: of all panels and rules."""
    yield from panel_expressions()
    for rule in rules():
        yield rule.get("alert") or rule["record"], rule["expr"]


def selectors(expression: str) -> set[str]:
    """The vector selectors of an expression, without their ranges."""
    strings: list[str] = []

    def keep(match: re.Match[str]) -> str:
        strings.append(match[0])
        return f'"{MARK}{len(strings) - 1}"'

    bare = _NOISE.sub(" ", re.sub(_STRING, keep, expression))
    found = (match[0].strip() for match in _SELECTOR.finditer(bare) if match[1] not in WORDS)
    return {re.sub(rf'"{MARK}(\d+)"', lambda number: strings[int(number[1])], each) for each in found}


def metric(selector: str) -> str:
    return selector.partition("{")[0]
