"""Connections: as many requests as there are places get one, and none is kept for those who left."""

import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest
import requests
from local.postgres import Postgres
from local.processes import wait_until
from local.services import ApiRest

from tests.roles import END_SESSIONS

POOL_SIZE = 4


@pytest.fixture(scope="module")
def new_service(postgres: Postgres) -> Iterator[ApiRest]:
    settings = {"WEB_CONCURRENCY": "1", "POSTGRES_POOL_SIZE": str(POOL_SIZE)}
    with ApiRest(postgres.environ | settings) as service:
        yield service


def of_ours(postgres: Postgres, condition: str) -> int:
    connection = postgres.connect()
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT count(*) FROM pg_stat_activity WHERE usename = 'api' AND {condition}")
        (count,) = cursor.fetchone()
    connection.close()
    return int(count)


def test_a_burst_is_answered_though_no_connection_is_there_yet(
    new_service: ApiRest, postgres: Postgres
) -> None:
    connection = postgres.connect()
    with connection.cursor() as cursor:
        cursor.execute(END_SESSIONS)
    connection.close()
    together = Barrier(2 * POOL_SIZE)  # half of them wait for a connection

    def ask(_: int) -> int:
        together.wait()
        return requests.get(f"{new_service.url}/air_quality?limit=1", timeout=10).status_code

    with ThreadPoolExecutor(2 * POOL_SIZE) as clients:
        assert list(clients.map(ask, range(2 * POOL_SIZE))) == [200] * 2 * POOL_SIZE


@pytest.mark.parametrize("path", ["/air_quality", "/metrics"])
def test_who_leaves_takes_no_connection_along(new_service: ApiRest, postgres: Postgres, path: str) -> None:
    waiting = "application_name = 'api-rest' AND wait_event_type = 'Lock'"
    lock = postgres.connect(options="-c search_path=api")
    lock.cursor().execute("LOCK TABLE air_quality_measurements IN ACCESS EXCLUSIVE MODE")
    with socket.create_connection((new_service.host, new_service.port)) as sock:
        sock.sendall(f"GET {path} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
        assert wait_until(lambda: of_ours(postgres, waiting) == 1, timeout=5)
    gone = wait_until(lambda: of_ours(postgres, waiting) == 0, timeout=5)
    lock.rollback()
    lock.close()
    assert gone
