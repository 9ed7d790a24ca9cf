"""Backing up: whole files, the right ones kept, and a metric that tells."""

import fcntl
import os
import shutil
import signal
import stat
import subprocess
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from local.folder import credentials, exclusive
from local.postgres import Postgres
from local.processes import free_port, wait_until
from local.stack import NAMES
from prometheus_client.parser import text_string_to_metric_families
from tests.backup.conftest import Backup, Script, environ_of
from tests.local.checkout import Checkout


def metrics(folder: Path) -> dict[str, float]:
    families = text_string_to_metric_families((folder / "backup.prom").read_text())
    return {sample.name: sample.value for family in families for sample in family.samples}


def test_a_backup_is_told_and_closed_to_others(postgres: Postgres, script: Script, folder: Path) -> None:
    done = script("backup.sh", postgres)
    assert (done.returncode, done.stderr) == (0, "")
    backup = Path(done.stdout.strip())
    assert stat.S_IMODE(backup.stat().st_mode) == 0o600
    assert abs(metrics(folder)["backup_last_success_timestamp_seconds"] - time.time()) < 60
    assert metrics(folder)["backup_last_size_bytes"] == backup.stat().st_size
    assert metrics(folder)["backup_files"] == 1
    assert stat.S_IMODE((folder / "backup.prom").stat().st_mode) == 0o644
    assert sorted(path.name for path in folder.iterdir()) == [
        ".lock",
        backup.name,
        f"{backup.name}.sha256",
        "backup.prom",
    ]


def test_a_backup_has_its_checksum_beside_it(backup: Backup) -> None:
    beside = backup.file.with_name(f"{backup.file.name}.sha256")
    command = ["sha256sum", "--check", "--strict", beside.name]
    done = subprocess.run(command, cwd=beside.parent, text=True, capture_output=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{backup.file.name}: OK\n", "")


def test_a_backup_appears_after_its_checksum_and_leaves_none_behind(
    postgres: Postgres, script: Script, folder: Path, tmp_path: Path
) -> None:
    seen = tmp_path / "seen"
    (tmp_path / "mv").write_text(
        f'#!/bin/sh\ncase "$2" in *.dump) ls {folder} > {seen}; exit 1;; esac\nexec /bin/mv "$@"\n'
    )
    (tmp_path / "mv").chmod(0o755)
    assert script("backup.sh", postgres, programs=str(tmp_path)).returncode == 1
    (checksum,) = seen.read_text().split()
    assert checksum.endswith(".dump.sha256")
    assert [path.name for path in folder.iterdir()] == [".lock"]


def name(instant: datetime) -> str:
    return f"air-quality-{instant:%Y-%m-%dT%H-%M-%SZ}.dump"


def kept(instants: list[datetime]) -> set[str]:
    """What is to be kept: the newest of each of the last 7 days, 4 weeks and 12 months that have any."""
    chosen = set()
    for count, period in [(7, "%Y-%m-%d"), (4, "%G-%V"), (12, "%Y-%m")]:
        newest = {f"{instant:{period}}": instant for instant in sorted(instants)}
        chosen |= {newest[key] for key in sorted(newest)[-count:]}
    return {name(instant) for instant in chosen}


@pytest.mark.parametrize("hours", [8, 24, 24 * 5, 24 * 45], ids=lambda hours: f"every {hours} hours")
def test_what_is_kept(postgres: Postgres, script: Script, folder: Path, hours: int) -> None:
    folder.mkdir()
    now = datetime.now(UTC).replace(microsecond=0)
    instants = [now - timedelta(hours=hours * n, minutes=1) for n in range(90)]
    for instant in instants:
        (folder / name(instant)).touch()
    for instant in instants[::2]:  # the others are older than the checksums
        (folder / f"{name(instant)}.sha256").touch()
    others = {"notes.txt", "air-quality-before-the-move.dump"}
    for other in others:
        (folder / other).touch()
    done = script("backup.sh", postgres)
    assert done.returncode == 0
    newest = datetime.strptime(Path(done.stdout.strip()).name, "air-quality-%Y-%m-%dT%H-%M-%S%z.dump")
    expected = kept([*instants, newest])
    checksums = {f"{each}.sha256" for each in expected & set(map(name, [*instants[::2], newest]))}
    found = {path.name for path in folder.iterdir()}
    assert found == expected | checksums | others | {".lock", "backup.prom"}
    assert metrics(folder)["backup_files"] == len(expected)


def test_retention_is_configurable(postgres: Postgres, script: Script, folder: Path) -> None:
    folder.mkdir()
    for day in range(1, 28):
        (folder / name(datetime(2020, 1, day, tzinfo=UTC))).touch()
    none = {"BACKUP_WEEKLY": "0", "BACKUP_MONTHLY": "0"}
    assert script("backup.sh", postgres, **none, BACKUP_DAILY="3").returncode == 0
    assert len(list(folder.glob("*.dump"))) == 3


@pytest.mark.parametrize("wrong", ["7d", "08", "-1", "7 days", "a"])
@pytest.mark.parametrize("setting", ["BACKUP_DAILY", "BACKUP_WEEKLY", "BACKUP_MONTHLY"])
def test_a_retention_that_is_no_number_drops_none(
    postgres: Postgres, script: Script, folder: Path, setting: str, wrong: str
) -> None:
    folder.mkdir()
    old = folder / name(datetime(2020, 1, 1, tzinfo=UTC))
    old.touch()
    none = {"BACKUP_DAILY": "0", "BACKUP_WEEKLY": "0", "BACKUP_MONTHLY": "0"}
    done = script("backup.sh", postgres, **(none | {setting: wrong}))
    assert done.returncode == 1
    assert done.stderr == f"{setting} is '{wrong}'; it must be a whole number, such as 7, or 0 for none.\n"
    assert list(folder.iterdir()) == [old]


def test_a_retention_of_nothing_is_refused(postgres: Postgres, script: Script, folder: Path) -> None:
    folder.mkdir()
    old = folder / name(datetime(2020, 1, 1, tzinfo=UTC))
    old.touch()
    done = script("backup.sh", postgres, BACKUP_DAILY="0", BACKUP_WEEKLY="0", BACKUP_MONTHLY="0")
    assert done.returncode == 1
    assert done.stderr.startswith("BACKUP_DAILY, BACKUP_WEEKLY and BACKUP_MONTHLY are all 0")
    assert list(folder.iterdir()) == [old]


def test_what_was_just_written_stays_although_the_clock_went_back(
    postgres: Postgres, script: Script, folder: Path
) -> None:
    folder.mkdir()
    later = folder / name(datetime(2100, 1, 1, tzinfo=UTC))
    later.touch()
    done = script("backup.sh", postgres, BACKUP_DAILY="1", BACKUP_WEEKLY="0", BACKUP_MONTHLY="0")
    assert (done.returncode, done.stderr) == (0, "")
    assert set(folder.glob("*.dump")) == {later, Path(done.stdout.strip())}


def test_a_backup_of_no_date_drops_none(postgres: Postgres, script: Script, folder: Path) -> None:
    folder.mkdir()
    names = {name(datetime(2020, 1, day, tzinfo=UTC)) for day in range(1, 28)}
    names.add("air-quality-2020-02-30T00-00-00Z.dump")
    for each in names:
        (folder / each).touch()
    done = script("backup.sh", postgres)
    assert done.returncode != 0
    assert "2020-02-30" in done.stderr
    assert done.stderr.splitlines()[-1] == f"A backup in {folder} bears no date; none was dropped."
    assert names < {path.name for path in folder.glob("*.dump")}
    assert not (folder / "backup.prom").exists()


@pytest.mark.parametrize("fault", ["no server", "wrong password", "no schema", "cut short"])
def test_a_failed_backup_leaves_the_old_ones_and_does_not_tell(
    postgres: Postgres, backup: Backup, script: Script, folder: Path, tmp_path: Path, fault: str
) -> None:
    shutil.copytree(backup.file.parent, folder)
    told = (folder / "backup.prom").read_text()
    (tmp_path / "pg_dump").write_text('#!/bin/sh\nfor last; do :; done; head -c 9999 "$whole" > "$last"\n')
    (tmp_path / "pg_dump").chmod(0o755)
    environ = {
        "no server": {"POSTGRES_PORT": str(free_port())},
        "wrong password": {"POSTGRES_PASSWORD": "guess"},
        "no schema": {"POSTGRES_API_SCHEMA": "other"},
        "cut short": {"programs": str(tmp_path), "whole": str(backup.file)},
    }[fault]
    (folder / name(datetime(1999, 1, 1, tzinfo=UTC))).touch()
    done = script("backup.sh", postgres, BACKUP_DAILY="1", **environ)
    assert done.returncode != 0
    assert done.stderr != ""
    assert sorted(path.suffix for path in folder.iterdir()) == ["", ".dump", ".dump", ".prom", ".sha256"]
    assert (folder / "backup.prom").read_text() == told


@pytest.fixture
def gate(tmp_path: Path) -> Path:
    """Where the programs of a test wait; who opens it knows that one does."""
    os.mkfifo(tmp_path / "gate")
    return tmp_path / "gate"


def opened(gate: Path) -> list[int]:
    try:
        return [os.open(gate, os.O_WRONLY | os.O_NONBLOCK)]
    except OSError:  # nobody waits there yet
        return []


@pytest.mark.parametrize("program", ["pg_dump", "pg_restore", "sha256sum"])
@pytest.mark.parametrize(("name", "status"), [("backup.sh", 128 + signal.SIGTERM), ("daily.sh", 0)])
def test_a_backup_that_is_ended_ends_its_programs_and_leaves_nothing(
    postgres: Postgres, folder: Path, tmp_path: Path, gate: Path, name: str, status: int, program: str
) -> None:
    (tmp_path / program).write_text(f"#!/bin/sh\nread line < {gate}\n")
    (tmp_path / program).chmod(0o755)
    environ = environ_of(postgres, folder, programs=str(tmp_path))
    output = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    with subprocess.Popen([Path("backup") / name], env=environ, **output) as script:
        entered: list[int] = []
        assert wait_until(lambda: entered.extend(opened(gate)) or entered != [], timeout=20)
        script.terminate()
        try:
            assert script.communicate(timeout=20) == (
                "",
                None,
            )  # which also waits for whoever holds its output
            assert script.returncode == status
        finally:
            os.close(entered[0])  # lets a program that is still there go
    assert [path.name for path in folder.iterdir()] == [".lock"]


def test_one_backup_at_a_time(postgres: Postgres, script: Script, folder: Path) -> None:
    folder.mkdir()
    with (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        done = script("backup.sh", postgres)
    assert (done.returncode, done.stderr) == (1, f"Another backup into {folder} is under way.\n")


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    (tmp_path / "checkout").mkdir()
    return Checkout(tmp_path / "checkout", "")


def test_make_backup_and_make_restore_without_and_beside_a_running_stack(
    checkout: Checkout, backup: Backup
) -> None:
    nothing = checkout.make("backup")
    assert nothing.returncode != 0
    assert "There are no data yet" in nothing.stderr
    restored = checkout.make("restore", FILE=str(backup.file))
    assert restored.returncode == 0, restored.stderr
    done = checkout.make("backup")
    assert done.returncode == 0, done.stderr
    [again] = (checkout.folder / "backups").glob("*.dump")
    assert done.stdout == f"{again}\n"
    assert abs(again.stat().st_size - backup.file.stat().st_size) < 1000

    environ = NAMES | credentials(checkout.local)
    with exclusive(checkout.local), Postgres(checkout.local / "postgres", environ=environ) as server:
        done = checkout.make("backup")
        assert done.returncode == 0, done.stderr
        assert checkout.make("restore", FILE=done.stdout.strip()).returncode == 0
        assert server.process.running


def test_what_is_said_of_other_servers_does_no_harm(checkout: Checkout, backup: Backup) -> None:
    """As `make run`, after a sourced environment.env: how Compose's Postgres is reached and verified."""
    elsewhere = {
        "POSTGRES_SSLMODE": "verify-full",
        "POSTGRES_SSLROOTCERT": "/nowhere",
        "POSTGRES_PASSWORD_FILE": "/nowhere",
        "POSTGRES_API_PASSWORD_FILE": "/nowhere",
    }
    restored = checkout.make("restore", FILE=str(backup.file), **elsewhere)
    assert restored.returncode == 0, restored.stderr
    done = checkout.make("backup", **elsewhere)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("file", ["", "nowhere.dump"])
def test_make_restore_says_what_it_needs(checkout: Checkout, file: str) -> None:
    done = checkout.make("restore", FILE=file)
    assert done.returncode != 0
    assert "FILE is missing" in done.stderr.splitlines()[0]
    assert not (checkout.local / "postgres").exists()
