"""What logs/ says, as values, and what its filters make of a line."""

import json
import re
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
LOGS = ROOT / "logs"
Record = dict[str, Any]


def fields() -> dict[str, str]:
    """The fields that the index template maps, and their types."""
    template = json.loads((LOGS / "index-template.json").read_text())["template"]
    return {name: field["type"] for name, field in template["mappings"]["properties"].items()}


def configuration(file: Path = LOGS / "fluent-bit.yaml") -> dict[str, Any]:
    parsed: dict[str, Any] = yaml.safe_load(file.read_text())
    return parsed


def shipped(line: str, config: dict[str, Any]) -> Record | None:
    """What the configured filters make of a line of Docker's json-file; None when they drop it.

    Fluent Bit is in no package registry; this follows its manual for the few filters that we use.
    """
    (tail,) = config["pipeline"]["inputs"]
    record = parsed(line, tail["parser"], config)
    for step in config["pipeline"]["filters"] if record is not None else []:
        if record is not None:
            record = FILTERS[step["name"]](record, step, config)
    return record


def parsed(text: str, parser: str, config: dict[str, Any]) -> Record | None:
    """The JSON object's fields, its time as @timestamp; None when the parser does not fit."""
    (chosen,) = (each for each in config["parsers"] if each["name"] == parser)
    try:
        record = json.loads(text)
    except json.JSONDecodeError:
        return None
    if not isinstance(record, dict):
        return None
    time = record.pop(chosen["time_key"], None)
    return record | {"@timestamp": time}


def nest(record: Record, step: Record, _: Record) -> Record:
    assert step["operation"] == "lift"
    lifted = record.get(step["nested_under"], {})
    return {name: value for name, value in record.items() if name != step["nested_under"]} | lifted


def modify(record: Record, step: Record, _: Record) -> Record:
    """`rename`: only where the old key is there and the new one is not."""
    old, new = step["rename"].split()
    if old not in record or new in record:
        return record
    return {new if name == old else name: value for name, value in record.items()}


def grep(record: Record, step: Record, _: Record) -> Record | None:
    key, pattern = step["regex"].split(" ", 1)
    return record if re.search(pattern, str(record.get(key, ""))) else None


def parser(record: Record, step: Record, config: Record) -> Record:
    assert step["reserve_data"] is True
    inner = parsed(record[step["key_name"]], step["parser"], config)
    if inner is None:
        return record
    rest = {name: value for name, value in record.items() if name not in (step["key_name"], "@timestamp")}
    assert not set(rest) & set(inner), "a field twice: Elasticsearch refuses such a document"
    return rest | inner


FILTERS = {"nest": nest, "modify": modify, "grep": grep, "parser": parser}
