"""The whole stack as child processes: started in order, kept alive, stopped in reverse."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from local.folder import PASSWORDS, credentials, secret_file, without
from local.postgres import Postgres
from local.processes import Server, reserve_port
from local.services import ApiCache, ApiRest
from local.valkey import Valkey

NAMES = {
    "POSTGRES_USER": "postgres",
    "POSTGRES_DB": "postgres",
    "POSTGRES_API_USER": "api",
    "POSTGRES_API_SCHEMA": "api",
}
API_REST_NEEDS = ("POSTGRES_HOST", "POSTGRES_PORT", "POSTGRES_DB", "POSTGRES_API_USER", "POSTGRES_API_SCHEMA")
API_CACHE_NEEDS = ("REDIS_HOST", "REDIS_PORT", "REDIS_PASSWORD")
# What a sourced environment.env says about other servers than those of this stack.
NOT_FROM_OUTSIDE = {
    *(*NAMES, *PASSWORDS, *API_REST_NEEDS, *API_CACHE_NEEDS),
    *("POSTGRES_SSLMODE", "POSTGRES_SSLROOTCERT", "REDIS_USER", "REDIS_TLS", "REDIS_TLS_CA"),
    *("BACKEND_HOST", "BACKEND_PORT", "HOST", "PORT"),
}
SHORTEST_PAUSE, LONGEST_PAUSE = 0.1, 10.0  # seconds between the death of a server and its next start
STEADY_SECONDS = 30.0  # a server that lived so long starts anew with the shortest pause


class Stack:
    """Postgres, Valkey, api-rest and api-cache on this machine; only api-cache is meant for users.

    Args:
        folder: where their data and logs lie.
        environ: settings for the services, e.g. CACHE_TTL. Hosts, ports, names and passwords of the stack's
            own servers do not come from here, so that a sourced environment.env does no harm.
        host, port: where api-cache listens; port 0 takes a free one.
        output: where the services' log lines go; None means our stdout.
    """

    def __init__(
        self, folder: Path, environ: Mapping[str, str], *, host: str, port: int, output: Path | None = None
    ) -> None:
        own = NAMES | credentials(folder)
        self.postgres = Postgres(folder / "postgres", port=reserve_port(5432), environ=own)
        self.valkey = Valkey(folder / "valkey", port=reserve_port(6379), environ=own)
        self.api_rest = ApiRest(
            {
                **without(environ, NOT_FROM_OUTSIDE),
                **{name: self.postgres.environ[name] for name in API_REST_NEEDS},
                "POSTGRES_API_PASSWORD_FILE": str(secret_file(folder, "POSTGRES_API_PASSWORD")),
            },
            port=reserve_port(5000),
            output=output,
        )
        self.api_cache = ApiCache(
            {
                **without(environ, NOT_FROM_OUTSIDE),
                **{name: self.valkey.environ[name] for name in API_CACHE_NEEDS},
                "BACKEND_HOST": self.api_rest.host,
                "BACKEND_PORT": str(self.api_rest.port),
            },
            host=host,
            port=port,
            output=output,
        )
        self.watches = [Watch(server) for server in self.servers]

    @property
    def servers(self) -> list[Server]:
        """In the order in which they need one another."""
        return [self.postgres, self.valkey, self.api_rest, self.api_cache]

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Start all, each once those are ready that it needs."""
        for server in self.servers:
            server.start()

    def stop(self) -> None:
        """Stop all, users' side first; when even that is interrupted, kill all."""
        try:
            for server in reversed(self.servers):
                server.stop()
        finally:
            for server in self.servers:
                server.kill()

    def revive(self, say: Callable[[str], None]) -> None:
        """Start again what died, each server by itself; to be called now and then."""
        for watch in self.watches:
            watch.look(time.monotonic(), say)


@dataclass
class Watch:
    """Starts one server again when it died, after a pause that doubles while it keeps dying."""

    server: Server
    _pause: float = SHORTEST_PAUSE
    _started: float = field(default_factory=time.monotonic)
    _due: float | None = None

    def look(self, now: float, say: Callable[[str], None]) -> None:
        process = self.server.process
        if process.running:
            return
        if self._due is None:
            if now - self._started > STEADY_SECONDS:
                self._pause = SHORTEST_PAUSE
            self._due = now + self._pause
            say(f"{process.name} {process.ending}; it starts again in {self._pause:g} s.")
        elif now >= self._due:
            process.start()
            self._started, self._due, self._pause = now, None, min(2 * self._pause, LONGEST_PAUSE)
