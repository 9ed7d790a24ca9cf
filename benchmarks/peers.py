"""The caches that api-cache is measured against, and the origin behind all of them."""

import http.client
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

from local.postgres import base_environ
from local.processes import Process, Server, free_port

PACKAGES = {"wrk": "wrk", "nginx": "nginx", "varnishd": "varnish", "varnishncsa": "varnish"}
"""Programs, and the Debian packages that bring them."""
# Debian keeps servers where only root's PATH leads.
_PATH = f"{os.environ.get('PATH', os.defpath)}:/usr/local/sbin:/usr/sbin:/sbin"


def program(name: str) -> str:
    path = shutil.which(name, path=_PATH)
    if path is None:
        sys.exit(f"{name} is missing: apt-get install {PACKAGES.get(name, name)}")
    return path


def demand_programs() -> None:
    """End with one sentence when something is not installed."""
    missing = sorted({package for name, package in PACKAGES.items() if not shutil.which(name, path=_PATH)})
    if missing:
        sys.exit(
            f"This comparison needs Debian packages that are missing: apt-get install {' '.join(missing)}"
        )


class Peer(Server):
    """A server on 127.0.0.1 that is ready as soon as it answers at all."""

    def answers(self) -> bool:
        return (self.status_of("/") or 500) < 500

    def status_of(self, path: str) -> int | None:
        """The status of a GET that reads the answer whole, or None when there is none."""
        connection = http.client.HTTPConnection(self.host, self.port, timeout=2)
        try:
            connection.request("GET", path)
            response = connection.getresponse()
            response.read()
        except (OSError, http.client.HTTPException):
            return None
        else:
            return response.status
        finally:
            connection.close()

    def pids(self) -> set[int]:
        """The processes whose CPU time answering costs."""
        return {self.process.pid, *descendants(self.process.pid)}


class _Nginx(Peer):
    def __init__(self, folder: Path, name: str, server: str, around: str = "") -> None:
        self.port = free_port()
        self._folder = folder / name
        self._folder.mkdir(parents=True)
        configuration = self._folder / "nginx.conf"
        user = "user root;" if os.geteuid() == 0 else ""
        configuration.write_text(f"""
            {user}
            daemon off;
            worker_processes auto;
            pid {self._folder}/pid;
            error_log {self._folder}/error.log warn;
            events {{ worker_connections 4096; }}
            http {{
              sendfile on;
              tcp_nopush on;
              types {{ application/json json; }}
              keepalive_requests 100000000;
              client_body_temp_path {self._folder}/body;
              proxy_temp_path {self._folder}/proxy;
              fastcgi_temp_path {self._folder}/fastcgi;
              uwsgi_temp_path {self._folder}/uwsgi;
              scgi_temp_path {self._folder}/scgi;
              {around}
              server {{ listen {self.host}:{self.port} backlog=4096; {server} }}
            }}
        """)
        self.process = Process(
            name,
            [program("nginx"), "-e", self._folder / "error.log", "-c", configuration],
            environ=base_environ(),
            output=self._folder / "output.log",
        )


class Origin(_Nginx):
    """Static files of `folder`/bodies, fresh for an hour."""

    def __init__(self, folder: Path) -> None:
        self.bodies = folder / "bodies"
        self.bodies.mkdir(parents=True)
        super().__init__(
            folder,
            "origin",
            f"""
              access_log off;
              root {self.bodies};
              add_header Cache-Control "public, max-age=3600";
            """,
        )


class NginxCache(_Nginx):
    """Nginx with proxy_cache, as its manual has it, and with its access log."""

    def __init__(self, folder: Path, origin: Peer) -> None:
        super().__init__(
            folder,
            "nginx",
            f"""
              location / {{
                proxy_pass http://{origin.host}:{origin.port};
                proxy_cache bench;
                add_header X-Cache $upstream_cache_status;
              }}
            """,
            f"""
              access_log {folder}/nginx/access.log combined;
              proxy_cache_path {folder}/nginx/cache levels=1:2 keys_zone=bench:10m max_size=1g inactive=1h
                use_temp_path=off;
            """,
        )


class Varnish(Peer):
    """Varnish with its built-in rules and 256 MB of memory, and varnishncsa that writes a line a request."""

    def __init__(self, folder: Path, origin: Peer) -> None:
        self.port = free_port()
        self._folder = folder / "varnish"
        self._folder.mkdir(parents=True)
        vcl = self._folder / "default.vcl"
        vcl.write_text(f'vcl 4.1;\nbackend default {{ .host = "{origin.host}"; .port = "{origin.port}"; }}\n')
        instance = self._folder / "instance"
        self.process = Process(
            "Varnish",
            [
                *(program("varnishd"), "-F", "-j", "none", "-n", instance, "-f", vcl),
                *("-a", f"{self.host}:{self.port}", "-s", "malloc,256m", "-T", "none"),
            ],
            environ=base_environ() | {"PATH": _PATH},
            output=self._folder / "varnishd.log",
        )
        self._log = Process(
            "varnishncsa",
            [program("varnishncsa"), "-n", instance, "-w", self._folder / "access.log"],
            environ=base_environ(),
            output=self._folder / "varnishncsa.log",
        )

    def start(self) -> None:
        super().start()
        self._log.start()

    def stop(self) -> None:
        self._log.stop()
        super().stop()

    def pids(self) -> set[int]:
        return {*super().pids(), self._log.pid}


# ---- CPU time of processes


def descendants(pid: int) -> Iterator[int]:
    """The processes that `pid` started, and those that they did."""
    for path in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in path.read_text("ascii").split():
            yield int(child)
            yield from descendants(int(child))


def cpu_seconds(pids: set[int]) -> float:
    """User and system time that the processes have used so far."""
    ticks = 0
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text("utf-8").rpartition(") ")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")
