import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from local.postgres import Postgres
from local.template import ENVIRON, copied_database
from psycopg2.extensions import connection
from tests.postgres.database import Database


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Postgres]:
    """A server that the init script filled with the sample, in a database of its own."""
    with copied_database(tmp_path_factory.mktemp("postgres")) as server:
        yield server


@pytest.fixture
def superuser(postgres: Postgres) -> Iterator[connection]:
    """A connection whose changes nobody ever sees."""
    session = postgres.connect()
    yield session
    session.close()


@pytest.fixture
def api(postgres: Postgres) -> Iterator[connection]:
    """A connection of the API role."""
    session = postgres.connect(user="api", password=ENVIRON["POSTGRES_API_PASSWORD"])
    yield session
    session.close()


@pytest.fixture
def database(postgres: Postgres, request: pytest.FixtureRequest) -> Database:
    name = f"d{abs(hash(request.node.nodeid))}_{os.getpid()}"
    session = postgres.connect(dbname="postgres")
    session.autocommit = True
    with session.cursor() as cursor:
        cursor.execute(f"CREATE DATABASE {name} STRATEGY file_copy")  # a quarter of the work
    session.close()
    return Database(postgres, name)


@pytest.fixture
def csv(tmp_path: Path) -> Callable[..., str]:
    """Writes a CSV file of the sample's format out of data lines; gives its path."""

    def write(*lines: str, header: str = "time_instant,id_entity,so2,no2,co,o3,pm10,pm2_5") -> str:
        path = tmp_path / "own.csv"
        path.write_text("".join(f"{line}\n" for line in [header, *lines]))
        return str(path)

    return write
