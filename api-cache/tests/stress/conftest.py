import random

import pytest
from local.valkey import Valkey

from tests.conftest import PASSWORD
from tests.support import Origin

MAX_SECONDS = 600.0


def pytest_addoption(parser):
    group = parser.getgroup("stress")
    group.addoption("--seed", default="random", help="of targets, requests and faults: a whole number")
    group.addoption("--seconds", type=float, default=30, help="for which each test asks")


def pytest_configure(config):
    if config.option.seed == "random":
        config.option.seed = random.randrange(1_000_000)


def pytest_report_header(config):
    return f"stress: seed {config.option.seed}, {config.option.seconds:.0f} seconds a test"


@pytest.fixture
def seed(request):
    return int(request.config.option.seed)


@pytest.fixture
def seconds(request):
    return min(request.config.option.seconds, MAX_SECONDS)


@pytest.fixture
def origin():
    server = Origin()
    yield server
    server.stop()


@pytest.fixture
def valkey(tmp_path):
    """Large enough for all that a run stores, so that nothing is evicted, unless a fault has it so."""
    limit = {"maxmemory": "1gb"}
    with Valkey(tmp_path / "valkey", environ={"REDIS_PASSWORD": PASSWORD}, settings=limit) as server:
        yield server
