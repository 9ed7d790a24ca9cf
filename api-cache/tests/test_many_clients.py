"""Many clients at a time, most of them slow."""

import contextlib
import resource
import socket

from local.processes import wait_until
from local.services import ApiCache

from tests.conftest import connected, settings
from tests.support import all_wait, answer, ask, fresh_path, metrics, raw, resident, together, workers

MEGABYTE = 2**20


@contextlib.contextmanager
def clients(cache, number, path):
    """So many who have asked for a path, and take nothing of the answer."""
    with contextlib.ExitStack() as stack:
        found = []
        for _ in range(number):
            sock = stack.enter_context(socket.socket())
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            sock.settimeout(10)
            sock.connect(("127.0.0.1", cache.port))
            sock.sendall(b"GET %b HTTP/1.1\r\nHost: h\r\n\r\n" % path.encode())
            found.append(sock)
        yield found


def test_more_clients_than_files_are_usual(valkey, origin, tmp_path):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    cache = ApiCache(settings(valkey, origin, CACHE_WORKERS="1"), output=tmp_path / "log")
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))
    try:
        cache.start()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    path = fresh_path()
    origin.on(path, answer(b"x", "Cache-Control: max-age=60"))
    with contextlib.ExitStack() as stack:
        stack.callback(cache.stop)
        with clients(cache, 400, path) as found:
            assert [each.recv(15) for each in found] == [b"HTTP/1.1 200 OK"] * 400


def test_many_slow_clients_share_the_memory_of_one(make_cache, origin):
    """Of what is held in memory, and of what is streamed from Redis."""
    # No more memory than that, which is taken at once, so that what is measured did not lie free before.
    cache = make_cache(CACHE_WORKERS="1", CACHE_MEMORY_BYTES=str(16 * MEGABYTE))
    (worker,) = workers(cache)
    for size in (4 * MEGABYTE, 40 * MEGABYTE):
        path = fresh_path()
        origin.on(path, answer(bytes(size), "Cache-Control: max-age=60", "Content-Type: image/png"))
        assert [ask(cache.port, path).cache for _ in range(3)][-1] == "hit"
        before = resident(worker)
        with clients(cache, 100, path) as found:
            assert all(each.recv(15) == b"HTTP/1.1 200 OK" for each in found)
            assert ask(cache.port, path).body == bytes(size)
            assert resident(worker) - before < 120 * MEGABYTE, (size, (resident(worker) - before) / MEGABYTE)


def test_what_comes_after_the_last_request_is_passed_over(one_worker, origin):
    path, earlier, later = fresh_path(), fresh_path("earlier"), fresh_path("later")
    origin.on(path, answer(b"done", "Cache-Control: no-store"))
    request = b"GET %b HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n" % path.encode()
    ask(one_worker.port, earlier)
    found = raw(one_worker.port, request + b"GET /another HTTP/1.1\r\nHost: h\r\n\r\n")
    assert found.count(b"HTTP/1.1 ") == 1
    assert not origin.asked("/another")
    ask(one_worker.port, later)
    log = one_worker.process.output
    assert wait_until(lambda: f'"{later}"' in log.read_text(), timeout=5)
    between = log.read_text().partition(f'"{earlier}"')[2].partition(f'"{later}"')[0]
    assert path in between
    assert '"status": 400' not in between


def test_metrics_count_redis_once_and_those_who_shared(make_cache, own_valkey, origin):
    cache = make_cache(redis=own_valkey)
    shared = []

    def script(wire, _):
        assert all_wait(cache, 20)
        wire.send(answer(b"x", "Cache-Control: max-age=60"))

    def some_share():
        """Nobody does when the other worker took all but the first."""
        path = fresh_path()
        origin.on(path, script)
        shared.append(sum("collapsed" in each.cache for each in together(cache, path, 20).values()))
        return shared[-1] > 0

    assert wait_until(some_share, timeout=20)
    assert metrics(cache)["api_cache_collapsed_requests_total"] == sum(shared)
    with connected(own_valkey) as connection:

        def counts_it_once():
            return metrics(cache)['api_cache_level_entries{level="redis"}'] == connection.dbsize()

        assert wait_until(counts_it_once, timeout=8, interval=0.2)  # it asks Redis each 5 seconds
        used = connection.info("memory")["used_memory"]
    assert 0.5 * used < metrics(cache)['api_cache_level_bytes{level="redis"}'] < 1.5 * used
