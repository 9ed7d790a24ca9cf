import os
import sys
from pathlib import Path

import pytest
from local.processes import Process, free_port
from local.valkey import Valkey

from tests.conftest import PASSWORD, starting
from tests.faults import load
from tests.support import tracebacks


class OriginProcess:
    """The origin in a process of its own, so that it can be killed and paused."""

    def __init__(self, output: Path) -> None:
        self.port = free_port()
        command = [sys.executable, Path(__file__).with_name("origin.py"), str(self.port)]
        self.process = Process("origin", command, environ=dict(os.environ), output=output)

    def start(self) -> None:
        self.process.start_until(lambda: self._get("/asked") is not None)

    def mode(self, name: str) -> None:
        assert self._get(f"/mode/{name}") == name.encode()

    def asked(self) -> int:
        return int(self._get("/asked") or -1)

    def _get(self, path: str) -> bytes | None:
        try:
            return _body(self.port, path)
        except OSError:
            return None


def _body(port: int, path: str) -> bytes:
    connection = load.http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", path)
        return connection.getresponse().read()
    finally:
        connection.close()


@pytest.fixture
def origin(tmp_path):
    server = OriginProcess(tmp_path / "origin.log")
    server.start()
    yield server
    server.process.stop()


@pytest.fixture
def valkey(tmp_path):
    with Valkey(tmp_path / "valkey", environ={"REDIS_PASSWORD": PASSWORD}) as server:
        yield server


@pytest.fixture
def make_cache(origin, valkey, tmp_path):
    with starting(tmp_path, valkey, origin) as make:
        yield make


@pytest.fixture
def cache(make_cache):
    return make_cache()


@pytest.fixture(autouse=True)
def _no_traceback(tmp_path):
    """Whatever was broken, no process of ours logs a fault of its own."""
    yield
    assert not (found := tracebacks(tmp_path)), found[:3]
