"""A change is seen by every process within 100 ms; without Redis's word memory is not used."""

import contextlib
import http.client
import time

from tests.faults import bodies
from tests.faults.load import Client, Load, until, warm_paths, warm_up

LIMIT = 0.1


def post(port: int, path: str) -> tuple[float, int]:
    """Change the target; when that was acknowledged, and the oldest version that may then be seen."""
    oldest = int(time.monotonic())  # the origin counts by the same clock
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request("POST", path, body=b"x")
    assert connection.getresponse().status == 204
    connection.close()
    return time.monotonic(), oldest


def test_an_invalidation_reaches_every_process_within_100_ms(make_cache):
    ports = [make_cache().port, make_cache().port]
    paths = [path for path in warm_paths() if "/600/" in path and "large" not in path]
    warm_up(ports, paths)
    changes: list[tuple[str, float, int]] = []
    with Load(ports, paths, clients=8, cold=0.0) as load:
        for number in range(12):
            load.go_on(1.1)  # the origin has another version each second
            path = paths[number % len(paths)]
            changes.append((path, *post(ports[number % 2], path)))
        load.go_on(1.0)
    load.check(longest=5.0)
    for path, at, oldest in changes:
        check_late(load, path, at, oldest)


def test_a_replacement_reaches_every_process_within_100_ms(make_cache):
    """One process fetches anew, because its client wants it so; all others serve that from then on."""
    ports = [make_cache().port, make_cache().port]
    paths = [path for path in warm_paths() if "/600/" in path and "large" not in path]
    warm_up(ports, paths)
    with Load(ports, paths, clients=8, cold=0.0) as load:
        replaced: list[tuple[str, float, str]] = []
        for number in range(8):
            load.go_on(1.1)
            path = paths[number % len(paths)]
            replaced.append((path, *renew(ports[number % 2], path)))
        load.go_on(1.0)
    load.check(longest=5.0)
    for path, at, version in replaced:
        check_late(load, path, at, _number(version))


def check_late(load: Load, path: str, at: float, oldest: int) -> None:
    later = [each for each in load.seen if each.path == path and each.at > at + LIMIT]
    assert not (late := [each for each in later if _number(each.version) < oldest]), (
        path,
        oldest,
        [(each.at - at, each.version) for each in late][:5],
    )


def renew(port: int, path: str) -> tuple[float, str]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request("GET", path, headers={"Cache-Control": "no-cache", "Accept-Encoding": "identity"})
    version = bodies.version(path, connection.getresponse().read())
    connection.close()
    assert version is not None
    return time.monotonic(), version


def _number(version: str | None) -> int:
    return int((version or ".0").partition(".")[2])


def test_without_the_watch_memory_is_not_used(cache, valkey):
    (path,) = [path for path in warm_paths() if path.startswith("/text/600/")]
    warm_up([cache.port], [path])
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(Client(cache.port)) for _ in range(8)]
        for client in clients * 3:
            assert "hit" in client.get(path).cache
        valkey.pause()
        try:
            time.sleep(LIMIT)  # the promise is that it takes no longer
            for client in clients:
                assert "hit" not in client.get(path).cache
        finally:
            valkey.resume()
        for client in clients:
            until(lambda client=client: "hit" in client.get(path).cache, "memory is never used again")
