"""The stack under Docker Compose, in a project of its own that leaves nothing behind."""

import json
import os
import subprocess
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
import yaml
from tests.stack.deployment import ASK_FROM_WITHIN, TIMEOUT, Reply, ask, reply_from_within

ROOT = Path(__file__).parents[2]
PORTS = {"api-cache": 8080, "api-rest": 5000}


def need(*services: str) -> None:
    """Skip the test where the images of these services cannot be had."""
    if missing := [service for service in services if not image_is_here(service)]:
        pytest.skip(f"no registry gives the images of {', '.join(missing)}: not run here")


def image_is_here(service: str) -> bool:
    image = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"][service]["image"]
    for command in (["image", "inspect"], ["pull", "--quiet"]):
        try:
            done = subprocess.run(["docker", *command, image], capture_output=True, check=False, timeout=300)
        except subprocess.TimeoutExpired:
            return False
        if done.returncode == 0:
            return True
    return False


class ComposeError(Exception):
    """A Compose command failed; the message holds what it said."""


def project_name(purpose: str) -> str:
    """Of the checkout's path, so that what a killed run left is found and removed."""
    return f"air-quality-{purpose}-{zlib.crc32(bytes(ROOT)):08x}"


class Compose:
    """A Compose project, from the first container to the last."""

    def __init__(self, settings: Mapping[str, str], port: int | str, purpose: str = "e2e") -> None:
        self.project = project_name(purpose)
        self.port = port  # or a range of them, for several replicas
        # A clean environment: nothing that the caller's shell has set may decide what is tested.
        kept = {
            name: value for name, value in os.environ.items() if name in KEPT or name.startswith("DOCKER_")
        }
        self.environ = {**kept, **settings, "PORT": str(port)}

    def up(self, *options: str) -> None:
        """Build the images, start everything and wait until it is healthy."""
        self.remove()
        self.run("up", "--detach", "--build", "--wait", "--wait-timeout", "240", *options, timeout=1200)

    def request(
        self, service: str, target: str, method: str = "GET", headers: Mapping[str, str] | None = None
    ) -> Reply:
        if service == "api-cache":
            return ask("127.0.0.1", int(self.port), target, method, headers or {})
        arguments = json.dumps([PORTS[service], target, method, dict(headers or {}), TIMEOUT])
        printed = self.run("exec", "-T", service, "python", "-c", ASK_FROM_WITHIN, arguments)
        return reply_from_within(printed)

    def logs(self, service: str) -> list[str]:
        # `docker compose logs` writes control sequences between the lines.
        (container,) = self.run("ps", "--all", "--quiet", service).split()
        done = subprocess.run(
            ["docker", "logs", container], env=self.environ, capture_output=True, text=True, check=True
        )
        return (done.stdout + done.stderr).splitlines()

    def kill(self, part: str) -> None:
        self.run("kill", part)

    def start(self, part: str) -> None:
        # Not `up`: its dependencies stay as they are.
        self.run("start", part)

    def run(self, *arguments: str, timeout: float = 120) -> str:
        """Output of a Compose command; its messages go into the error when it fails."""
        done = subprocess.run(
            ["docker", "compose", "--project-name", self.project, *arguments],
            cwd=ROOT,
            env=self.environ,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
        if done.returncode != 0:
            raise ComposeError(f"docker compose {arguments[0]} failed:\n{done.stdout}{done.stderr}")
        return done.stdout

    def last_words(self) -> str:
        """Who runs, and the end of every log."""
        return self.run("ps", "--all") + self.run("logs", "--no-color", "--tail", "60")

    def remove(self) -> None:
        self.run("--profile", "*", "down", "--volumes", "--remove-orphans", "--timeout", "5")


KEPT: Sequence[str] = ("PATH", "HOME", "XDG_RUNTIME_DIR", "LANG", "TMPDIR")
