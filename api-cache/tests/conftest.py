import contextlib
import functools
import itertools
from pathlib import Path

import pytest
import redis
from local.processes import wait_until
from local.services import ApiCache
from local.valkey import Valkey

from store import layout
from store.stored import target_hash
from tests.support import Origin

PASSWORD = "a test's"


@pytest.fixture(scope="session")
def valkey(tmp_path_factory):
    with Valkey(tmp_path_factory.mktemp("valkey") / "data", environ={"REDIS_PASSWORD": PASSWORD}) as server:
        yield server


@pytest.fixture(scope="session")
def origin():
    return Origin()


def settings(valkey, origin, **more):
    return {**valkey.environ, "BACKEND_HOST": "127.0.0.1", "BACKEND_PORT": str(origin.port), **more}


@pytest.fixture(scope="session")
def log(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("log") / "cache.log"


@pytest.fixture(scope="session")
def cache(valkey, origin, log):
    """One cache with its default settings, two workers, in front of the scripted origin."""
    with ApiCache(settings(valkey, origin), output=log) as service:
        yield service


@pytest.fixture(scope="session")
def one_worker(valkey, origin, tmp_path_factory):
    """Another one, which differs in that a single worker has all connections."""
    output = tmp_path_factory.mktemp("one-worker") / "cache.log"
    with ApiCache(settings(valkey, origin, CACHE_WORKERS="1"), output=output) as service:
        yield service


@pytest.fixture
def make_cache(origin, valkey, tmp_path):
    """More caches, with settings of their own."""
    with starting(tmp_path, valkey, origin) as make:
        yield make


@pytest.fixture(scope="module")
def shared_cache(origin, valkey, tmp_path_factory):
    """More caches, one for all tests of a file that want the same settings: they leave it as it is."""
    with starting(tmp_path_factory.mktemp("shared"), valkey, origin) as make:
        yield functools.cache(make)


@contextlib.contextmanager
def starting(folder, valkey, origin):
    """Starts caches, each with settings of its own and perhaps another Redis, and stops them at the end."""
    with contextlib.ExitStack() as started:
        numbers = itertools.count()

        def make(*, redis=valkey, port=0, **more) -> ApiCache:
            output = folder / f"cache-{next(numbers)}.log"
            return started.enter_context(ApiCache(settings(redis, origin, **more), port=port, output=output))

        yield make


@pytest.fixture
def own_valkey(tmp_path):
    """A Redis to be broken."""
    with Valkey(tmp_path / "own", environ={"REDIS_PASSWORD": PASSWORD}) as server:
        yield server


@pytest.fixture(scope="module")
def lasting_valkey(tmp_path_factory):
    with Valkey(tmp_path_factory.mktemp("lasting") / "data", environ={"REDIS_PASSWORD": PASSWORD}) as server:
        yield server


@pytest.fixture
def mended_valkey(lasting_valkey):
    """One that is mended after each test, so that the caches of several may use it."""
    with connected(lasting_valkey) as connection:
        whole = connection.config_get("maxmemory*")
        yield lasting_valkey
        if not lasting_valkey.process.running:
            lasting_valkey.start()
        lasting_valkey.resume()
        connection.config_set(*itertools.chain.from_iterable(whole.items()))


@pytest.fixture
def client(valkey):
    """Of Redis."""
    with connected(valkey) as connection:
        yield connection


def connected(valkey) -> redis.Redis:
    return redis.Redis(valkey.host, valkey.port, password=PASSWORD)


def lose_bodies(client: redis.Redis, path: str) -> None:
    """Take the bodies of a target's entries out of Redis, and leave the entries."""
    key = target_hash(path)
    small = [field for field in client.hkeys(layout.index(key)) if field.startswith(b"s:")]
    others = client.keys(f"{layout.bodies(key)}*")
    assert small or others
    with client.pipeline() as both:
        for name in small:
            both.hdel(layout.index(key), name)
        for name in others:
            both.delete(name)
        both.execute()


def eventually(claim, timeout=5.0):
    assert wait_until(claim, timeout=timeout)
