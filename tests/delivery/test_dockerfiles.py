"""The images: lint, no root, nothing unpinned."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from tests.delivery.manifests import ROOT

SERVICES = ["api-rest", "api-cache"]
HADOLINT = Path(sys.executable).with_name("hadolint")


def hadolint(dockerfile: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([HADOLINT, "-"], input=dockerfile, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("service", SERVICES)
def test_hadolint_finds_nothing(service: str) -> None:
    done = hadolint((ROOT / service / "Dockerfile").read_text())
    assert (done.returncode, done.stdout) == (0, "")


def test_hadolint_would_find_something() -> None:
    assert "DL3007" in hadolint("FROM python:latest\n").stdout


@pytest.mark.parametrize("service", SERVICES)
def test_images_are_of_two_stages_and_never_root(service: str) -> None:
    lines = (ROOT / service / "Dockerfile").read_text().splitlines()
    assert [line for line in lines if line.startswith("FROM")] == ["FROM ${BASE} AS build", "FROM ${BASE}"]
    assert "ARG BASE=python:3.13-slim" in lines
    assert "USER 10001:10001" in lines
    assert any("--require-hashes" in line for line in lines)


@pytest.mark.parametrize("service", SERVICES)
def test_images_hold_no_tests(service: str) -> None:
    assert {"tests/", "Dockerfile", "**/__pycache__/"} <= set(
        (ROOT / service / ".dockerignore").read_text().splitlines()
    )


@pytest.mark.parametrize("service", SERVICES)
def test_images_run_the_one_command(service: str) -> None:
    assert 'CMD ["./serve"]' in (ROOT / service / "Dockerfile").read_text()


def test_the_agent_of_the_pipeline_has_what_the_tests_run() -> None:
    """No slim image has curl, by which logs/setup.sh speaks; .ci/run names the other programs."""
    agent = (ROOT / ".ci" / "Dockerfile").read_text().partition("--no-install-recommends")[2]
    (tools,) = re.findall(r"^tools=\((.*?)\)", (ROOT / ".ci" / "run").read_text(), re.MULTILINE | re.DOTALL)
    assert "curl" in tools.split()
    assert set(tools.split()) <= set(agent.partition("&&")[0].split())
