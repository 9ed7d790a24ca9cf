"""Restoring: everything is back, or nothing has changed."""

import threading
from pathlib import Path

import psycopg2
import pytest
from local.postgres import BIN, Postgres
from local.processes import free_port, wait_until
from local.template import ENVIRON
from psycopg2.errors import InsufficientPrivilege
from tests.backup.conftest import Backup, Script
from tests.backup.database import TABLE, everything, psql, query

COUNT = f"SELECT count(*) FROM {TABLE}"
# The tables of which the planner knows more than their size.
PLANNED_FOR = "SELECT DISTINCT tablename FROM pg_stats WHERE schemaname = 'api' ORDER BY 1"
VERSION = "SELECT version FROM api.data_version"
SUMMARY = (
    "SELECT id_entity, first_instant, last_instant, measurements, so2, pm2_5 FROM api.stations ORDER BY 1"
)
COUNTED = f"""
    SELECT id_entity, min(time_instant), max(time_instant), count(*), count(so2), count(pm2_5)
    FROM {TABLE} GROUP BY 1 ORDER BY 1
"""


def test_lost_data_are_back_row_for_row_on_a_new_server(
    backup: Backup, script: Script, tmp_path: Path
) -> None:
    assert len(str(backup.content["rows"]).splitlines()) > 1000
    fsync_off = {"fsync": "off"}
    with Postgres(tmp_path / "data", environ=ENVIRON, settings=fsync_off, sample=False) as fresh:
        assert query(fresh, COUNT) == [(0,)]
        done = script("restore.sh", fresh, backup.file)
        assert (done.returncode, done.stdout, done.stderr) == (0, f"Restored {backup.file}.\n", "")
        assert everything(fresh) == backup.content
        assert query(fresh, PLANNED_FOR) == [
            ("air_quality_measurements",),
            ("data_changes",),
            ("station_changes",),
        ]
        login = {"user": "api", "password": ENVIRON["POSTGRES_API_PASSWORD"]}
        assert query(fresh, COUNT, **login) == query(fresh, COUNT)
        with pytest.raises(InsufficientPrivilege):
            query(fresh, f"SET TRANSACTION READ WRITE; DELETE FROM {TABLE}", **login)


def test_a_role_that_is_gone_is_made_again(postgres: Postgres, backup: Backup, script: Script) -> None:
    query(postgres, "DROP OWNED BY api; DROP ROLE api")
    assert script("restore.sh", postgres, backup.file).returncode == 0
    assert everything(postgres) == backup.content


def test_what_came_after_the_backup_is_gone_and_what_else_there_is_stays(
    postgres: Postgres, backup: Backup, script: Script
) -> None:
    query(postgres, f"DELETE FROM {TABLE} WHERE id_entity = 'aq_salvia'")
    query(postgres, f"INSERT INTO {TABLE} VALUES (now(), 'aq_new')")
    query(postgres, f"CREATE TABLE IF NOT EXISTS public.notes (x int); ALTER TABLE {TABLE} ADD COLUMN y int")
    assert script("restore.sh", postgres, backup.file).returncode == 0
    assert everything(postgres) == backup.content
    assert query(postgres, "SELECT count(*) FROM public.notes") == [(0,)]


def test_summaries_say_what_the_rows_say(postgres: Postgres, backup: Backup, script: Script) -> None:
    query(postgres, f"UPDATE {TABLE} SET so2 = NULL; DELETE FROM {TABLE} WHERE id_entity < 'aq_m'")
    assert script("restore.sh", postgres, backup.file).returncode == 0
    query(postgres, f"DELETE FROM {TABLE} WHERE id_entity = 'aq_salvia' AND so2 IS NOT NULL")
    assert query(postgres, SUMMARY) == query(postgres, COUNTED)


@pytest.mark.parametrize(("options", "same"), [([], False), (["--disable-triggers"], True)])
def test_data_alone_come_back_right_only_without_the_triggers(
    postgres: Postgres, backup: Backup, script: Script, options: list[str], same: bool
) -> None:
    """What the README says of `pg_restore --data-only`."""
    assert script("restore.sh", postgres, backup.file).returncode == 0
    query(postgres, f"TRUNCATE {TABLE}, api.station_changes, api.data_changes")
    psql(postgres, "pg_restore", "--data-only", *options, "--dbname", "air", str(backup.file))
    assert (query(postgres, SUMMARY) == query(postgres, COUNTED)) is same
    assert script("restore.sh", postgres, backup.file).returncode == 0


def test_a_backup_under_writes_holds_all_that_was_committed_before_it(
    postgres: Postgres, script: Script
) -> None:
    stop = threading.Event()
    committed = 0

    def write() -> None:
        nonlocal committed
        session = postgres.connect()
        session.autocommit = True
        with session.cursor() as cursor:
            while not stop.is_set():
                instant = f"'2030-01-01'::timestamp + {committed} * interval '1 s'"
                cursor.execute(f"INSERT INTO {TABLE} VALUES ({instant}, 'aq_writer', {committed})")
                committed += 1
        session.close()

    writer = threading.Thread(target=write)
    writer.start()
    assert wait_until(lambda: committed > 100, timeout=10)
    before = committed
    done = script("backup.sh", postgres)
    stop.set()
    writer.join()
    assert done.returncode == 0
    assert script("restore.sh", postgres, Path(done.stdout.strip())).returncode == 0
    numbers = query(postgres, f"SELECT so2 FROM {TABLE} WHERE id_entity = 'aq_writer' ORDER BY 1")
    assert numbers == [(float(n),) for n in range(len(numbers))]
    assert before <= len(numbers) <= committed


DAMAGES = {
    "empty": lambda whole: whole[:0],
    "header alone": lambda whole: whole[:16],
    "contents alone": lambda whole: whole[: len(whole) // 4],
    "half": lambda whole: whole[: len(whole) // 2],
    "last byte missing": lambda whole: whole[:-1],
    "one bit changed": lambda whole: whole[:-5000] + bytes([whole[-5000] ^ 1]) + whole[-4999:],
    "text": lambda whole: whole.hex().encode(),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_backup_is_refused_before_the_server_is_asked(
    postgres: Postgres, backup: Backup, script: Script, tmp_path: Path, damage: object
) -> None:
    damaged = tmp_path / backup.file.name
    damaged.write_bytes(damage(backup.file.read_bytes()))
    nobody = str(free_port())  # nothing listens there: any question would be another error
    done = script("restore.sh", postgres, damaged, POSTGRES_PORT=nobody)
    assert done.returncode != 0
    assert (
        done.stderr.splitlines()[-1]
        == f"{damaged} is no whole backup of the measurements. Nothing was changed."
    )
    assert "connection" not in done.stderr


def flipped(whole: bytes) -> bytes:
    """One bit of the table of contents: `BREATE TABLE`, at which pg_restore takes no offence."""
    at = whole.index(b"CREATE TABLE api.air_quality_measurements")
    return whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :]


@pytest.mark.parametrize("checksum", ["its own", "another one", "none in the file"])
def test_what_its_checksum_does_not_fit_is_refused_before_the_server_is_asked(
    backup: Backup, postgres: Postgres, script: Script, tmp_path: Path, checksum: str
) -> None:
    given = backup.file.with_name(f"{backup.file.name}.sha256").read_text()
    whole = backup.file.read_bytes()
    dump = tmp_path / backup.file.name
    dump.write_bytes(flipped(whole) if checksum == "its own" else whole)
    beside = {"another one": f"{'0' * 64}  {dump.name}\n", "none in the file": ""}.get(checksum, given)
    (tmp_path / f"{dump.name}.sha256").write_text(beside)
    done = script("restore.sh", postgres, dump, POSTGRES_PORT=str(free_port()))
    assert done.returncode == 1
    wrong = f"{dump} is not what {dump.name}.sha256 beside it says: restore another one."
    assert done.stderr == f"{wrong} Nothing was changed.\n"


def test_a_backup_without_a_checksum_is_restored_and_that_is_said(
    backup: Backup, postgres: Postgres, script: Script, tmp_path: Path
) -> None:
    dump = tmp_path / "from-elsewhere"
    dump.write_bytes(backup.file.read_bytes())
    done = script("restore.sh", postgres, dump)
    assert (done.returncode, done.stdout) == (0, f"Restored {dump}.\n")
    assert (
        done.stderr == f"No {dump.name}.sha256 lies beside {dump}: it is checked as far as pg_restore can.\n"
    )
    assert everything(postgres) == backup.content


def test_a_renamed_backup_takes_its_checksum_along(
    backup: Backup, postgres: Postgres, script: Script, tmp_path: Path
) -> None:
    dump = tmp_path / "renamed"
    dump.write_bytes(backup.file.read_bytes())
    beside = backup.file.with_name(f"{backup.file.name}.sha256")
    (tmp_path / "renamed.sha256").write_bytes(beside.read_bytes())
    done = script("restore.sh", postgres, dump)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_backup_of_something_else_is_refused(postgres: Postgres, script: Script, tmp_path: Path) -> None:
    psql(postgres, "pg_dump", "--format=custom", f"--file={tmp_path / 'other'}", "postgres")
    done = script("restore.sh", postgres, tmp_path / "other")
    assert done.returncode != 0
    assert "is no whole backup of the measurements" in done.stderr


@pytest.mark.parametrize("path", ["/nowhere.dump", "/"])
def test_a_file_that_cannot_be_read_is_one_sentence(postgres: Postgres, script: Script, path: str) -> None:
    done = script("restore.sh", postgres, Path(path))
    assert (done.returncode, done.stderr) == (1, f"{path} cannot be read.\n")


def test_a_failed_restore_changes_nothing(postgres: Postgres, backup: Backup, script: Script) -> None:
    query(postgres, f"INSERT INTO {TABLE} VALUES (now(), 'aq_new')")
    before = everything(postgres), query(postgres, VERSION)
    # The very last step but one refuses: the role of the API must not be a superuser.
    done = script("restore.sh", postgres, backup.file, POSTGRES_API_USER="postgres")
    assert done.returncode != 0
    assert "names a superuser" in done.stderr
    assert done.stderr.splitlines()[-1] == "The backup was not restored. Nothing was changed."
    assert (everything(postgres), query(postgres, VERSION)) == before
    assert query(postgres, "SELECT nspname FROM pg_namespace WHERE nspname LIKE 'api_%'") == []


@pytest.mark.parametrize("lines", [100, 10**9], ids=["half-way", "at the very end"])
def test_a_pg_restore_that_fails_changes_nothing(
    postgres: Postgres, backup: Backup, script: Script, tmp_path: Path, lines: int
) -> None:
    (tmp_path / "pg_restore").write_text(
        f'#!/bin/sh\ncase "$*" in *"--file -"*) {BIN}/pg_restore "$@" | head -n {lines}; exit 1;; esac\n'
        f'exec {BIN}/pg_restore "$@"\n'
    )
    (tmp_path / "pg_restore").chmod(0o755)
    query(postgres, f"INSERT INTO {TABLE} VALUES (clock_timestamp(), 'aq_new')")
    before = everything(postgres), query(postgres, VERSION)
    done = script("restore.sh", postgres, backup.file, programs=str(tmp_path))
    assert done.returncode != 0
    assert done.stderr.splitlines()[-1] == "The backup was not restored. Nothing was changed."
    assert (everything(postgres), query(postgres, VERSION)) == before


def test_the_api_answers_all_the_while(postgres: Postgres, backup: Backup, script: Script) -> None:
    login = {"user": "api", "password": ENVIRON["POSTGRES_API_PASSWORD"]}
    reader = postgres.connect(**login)  # in the midst of a long answer from the old data
    cursor = reader.cursor("slow")
    cursor.execute(f"SELECT * FROM {TABLE}")
    assert len(cursor.fetchmany(10)) == 10
    [(all_of_the_old,)] = query(postgres, COUNT)
    query(postgres, f"DELETE FROM {TABLE} WHERE id_entity <> 'aq_salvia'")
    [(few,)] = query(postgres, COUNT)
    restoring = threading.Thread(target=script, args=("restore.sh", postgres, backup.file))
    restoring.start()
    session = postgres.connect(**login, options="-c statement_timeout=1000")
    session.autocommit = True
    other = session.cursor()

    def counted() -> int:
        other.execute(COUNT)
        return other.fetchone()[0]

    assert wait_until(lambda: counted() > few, timeout=20)
    assert restoring.is_alive()  # the old data wait for their last reader
    assert len(cursor.fetchall()) == all_of_the_old - 10
    reader.close()
    restoring.join(20)
    assert not restoring.is_alive()
    session.close()


def test_a_restore_that_cannot_drop_the_old_data_has_restored(
    postgres: Postgres, backup: Backup, script: Script
) -> None:
    """The old data wait for their last reader; cut short, that is no restore which changed nothing."""
    query(postgres, f"INSERT INTO {TABLE} VALUES (clock_timestamp(), 'aq_new')")
    dropping = "FROM pg_stat_activity WHERE query LIKE 'DROP SCHEMA%' AND wait_event_type = 'Lock'"
    done = []
    reader = postgres.connect()
    reader.cursor().execute(COUNT)
    restoring = threading.Thread(target=lambda: done.append(script("restore.sh", postgres, backup.file)))
    restoring.start()
    assert wait_until(lambda: query(postgres, f"SELECT pid {dropping}") != [], timeout=20)
    query(postgres, f"SELECT pg_terminate_backend(pid) {dropping}")
    restoring.join(20)
    reader.close()
    assert (done[0].returncode, done[0].stdout) == (0, f"Restored {backup.file}.\n")
    assert done[0].stderr.splitlines()[-1] == "The old schema api_replaced stays until the next restore."
    assert everything(postgres) == backup.content
    assert script("restore.sh", postgres, backup.file).returncode == 0
    assert query(postgres, "SELECT nspname FROM pg_namespace WHERE nspname LIKE 'api_%'") == []


def test_a_restore_whose_connection_breaks_can_be_made_again(
    postgres: Postgres, backup: Backup, script: Script
) -> None:
    """It may have broken after the commit and before the word of it: nobody can say what has happened."""
    nobody = script("restore.sh", postgres, backup.file, POSTGRES_PORT=str(free_port()))
    assert nobody.returncode != 0
    assert nobody.stderr.splitlines()[-1] == "The connection to Postgres failed: restore again."
    query(postgres, f"INSERT INTO {TABLE} VALUES (clock_timestamp(), 'aq_new')")
    holder = postgres.connect()
    holder.cursor().execute("LOCK pg_namespace IN SHARE MODE")
    done = []
    restoring = threading.Thread(target=lambda: done.append(script("restore.sh", postgres, backup.file)))
    restoring.start()
    waiting = "FROM pg_stat_activity WHERE query LIKE 'ALTER SCHEMA%' AND wait_event_type = 'Lock'"
    assert wait_until(lambda: query(postgres, f"SELECT pid {waiting}") != [], timeout=20)
    query(postgres, f"SELECT pg_terminate_backend(pid) {waiting}")
    restoring.join(20)
    holder.close()
    assert done[0].returncode != 0
    assert done[0].stderr.splitlines()[-1] == "The connection to Postgres failed: restore again."
    assert script("restore.sh", postgres, backup.file).returncode == 0


def test_the_datas_version_never_comes_back(postgres: Postgres, script: Script) -> None:
    backup = Path(script("backup.sh", postgres).stdout.strip())  # of now: the server may have seen others
    seen = [query(postgres, VERSION)]
    for _ in range(2):
        for _ in range(3):
            query(postgres, f"UPDATE {TABLE} SET co = co")
            seen.append(query(postgres, VERSION))
        assert script("restore.sh", postgres, backup).returncode == 0
        seen.append(query(postgres, VERSION))
    assert seen == sorted(seen)
    assert len({str(version) for version in seen}) == len(seen)


def test_an_empty_password_is_refused_by_name(postgres: Postgres, backup: Backup, script: Script) -> None:
    for name in ("POSTGRES_PASSWORD", "POSTGRES_API_PASSWORD"):
        done = script("restore.sh", postgres, backup.file, **{name: ""})
        assert done.returncode != 0
        assert f"{name} must not be empty" in done.stderr


def test_passwords_may_come_from_files(
    postgres: Postgres, backup: Backup, script: Script, tmp_path: Path
) -> None:
    for name in ("POSTGRES_PASSWORD", "POSTGRES_API_PASSWORD"):
        (tmp_path / name).write_text(ENVIRON[name] + "\n")
    files = {f"{path.name}_FILE": str(path) for path in tmp_path.glob("*_PASSWORD")}
    done = script(
        "restore.sh", postgres, backup.file, POSTGRES_PASSWORD="", POSTGRES_API_PASSWORD="", **files
    )
    assert done.returncode == 0
    assert query(postgres, "SELECT 1", user="api", password=ENVIRON["POSTGRES_API_PASSWORD"]) == [(1,)]
    with pytest.raises(psycopg2.OperationalError):
        query(postgres, "SELECT 1", user="api", password="another")


@pytest.mark.parametrize("name", ["POSTGRES_PASSWORD", "POSTGRES_API_PASSWORD"])
def test_a_file_of_a_password_that_is_none_is_named(
    postgres: Postgres, backup: Backup, script: Script, name: str
) -> None:
    done = script("restore.sh", postgres, backup.file, **{f"{name}_FILE": "/nowhere"})
    assert done.returncode == 1
    assert done.stderr == f"{name}_FILE is '/nowhere', which cannot be read.\n"
