import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from local.postgres import BIN, Postgres
from local.template import copied_database

Script = Callable[..., subprocess.CompletedProcess[str]]


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

    def run(
        name: str, server: Postgres, *arguments: Path, **environ: str
    ) -> subprocess.CompletedProcess[str]:
        path = {"PATH": f"{environ.pop('programs', '')}:{BIN}:{os.environ['PATH']}"}
        return subprocess.run(
            [Path("backup") / name, *arguments],
            env=os.environ | server.environ | path | {"BACKUP_FOLDER": str(folder)} | environ,
            text=True,
            capture_output=True,
            check=False,
        )

    return run


@pytest.fixture
def backup(postgres: Postgres, script: Script) -> Path:
    """A backup of the server's data."""
    done = script("backup.sh", postgres)
    assert (done.returncode, done.stderr) == (0, "")
    return Path(done.stdout.strip())
