"""A real Postgres and a real server, once for the whole run."""

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

# Before the first import of prometheus_client, as gunicorn.conf.py does it.
os.environ.setdefault("PROMETHEUS_MULTIPROC_DIR", tempfile.mkdtemp(prefix="api-rest-tests-"))

from typing import TYPE_CHECKING

from local.postgres import Postgres
from local.services import ApiRest

from tests.http_client import Client

if TYPE_CHECKING:
    import psycopg2

SETTINGS = {
    "POSTGRES_USER": "postgres",
    "POSTGRES_PASSWORD": "a b'c\"d\\e$f",
    "POSTGRES_DB": "postgres",
    "POSTGRES_API_USER": "api",
    "POSTGRES_API_PASSWORD": "g h'i\"j\\k$l",
    "POSTGRES_API_SCHEMA": "api",
}


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Postgres]:
    folder = Path(tempfile.mkdtemp(prefix="api-rest-postgres-", dir=tmp_path_factory.getbasetemp()))
    with Postgres(folder / "data", environ=SETTINGS) as server:
        yield server


@pytest.fixture(scope="session")
def service(postgres: Postgres) -> Iterator[ApiRest]:
    with ApiRest(postgres.environ | {"WEB_CONCURRENCY": "2"}) as server:
        yield server


@pytest.fixture(scope="session")
def client(service: ApiRest) -> Iterator[Client]:
    client = Client(service.url)
    with client.session:
        yield client


@pytest.fixture
def sql(postgres: Postgres) -> Iterator["psycopg2.extensions.cursor"]:
    """A cursor of the superuser, in autocommit."""
    connection = postgres.connect(options="-c search_path=api -c timezone=UTC")
    connection.autocommit = True
    with connection.cursor() as cursor:
        yield cursor
    connection.close()
