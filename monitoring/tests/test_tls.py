"""TLS to Postgres as Compose's variables ask for it: of its exporter, and of the job that makes its role."""

import re
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
import trustme
from local.postgres import Postgres
from local.processes import free_port
from local.template import copied_database
from monitoring.tests.watched import PASSWORDS, Program, given, make_role
from tests.credentials.conftest import PostgresDoor

VERIFIED = {"POSTGRES_MONITORING_SSLMODE": "verify-full", "POSTGRES_SSLROOTCERT": "ours"}


@pytest.fixture(scope="module")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Postgres]:
    with copied_database(tmp_path_factory.mktemp("postgres")) as server:
        assert make_role(server).returncode == 0
        yield server


def exporter(settings: Mapping[str, str], folder: Path) -> Program:
    port = free_port()
    return Program(
        ["prometheus-postgres-exporter", f"--web.listen-address=127.0.0.1:{port}"],
        given("postgres-exporter", settings),
        port=port,
        path="/",
        output=folder / "log",
    )


def sees_postgres(program: Program) -> bool:
    with urllib.request.urlopen(f"http://127.0.0.1:{program.port}/metrics", timeout=10) as answer:
        (up,) = re.findall(r"^pg_up (\d)$", answer.read().decode(), re.MULTILINE)
    return up == "1"


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        (VERIFIED, True),
        ({"POSTGRES_MONITORING_SSLMODE": "require"}, True),
        ({}, False),
        (VERIFIED | {"POSTGRES_SSLROOTCERT": "theirs"}, False),
        (VERIFIED | {"POSTGRES_HOST": "localhost"}, False),  # the certificate is for the address alone
    ],
    ids=lambda value: " ".join(value.values()) if isinstance(value, dict) else "",
)
def test_the_exporter_logs_in_only_where_it_may(
    postgres: Postgres, tmp_path: Path, settings: Mapping[str, str], expected: bool
) -> None:
    authorities = {"ours": trustme.CA(), "theirs": trustme.CA()}
    for name, authority in authorities.items():
        authority.cert_pem.write_to_path(tmp_path / name)
    asked = {
        name: str(tmp_path / value) if value in authorities else value for name, value in settings.items()
    }
    with PostgresDoor(authorities["ours"].issue_cert("127.0.0.1"), postgres.port) as door:
        way = postgres.environ | PASSWORDS | {"POSTGRES_PORT": str(door.port)}
        with exporter(way | asked, tmp_path) as program:
            assert sees_postgres(program) is expected
        assert (door.entered > 0) is expected


def test_the_exporter_goes_without_tls_unless_it_is_asked_for(postgres: Postgres, tmp_path: Path) -> None:
    with exporter(postgres.environ | PASSWORDS, tmp_path) as program:
        assert sees_postgres(program)


def test_the_job_is_as_strict_as_the_services(postgres: Postgres) -> None:
    """This psql was built without TLS: it refuses to do what it is asked for."""
    done = make_role(postgres, POSTGRES_SSLMODE="verify-full")
    assert done.returncode != 0
    assert 'sslmode value "verify-full" invalid when SSL support is not compiled in' in done.stderr
