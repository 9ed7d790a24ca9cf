"""What these tests need from Debian beside `make test`'s packages. A missing one fails the run."""

import shutil

import pytest

PROGRAMS = {
    "prometheus": "prometheus",
    "promtool": "prometheus",
    "prometheus-node-exporter": "prometheus-node-exporter",
    "prometheus-postgres-exporter": "prometheus-postgres-exporter",
    "prometheus-redis-exporter": "prometheus-redis-exporter",
}


@pytest.fixture(scope="session", autouse=True)
def _programs() -> None:
    packages = sorted({package for program, package in PROGRAMS.items() if not shutil.which(program)})
    if packages:
        pytest.exit(f"These tests need Debian's packages: apt-get install {' '.join(packages)}", returncode=1)
