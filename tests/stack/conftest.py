"""One stack for all tests of this folder: native, or `--deployment compose`."""

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from local.processes import free_port
from local.template import ENVIRON
from tests.stack.compose import Compose, ComposeError
from tests.stack.deployment import Deployment
from tests.stack.native import Native

TTL = 2  # seconds; the shipped 30 would make the tests wait
# Such as a user may choose: every quoting between here and SQL, Redis and libpq has to hold.
PASSWORDS = {
    "POSTGRES_PASSWORD": """su'p"er $HOME \\ user""",
    "POSTGRES_API_PASSWORD": """re'a"der ${X} \\n %s""",
    "REDIS_PASSWORD": """ca'c"he $(id) \\x #1""",
    "POSTGRES_MONITORING_PASSWORD": """mo'n"i @:/ \\ $tor""",
    "REDIS_MONITORING_PASSWORD": """se'e"r @:/ \\ $x""",
}
TIMES = {"CACHE_TTL": str(TTL), "CACHE_CONTROL_MAX_AGE": str(TTL)}
COMPOSE_ALONE = {
    "test_first_start.py",
    "test_monitoring.py",
    "test_monitoring_pods.py",
    "test_pods.py",
    "test_rolling.py",
    "test_tls.py",
}


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--deployment", choices=["native", "compose"], default="native", help="where the stack runs"
    )


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Replicas and profiles are a matter of Compose."""
    return (collection_path.name in COMPOSE_ALONE and config.getoption("deployment") == "native") or None


@pytest.fixture(scope="session")
def stack(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    # A terminated run takes its containers along, as an interrupted one does.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    if request.config.getoption("deployment") == "native":
        with Native(TIMES, tmp_path_factory.mktemp("stack")) as native:
            yield native
        return
    compose = Compose(PASSWORDS | TIMES, free_port())
    try:
        compose.up()
        yield compose
    except ComposeError as error:
        pytest.exit(f"{error}\n{compose.last_words()}", returncode=1)
    finally:
        if request.session.testsfailed:
            print(compose.last_words())
        compose.remove()


@pytest.fixture(scope="session")
def passwords(request: pytest.FixtureRequest) -> list[str]:
    given = ENVIRON if request.config.getoption("deployment") == "native" else PASSWORDS
    return [value for name, value in given.items() if name.endswith("_PASSWORD")]


@pytest.fixture(scope="session")
def ttl() -> float:
    return TTL
