import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from local.postgres import BIN, Postgres
from local.template import copied_database
from tests.backup.database import everything

Script = Callable[..., subprocess.CompletedProcess[str]]


class Backup(NamedTuple):
    file: Path  # in the folder that backup.sh made
    content: dict[str, object]  # of the database; see `everything`


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Postgres]:
    """A server with the sample, or what the last test made of it."""
    with copied_database(tmp_path_factory.mktemp("postgres")) as server:
        yield server


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "backups"


@pytest.fixture
def script(folder: Path) -> Script:
    """Runs backup.sh or restore.sh against a server."""

    def run_here(
        name: str, server: Postgres, *arguments: Path, **environ: str
    ) -> subprocess.CompletedProcess[str]:
        return run(name, server, folder, *arguments, **environ)

    return run_here


def run(
    name: str, server: Postgres, folder: Path, *arguments: Path, **environ: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [Path("backup") / name, *arguments],
        env=environ_of(server, folder, **environ),
        text=True,
        capture_output=True,
        check=False,
    )


def environ_of(server: Postgres, folder: Path, *, programs: str = "", **environ: str) -> dict[str, str]:
    path = {"PATH": f"{programs}:{BIN}:{os.environ['PATH']}"}
    return os.environ | server.environ | path | {"BACKUP_FOLDER": str(folder)} | environ


@pytest.fixture(scope="session")
def backup(postgres: Postgres, tmp_path_factory: pytest.TempPathFactory) -> Backup:
    """A backup for all tests: the server may hold other data by now."""
    done = run("backup.sh", postgres, tmp_path_factory.mktemp("session") / "backups")
    assert (done.returncode, done.stderr) == (0, "")
    return Backup(Path(done.stdout.strip()), everything(postgres))
