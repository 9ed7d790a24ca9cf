"""Settings of the API's role, for a while."""

from collections.abc import Iterator
from contextlib import contextmanager

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
