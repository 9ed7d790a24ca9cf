"""A real Postgres and a real server, once for the whole run."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest
from local.postgres import Postgres
from local.services import ApiRest
from local.template import copied_database

from tests.http_client import Client

if TYPE_CHECKING:
    import psycopg2


@pytest.fixture(scope="session", autouse=True)
def _temporary_files(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What a killed service leaves behind, pytest clears away."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TMPDIR", str(tmp_path_factory.mktemp("services")))
        yield


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Postgres]:
    with copied_database(tmp_path_factory.mktemp("postgres")) as server:
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
