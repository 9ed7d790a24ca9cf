"""How a connection to Postgres is made: where, as whom, and with which settings."""

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg2
from psycopg2.extensions import connection as Psycopg2Connection  # noqa: N812 - it is a class

from config import Config
from observability import LOG

SECONDS_BETWEEN_REASONS = 10
"""While there is no way in, each request tries anew: the log says why as often as this, in each process."""


class Login:
    """Makes connections with the password of now, even while it is being changed.

    Where a file holds the password, the file changes first and the role then: until it does, the password
    that worked last still works. Connections that are there stay.

    Args:
        clock: seconds that never go back.
    """

    def __init__(self, config: Config, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._arguments = connect_args(config)
        self._file = config.postgres_api_password_file
        self._works = config.postgres_api_password
        self._clock = clock
        self._lock = threading.Lock()
        self._quiet_until = float("-inf")

    def __call__(self) -> Psycopg2Connection:
        try:
            return self._log_in()
        except psycopg2.OperationalError as error:
            self._tell(error)
            raise

    def _tell(self, reason: psycopg2.OperationalError) -> None:
        with self._lock:
            now = self._clock()
            due = now >= self._quiet_until
            if due:
                self._quiet_until = now + SECONDS_BETWEEN_REASONS
        if due:
            LOG.error("no connection to Postgres: %s", str(reason).strip())

    def _log_in(self) -> Psycopg2Connection:
        password = self._newest()
        try:
            made = self._connect(password)
        except psycopg2.OperationalError as error:
            if password == self._works or "authentication failed" not in str(error):
                raise
            return self._connect(self._works)
        self._works = password
        return made

    def _connect(self, password: str) -> Psycopg2Connection:
        made: Psycopg2Connection = psycopg2.connect(**self._arguments, password=password)
        made.autocommit = True  # a snapshot says itself when its transaction begins and ends
        return made

    def _newest(self) -> str:
        """The password in the file; where there is none, or it cannot be read, the last that worked."""
        if not self._file:
            return self._works
        try:
            return Path(self._file).read_text(encoding="utf-8").rstrip("\r\n") or self._works
        except (OSError, UnicodeDecodeError):
            return self._works


def connect_args(config: Config) -> dict[str, Any]:
    tls = {"sslrootcert": config.postgres_sslrootcert} if config.postgres_sslrootcert else {}
    return {
        "host": config.postgres_host,
        "port": config.postgres_port,
        "dbname": config.postgres_db,
        "user": config.postgres_api_user,
        "sslmode": config.postgres_sslmode,
        "connect_timeout": config.postgres_connect_timeout,
        "application_name": "api-rest",
        # A host that vanished without a word is noticed within half a minute.
        "keepalives_idle": 10,
        "keepalives_interval": 5,
        "keepalives_count": 3,
        "tcp_user_timeout": 20_000,
        "options": _session_settings(config),
        **tls,
    }


def _session_settings(config: Config) -> str:
    schema = config.postgres_api_schema.replace('"', '""')
    settings = {
        "search_path": f'"{schema}"',
        "default_transaction_isolation": "repeatable read",
        "default_transaction_read_only": "on",
        "statement_timeout": f"{config.postgres_api_statement_timeout}s",
        # Notices that we are gone even while it has nothing to send: how a query ends whose client has left.
        "client_connection_check_interval": "100ms",
        "timezone": "UTC",
        "datestyle": "ISO",
        "extra_float_digits": "1",
        "jit": "off",
        # A row's text costs far more to make than to hand over: long dumps may share that among processes.
        "parallel_tuple_cost": "0",
        "max_parallel_workers_per_gather": "1",  # more gain little, and take cores from others
    }
    return " ".join(f"-c {name}={_escape(value)}" for name, value in settings.items())


def _escape(value: str) -> str:
    # libpq splits `options` at spaces, unless a backslash precedes them.
    return value.replace("\\", "\\\\").replace(" ", "\\ ")
