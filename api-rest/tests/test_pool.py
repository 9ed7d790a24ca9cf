"""Connections: as many requests as there are places get one, and none is kept for those who left."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest
import requests
from local.postgres import Postgres
from local.processes import wait_until
from local.services import ApiRest

from tests.http_client import ask
from tests.sessions import END_SESSIONS, locked_table, sessions

POOL_SIZE = 4


@pytest.fixture(scope="module")
def new_service(postgres: Postgres) -> Iterator[ApiRest]:
    settings = {"WEB_CONCURRENCY": "1", "POSTGRES_POOL_SIZE": str(POOL_SIZE)}
    with ApiRest(postgres.environ | settings) as service:
        yield service


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
    with locked_table(postgres):
        with ask(new_service, path):
            assert wait_until(lambda: sessions(postgres, waiting) == 1, timeout=5)
        assert wait_until(lambda: sessions(postgres, waiting) == 0, timeout=5)
