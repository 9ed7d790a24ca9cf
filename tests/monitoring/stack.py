"""The native stack with what watches it: requests that leave a trace in every metric, and outages."""

import contextlib
import http.client
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from local.processes import Server
from local.services import ApiCache, ApiRest
from local.template import ENVIRON, copied_database
from local.valkey import Valkey

SETTINGS = ENVIRON


class Stack:
    """Postgres, Redis, api-rest and api-cache on free ports; `redis` may be another than Valkey."""

    def __init__(self, folder: Path, redis: Server | None = None, redis_port: int = 0) -> None:
        self.folder = folder
        self.postgres = copied_database(folder / "postgres")
        self.redis = redis or Valkey(folder / "redis", environ=SETTINGS)
        redis_environ = {"REDIS_HOST": "127.0.0.1", "REDIS_PORT": str(redis_port or self.redis.port)}
        self.api_rest = ApiRest(SETTINGS | self.postgres.environ, output=folder / "api-rest.log")
        origin = {"BACKEND_HOST": self.api_rest.host, "BACKEND_PORT": str(self.api_rest.port)}
        self.api_cache = ApiCache(SETTINGS | redis_environ | origin, output=folder / "api-cache.log")

    @contextlib.contextmanager
    def running(self) -> Iterator["Stack"]:
        with self.postgres, self.redis, self.api_rest, self.api_cache:
            yield self

    def ask(self, target: str, method: str = "GET", service: str = "api-cache", **headers: str) -> int:
        """The status of a request, whose answer is read to its end."""
        port = self.api_cache.port if service == "api-cache" else self.api_rest.port
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=15)
        with contextlib.closing(connection):
            connection.request(method, target, headers=headers)
            response = connection.getresponse()
            response.read()
            return response.status

    def metrics(self, service: str) -> str:
        port = self.api_cache.port if service == "api-cache" else self.api_rest.port
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=15)
        with contextlib.closing(connection):
            connection.request("GET", "/metrics")
            return connection.getresponse().read().decode()

    def lines(self, service: str) -> list[dict[str, Any]]:
        """The JSON lines that a service wrote so far."""
        text = (self.folder / f"{service}.log").read_text()
        return [json.loads(line) for line in text.splitlines() if line.startswith("{")]
