"""The way to Postgres: a bounded pool, one snapshot a request, queries that end when their client goes."""

import os
import select
import socket
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import psycopg2
from psycopg2.errorcodes import QUERY_CANCELED
from psycopg2.extensions import connection as Psycopg2Connection  # noqa: N812 - it is a class
from sqlalchemy import Connection, Engine, Executable, Row, Select
from sqlalchemy import exc as sqlalchemy_errors
from sqlalchemy.dialects.postgresql.psycopg2 import PGDialect_psycopg2

from config import Config
from observability import LOG, POOL_IN_USE, POSTGRES_ERRORS

DIALECT = PGDialect_psycopg2()  # type: ignore[no-untyped-call]


class Unavailable(Exception):
    """Postgres cannot answer now; asking again after `retry_after` seconds may help."""

    def __init__(self, detail: str, *, kind: str, retry_after: int = 1) -> None:
        super().__init__(detail)
        self.detail = detail
        self.kind = kind
        self.retry_after = retry_after


class ClientGone(Exception):
    """Nobody is left to answer."""


class Writable(Protocol):
    def write(self, data: bytes, /) -> object: ...


def engine_options(config: Config) -> dict[str, Any]:
    """How SQLAlchemy connects, and how many connections it keeps."""
    return {
        "creator": Login(config),
        "pool_size": config.postgres_pool_size,
        "max_overflow": 0,
        "pool_timeout": config.postgres_pool_timeout,
        "pool_pre_ping": True,
        "pool_use_lifo": True,
        "pool_reset_on_return": "rollback",
    }


class Login:
    """Makes connections with the password of now, even while it is being changed.

    Where a file holds the password, the file changes first and the role then: until it does, the password
    that worked last still works. Connections that are there stay.
    """

    def __init__(self, config: Config) -> None:
        self._arguments = connect_args(config)
        self._file = config.postgres_api_password_file
        self._works = config.postgres_api_password

    def __call__(self) -> Psycopg2Connection:
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


@dataclass(frozen=True, slots=True)
class CopyStatement:
    """A SELECT for COPY, compiled.

    COPY takes no bound parameters, so the driver itself quotes the values into the statement, as psycopg2
    does for every statement that it executes.

    Attributes:
        unsorted: forbids a sort where an index has the order. Of a large table, Postgres would rather sort
            all before the first row: cheaper by its reckoning, minutes of silence for the client.
    """

    query: str
    values: Mapping[str, Any]
    options: str
    unsorted: bool

    @classmethod
    def of(cls, statement: Select[Any], options: str, *, unsorted: bool = False) -> "CopyStatement":
        compiled = statement.compile(dialect=DIALECT, compile_kwargs={"render_postcompile": True})
        return cls(str(compiled), compiled.params, options, unsorted)

    def bind(self, values: Mapping[str, Any]) -> "CopyStatement":
        return replace(self, values={**self.values, **values})


class Snapshot:
    """A read-only REPEATABLE READ transaction: all that is read through it is of one instant.

    Every statement ends at once when `client` hangs up.

    Raises:
        Unavailable: Postgres is down, or has ended our statement.
        ClientGone: `client` hung up.
    """

    def __init__(self, connection: Connection, client: socket.socket | None) -> None:
        self._connection = connection
        self._client = client
        self._broken = False
        self._deserted = False

    def rows(self, statement: Executable, values: Mapping[str, Any] | None = None) -> Sequence[Row[Any]]:
        with self._running():
            return self._connection.execute(statement, values).all()

    def copy(self, statement: CopyStatement, sink: Writable) -> int:
        """Write what COPY makes of a SELECT to `sink`, row by row; return the number of rows."""
        with self._running(), self._driver.cursor() as cursor:
            query = cursor.mogrify(statement.query, statement.values).decode()
            # Both in one message to Postgres; the setting ends with the transaction.
            before = "SET LOCAL enable_sort = off; " if statement.unsorted else ""
            cursor.copy_expert(f"{before}COPY ({query}) TO STDOUT WITH ({statement.options})", sink)
            return cursor.rowcount

    @contextmanager
    def _running(self) -> Iterator[None]:
        try:
            with translated(self._is_deserted), DEPARTURES.noticed(self._client, self._hang_up):
                yield
        except BaseException:
            self._broken = True  # perhaps in the middle of COPY: unfit for anything else
            raise

    def _hang_up(self) -> None:
        """End the connection, and with it the query.

        A cancel request would hold the whole process for as long as Postgres is paused or unreachable: libpq
        waits for it, and psycopg2 keeps the interpreter's lock meanwhile. This waits for nobody.
        """
        self._deserted = self._broken = True
        with socket.socket(fileno=os.dup(self._driver.fileno())) as connection:
            connection.shutdown(socket.SHUT_RDWR)

    def _is_deserted(self) -> bool:
        return self._deserted

    @property
    def _driver(self) -> Psycopg2Connection:
        driver = self._connection.connection.driver_connection
        assert isinstance(driver, Psycopg2Connection)  # noqa: S101 - the engine is ours
        return driver

    def close(self) -> None:
        try:
            if self._broken:
                self._connection.invalidate()
            self._connection.close()
        except sqlalchemy_errors.DBAPIError:  # nothing was written that could be lost
            self._connection.invalidate()


class Database:
    """The pool of connections, with a bound on those who wait for one.

    Args:
        waiting: how many requests may wait at once; beyond it, they are turned away without a wait.
    """

    def __init__(self, engine: Engine, *, waiting: int) -> None:
        self._engine = engine
        self._places = threading.BoundedSemaphore(waiting)

    @contextmanager
    def snapshot(self, client: socket.socket | None = None) -> Iterator[Snapshot]:
        """One transaction for one request.

        Raises:
            Unavailable: Postgres is down or busy.
        """
        snapshot = Snapshot(self._connect(), client)
        POOL_IN_USE.inc()
        try:
            yield snapshot
        finally:
            POOL_IN_USE.dec()
            snapshot.close()

    def _connect(self) -> Connection:
        with translated():
            if not self._places.acquire(blocking=False):  # pylint: disable=consider-using-with
                raise Unavailable("Too many requests wait for the database.", kind="busy")
            try:
                return self._engine.connect()
            except sqlalchemy_errors.TimeoutError as error:
                raise Unavailable("All connections to the database are busy.", kind="busy") from error
            finally:
                self._places.release()


def _never() -> bool:
    return False


@contextmanager
def translated(is_deserted: Callable[[], bool] = _never) -> Iterator[None]:
    """The drivers' errors become ours, and are counted, here and nowhere else.

    Args:
        is_deserted: whether we have ended the connection ourselves, since the client had left.
    """
    try:
        yield
    except sqlalchemy_errors.DBAPIError as error:
        raise _ours(error.orig, deserted=is_deserted()) from error
    except psycopg2.Error as error:
        raise _ours(error, deserted=is_deserted()) from error
    except Unavailable as error:
        POSTGRES_ERRORS.labels(error.kind).inc()
        raise


def _ours(error: BaseException | None, *, deserted: bool) -> Exception:
    if deserted:
        POSTGRES_ERRORS.labels("client_gone").inc()
        return ClientGone()
    found = _classified(error)
    POSTGRES_ERRORS.labels(found.kind).inc()
    return found


def _classified(error: BaseException | None) -> Unavailable:
    if isinstance(error, psycopg2.Error) and error.pgcode == QUERY_CANCELED:
        if "statement timeout" not in str(error):
            return Unavailable("The query was ended at the database.", kind="cancelled")
        detail = "The query took longer than the service allows; narrow it (from, to, id_entity, limit)."
        return Unavailable(detail, kind="timeout", retry_after=30)
    if isinstance(error, psycopg2.OperationalError | psycopg2.InterfaceError):
        return Unavailable("The database does not answer.", kind="down", retry_after=5)
    LOG.error("query refused: %s", error)
    return Unavailable("The database refused the query.", kind="refused", retry_after=30)


class Departures:
    """Notices clients that hang up, by one thread for the whole process, started at its first use."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._actions: dict[int, Callable[[], None]] = {}
        self._poll: select.epoll | None = None

    @contextmanager
    def noticed(self, client: socket.socket | None, action: Callable[[], None]) -> Iterator[None]:
        """Run `action` once if `client` hangs up before the end of the block; not after it."""
        if client is None:
            yield
            return
        watched = client.fileno()
        self._watch(watched, action)
        try:
            yield
        finally:
            self._unwatch(watched)

    def _watch(self, client: int, action: Callable[[], None]) -> None:
        with self._lock:
            self._actions[client] = action
            if self._poll is None:
                self._poll = select.epoll()
                threading.Thread(target=self._run, args=(self._poll,), name="departures", daemon=True).start()
            self._poll.register(client, select.EPOLLRDHUP | select.EPOLLONESHOT)

    def _unwatch(self, client: int) -> None:
        with self._lock:
            self._actions.pop(client, None)
            assert self._poll is not None  # noqa: S101 - _watch made it
            self._poll.unregister(client)

    def _run(self, poll: select.epoll) -> None:
        while True:
            for client, _ in poll.poll():
                with self._lock:
                    action = self._actions.pop(client, None)
                    if action is not None:
                        _quietly(action)


def _quietly(action: Callable[[], None]) -> None:
    with suppress(psycopg2.Error, OSError):  # the connection ended by itself
        action()


DEPARTURES = Departures()
