"""Looks in Redis by whom no task waits for, and the connections under them."""

import asyncio
import contextlib
import json
import re
import socket
import time

import hiredis
import pytest
from local.processes import wait_until

from store import layout
from store.breaker import BREAKER_SECONDS, OPERATION_SECONDS, Breaker, StoreUnavailable
from store.levels import Levels
from store.links import MAX_LOOKING, MAX_RUNNING, Link, Links
from store.memory import Memory
from store.shared import Store
from store.stored import target_hash
from tests.conftest import PASSWORD, connected
from tests.support import answer, ask, fresh_path, metrics, raw


def way(valkey):
    return {"host": valkey.host, "port": valkey.port, "password": PASSWORD}


@contextlib.asynccontextmanager
async def a_store(valkey, counted=None):
    """One that has an idle connection, to a Redis with an era."""
    store = Store(way(valkey), (counted if counted is not None else []).append, lambda _: None)
    await store.find(target_hash(fresh_path()))
    yield store
    await store.close()


async def looked(store, key):
    """What a look calls back with; None for one that was not begun."""
    seen = asyncio.get_running_loop().create_future()
    if not store.begin_find(key, seen.set_result):
        return "not begun"
    async with asyncio.timeout(5):
        return await seen


async def lost(link):
    """Wait until it is known to be of no use any more."""
    for _ in range(500):
        if link.is_lost:
            return
        await asyncio.sleep(0.01)
    pytest.fail("It would be used again.")


def test_a_look_without_a_task_sees_what_one_with_a_task_sees(valkey, client):
    async def story():
        key = target_hash(fresh_path())
        async with a_store(valkey) as store:
            found = await store.find(key)
            assert await looked(store, key) == found
            await store.drop([key])
            assert (await looked(store, key)).generation == client.get(layout.generation(key))
            await store.mark_uncacheable(key, credentials=True)
            assert (await looked(store, key)).uncacheable == (False, True)

    asyncio.run(story())


def test_a_look_is_not_begun_where_there_is_more_to_do_first(mended_valkey):
    async def story():
        key, other = target_hash(fresh_path()), target_hash(fresh_path())
        async with a_store(mended_valkey) as store:
            second = looked(store, other)
            assert store.begin_find(key, lambda _: None)
            assert await second == "not begun"  # there is one connection
            await store.find(key)
            store.breaker.failed()
            assert await looked(store, key) == "not begun"
            store.breaker.succeeded()
            mended_valkey.kill()
            with pytest.raises(StoreUnavailable):
                await store.drop([key])
            await asyncio.to_thread(mended_valkey.start)
            store.breaker.succeeded()
            await store.find(other)
            assert await looked(store, key) == "not begun"  # Redis has not heard of its invalidation
            assert (await looked(store, other)).fields == {}

    asyncio.run(story())


def test_a_look_that_finds_no_era_leaves_the_rest_to_others(mended_valkey):
    async def story():
        async with a_store(mended_valkey) as store:
            with connected(mended_valkey) as client:
                client.flushall()
            key = target_hash(fresh_path())
            assert await looked(store, key) is None
            assert (await store.find(key)).generation
            assert (await looked(store, key)).generation

    asyncio.run(story())


def test_a_look_that_redis_does_not_answer_ends_in_time(mended_valkey):
    async def story():
        counted = []
        async with a_store(mended_valkey, counted) as store:
            mended_valkey.pause()
            begun = time.monotonic()
            assert await looked(store, target_hash(fresh_path())) is None
            assert OPERATION_SECONDS / 2 < time.monotonic() - begun < BREAKER_SECONDS
            assert (store.breaker.is_open, counted) == (True, ["redis_errors timeout"])
            mended_valkey.resume()
            store.breaker.succeeded()
            (reply,) = await store._links.run(("ECHO", b"mine"))  # pylint: disable=protected-access
            assert reply == b"mine"

    asyncio.run(story())


def test_what_redis_refuses_to_a_look_is_none_of_its_failures(mended_valkey):
    async def story():
        counted, key = [], target_hash(fresh_path())
        async with a_store(mended_valkey, counted) as store:
            with connected(mended_valkey) as client:
                client.set(layout.index(key), b"no hash")
            assert await looked(store, key) is None
            assert (store.breaker.is_open, counted) == (False, ["redis_errors refused"])
            assert (await looked(store, target_hash(fresh_path()))).fields == {}  # on the same connection

    asyncio.run(story())


def test_a_connection_that_redis_has_ended_is_made_anew_without_a_failure(mended_valkey):
    async def story():
        counted = []
        async with a_store(mended_valkey, counted) as store:
            with connected(mended_valkey) as client:
                client.client_kill_filter(_type="normal", skipme=True)
            (link,) = store._links._idle  # pylint: disable=protected-access
            await lost(link)
            assert await looked(store, target_hash(fresh_path())) == "not begun"
            assert (await store.find(target_hash(fresh_path()))).fields == {}
        assert counted == []

    asyncio.run(story())


@pytest.mark.parametrize("is_idle", [True, False])
def test_a_connection_on_which_more_comes_than_was_asked_for_is_used_no_more(valkey, is_idle):
    """A later operation would take it for its own reply."""

    async def story():
        links, asked = Links(way(valkey)), asyncio.Event()
        await links.run(("PING",))
        link = links._take()  # pylint: disable=protected-access
        ping, echo = (hiredis.pack_command(command) for command in (("PING",), ("ECHO", b"not asked for")))
        link.begin(ping if is_idle else ping + echo, 1, lambda _: asked.set())
        if is_idle:
            await asked.wait()
            link._writer.write(echo)  # pylint: disable=protected-access
        await lost(link)

    asyncio.run(story())


def test_there_are_so_many_connections_and_no_more(mended_valkey):
    async def story():
        links, number = Links(way(mended_valkey)), 3 * (MAX_RUNNING + MAX_LOOKING)
        ended = asyncio.Semaphore(0)
        await links.run(("PING",))
        with connected(mended_valkey) as client:
            for _ in range(5):
                client.execute_command("CLIENT", "PAUSE", "50", "ALL")
                running = [asyncio.create_task(links.run(("PING",))) for _ in range(number)]
                begun = [links.begin((("PING",),), lambda _: ended.release()) for _ in range(number)]
                await asyncio.gather(*running)
                for _ in range(begun.count(True)):
                    await ended.acquire()
                assert client.info("clients")["connected_clients"] <= MAX_RUNNING + MAX_LOOKING + 10
        links.close()

    asyncio.run(story())


NOTHING = b"*4\r\n$1\r\na\r\n_\r\n_\r\n_\r\n%0\r\n"
"""What a look is answered with where nothing is stored."""
ODD = {
    "key-is-a-list": b"%1\r\n*1\r\n:1\r\n:2\r\n",
    "no-resp": b"HTTP/1.1 400 Bad Request\r\n\r\n",
    "too-much": NOTHING + b"+OK\r\n",
    "beginning-of-too-much": NOTHING + b"$5\r\nab",
    "no-list": b"+OK\r\n%0\r\n",
    "short-list": b"*1\r\n$1\r\na\r\n%0\r\n",
    "no-strings": b"*4\r\n:1\r\n_\r\n_\r\n_\r\n%0\r\n",
    "index-of-no-strings": b"*4\r\n$1\r\na\r\n_\r\n_\r\n_\r\n%1\r\n:1\r\n:2\r\n",
}


@pytest.mark.parametrize("odd", ODD.values(), ids=ODD)
@pytest.mark.parametrize("is_task", [True, False], ids=["task", "no-task"])
def test_who_looks_is_told_of_no_reply_that_redis_would_not_give(odd, is_task):
    faults, ended = [], asyncio.Event()

    def note(_, context):
        if isinstance(context.get("protocol"), Link):
            faults.append(context)

    async def answering(reader, writer):
        """Greet as Redis does, then be odd."""
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(65536):
                greeting = b"%1\r\n$5\r\nproto\r\n:3\r\n" if b"HELLO" in data else b"+OK\r\n"
                writer.write(odd if b"MGET" in data else greeting)
        writer.close()
        ended.set()

    async def story():
        asyncio.get_running_loop().set_exception_handler(note)
        async with await asyncio.start_server(answering, "127.0.0.1") as server:
            store = Store(
                {"host": "127.0.0.1", "port": server.sockets[0].getsockname()[1]},
                lambda _: None,
                lambda _: None,
            )
            with contextlib.suppress(StoreUnavailable):
                await store.drop([target_hash(fresh_path())])  # so that there is a connection
            key = target_hash(fresh_path())
            if is_task:
                with pytest.raises(StoreUnavailable):
                    await store.find(key)
            else:
                assert await looked(store, key) is None
            assert store.breaker.is_open
            await store.close()
            async with asyncio.timeout(5):
                await ended.wait()

    asyncio.run(story())
    assert faults == []


def test_a_look_that_fails_unforeseen_leaves_nobody_waiting(valkey):
    """What harm a fault of ours may do: none to those who come after."""

    class Faulty(Memory):
        def bodies(self, *_):
            raise ZeroDivisionError

    async def story():
        asyncio.get_running_loop().set_exception_handler(lambda *_: None)
        memory, target = Faulty(2**20), fresh_path()
        memory.vouch(float("inf"))
        async with a_store(valkey) as store:
            levels, seen = Levels(store, memory), asyncio.get_running_loop().create_future()
            assert levels.begin_view(target, seen.set_result)
            async with asyncio.timeout(5):
                assert await seen is None
                with pytest.raises(ZeroDivisionError):
                    await levels.view(target)

    asyncio.run(story())


def test_what_was_replied_is_not_kept_by_a_connection(valkey):
    """It may be half a megabyte, and there may be many connections."""

    async def story():
        links = Links(way(valkey))
        await links.run(("ECHO", b"a block"))
        (link,) = links._idle  # pylint: disable=protected-access
        assert b"a block" not in link._replies  # pylint: disable=protected-access
        links.close()

    asyncio.run(story())


def test_one_look_is_for_all_who_want_one(valkey):
    async def story():
        memory, target = Memory(2**20), fresh_path()
        async with a_store(valkey) as store:
            levels = Levels(store, memory)
            await asyncio.gather(
                *(store.find(target_hash(fresh_path())) for _ in range(2))
            )  # two connections
            seen = asyncio.get_running_loop().create_future()
            assert not levels.begin_view(target, seen.set_result)  # memory may not be in step with Redis
            memory.vouch(float("inf"))
            assert levels.begin_view(target, seen.set_result)
            assert await levels.view(target) is await seen
            reading = asyncio.create_task(levels.view(target))
            await asyncio.sleep(0)  # now it has asked
            assert not levels.begin_view(target, lambda _: None)
            other = asyncio.get_running_loop().create_future()
            assert levels.begin_view(fresh_path(), other.set_result)
            await asyncio.gather(reading, other)

    asyncio.run(story())


def looks(client):
    """How often Redis was asked for what is stored of a target."""
    return client.info("commandstats")["cmdstat_hgetall"]["calls"]


def test_what_memory_has_is_not_looked_for_in_redis(one_worker, client, origin):
    """Whatever a request asks for: its answer need not be ready."""
    path, body = fresh_path(), b'{"a": 1}\n' * 100
    lines = ('ETag: "a"', "Content-Type: application/json", "Cache-Control: max-age=600")
    origin.on(path, answer(body, *lines))

    def ask_in_turn():
        for more in (
            (), (("If-None-Match", '"a"'),), (("Range", "bytes=0-1"),), (("Cache-Control", "max-age=500"),),
            (("Accept-Encoding", "gzip"),), (("Accept-Encoding", "zstd"),), (("Accept-Encoding", "br"),),
        ):  # fmt: skip
            assert ask(one_worker.port, path, *more).cache.startswith(("hit", "fwd=miss"))

    def is_at_rest():
        ask_in_turn()
        before = looks(client)
        ask_in_turn()
        ask_in_turn()
        return looks(client) == before

    assert wait_until(is_at_rest, timeout=10)  # the first answers may come before memory hears of the entry


@pytest.fixture
def replicas(shared_cache):
    """A cache, and a worker of another that has what the first one stores only in Redis."""
    return shared_cache(), shared_cache(CACHE_WORKERS="1")


def test_first_hits_are_answered_in_order_with_what_comes_behind_them(replicas, origin):
    before, after = replicas
    first, second, miss = fresh_path(), fresh_path(), fresh_path()
    for path in (first, second, miss):
        origin.on(path, answer(path.encode(), "Cache-Control: max-age=60"))
    for path in (first, second):
        ask(before.port, path)
    paths = (first, second, miss, first, miss)
    requests = [b"GET %b HTTP/1.1\r\nHost: h\r\n\r\n" % path.encode() for path in paths]
    requests[-1] = requests[-1].replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
    found = raw(after.port, b"".join(requests))
    answers = found.split(b"HTTP/1.1 200 ")[1:]
    assert [each.rpartition(b"\r\n\r\n")[2].decode() for each in answers] == list(paths)
    assert [b"; hit" in each for each in answers] == [True, True, False, True, True]


@pytest.mark.parametrize("is_first", [False, True], ids=["behind-a-first-hit", "alone"])
@pytest.mark.parametrize(
    "refused",
    [
        b"GET /x#fragment HTTP/1.1\r\nHost: h\r\n\r\n",
        b"GET * HTTP/1.1\r\nHost: h\r\n\r\n",
        b"GET ftp://h/x HTTP/1.1\r\nHost: h\r\n\r\n",
        b"GET /x HTTP/1.1\r\nHost: h\r\nContent-Length: 99999999999\r\n\r\n",
        b"GET /x HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        b"GET /x HTTP/1.1\r\nHost: h\r\n no-field\r\n\r\n",
        b"\0\0 / HTTP/1.1\r\nHost: h\r\n\r\n",
    ],
    ids=["fragment", "asterisk", "scheme", "too-large", "two-hosts", "obs-fold", "no-method"],
)
def test_what_is_refused_is_not_looked_for(replicas, client, origin, refused, is_first):
    other, after = replicas
    path = fresh_path()
    origin.on(path, answer(b"x", "Cache-Control: max-age=60"))
    ask(other.port, path)
    hit = b"" if is_first else b"GET %b HTTP/1.1\r\nHost: h\r\n\r\n" % path.encode()
    before = looks(client)
    found = raw(after.port, hit + refused)
    assert looks(client) == before + (not is_first)
    answered = re.findall(rb"HTTP/1.1 ([0-9])", found)
    assert answered == ([b"4"] if is_first else [b"2", b"4"])


@pytest.mark.parametrize(
    ("request_line", "lines", "expected", "content"),
    [
        (b"GET %b HTTP/1.1", (b"Connection: close",), b"Connection: close", b"x"),
        (b"GET %b HTTP/1.0", (b"Connection: keep-alive",), b"Connection: keep-alive", b"x"),
        (b"HEAD %b HTTP/1.1", (), b"Content-Length: 1", b""),
        (b"GET http://h%b HTTP/1.1", (b"Connection: keep-alive",), b"Content-Length: 1", b"x"),
    ],
    ids=["last", "http-1.0", "head", "absolute-form"],
)
def test_what_a_ready_answer_does_not_say_is_said_by_a_first_hit(
    replicas, origin, request_line, lines, expected, content
):
    before, after = replicas
    path = fresh_path()
    origin.on(path, answer(b"x", "Cache-Control: max-age=60"))
    ask(before.port, path)
    head = b"\r\n".join((request_line % path.encode(), b"Host: h", *lines, b"", b""))
    found = raw(after.port, head, until=b"\r\n\r\n" + content)
    assert b"; hit" in found
    assert expected in found
    assert found.partition(b"\r\n\r\n")[2] == content


def test_a_breaker_has_failed_until_somebody_succeeds():
    now = 0.0
    breaker = Breaker(lambda: now)
    breaker.failed()
    now = 2 * BREAKER_SECONDS
    assert (breaker.is_open, breaker.has_failed) == (False, True)
    breaker.succeeded()
    assert not breaker.has_failed


def test_the_breaker_shows_until_redis_is_back(make_cache, mended_valkey, origin):
    cache = make_cache(redis=mended_valkey, CACHE_WORKERS="1")
    path = fresh_path()
    origin.on(path, answer(b"x"))

    def shows(open_breakers):
        return (
            ask(cache.port, path).body == b"x"
            and metrics(cache)["api_cache_redis_breaker_open"] == open_breakers
        )

    assert wait_until(lambda: shows(0), timeout=5)
    mended_valkey.pause()
    assert wait_until(lambda: shows(1), timeout=5)
    is_shut = lambda: metrics(cache)["api_cache_redis_breaker_open"] == 0  # noqa: E731
    assert not wait_until(is_shut, timeout=2 * BREAKER_SECONDS)
    mended_valkey.resume()
    assert wait_until(lambda: shows(0), timeout=5)


def test_what_is_asked_for_in_absolute_form_is_found_by_its_path(one_worker, origin):
    path = fresh_path()
    origin.on(path, answer(b"x", "Cache-Control: max-age=60"))
    request = b"GET http://h%b HTTP/1.1\r\nHost: h\r\n\r\n" % path.encode()
    assert b"\r\n\r\nx" in raw(one_worker.port, request, until=b"\r\n\r\nx")
    assert ask(one_worker.port, path).cache == "hit"


def test_a_client_that_leaves_while_redis_is_asked_is_noted(origin, make_cache, mended_valkey, tmp_path):
    cache = make_cache(redis=mended_valkey, CACHE_WORKERS="1")
    warm, path = fresh_path(), fresh_path()
    origin.on(warm, answer(b"x"))
    assert wait_until(lambda: ask(cache.port, warm).cache == "hit", timeout=5)
    mended_valkey.pause()
    with socket.create_connection(("127.0.0.1", cache.port), timeout=10) as sock:
        sock.sendall(b"GET %b HTTP/1.1\r\nHost: h\r\n\r\n" % path.encode())

    def noted():
        lines = (tmp_path / "cache-0.log").read_text().splitlines()
        return [
            (line["status"], line["cache"]) for line in map(json.loads, lines) if line.get("path") == path
        ]

    assert wait_until(lambda: noted() == [(499, "detail=client-left")], timeout=5), noted()
    assert not origin.asked(path)
