"""Two replicas of each service, restarted one by one under load: no request is lost."""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from local.processes import port_is_free
from tests.stack.compose import ROOT, Compose, ComposeError
from tests.stack.conftest import PASSWORDS, TIMES

LOAD = Path(__file__).with_name("load.py")


@pytest.fixture
def replicas() -> Iterator[Compose]:
    first = next(port for port in range(20_000, 30_000) if port_is_free(port) and port_is_free(port + 1))
    compose = Compose(PASSWORDS | TIMES, f"{first}-{first + 1}", purpose="rolling")
    try:
        compose.up("--scale", "api-rest=2", "--scale", "api-cache=2")
        yield compose
    except ComposeError as error:
        pytest.fail(f"{error}\n{compose.last_words()}")
    finally:
        compose.remove()


def test_a_rolling_restart_loses_no_request(replicas: Compose) -> None:
    load = subprocess.Popen(
        [
            *("docker", "run", "--rm", "--network", f"{replicas.project}_public", "api-cache:1.0.0"),
            *("python", "-c", LOAD.read_text(), "api-cache", "8080", "8"),
        ],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert load.stdout
        assert load.stdout.readline() == "asking\n"
        restarted = subprocess.run(
            [ROOT / ".ci" / "rolling-restart"],
            env=replicas.environ | {"COMPOSE_PROJECT_NAME": replicas.project},
            capture_output=True,
            text=True,
            check=False,
        )
    finally:
        load.terminate()
    seen = json.loads(load.communicate(timeout=60)[0])
    assert restarted.returncode == 0, restarted.stderr
    assert restarted.stdout.count("restarting") == 4
    assert set(seen["counts"]) <= {"ok", "tried again"}, seen
    assert seen["counts"]["ok"] > 50
    assert seen["slowest"] < 10
