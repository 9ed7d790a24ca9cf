"""Real lines of both services against the fields that the index template maps."""

import json
import re

import pytest
from tests.monitoring.conftest import REQUEST_ID, SERVICES, Lines
from tests.monitoring.shipping import LOGS, configuration, fields, shipped

BY_FLUENT_BIT = {"@timestamp", "pod", "container", "stream"}
PYTHON = {"keyword": str, "text": str, "short": int, "long": int, "double": int | float}
OF_A_REQUEST = {"time", "level", "service", "method", "path", "status", "bytes", "duration", "request_id"}


@pytest.mark.parametrize("service", SERVICES)
def test_every_field_of_a_line_is_mapped(lines: Lines, service: str) -> None:
    written = {name for line in lines[service] for name in line}
    assert written - {"time"} <= set(fields())


def test_every_mapped_field_is_written(lines: Lines) -> None:
    written = {name for service in SERVICES for line in lines[service] for name in line}
    assert set(fields()) - BY_FLUENT_BIT <= written


@pytest.mark.parametrize("service", SERVICES)
def test_values_are_of_their_fields_types(lines: Lines, service: str) -> None:
    for line in lines[service]:
        for name, value in line.items():
            if name != "time":
                assert isinstance(value, PYTHON[fields()[name]]), (name, value)
                assert not isinstance(value, bool)


@pytest.mark.parametrize("service", SERVICES)
def test_times_fit_the_parser(lines: Lines, service: str) -> None:
    (line,) = (parser for parser in configuration()["parsers"] if parser["name"] == "line")
    assert line["time_format"] == "%Y-%m-%dT%H:%M:%S.%L%z"
    for written in lines[service]:
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", written["time"])


@pytest.mark.parametrize("service", SERVICES)
def test_a_request_has_its_fields(lines: Lines, service: str) -> None:
    requests = [line for line in lines[service] if "request_id" in line]
    assert requests
    for line in requests:
        assert line.keys() >= OF_A_REQUEST
        assert ("cache" in line) == (service == "api-cache")


def test_a_request_id_finds_both_services(lines: Lines) -> None:
    """The documented query: request_id : "..."."""
    found = [line for service in SERVICES for line in lines[service] if line.get("request_id") == REQUEST_ID]
    assert {line["service"] for line in found} == set(SERVICES)
    assert {line["trace_id"] for line in found} == {"0af7651916cd43dd8448eb211c80319c"}


def test_the_index_is_the_templates() -> None:
    (output,) = configuration()["pipeline"]["outputs"]
    template = (LOGS / "index-template.json").read_text()
    pattern = re.search(r'"index_patterns": \["([^"]+)\*"\]', template)
    assert pattern is not None
    assert output["index"].startswith(pattern[1])
    assert output["write_operation"] == "create", "a data stream takes nothing else"


@pytest.mark.parametrize("service", SERVICES)
def test_fluent_bit_ships_lines_as_they_are(lines: Lines, service: str) -> None:
    for line in lines[service]:
        outer = {
            "log": json.dumps(line) + "\n",
            "stream": "stdout",
            "attrs": {"com.docker.compose.service": service},
            "time": "2026-01-01T00:00:00.123456789Z",
        }
        expected = {name: value for name, value in line.items() if name != "time"}
        expected |= {"@timestamp": line["time"], "stream": "stdout", "container": service}
        assert shipped(json.dumps(outer), configuration()) == expected
