"""The live stack under a real Prometheus, with the real exporters and the shipped configuration."""

import contextlib
import json
import os
import re
import subprocess
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from local.postgres import BIN, Postgres
from local.processes import Process, Server, free_port, port_is_free
from local.valkey import BINARY as VALKEY
from tests.delivery.manifests import compose
from tests.monitoring.rules import MONITORING, ROOT
from tests.monitoring.stack import SETTINGS, Stack

PASSWORDS = {
    "POSTGRES_MONITORING_PASSWORD": """mo'n"i @:/ \\ $tor""",
    "REDIS_MONITORING_PASSWORD": """se'e"r @:/ \\ $x""",
}


class Program(Server):
    """A process that is ready once it answers GET `path`."""

    def __init__(
        self, command: Sequence[str], environ: Mapping[str, str], *, port: int, path: str, output: Path
    ) -> None:
        self.port, self._path = port, path
        self.process = Process(
            command[0], command, environ={**os.environ, **environ}, output=output, stop_timeout=10
        )

    def answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{self._path}", timeout=1):
                return True
        except OSError:
            return False


class Redis(Server):
    """redis/serve as in the container, with the user `monitoring` that it makes; Valkey is its Redis."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        programs = folder / "bin"
        programs.mkdir()
        (programs / "redis-server").symlink_to(VALKEY)
        environ = {**os.environ, **SETTINGS, **PASSWORDS, "REDIS_PORT": str(self.port)}
        environ["PATH"] = f"{programs}:{environ['PATH']}"
        self.process = Process(
            "Redis",
            [ROOT / "redis" / "serve", "--bind", self.host],
            environ=environ,
            output=folder / "redis.log",
        )

    def answers(self) -> bool:
        """Whether anything listens; only its users could ask more."""
        return not port_is_free(self.port)


class Watched:
    """The stack and what watches it; `query` asks Prometheus."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.redis = Redis(folder)
        self.stack = Stack(folder, self.redis, self.redis.port)
        self.exporters = {
            "postgres": self._postgres_exporter(free_port()),
            "redis": self._redis_exporter(free_port()),
            "node": self._node_exporter(free_port()),
        }
        self.prometheus = self._prometheus(free_port())

    @contextlib.contextmanager
    def running(self) -> Iterator["Watched"]:
        with contextlib.ExitStack() as started:
            started.enter_context(self.stack.running())
            for _ in range(2):  # it may run again
                make_role(self.stack.postgres).check_returncode()
            for exporter in self.exporters.values():
                started.enter_context(exporter)
            started.enter_context(self.prometheus)
            yield self

    def query(self, expression: str) -> list[dict[str, Any]]:
        """The samples of an instant query."""
        answer = self._ask("query", query=expression)
        samples: list[dict[str, Any]] = answer["data"]["result"]
        return samples

    def rules(self) -> list[dict[str, Any]]:
        """All rules, with the health of their last evaluation."""
        return [rule for group in self._ask("rules")["data"]["groups"] for rule in group["rules"]]

    def _ask(self, endpoint: str, **parameters: str) -> dict[str, Any]:
        url = (
            f"http://127.0.0.1:{self.prometheus.port}/api/v1/{endpoint}?{urllib.parse.urlencode(parameters)}"
        )
        with urllib.request.urlopen(url, timeout=30) as response:
            parsed: dict[str, Any] = json.load(response)
        return parsed

    def _postgres_exporter(self, port: int) -> Program:
        environ = given("postgres-exporter", self.stack.postgres.environ | PASSWORDS)
        command = ["prometheus-postgres-exporter", f"--web.listen-address=127.0.0.1:{port}"]
        return self._program(command, environ, port, "/")

    def _redis_exporter(self, port: int) -> Program:
        way = {"REDIS_HOST": self.redis.host, "REDIS_PORT": str(self.redis.port)}
        command = ["prometheus-redis-exporter", f"-web.listen-address=127.0.0.1:{port}"]
        return self._program(command, given("redis-exporter", way | PASSWORDS), port, "/health")

    def _node_exporter(self, port: int) -> Program:
        """It finds the volumes where its container has them, by a root and a mount table of our own."""
        volumes = ["/volumes/postgres", "/volumes/backups"]
        root, proc = self.folder / "root", self.folder / "proc"
        for volume in volumes:
            (root / volume[1:]).mkdir(parents=True)
        (proc / "1").mkdir(parents=True)
        # As the backup job leaves it.
        metric = f"backup_last_success_timestamp_seconds {time.time()}\n"
        (root / "volumes/backups/backup.prom").write_text(metric)
        mounts = "".join(f"/dev/disk {volume} ext4 rw 0 0\n" for volume in volumes)
        table = "".join(f"{n} 1 8:1 / {volume} rw - ext4 /dev/disk rw\n" for n, volume in enumerate(volumes))
        (proc / "1" / "mounts").write_text(mounts)
        (proc / "1" / "mountinfo").write_text(table)
        flags = compose()["services"]["node-exporter"]["command"]
        command = [
            "prometheus-node-exporter",
            *(flag.replace("/volumes", f"{root}/volumes") for flag in flags),
            f"--path.rootfs={root}",
            f"--path.procfs={proc}",
            f"--web.listen-address=127.0.0.1:{port}",
        ]
        return self._program(command, {}, port, "/")

    def _prometheus(self, port: int) -> Program:
        configuration = yaml.safe_load((MONITORING / "prometheus.yml").read_text())
        configuration["global"] = dict.fromkeys(configuration["global"], "1s")
        configuration["rule_files"] = [str(MONITORING / "rules" / "*.yml")]
        ports = {
            "api-cache": self.stack.api_cache.port,
            "api-rest": self.stack.api_rest.port,
            "prometheus": port,
            **{name: exporter.port for name, exporter in self.exporters.items()},
        }
        for job in configuration["scrape_configs"]:
            job.pop("dns_sd_configs", None)
            if job["job_name"] == "postgres":  # while Postgres is down, its exporter takes its time to say so
                job["scrape_interval"] = job["scrape_timeout"] = "5s"
            job["static_configs"] = [{"targets": [f"127.0.0.1:{ports[job['job_name']]}"]}]
        file = self.folder / "prometheus.yml"
        file.write_text(yaml.safe_dump(configuration))
        command = [
            "prometheus",
            f"--config.file={file}",
            f"--storage.tsdb.path={self.folder / 'prometheus'}",
            f"--web.listen-address=127.0.0.1:{port}",
        ]
        return self._program(command, {}, port, "/-/ready")

    def _program(self, command: Sequence[str], environ: Mapping[str, str], port: int, path: str) -> Program:
        return Program(command, environ, port=port, path=path, output=self.folder / f"{command[0]}.log")


def make_role(server: Postgres, **settings: str) -> subprocess.CompletedProcess[str]:
    """The job that makes the exporter's role, with these variables of Compose on top."""
    environ = given("postgres-role", server.environ | PASSWORDS | settings)
    # The exporter takes no password that was hashed once.
    own = {"PGOPTIONS": "-c scram_iterations=4096", "PATH": f"{BIN}:{os.environ['PATH']}"}
    return subprocess.run(
        [MONITORING / "postgres-role.sh"],
        env=os.environ | environ | own,
        text=True,
        capture_output=True,
        check=False,
    )


def given(service: str, settings: Mapping[str, str]) -> dict[str, str]:
    """What docker-compose.yml gives a service where these are the variables."""

    def value(reference: re.Match[str]) -> str:
        return settings.get(reference[1]) or reference[2] or ""

    environment = compose()["services"][service]["environment"]
    return {name: re.sub(r"\$\{(\w+)(?::[-?](.*?))?\}", value, text) for name, text in environment.items()}
