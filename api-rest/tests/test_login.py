"""Why Postgres lets nobody in: the log says so, and seldom."""

import contextlib
import json
import socket
from collections.abc import Iterator, Mapping
from pathlib import Path

import psycopg2
import pytest
from local.postgres import Postgres
from local.processes import free_port, wait_until
from local.services import ApiRest

from config import Config
from login import SECONDS_BETWEEN_REASONS, Login

GUESS = "a-guess"


@contextlib.contextmanager
def nobody() -> Iterator[dict[str, str]]:
    yield {"POSTGRES_PORT": str(free_port())}


@contextlib.contextmanager
def silence() -> Iterator[dict[str, str]]:
    """Who takes connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield {"POSTGRES_PORT": str(server.getsockname()[1]), "POSTGRES_CONNECT_TIMEOUT": "2"}


FAULTS = {
    "wrong password": (contextlib.nullcontext({}), 'password authentication failed for user "api"'),
    "no such role": (contextlib.nullcontext({"POSTGRES_API_USER": "gone"}), 'for user "gone"'),
    "refused": (nobody(), "Connection refused"),
    "timeout": (silence(), "timeout expired"),
}


def failing(postgres: Postgres, settings: Mapping[str, str]) -> Config:
    return Config.from_environ(postgres.environ | {"POSTGRES_API_PASSWORD": GUESS} | settings)


@pytest.mark.parametrize(("fault", "reason"), FAULTS.values(), ids=FAULTS)
def test_a_login_that_fails_says_why(
    postgres: Postgres,
    caplog: pytest.LogCaptureFixture,
    fault: contextlib.AbstractContextManager[dict[str, str]],
    reason: str,
) -> None:
    with fault as settings, pytest.raises(psycopg2.OperationalError):
        Login(failing(postgres, settings))()
    (record,) = caplog.records
    assert record.levelname == "ERROR"
    assert record.getMessage().startswith("no connection to Postgres: ")
    assert reason in record.getMessage()
    assert GUESS not in record.getMessage()


def test_it_says_so_again_only_after_a_while(postgres: Postgres, caplog: pytest.LogCaptureFixture) -> None:
    now = 1000.0
    login = Login(failing(postgres, {}), clock=lambda: now)
    for after, said in [(0, 1), (0, 1), (SECONDS_BETWEEN_REASONS - 1, 1), (1, 2), (0, 2)]:
        now += after
        with pytest.raises(psycopg2.OperationalError):
            login()
        assert len(caplog.records) == said


def test_the_service_says_it_in_one_line_for_all_requests(postgres: Postgres, tmp_path: Path) -> None:
    log = tmp_path / "log"
    service = ApiRest(postgres.environ | {"POSTGRES_API_PASSWORD": GUESS, "WEB_CONCURRENCY": "1"}, output=log)
    service.launch()
    try:
        assert wait_until(lambda: service.get("/healthz") == 200, timeout=30)
        assert [service.get("/stations") for _ in range(5)] == [503] * 5
    finally:
        service.kill()
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    (line,) = (line for line in lines if line["level"] == "error")
    assert 'password authentication failed for user "api"' in line["message"]
    assert GUESS not in log.read_text()
