"""The API role's sessions with Postgres: their settings, how many there are, and what holds them up."""

from collections.abc import Iterator
from contextlib import closing, contextmanager

from local.postgres import Postgres
from psycopg2.extensions import cursor as Cursor  # noqa: N812

# Settings of a role count from its next connection on.
END_SESSIONS = "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE usename = 'api'"


@contextmanager
def role_settings(sql: Cursor, **settings: str) -> Iterator[None]:
    """Let the services' connections have `settings`, where they do not choose themselves."""
    sql.execute("".join(f"ALTER ROLE api SET {name} = '{value}';" for name, value in settings.items()))
    sql.execute(END_SESSIONS)
    try:
        yield
    finally:
        sql.execute("".join(f"ALTER ROLE api RESET {name};" for name in settings))
        sql.execute(END_SESSIONS)


def sessions(postgres: Postgres, condition: str) -> int:
    """How many of them meet a condition on pg_stat_activity."""
    with closing(postgres.connect()) as connection, connection.cursor() as cursor:
        cursor.execute(f"SELECT count(*) FROM pg_stat_activity WHERE usename = 'api' AND {condition}")
        ((count,),) = cursor.fetchall()
    return int(count)


@contextmanager
def locked_table(postgres: Postgres) -> Iterator[None]:
    """Whoever asks for measurements waits until the end of the block."""
    with closing(postgres.connect(options="-c search_path=api")) as connection, connection.cursor() as cursor:
        cursor.execute("LOCK TABLE air_quality_measurements IN ACCESS EXCLUSIVE MODE")
        yield
