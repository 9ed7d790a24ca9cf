"""The way to Postgres: a bounded pool, one snapshot a request, queries that end when their client goes."""

import os
import select
import socket
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from typing import Any, Protocol

import psycopg2
from psycopg2.errorcodes import QUERY_CANCELED, TOO_MANY_CONNECTIONS
from psycopg2.extensions import connection as Psycopg2Connection  # noqa: N812 - it is a class
from psycopg2.extensions import cursor as Psycopg2Cursor  # noqa: N812
from sqlalchemy import Engine, PoolProxiedConnection, Select, event
from sqlalchemy import exc as sqlalchemy_errors
from sqlalchemy.dialects.postgresql.psycopg2 import PGDialect_psycopg2

from config import Config
from departures import DEPARTURES
from login import Login
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
        "pool_use_lifo": True,
        "pool_reset_on_return": None,  # a snapshot ends its transaction itself
    }


@dataclass(frozen=True, slots=True)
class Statement:
    """A SELECT, compiled once, with the values to bind.

    The driver itself quotes the values into the text: COPY takes no bound parameters, psycopg2 sends none.

    Attributes:
        planning: what Postgres's planner must be told for it, as SET does.
    """

    query: str
    values: Mapping[str, Any]
    planning: Sequence[str] = ()

    @classmethod
    def of(cls, statement: Select[Any], *, planning: Sequence[str] = ()) -> "Statement":
        compiled = statement.compile(dialect=DIALECT, compile_kwargs={"render_postcompile": True})
        return cls(str(compiled), compiled.params, planning)

    def bind(self, values: Mapping[str, Any]) -> "Statement":
        return replace(self, values={**self.values, **values})


class Snapshot:
    """A read-only REPEATABLE READ transaction: all that is read through it is of one instant.

    It begins with its first statement, in the same message, since each message costs a round trip. Every
    statement ends at once when `client` hangs up.

    Args:
        table: is locked before the instant is chosen, so that nobody can TRUNCATE it meanwhile. That would
            empty it for older snapshots, too (PostgreSQL, "Concurrency Control", "Caveats").

    Raises:
        Unavailable: Postgres is down, or has ended our statement.
        ClientGone: `client` hung up.
    """

    def __init__(
        self, connection: PoolProxiedConnection, client: socket.socket | None, table: str | None
    ) -> None:
        driver = connection.driver_connection
        assert isinstance(driver, Psycopg2Connection)  # noqa: S101 - the engine is ours
        self._connection = connection
        self._driver = driver
        self._client = client
        self._first = f"BEGIN; LOCK TABLE {table} IN ACCESS SHARE MODE; " if table else "BEGIN; "
        self._begun = self._broken = self._deserted = False

    def rows(self, statement: Statement) -> Sequence[tuple[Any, ...]]:
        before = self._before(statement)
        with self._running() as cursor:
            cursor.execute(before + statement.query, statement.values)
            return cursor.fetchall()

    def copy(self, statement: Statement, options: str, sink: Writable) -> int:
        """Write what COPY makes of a SELECT to `sink`, row by row; return the number of rows."""
        before = self._before(statement)
        with self._running() as cursor:
            query = cursor.mogrify(statement.query, statement.values).decode()
            cursor.copy_expert(f"{before}COPY ({query}) TO STDOUT WITH ({options})", sink)
            return cursor.rowcount

    def _before(self, statement: Statement) -> str:
        """What the same message tells Postgres first."""
        begun, self._begun = self._begun, True
        settings = "".join(f"SET LOCAL {setting}; " for setting in statement.planning)
        return settings if begun else self._first + settings

    @contextmanager
    def _running(self) -> Iterator[Psycopg2Cursor]:
        try:
            with (
                translated(self._is_deserted),
                DEPARTURES.noticed(self._client, self._hang_up),
                self._driver.cursor() as cursor,
            ):
                yield cursor
        except BaseException:
            self._broken = True  # perhaps in the middle of COPY: unfit for anything else
            raise

    def _hang_up(self) -> None:
        """End the connection, and with it the query.

        A cancel request would hold the whole process for as long as Postgres is paused or unreachable: libpq
        waits for it, and psycopg2 keeps the interpreter's lock meanwhile. This waits for nobody.
        """
        self._deserted = self._broken = True
        with (
            suppress(psycopg2.Error, OSError),  # it has ended by itself
            socket.socket(fileno=os.dup(self._driver.fileno())) as connection,
        ):
            connection.shutdown(socket.SHUT_RDWR)

    def _is_deserted(self) -> bool:
        return self._deserted

    def close(self) -> None:
        if self._begun and not self._broken:
            try:
                with self._driver.cursor() as cursor:
                    cursor.execute("ROLLBACK")
            except psycopg2.Error:  # nothing was written that could be lost
                self._broken = True
        if self._broken:
            self._connection.invalidate()
        self._connection.close()


class Database:
    """The pool of connections, with a bound on those who wait for one.

    Args:
        places: how many requests may have a connection or wait for one; beyond it, they are turned away
            without a wait.
    """

    def __init__(self, engine: Engine, *, places: int) -> None:
        event.listen(engine, "checkout", _refuse_ended)
        self._engine = engine
        self._places = threading.BoundedSemaphore(places)

    @contextmanager
    def snapshot(
        self, client: socket.socket | None = None, *, table: str | None = None
    ) -> Iterator[Snapshot]:
        """One transaction for one request; see Snapshot.

        Raises:
            Unavailable: Postgres is down or busy.
        """
        with self._place():
            snapshot = Snapshot(self._connect(), client, table)
            POOL_IN_USE.inc()
            try:
                yield snapshot
            finally:
                POOL_IN_USE.dec()
                snapshot.close()

    @contextmanager
    def _place(self) -> Iterator[None]:
        if not self._places.acquire(blocking=False):  # pylint: disable=consider-using-with
            with translated():
                raise Unavailable("Too many requests wait for the database.", kind="busy")
        try:
            yield
        finally:
            self._places.release()

    def _connect(self) -> PoolProxiedConnection:
        with translated():
            try:
                return self._engine.raw_connection()
            except sqlalchemy_errors.TimeoutError as error:
                raise Unavailable("All connections to the database are busy.", kind="busy") from error


def _refuse_ended(driver: Psycopg2Connection, _record: object, _proxy: object) -> None:
    """Let the pool replace a connection that has ended: what is idle has nothing to say but that.

    SQLAlchemy's own ping would cost every request a round trip.
    """
    idle = select.poll()
    idle.register(driver, select.POLLIN)
    if idle.poll(0):
        raise sqlalchemy_errors.DisconnectionError


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
    if isinstance(error, psycopg2.OperationalError | psycopg2.InterfaceError) and _is_away(error.pgcode):
        return Unavailable("The database does not answer.", kind="down", retry_after=5)
    LOG.error("query refused: %s", error)
    return Unavailable("The database refused the query.", kind="refused", retry_after=30)


def _is_away(state: str | None) -> bool:
    """Whether an operational error's SQLSTATE means that nobody is there, not that a limit was met.

    None comes from libpq itself; class 08 is the connection, 57 the server's end, 53300 too many connections.
    """
    return state is None or state.startswith(("08", "57")) or state == TOO_MANY_CONNECTIONS
