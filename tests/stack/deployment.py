"""A running stack as its tests see it: requests, log lines, parts that can be killed and started again."""

import base64
import http.client
import itertools
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

TIMEOUT = 10.0  # seconds for which a client waits before a test calls it a hang
_limits = itertools.count(10)


def fresh_target() -> str:
    """A URL that nobody has asked for yet."""
    return f"/air_quality?id_entity=aq_salvia&limit={next(_limits)}"


@dataclass(frozen=True)
class Reply:
    status: int
    headers: Mapping[str, str]  # names in lower case
    body: bytes
    seconds: float

    def json(self) -> Any:
        return json.loads(self.body)


class Deployment(Protocol):
    """What `make run` and `docker compose up` have in common."""

    def request(
        self, service: str, target: str, method: str = "GET", headers: Mapping[str, str] | None = None
    ) -> Reply:
        """Ask a service directly; raises OSError or HTTPException when there is no whole answer in time."""

    def logs(self, service: str) -> list[str]:
        """Every line that the service wrote so far."""

    def kill(self, part: str) -> None:
        """End `postgres`, `redis`, `api-rest` or `api-cache` at once, as a crash would."""

    def start(self, part: str) -> None:
        """Start a killed part again, and nothing else."""


def ask(host: str, port: int, target: str, method: str, headers: Mapping[str, str]) -> Reply:
    started = time.monotonic()
    connection = http.client.HTTPConnection(host, port, timeout=TIMEOUT)
    try:
        connection.request(method, target, headers=dict(headers))
        response = connection.getresponse()
        body = response.read()
    finally:
        connection.close()
    fields = {name.lower(): value for name, value in response.getheaders()}
    return Reply(response.status, fields, body, time.monotonic() - started)


# Run by the Python of a container that publishes no port: the same request, from within.
ASK_FROM_WITHIN = """
import base64, http.client, json, sys, time
port, target, method, headers, timeout = json.loads(sys.argv[1])
started = time.monotonic()
connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)
connection.request(method, target, headers=headers)
response = connection.getresponse()
body = response.read()
print(json.dumps({
    "status": response.status,
    "headers": {name.lower(): value for name, value in response.getheaders()},
    "body": base64.b64encode(body).decode(),
    "seconds": time.monotonic() - started,
}))
"""


def reply_from_within(printed: str) -> Reply:
    fields = json.loads(printed)
    return Reply(**{**fields, "body": base64.b64decode(fields["body"])})


def records(lines: list[str]) -> list[dict[str, Any]]:
    """The JSON objects among log lines; a server's own start-up messages may stand between them."""
    return [json.loads(line) for line in lines if line.startswith("{")]


def until(claim: Callable[[], Any], seconds: float, what: str) -> Any:
    """Poll until the claim holds; its value. Fails with the last value when the time is over."""
    deadline = time.monotonic() + seconds
    while True:
        value = claim()
        if value:
            return value
        assert time.monotonic() < deadline, f"not within {seconds} s: {what} (last: {value!r})"
        time.sleep(0.05)
