"""The API role's password changes under load, and no request is lost."""

import os
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Self

import psycopg2
import pytest
import requests
from local.postgres import INIT_SCRIPT, Postgres
from local.processes import wait_until
from local.services import ApiRest
from local.template import ENVIRON
from tests.backup.database import query

END_SESSIONS = "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE usename = 'api'"


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Holds the API role's password."""
    file = tmp_path_factory.mktemp("secrets") / "secret"
    file.write_text(ENVIRON["POSTGRES_API_PASSWORD"] + "\n")
    return file


@pytest.fixture(scope="module")
def api_rest(postgres: Postgres, file: Path) -> Iterator[ApiRest]:
    settings = {
        "POSTGRES_API_PASSWORD": "",
        "POSTGRES_API_PASSWORD_FILE": str(file),
        "WEB_CONCURRENCY": "1",  # each worker remembers by itself which password worked
        "POSTGRES_POOL_SIZE": "16",
    }
    with ApiRest(postgres.environ | settings, output=file.with_name("log")) as service:
        yield service
    set_role(postgres, ENVIRON["POSTGRES_API_PASSWORD"])


@pytest.fixture
def secret(postgres: Postgres, api_rest: ApiRest, file: Path) -> Path:
    """The file; it, the role and the service are of one mind, whatever a test before has done."""
    file.write_text(ENVIRON["POSTGRES_API_PASSWORD"] + "\n")
    set_role(postgres, ENVIRON["POSTGRES_API_PASSWORD"])
    query(postgres, END_SESSIONS)
    assert wait_until(lambda: api_rest.get("/air_quality/latest") == 200, timeout=20)
    return file


def set_role(postgres: Postgres, password: str, user: str = "api") -> None:
    subprocess.run(
        ["bash", INIT_SCRIPT, "--role-only"],
        env=os.environ
        | postgres.psql_environ()
        | {"POSTGRES_API_PASSWORD": password, "POSTGRES_API_USER": user},
        check=True,
    )


def change(secret: Path, password: str) -> None:
    unfinished = secret.with_suffix(".new")
    unfinished.write_text(password)
    unfinished.replace(secret)


class Load:
    """Clients that ask until told to stop, and remember every answer that was none."""

    def __init__(self, url: str) -> None:
        first = requests.get(url, timeout=20)
        self.rows, self._whole = len(first.json()), first.content
        self.answers = 0
        self.lost: list[str] = []
        self._url = url
        self._stop = threading.Event()
        self._clients: list[threading.Thread] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for client in self._clients:
            client.join()

    def grow(self) -> None:
        """More clients need more connections, which have to log in."""
        for _ in range(3):
            client = threading.Thread(target=self._ask)
            client.start()
            self._clients.append(client)

    def _ask(self) -> None:
        with requests.Session() as session:
            while not self._stop.is_set():
                answer = session.get(self._url, timeout=20)
                self.answers += 1
                if answer.status_code != 200 or answer.content != self._whole:
                    self.lost.append(f"{answer.status_code} {answer.text[:200]}")


def test_the_password_changes_under_load(postgres: Postgres, api_rest: ApiRest, secret: Path) -> None:
    backends = "SELECT count(*) FROM pg_stat_activity WHERE usename = 'api'"

    def grow(load: Load) -> None:
        before, asked = query(postgres, backends), load.answers
        load.grow()
        assert wait_until(lambda: query(postgres, backends) > before, timeout=20), load.lost
        assert wait_until(lambda: load.answers > asked + 20, timeout=20), load.lost

    with Load(f"{api_rest.url}/air_quality") as load:
        assert load.rows > 1000
        grow(load)
        change(secret, "it's \\ $new")
        grow(load)  # the file is new, the role is not
        set_role(postgres, "it's \\ $new")
        grow(load)
        with pytest.raises(psycopg2.OperationalError):
            postgres.connect(user="api", password=ENVIRON["POSTGRES_API_PASSWORD"])
    assert load.lost == []


def test_every_login_succeeds_whenever_it_comes(postgres: Postgres, api_rest: ApiRest, secret: Path) -> None:
    def log_in_again() -> bool:
        query(postgres, END_SESSIONS)
        return wait_until(lambda: api_rest.get("/air_quality/latest") == 200, timeout=20)

    for password in ("second", "third"):
        change(secret, password)
        assert log_in_again()
        set_role(postgres, password)
        assert log_in_again()
        assert log_in_again()


def test_a_file_that_vanishes_leaves_the_password_that_worked(
    postgres: Postgres, api_rest: ApiRest, secret: Path
) -> None:
    secret.unlink()
    query(postgres, END_SESSIONS)
    assert wait_until(lambda: api_rest.get("/air_quality/latest") == 200, timeout=20)


def test_a_second_role_takes_over(postgres: Postgres) -> None:
    """Where passwords come by environment: a new role, a rolling restart, the old role gone."""
    set_role(postgres, "another", user="api_2")
    role = {"POSTGRES_API_USER": "api_2", "POSTGRES_API_PASSWORD": "another", "WEB_CONCURRENCY": "1"}
    with ApiRest(postgres.environ | role) as service:
        assert service.get("/air_quality/latest") == 200
    query(postgres, "DROP OWNED BY api_2; DROP ROLE api_2")
