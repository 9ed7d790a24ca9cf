"""How the init script behaves: names and passwords of every kind, errors, the ways in which it is run."""

from collections.abc import Callable
from pathlib import Path

import pytest
from local.postgres import Postgres
from local.template import ENVIRON
from psycopg2 import OperationalError
from tests.postgres.database import Database

ROW = "2020-01-01 00:00:00.004,aq_own,1,2,3,4,5,6"


@pytest.mark.parametrize(
    "password",
    [
        "plain",
        "it's",
        'say "hi"',
        "back\\slash \\n \\' \\\\",
        " spaces around ",
        "$HOME ${HOME} $(id) `id` $$",
        ":name :'name' \\gexec ; DROP ROLE postgres; --",
        "%s %% {x}",
        "-f /etc/passwd",
        "line\nbreak\ttab",
        "contraseña 密码 🔑",
        "x" * 500,
    ],
)
def test_any_password_opens_the_door(database: Database, csv: Callable[..., str], password: str) -> None:
    done = database.init(POSTGRES_API_PASSWORD=password, POSTGRES_CSV=csv(ROW))
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert database.query("SELECT 1", user=f"{database.name}_api", password=password) == [(1,)]
    with pytest.raises(OperationalError):
        database.query("SELECT 1", user=f"{database.name}_api", password=password + "x")


@pytest.mark.parametrize("name", ["Air Quality", "o'brien", 'a "b"', "select", "$HOME", "back\\slash"])
def test_any_schema_and_role_name_will_do(database: Database, name: str) -> None:
    role = f"{name} {database.name}"
    done = database.init(POSTGRES_API_SCHEMA=name, POSTGRES_API_USER=role)
    assert (done.returncode, done.stderr) == (0, "")
    quoted = name.replace('"', '""')
    count = f'SELECT count(*) FROM "{quoted}".air_quality_measurements'
    [(rows,)] = database.query(count, user=role, password=ENVIRON["POSTGRES_API_PASSWORD"])
    assert rows > 1000


@pytest.mark.parametrize("name", ["POSTGRES_PASSWORD", "POSTGRES_API_PASSWORD"])
def test_an_empty_password_is_refused_by_name(database: Database, name: str) -> None:
    done = database.init(**{name: ""})
    assert done.returncode != 0
    assert len(done.stderr.splitlines()) == 1
    assert "POSTGRES_PASSWORD and POSTGRES_API_PASSWORD must not be empty" in done.stderr
    assert database.is_untouched()


def test_the_password_may_come_from_a_file(database: Database, tmp_path: Path) -> None:
    secret = tmp_path / "password"
    secret.write_text("from a file\n")
    done = database.init(POSTGRES_API_PASSWORD="", POSTGRES_API_PASSWORD_FILE=str(secret))
    assert (done.returncode, done.stderr) == (0, "")
    assert database.query("SELECT 1", user=f"{database.name}_api", password="from a file") == [(1,)]


def test_ones_own_file_is_loaded_instead_of_the_sample(database: Database, csv: Callable[..., str]) -> None:
    assert database.init(POSTGRES_CSV=csv(ROW)).returncode == 0
    assert database.query("SELECT id_entity, pm2_5 FROM api.air_quality_measurements") == [("aq_own", 6.0)]


@pytest.mark.parametrize(
    ("lines", "complaint"),
    [
        ([ROW, "2020-01-01 00:15:00,aq_own,much,,,,,"], 'line 3, column so2: "much"'),
        ([ROW, "2020-01-01 00:15:00,aq_own,NaN,,,,,"], "so2_is_finite"),
        ([ROW, ROW], "duplicate key"),
        ([ROW, "2020-01-01 00:15:00,aq_own,1"], "missing data for column"),
        ([ROW, "yesterday noon,aq_own,,,,,,"], "invalid input syntax for type timestamp"),
    ],
)
def test_a_bad_line_is_named_and_nothing_is_left(
    database: Database, csv: Callable[..., str], lines: list[str], complaint: str
) -> None:
    done = database.init(POSTGRES_CSV=csv(*lines))
    assert done.returncode != 0
    assert complaint in done.stderr
    assert database.is_untouched()


def test_a_file_of_another_format_is_refused(database: Database, csv: Callable[..., str]) -> None:
    done = database.init(POSTGRES_CSV=csv(ROW, header="id_entity,time_instant,so2,no2,co,o3,pm10,pm2_5"))
    assert done.returncode != 0
    assert 'expected "time_instant"' in done.stderr
    assert database.is_untouched()


@pytest.mark.parametrize(
    "environ",
    [
        {"POSTGRES_API_USER": "postgres"},
        {"POSTGRES_API_SCHEMA": "public"},
        {"POSTGRES_API_STATEMENT_TIMEOUT": "soon"},
        {"POSTGRES_CSV": "/nowhere.csv"},
        {"POSTGRES_API_PASSWORD_FILE": "/nowhere"},
    ],
    ids=lambda environ: next(iter(environ)),
)
def test_it_stops_at_the_first_error(database: Database, environ: dict[str, str]) -> None:
    done = database.init(**environ)
    assert done.returncode != 0
    assert len(done.stderr.splitlines()) == 1
    assert database.is_untouched()


def test_no_password_gets_into_the_log_or_the_output(database: Database, postgres: Postgres) -> None:
    settings = {"PGOPTIONS": "-c log_statement=all -c log_min_duration_statement=0"}
    assert database.init(POSTGRES_API_PASSWORD="s3cret", **settings).returncode == 0
    second = {"POSTGRES_API_SCHEMA": "second", "POSTGRES_API_STATEMENT_TIMEOUT": "soon"}
    failed = database.init(POSTGRES_API_PASSWORD="s3cret", **second, **settings)
    assert "statement_timeout" in failed.stderr
    assert "s3cret" not in failed.stderr + failed.stdout
    log = postgres.output.read_text()
    assert "CREATE SCHEMA" in log
    assert "s3cret" not in log


def test_the_role_alone_gets_the_rights_of_now_and_no_others(
    database: Database, csv: Callable[..., str]
) -> None:
    assert database.init(POSTGRES_CSV=csv(ROW)).returncode == 0
    role = f"{database.name}_api"
    session = database.server.connect(dbname=database.name)
    with session, session.cursor() as cursor:
        cursor.execute(f"CREATE TABLE api.somebody_elses (); GRANT ALL ON api.data_changes TO {role}")
    session.close()
    done = database.init('bash "$script" --role-only')
    assert (done.returncode, done.stderr) == (0, "")
    granted = (
        f"SELECT table_name, privilege_type FROM information_schema.table_privileges WHERE grantee = '{role}'"
    )
    tables = {"air_quality_measurements", "station_changes", "stations", "data_version"}
    assert set(database.query(granted)) == {(table, "SELECT") for table in tables}


# The official image sources a script that its mount made non-executable, from a shell with these options.
SOURCED = 'set -Eeo pipefail; cd /; . "$script"; echo "still here: $- ${folder-}"'


def test_it_may_be_sourced(database: Database) -> None:
    done = database.init(SOURCED)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("still here: ")
    assert "u" not in done.stdout.split()[2]
    assert not database.is_untouched()


def test_its_error_also_stops_who_sourced_it(database: Database) -> None:
    done = database.init(SOURCED, POSTGRES_API_PASSWORD="")
    assert done.returncode != 0
    assert "still here" not in done.stdout


def test_the_sql_files_do_nothing_by_themselves(database: Database) -> None:
    """The official image also runs each *.sql beside the script, in the order of their names."""
    files = sorted(Path("postgres").glob("*.sql"))
    assert len(files) >= 3
    for file in files:
        done = database.init(f'psql -v ON_ERROR_STOP=1 --no-psqlrc --dbname "$POSTGRES_DB" -f {file}')
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert database.is_untouched()


def test_the_folder_fits_into_config_maps() -> None:
    """kubectl apply writes each object into an annotation of at most 262,144 bytes."""
    files = [path for path in Path("postgres").iterdir() if path.is_file()]
    assert files
    assert all(path.stat().st_size < 250_000 for path in files)
