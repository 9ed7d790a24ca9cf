"""What a database holds."""

import contextlib
import io
import re
import subprocess

from local.postgres import BIN, Postgres

TABLE = "api.air_quality_measurements"
ASPECTS = {
    "stations": "SELECT * FROM api.stations ORDER BY 1",
    "role": "SELECT rolname, rolsuper, rolcreatedb, rolcreaterole, rolcanlogin, rolconfig FROM pg_roles"
    " WHERE rolname = 'api'",
    "database": "SELECT datname, datacl::text FROM pg_database ORDER BY 1",
    "public": "SELECT nspacl::text FROM pg_namespace WHERE nspname = 'public'",
}


def query(server: Postgres, sql: str, **login: str) -> list[tuple[object, ...]]:
    session = server.connect(**login)
    try:
        with session, session.cursor() as cursor:
            cursor.execute(sql)
            return cursor.fetchall() if cursor.description else []
    finally:
        session.close()


def psql(server: Postgres, program: str, *arguments: str) -> str:
    return subprocess.run(
        [BIN / program, *arguments], env=server.psql_environ(), check=True, text=True, capture_output=True
    ).stdout


def everything(server: Postgres) -> dict[str, object]:
    """All that is to survive: rows to the last digit, schema, rights, role."""
    schema = psql(server, "pg_dump", "--schema-only", "--schema=api", "air")
    found: dict[str, object] = {"schema": re.sub(r"\\(un)?restrict .*", "", schema)}
    with contextlib.closing(server.connect()) as session, session.cursor() as cursor:
        rows = io.StringIO()
        cursor.copy_expert(f"COPY (SELECT * FROM {TABLE} ORDER BY 1, 2) TO STDOUT", rows)
        found["rows"] = rows.getvalue()
        for name, sql in ASPECTS.items():
            cursor.execute(sql)
            found[name] = cursor.fetchall()
    return found
