"""TLS to Postgres and to Redis, verified when the variables ask for it."""

import itertools
import os
import re
import subprocess
import sys
import threading
import uuid
from collections.abc import Callable, Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import requests
from local.client import connect
from local.postgres import Postgres
from local.processes import wait_until
from local.services import ApiCache, ApiRest
from local.template import ENVIRON
from local.valkey import Valkey
from tests.credentials.conftest import Authority, Door, PostgresDoor

LATEST = "/air_quality/latest"


def is_ready(service: ApiRest) -> bool:
    """Whether a service that runs says that it can work."""
    assert wait_until(lambda: service.get("/healthz") == 200, timeout=30)
    return service.get("/readyz") == 200


@pytest.fixture
def started() -> Iterator[Callable[[ApiRest | ApiCache], None]]:
    """Starts services without waiting until they are ready, which some never will be."""
    services = []

    def start(service: ApiRest | ApiCache) -> None:
        services.append(service)
        service.launch()

    yield start
    for service in services:
        service.kill()


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"POSTGRES_SSLMODE": "verify-full", "POSTGRES_SSLROOTCERT": "ours"}, True),
        ({"POSTGRES_SSLMODE": "require"}, True),
        ({"POSTGRES_SSLMODE": "disable"}, False),
        ({"POSTGRES_SSLMODE": "verify-full", "POSTGRES_SSLROOTCERT": "theirs"}, False),
        ({"POSTGRES_SSLMODE": "verify-ca", "POSTGRES_SSLROOTCERT": "theirs"}, False),
        # The certificate is for the address, not for this name of it.
        (
            {"POSTGRES_SSLMODE": "verify-full", "POSTGRES_SSLROOTCERT": "ours", "POSTGRES_HOST": "localhost"},
            False,
        ),
    ],
    ids=lambda value: " ".join(value.values()) if isinstance(value, dict) else "",
)
def test_api_rest_logs_in_only_where_it_may(
    postgres: Postgres,
    authority: Authority,
    new_authority: Callable[[], Authority],
    settings: dict[str, str],
    expected: bool,
) -> None:
    """The connection alone, by api-rest's own code: a whole service a case would take a second each."""
    files = {"ours": authority.file, "theirs": new_authority().file}
    settings = {name: str(files.get(value, value)) for name, value in settings.items()}
    with PostgresDoor(authority.issue("127.0.0.1"), postgres.port) as door:
        environ = os.environ | postgres.environ | {"POSTGRES_PORT": str(door.port)} | settings
        command = [sys.executable, "-c", LOG_IN]
        done = subprocess.run(
            command, cwd="api-rest", env=environ, text=True, capture_output=True, check=False
        )
        assert (done.returncode == 0) is expected, done.stderr
        assert ("psycopg2.OperationalError" in done.stderr) is not expected
        assert door.entered > 0 or not expected
    assert ENVIRON["POSTGRES_API_PASSWORD"] not in done.stdout + done.stderr


LOG_IN = "from config import Config; from login import Login; Login(Config.from_environ())().close()"


def test_api_rest_serves_only_what_it_has_verified(
    postgres: Postgres,
    authority: Authority,
    new_authority: Callable[[], Authority],
    started: Callable[[ApiRest], None],
    tmp_path: Path,
) -> None:
    theirs = PostgresDoor(new_authority().issue("127.0.0.1"), postgres.port)
    tls = {"POSTGRES_SSLMODE": "verify-full", "POSTGRES_SSLROOTCERT": str(authority.file)}
    way = {"POSTGRES_PORT": str(theirs.port), "WEB_CONCURRENCY": "1"}
    service = ApiRest(postgres.environ | way | tls, output=tmp_path / "log")
    with theirs:
        started(service)
        assert not is_ready(service)
        assert service.get(LATEST) == 503
    with PostgresDoor(authority.issue("127.0.0.1"), postgres.port, theirs.port) as ours:
        assert wait_until(lambda: is_ready(service), timeout=20)
        assert service.get(LATEST) == 200
        assert ours.entered > 0
        service.kill()
    assert ENVIRON["POSTGRES_API_PASSWORD"] not in (tmp_path / "log").read_text()


@pytest.fixture(scope="module")
def origin() -> Iterator[int]:
    """An origin whose answers may be stored for a minute; its port."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Cache-Control", "max-age=60")
            self.send_header("Content-Length", "5")
            self.end_headers()
            self.wfile.write(b"hello")

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.server_address[1]
        server.shutdown()
        thread.join()


def new_cache(origin: int, settings: Mapping[str, str], log: Path) -> ApiCache:
    environ = {
        "BACKEND_HOST": "127.0.0.1",
        "BACKEND_PORT": str(origin),
        "CACHE_WORKERS": "1",
        "REDIS_HOST": "127.0.0.1",
        "REDIS_PASSWORD": ENVIRON["REDIS_PASSWORD"],
        **settings,
    }
    return ApiCache(environ, output=log)


def share(first: ApiCache, second: ApiCache, path: str) -> bool:
    """Whether the second answers from what the first has stored."""
    assert requests.get(first.url + path, timeout=10).content == b"hello"
    answer = requests.get(second.url + path, timeout=10)
    assert answer.content == b"hello"
    return "hit" in answer.headers["Cache-Status"]


def test_api_caches_share_entries_through_verified_tls_as_an_acl_user(
    valkey: Valkey,
    authority: Authority,
    origin: int,
    started: Callable[[ApiCache], None],
    tmp_path: Path,
) -> None:
    with Door(authority.issue("127.0.0.1"), valkey.port) as door:
        tls = {"REDIS_TLS": "true", "REDIS_TLS_CA": str(authority.file), "REDIS_PORT": str(door.port)}
        # Each by a password of its own, as while one replaces the other; they share nothing but Redis.
        first, second = (
            new_cache(origin, tls | {"REDIS_USER": "cache", "REDIS_PASSWORD": password}, tmp_path / "log")
            for password in ("one of two", "the other")
        )
        for cache in (first, second):
            started(cache)
        for cache in (first, second):
            assert wait_until(lambda cache=cache: cache.get("/readyz") == 200, timeout=30)
        paths = (f"/{uuid.uuid4()}" for _ in itertools.count())
        assert wait_until(lambda: share(first, second, next(paths)), timeout=20)
        assert wait_until(lambda: share(second, first, next(paths)), timeout=20)
        assert door.entered >= 2
        for cache in (first, second):
            cache.kill()


@pytest.mark.parametrize("fault", ["another authority", "another name", "no TLS there", "wrong password"])
def test_api_cache_leaves_a_redis_alone_that_it_cannot_trust(
    valkey: Valkey,
    authority: Authority,
    new_authority: Callable[[], Authority],
    origin: int,
    started: Callable[[ApiCache], None],
    tmp_path: Path,
    fault: str,
) -> None:
    leaf = authority.issue("redis.example" if fault == "another name" else "127.0.0.1")
    ca = new_authority() if fault == "another authority" else authority
    with Door(leaf, valkey.port) as door, connect(valkey, socket_timeout=5) as client:
        client.flushall()
        settings = {
            "REDIS_TLS": "true",
            "REDIS_TLS_CA": str(ca.file),
            "REDIS_PORT": str(valkey.port if fault == "no TLS there" else door.port),
            "REDIS_PASSWORD": "guess" if fault == "wrong password" else ENVIRON["REDIS_PASSWORD"],
        }
        cache = new_cache(origin, settings, tmp_path / "log")
        started(cache)
        assert wait_until(lambda: cache.get("/readyz") == 200, timeout=30)
        for number in range(5):
            assert requests.get(f"{cache.url}/{number}", timeout=10).content == b"hello"
        assert wait_until(lambda: redis_errors(cache) > 0, timeout=20)
        assert client.dbsize() == 0
        cache.kill()
    assert "guess" not in (tmp_path / "log").read_text()


def redis_errors(cache: ApiCache) -> float:
    text = requests.get(f"{cache.url}/metrics", timeout=10).text
    found = re.findall(r"^api_cache_redis_errors_total\S* (\S+)$", text, re.MULTILINE)
    return sum(map(float, found))


def test_a_flag_that_is_none_is_told(tmp_path: Path) -> None:
    environ = {"REDIS_PASSWORD": "x", "REDIS_TLS": "maybe"}
    cache = ApiCache(environ, output=tmp_path / "log")
    cache.launch()
    assert wait_until(lambda: not cache.process.running, timeout=20)
    assert "REDIS_TLS: 'maybe' is not true or false." in (tmp_path / "log").read_text()
