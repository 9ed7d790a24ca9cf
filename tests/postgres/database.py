"""One more run of the init script, in a database of its own."""

import subprocess
from pathlib import Path

from local.postgres import Postgres


class Database:
    """An empty database of the server, for one more run of the init script."""

    def __init__(self, server: Postgres, name: str) -> None:
        self.server = server
        self.name = name
        self._environ = server.psql_environ() | {"POSTGRES_DB": name, "POSTGRES_API_USER": f"{name}_api"}

    def init(self, command: str | None = None, **environ: str) -> subprocess.CompletedProcess[str]:
        """Run the init script, or a bash `command` around it, with `environ` over the usual settings."""
        script = Path("postgres/init-script.sh").resolve()
        return subprocess.run(
            ["bash", "-c", command or '"$script"'],
            env=self._environ | {"script": str(script)} | environ,
            text=True,
            capture_output=True,
            check=False,
        )

    def query(self, sql: str, **login: str) -> list[tuple[object, ...]]:
        session = self.server.connect(dbname=self.name, **login)
        try:
            with session.cursor() as cursor:
                cursor.execute(sql)
                return cursor.fetchall()
        finally:
            session.close()

    def is_untouched(self) -> bool:
        return not self.query(
            "SELECT nspname FROM pg_namespace WHERE nspname = 'api'"
            f" UNION ALL SELECT rolname FROM pg_roles WHERE rolname = '{self.name}_api'"
        )
