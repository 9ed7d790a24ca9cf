"""api-rest and api-cache as child processes, started by the same command as in their images."""

import http.client
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

from local.folder import ROOT
from local.processes import Process, Server, reserve_port


class Service(Server):
    """One of the two services.

    Args:
        environ: its settings, on top of PORT and HOST. Of our own environment it gets only what every program
            needs (PATH, HOME, ...).
        port: 0 takes a free one, kept over restarts.
        host: the address on which it listens, and is asked; 0.0.0.0 is all of them.
        output: a file for its log lines; None means our stdout.
    """

    folder: ClassVar[str]

    def __init__(
        self,
        environ: Mapping[str, str],
        *,
        port: int = 0,
        host: str = "127.0.0.1",
        output: Path | None = None,
    ) -> None:
        self.host = "127.0.0.1" if host == "0.0.0.0" else host  # noqa: S104
        self.port = port or reserve_port(host=self.host)
        settings = {**_inherited(), **environ, "HOST": host, "PORT": str(self.port)}
        settings["PATH"] = _with_our_programs(settings["PATH"])
        command = [ROOT / self.folder / "serve"]
        self.process = Process(self.folder, command, environ=settings, output=output, stop_timeout=40)

    @property
    def url(self) -> str:
        return f"http://{self.host}:{self.port}"

    def answers(self) -> bool:
        return self.get("/readyz") == 200

    def get(self, path: str) -> int | None:
        """The status of a GET, or None when nothing answers."""
        connection = http.client.HTTPConnection(self.host, self.port, timeout=5)
        try:
            connection.request("GET", path)
            return connection.getresponse().status
        except (OSError, http.client.HTTPException):
            return None
        finally:
            connection.close()


def _inherited() -> dict[str, str]:
    names = {"HOME", "LANG", "LC_ALL", "PATH", "TMPDIR", "TZ", "USER"}
    return {name: value for name, value in os.environ.items() if name in names}


def _with_our_programs(path: str) -> str:
    """`path` with the servers beside our interpreter, whether or not its environment is activated."""
    return f"{Path(sys.executable).parent}{os.pathsep}{path}"


class ApiRest(Service):
    folder = "api-rest"


class ApiCache(Service):
    folder = "api-cache"
