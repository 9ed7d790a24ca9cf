"""The native stack, as a later `make run` starts it, on free ports and with data of its own."""

from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

from local.processes import ProcessError, port_is_free, wait_until
from local.services import ApiCache, ApiRest
from local.template import ENVIRON, copied_database
from local.valkey import Valkey
from tests.stack.deployment import Reply, ask


class Native:
    def __init__(self, settings: Mapping[str, str], folder: Path) -> None:
        self.folder = folder
        settings = ENVIRON | dict(settings)
        postgres = copied_database(folder / "postgres")
        redis = Valkey(folder / "redis", environ=settings)
        api_rest = ApiRest(settings | postgres.environ, output=folder / "api-rest.log")
        origin = {"BACKEND_HOST": api_rest.host, "BACKEND_PORT": str(api_rest.port)}
        api_cache = ApiCache(settings | redis.environ | origin, output=folder / "api-cache.log")
        self.parts = {
            "postgres": postgres,
            "redis": redis,
            "api-rest": api_rest,
            "api-cache": api_cache,
        }
        self.running = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as started:
            for part in self.parts.values():
                started.enter_context(part)
            self.running = started.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.running.close()

    def request(
        self, service: str, target: str, method: str = "GET", headers: Mapping[str, str] | None = None
    ) -> Reply:
        return ask("127.0.0.1", self.parts[service].port, target, method, headers or {})

    def logs(self, service: str) -> list[str]:
        return (self.folder / f"{service}.log").read_text().splitlines()

    def kill(self, part: str) -> None:
        self.parts[part].kill()
        # Workers that lost their parent let go of the port a moment later.
        assert wait_until(lambda: port_is_free(self.parts[part].port), timeout=10)

    def start(self, part: str) -> None:
        def started() -> bool:
            try:
                self.parts[part].start()
            except ProcessError:
                return False
            return True

        # As a supervisor does, more than once: sessions of a killed Postgres hold its memory for a moment.
        assert wait_until(started, timeout=60, interval=0.5)
