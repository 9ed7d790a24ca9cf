"""The two levels: memory stays in step with Redis, and Redis may hold anything or be gone."""

import asyncio
import functools
import gc
import gzip
import itertools
import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from email.utils import formatdate

import pytest
from backports import zstd
from local.processes import wait_until
from local.services import ApiCache

from httpcache import storing
from httpcache.messages import Exchange, Headers, Policy, Request, Response
from store import layout
from store.breaker import BREAKER_SECONDS, StoreUnavailable
from store.levels import Levels, View
from store.memory import Memory, Page
from store.shared import Store
from store.stored import SMALL_BYTES, Body, Stored, checksum, target_hash
from tests.conftest import PASSWORD, connected, eventually, settings
from tests.support import answer, ask, fresh_path, metrics, warm

BODY = b"a body\n" * 1000
ENTRY = storing.entry(Exchange(Request("GET", "/x", Headers()), Response(200, Headers()), 0, 0), Policy())


@pytest.fixture(scope="module")
def other(valkey, origin, tmp_path_factory):
    """A replica."""
    with ApiCache(settings(valkey, origin), output=tmp_path_factory.mktemp("other") / "log") as service:
        yield service


@pytest.fixture
def without_memory(shared_cache):
    """A cache that has what it stores in Redis alone, and not all of that."""
    return shared_cache(CACHE_MEMORY_BYTES="0", CACHE_MAX_OBJECT_BYTES="100000")


@pytest.fixture
def fragile(shared_cache, mended_valkey, path):
    """A cache whose Redis may be broken; it holds the path in memory."""
    cache = shared_cache(redis=mended_valkey)
    warm(cache, path)
    return cache


def get(cache, target, *lines, **more):
    return ask(cache.port, target, *lines, **more)


def index(path):
    return f"api-cache:2:i:{target_hash(path)}"


def small_body(client, path):
    """The field of the only body in the path's index."""
    (field,) = (field for field in client.hkeys(index(path)) if field.startswith(b"s:"))
    return field


@pytest.fixture
def path(origin):
    target = fresh_path()
    origin.on(target, answer(BODY, "Content-Type: application/octet-stream", "Cache-Control: max-age=600"))
    return target


ENDS = {
    "length": b"HTTP/1.1 200 X\r\nCache-Control: max-age=60\r\nContent-Length: 4\r\n\r\nbody",
    "chunked": b"HTTP/1.1 200 X\r\nCache-Control: max-age=60\r\nTransfer-Encoding: chunked\r\n\r\n"
    b"4\r\nbody\r\n0\r\n\r\n",
    "close": b"HTTP/1.1 200 X\r\nCache-Control: max-age=60\r\nConnection: close\r\n\r\nbody",
    "empty": b"HTTP/1.1 200 X\r\nCache-Control: max-age=60\r\nContent-Length: 0\r\n\r\n",
    "bodiless": b"HTTP/1.1 204 X\r\nCache-Control: max-age=60\r\n\r\n",
}


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_who_has_an_answer_finds_it_stored_everywhere(cache, other, origin, client, end, method):
    """Through another process at once, whatever tells a client that its answer is complete."""

    def script(wire, _):
        client.execute_command("CLIENT", "PAUSE", 30, "WRITE")
        wire.send(ENDS[end])
        return end != "close"

    def late() -> float:
        counts = {**metrics(cache), **{f"other {name}": count for name, count in metrics(other).items()}}
        return sum(count for name, count in counts.items() if "api_cache_redis_errors_total" in name)

    for _ in range(5):
        target, before = fresh_path(), late()
        origin.on(target, script)
        outcomes = (get(cache, target).cache, get(other, target, method=method).cache)
        if outcomes == ("fwd=miss; stored", "hit"):
            return
        # On a busy machine Redis may be late, which then is as if it were away.
        assert late() > before, outcomes
    pytest.fail("Redis was late each time.")


def test_a_redis_that_hangs_delays_the_end_of_an_answer_by_no_more_than_its_timeout(
    fragile, mended_valkey, origin
):
    target = fresh_path()

    def script(wire, _):
        mended_valkey.pause()  # by now it has said that nothing is stored, and who may ask
        wire.send(answer(BODY, "Cache-Control: max-age=60"))

    origin.on(target, script)
    begun = time.monotonic()
    assert get(fragile, target).body == BODY
    assert time.monotonic() - begun < 1.0


def test_a_key_deleted_by_hand_is_gone_from_memory_everywhere_within_100_ms(cache, other, path, client):
    for each in (cache, other):
        warm(each, path)
    client.delete(index(path))
    time.sleep(0.1)  # the promise is that it takes no longer
    assert [get(each, path).cache.split(";")[0] for each in (cache, other)] == ["fwd=miss", "hit"]


def test_an_invalidation_through_one_replica_reaches_the_other(cache, other, path, origin):
    warm(cache, path)
    warm(other, path)
    get(cache, path, method="POST", body=b"x")
    assert wait_until(lambda: get(other, path).cache != "hit", timeout=1)
    assert len([each for each in origin.asked(path) if each.method == "GET"]) == 2


def test_nobody_joins_what_was_asked_for_before_an_invalidation_elsewhere(one_worker, cache, origin):
    target, may_answer, versions = fresh_path(), threading.Event(), itertools.count(1)

    def script(wire, _):
        version = next(versions)
        if version == 1:
            may_answer.wait(10)
        wire.send(answer(b"%d" % version, "Cache-Control: max-age=60"))

    origin.on(target, script)
    with ThreadPoolExecutor(2) as clients:
        before = clients.submit(get, one_worker, target)
        eventually(lambda: origin.asked(target))
        get(cache, target, method="POST", body=b"x")
        time.sleep(0.1)  # the promise is that it takes no longer
        connections = metrics(one_worker)["api_cache_client_connections"]
        after = clients.submit(get, one_worker, target)
        eventually(lambda: metrics(one_worker)["api_cache_client_connections"] > connections)
        may_answer.set()
        assert (before.result().body, after.result().body) == (b"1", b"3")


def test_another_replica_answers_from_redis(cache, other, path, origin):
    get(cache, path)
    assert get(other, path).cache == "hit"
    assert len(origin.asked(path)) == 1


def calls(client, command):
    return client.info("commandstats").get(f"cmdstat_{command}", {}).get("calls", 0)


@pytest.mark.parametrize("media_type", ["text/plain", "image/png"])
@pytest.mark.parametrize("accept", ["zstd, gzip", "gzip", None])
def test_a_small_answer_comes_out_of_redis_by_one_round_trip(
    cache, other, origin, client, media_type, accept
):
    path = fresh_path()
    origin.on(path, answer(BODY, f"Content-Type: {media_type}", "Cache-Control: max-age=600"))
    assert wait_until(lambda: get(cache, path).cache == "hit", timeout=10)
    before = calls(client, "getrange")
    found = get(other, path, *([("Accept-Encoding", accept)] if accept else []))
    assert calls(client, "getrange") == before
    assert found.cache == "hit"
    assert decoded(found) == BODY


def decoded(found):
    match found["Content-Encoding"]:
        case "gzip":
            return gzip.decompress(found.body)
        case "zstd":
            return zstd.decompress(found.body)
    return found.body


@pytest.mark.parametrize(
    "harm",
    [
        lambda client, *place: client.hset(*place, b"?"),
        lambda client, *place: client.hset(*place, b"another body of as many bytes...".ljust(len(BODY))),
        lambda client, *place: client.hdel(*place),
    ],
    ids=["shorter", "other", "gone"],
)
def test_a_damaged_body_that_came_with_its_entry_is_never_sent(cache, other, client, path, harm):
    assert wait_until(lambda: get(cache, path).cache == "hit", timeout=10)
    harm(client, index(path), small_body(client, path))
    found = get(other, path)
    assert (found.status, found.body) == (200, BODY)
    assert found.cache != "hit"


@pytest.mark.parametrize(
    "harm",
    [
        lambda client, key, field, _: client.hset(key, field, b"garbage"),
        lambda client, key, field, _: client.hset(key, field, b"0 00000000 {}"),
        lambda client, key, field, _: client.hset(key, field, client.hget(key, field)[:-5] + b"xxxxx"),
        lambda client, key, _field, body: client.hset(key, body, b"?"),
        lambda client, key, _field, body: client.hdel(key, body),
        lambda client, key, *_: (client.delete(key), client.set(key, b"not even a hash")),
    ],
    ids=["garbage", "older-format", "bit-rot", "other-body", "no-body", "other-type"],
)
def test_what_is_damaged_in_redis_is_a_miss_and_never_sent(without_memory, client, path, harm):
    assert wait_until(lambda: get(without_memory, path).cache == "hit", timeout=10)
    body = small_body(client, path)
    (field,) = {*client.hkeys(index(path))} - {body}
    harm(client, index(path), field, body)
    for _ in range(3):
        found = get(without_memory, path)
        assert (found.status, found.body) == (200, BODY)
    assert get(without_memory, path).status == 200


def test_what_was_asked_for_before_an_invalidation_is_not_stored_by_a_redis_that_lost_all(
    fragile, mended_valkey, origin
):
    path, versions = fresh_path(), itertools.count(1)
    asked, changed = threading.Event(), threading.Event()

    def script(wire, received):
        body = b"%d" % next(versions)
        if received.method == "GET" and not asked.is_set():
            asked.set()
            assert changed.wait(10)
        wire.send(answer(body))

    origin.on(path, script)
    with ThreadPoolExecutor() as pool:
        before = pool.submit(get, fragile, path)
        assert asked.wait(10)
        get(fragile, path, method="POST")
        with connected(mended_valkey) as client:
            client.flushall()
        changed.set()
        assert before.result().body == b"1"
    assert get(fragile, path).body != b"1"


def test_the_body_of_what_is_forgotten_does_not_stay(without_memory, client, origin):
    path = fresh_path()
    origin.on(path, answer(bytes(90_000), "Cache-Control: max-age=600"))
    assert wait_until(lambda: get(without_memory, path).cache == "hit", timeout=10)
    (body,) = client.keys(f"api-cache:2:b:{target_hash(path)}:*")
    assert client.ttl(body) > 60
    origin.on(path, answer(b"gone", status=404))
    assert get(without_memory, path, ("Cache-Control", "no-cache")).status == 404
    assert not client.exists(index(path))
    assert client.ttl(body) <= 60


def test_an_era_of_another_type_is_made_anew(fragile, mended_valkey, origin):
    path = fresh_path()
    origin.on(path, answer(BODY))
    with connected(mended_valkey) as client:
        client.delete(layout.ERA)
        client.rpush(layout.ERA, b"no string")
    assert wait_until(lambda: get(fragile, path).cache == "hit", timeout=5)


@pytest.mark.parametrize(
    "harm",
    [
        lambda client, key: (client.delete(key), client.rpush(key, b"no hash")),
        lambda client, key: client.hset(key, "a", b"not our field"),
        lambda client, key: client.set(f"{key}:g", b"no generation"),
        lambda client, key: client.hset(f"{key}:g", "a", b"no string"),
    ],
    ids=["list", "other-field", "no-number", "generation-of-other-type"],
)
def test_what_somebody_else_wrote_is_invalidated_and_harms_no_other_target(cache, client, origin, path, harm):
    get(cache, path)
    harm(client, index(path))
    get(cache, path, method="DELETE")
    other = fresh_path()
    origin.on(other, answer(BODY))
    for target in (other, path):
        assert wait_until(lambda target=target: get(cache, target).cache == "hit", timeout=5)
        assert {get(cache, target).cache for _ in range(8)} == {"hit"}


def test_a_full_redis_stores_nothing_and_harms_nothing(fragile, mended_valkey, path, origin):
    with connected(mended_valkey) as client:
        client.config_set("maxmemory-policy", "noeviction")
        client.config_set("maxmemory", "1")
        other = fresh_path()
        origin.on(other, answer(BODY))
        for _ in range(4):
            assert (get(fragile, other).status, get(fragile, other).body) == (200, BODY)
        # Not at once, if Redis has just been late, and is left alone for a second.
        assert wait_until(lambda: get(fragile, path).cache == "hit", timeout=5)
        get(fragile, path, method="DELETE")  # an invalidation works all the same
        assert wait_until(lambda: get(fragile, path).cache != "hit", timeout=1)
        client.config_set("maxmemory", "100mb")
        assert wait_until(lambda: get(fragile, other).cache == "hit", timeout=5)


def test_a_full_redis_does_not_grow(mended_valkey):
    """A script that has written something may write more, however full Redis is."""
    body = random.Random(1).randbytes(SMALL_BYTES)

    async def story():
        store = quiet_store(mended_valkey)
        with connected(mended_valkey) as client:
            seen = (await store.find(target_hash(fresh_path()))).generation
            client.config_set("maxmemory-policy", "noeviction")
            client.config_set("maxmemory", client.info("memory")["used_memory"] + 2**20)
            refused = 0
            for _ in range(100):
                stored = Stored("id", ENTRY, len(body), {"identity": Body(len(body), (checksum(body),))})
                try:
                    await store.put(
                        target_hash(fresh_path()), stored, seen, 60, layout.WHOLE, {"identity": body}
                    )
                except StoreUnavailable:
                    refused += 1
            assert refused > 50
        await store.close()

    asyncio.run(story())


@pytest.mark.parametrize("fault", ["kill", "pause"])
def test_without_redis_requests_are_forwarded_and_it_comes_back_by_itself(
    fragile, mended_valkey, path, origin, fault
):
    getattr(mended_valkey, fault)()
    for _ in range(6):
        begun = time.monotonic()
        found = get(fragile, path)
        assert (found.status, found.body) == (200, BODY)
        assert time.monotonic() - begun < 2
    assert wait_until(lambda: get(fragile, path).cache.startswith("fwd"), timeout=2)  # memory is unused
    head = ("Cache-Control: max-age=60", f"Date: {formatdate(usegmt=True)}")
    origin.on(dated := fresh_path(), answer(BODY, *head))
    ahead = formatdate(time.time() + 3600, usegmt=True)
    assert get(fragile, dated, ("If-Modified-Since", ahead)).status == 200  # nothing was stored
    if fault == "pause":
        mended_valkey.resume()
    else:
        mended_valkey.start()
    assert wait_until(lambda: get(fragile, path).cache == "hit", timeout=10)


def test_an_invalidation_that_redis_missed_is_not_forgotten(own_valkey, make_cache, path, origin):
    cache = make_cache(redis=own_valkey, CACHE_WORKERS="1")
    warm(cache, path)
    own_valkey.process.pause()
    get(cache, path, ("Cache-Control", "no-cache"))  # from now on Redis is left alone
    get(cache, path, method="POST", body=b"x")
    own_valkey.process.resume()
    with connected(own_valkey) as client:
        # Other replicas still have it, so Redis hears of it though nobody asks this one for anything.
        assert wait_until(lambda: not client.exists(index(path)), timeout=2.5)
    asked = len(origin.asked(path))
    assert wait_until(lambda: get(cache, path).cache == "hit", timeout=10)
    assert len(origin.asked(path)) > asked  # what is a hit now was fetched after the POST


def test_a_redis_that_is_back_hears_of_thousands_of_invalidations_in_its_time(mended_valkey):
    keys = [target_hash(fresh_path()) for _ in range(3000)]
    client = connected(mended_valkey)

    def steps():
        return client.info("commandstats").get("cmdstat_eval", {"calls": 0})["calls"]

    def told(keys):
        return client.exists(*map(layout.generation, keys))

    async def story():
        store = quiet_store(mended_valkey)
        mended_valkey.kill()
        with pytest.raises(StoreUnavailable):
            await store.drop(keys)
        await asyncio.to_thread(mended_valkey.start)
        store.breaker.succeeded()
        # Nobody waits for the invalidations of other targets.
        before = steps()
        assert (await store.find(target_hash(fresh_path()))).generation == client.get(layout.ERA)
        assert steps() == before + 1  # for the era
        assert (await store.find(keys[-1])).generation != client.get(layout.ERA)
        assert steps() == before + 2
        assert not told(keys[:-1])
        settling = asyncio.create_task(store.settle())
        assert await asyncio.to_thread(wait_until, lambda: told(keys) == len(keys), timeout=10)
        await ended(settling)
        await store.close()

    with client:
        asyncio.run(story())


def test_an_invalidation_is_told_at_once_though_redis_was_late_before(valkey, client):
    """Other replicas, for whom it was not late, go on serving what is outdated until then."""
    key = target_hash(fresh_path())

    async def story():
        store = quiet_store(valkey)
        store.breaker.failed()
        await store.drop([key])
        await store.close()

    asyncio.run(story())
    assert client.exists(layout.generation(key))


def test_what_redis_missed_is_told_before_it_is_asked_again(mended_valkey):
    key = target_hash(fresh_path())

    async def story():
        store = quiet_store(mended_valkey)
        mended_valkey.kill()
        with pytest.raises(StoreUnavailable):
            await store.drop([key])
        await asyncio.to_thread(mended_valkey.start)
        store.breaker.failed()
        settling = asyncio.create_task(store.settle())
        with connected(mended_valkey) as client:
            is_told = functools.partial(client.exists, layout.generation(key))
            assert await asyncio.to_thread(wait_until, is_told, timeout=BREAKER_SECONDS / 2)
        await ended(settling)
        await store.close()

    asyncio.run(story())


@pytest.mark.parametrize("is_left", [True, False], ids=["client-left", "redis-failed"])
def test_what_one_reads_for_all_is_read_by_another_should_that_fail(is_left):
    faults = []

    class LateStore:
        def __init__(self):
            self.asked, self.number, self.fails = asyncio.Event(), 0, asyncio.Event()

        async def body(self, *_):
            self.number += 1
            if self.number > 1:
                return b"hello"
            self.asked.set()
            await self.fails.wait()
            raise StoreUnavailable

    async def story():
        asyncio.get_running_loop().set_exception_handler(lambda _, context: faults.append(context))
        store = LateStore()
        stored = Stored("id", ENTRY, 5, {"identity": Body(5, (0,))})
        view, levels = View("key", Page("/x", (stored,))), Levels(store, Memory(2**20))
        first, *others = (asyncio.create_task(levels.content(view, stored, "identity", 5)) for _ in range(3))
        await store.asked.wait()
        if is_left:
            await ended(first)
        else:
            store.fails.set()
            assert await first is None
        assert await asyncio.gather(*others) == [b"hello", b"hello"]
        assert store.number == 2

    asyncio.run(story())
    gc.collect()
    assert faults == []


def way_to(valkey):
    return {"host": valkey.host, "port": valkey.port, "password": PASSWORD}


def quiet_store(valkey):
    return Store(way_to(valkey), lambda _: None, lambda _: None)


async def ended(task):
    task.cancel()
    await asyncio.wait((task,))


CODED = Stored("id", ENTRY, 5, {coding: Body(5, (checksum(b"block"),)) for coding in ("gzip", "zstd")})


def test_no_entry_comes_without_its_bodies(valkey):
    """Redis may have evicted a block, or refused it, when the entry is put in."""

    async def story():
        store, key = quiet_store(valkey), target_hash(fresh_path())
        seen = (await store.find(key)).generation
        found = []
        for coding in CODED.bodies:
            await store.append(layout.body(key, "id", coding), b"block")
            found.append(await store.put(key, CODED, seen, 60, layout.IN_BLOCKS))
            found.append(len((await store.find(key)).stored))
        await store.close()
        return found

    assert asyncio.run(story()) == [False, 0, True, 1]


def test_rfc9111_4_3_4_what_is_freshened_comes_in_place_of_itself_alone(valkey):
    """It may have been evicted, or replaced by a newer answer, while the origin was asked."""

    async def story():
        store, key = quiet_store(valkey), target_hash(fresh_path())
        seen, bodies = (await store.find(key)).generation, dict.fromkeys(CODED.bodies, b"block")
        found = []
        for stored in (CODED, CODED._replace(body_id="newer")):
            found.append(await store.put(key, CODED, seen, 60, layout.FRESHENED))
            await store.put(key, stored, seen, 60, layout.WHOLE, bodies)
            found.append(await store.put(key, CODED, seen, 60, layout.FRESHENED))
            (kept,) = (await store.find(key)).stored
            found.append(kept.body_id)
        await store.close()
        return found

    assert asyncio.run(story()) == [False, True, "id", True, False, "newer"]


def test_what_is_freshened_keeps_its_small_body_among_however_many_others(valkey, client):
    key = target_hash(fresh_path())

    async def story():
        store = quiet_store(valkey)
        seen = (await store.find(key)).generation
        bodies = dict.fromkeys(CODED.bodies, b"block")
        await store.put(key, CODED, seen, 60, layout.WHOLE, bodies)
        client.hset(layout.index(key), mapping={f"{number:x}:not-ours": b"?" for number in range(70)})
        assert await store.put(key, CODED, seen, 60, layout.FRESHENED)
        found = await store.find(key)
        (stored,) = found.stored
        assert {coding: Page("/x", None, found=found).body(stored, coding) for coding in bodies} == bodies
        await store.close()

    asyncio.run(story())


def test_damage_counts_once(valkey, client):
    key, counted = target_hash(fresh_path()), []

    async def story():
        store = Store(way_to(valkey), counted.append, lambda _: None)
        seen = (await store.find(key)).generation
        await store.put(key, CODED, seen, 60, layout.WHOLE, dict.fromkeys(CODED.bodies, b"block"))
        client.hset(layout.index(key), mapping={"0:other": b"?", "s:id:gzip": b"?"})
        found = await store.find(key)
        page = Page("/x", None, found=found)
        for _ in range(3):
            assert page.ready is None
            (stored,) = page.stored
            assert (page.body(stored, "gzip"), page.body(stored, "zstd")) == (None, b"block")
        await store.close()

    asyncio.run(story())
    assert counted == ["corrupt", "corrupt"]


def test_small_bodies_lie_with_their_entries_as_long_as_they_are_few(valkey, client):
    key, half = target_hash(fresh_path()), bytes(SMALL_BYTES // 2)

    def variant(number):
        entry = ENTRY._replace(selecting=(("x-a", str(number)),))
        return Stored(f"{number}", entry, len(half), {"identity": Body(len(half), (checksum(half),))})

    def small_bodies(found):
        page = Page("/x", None, found=found)
        return {each.body_id for each in found.stored if page.body(each, "identity") == half}

    async def story():
        store = quiet_store(valkey)
        seen = (await store.find(key)).generation
        for number in range(3):
            await store.put(key, variant(number), seen, 60, layout.WHOLE, {"identity": half})
        found = await store.find(key)
        assert {each.body_id for each in found.stored} == {"0", "1", "2"}
        assert small_bodies(found) == {"0", "1"}
        assert await store.body(key, variant(2), "identity") == half
        assert client.ttl(layout.body(key, "2", "identity")) == 60
        await store.forget(key, variant(0))
        await store.put(key, variant(3), seen, 60, layout.WHOLE, {"identity": half})
        found = await store.find(key)
        assert small_bodies(found) == {"1", "3"}
        await store.close()

    asyncio.run(story())


def test_what_is_cut_off_while_it_is_written_does_not_stay_in_redis_for_ever(valkey, client):
    name = layout.body(target_hash(fresh_path()), "id", "identity")

    async def cutting(reader, writer):
        """Pass commands on, each with its reply, until the body's time to live is to be set."""
        from_redis, to_redis = await asyncio.open_connection(valkey.host, valkey.port)
        is_cut = False
        while not is_cut and (data := await reader.read(65536)):
            before, is_cut, _ = data.partition(b"*3\r\n$7\r\nPEXPIRE")
            to_redis.write(before)
            writer.write(await from_redis.read(65536))
        to_redis.close()
        writer.close()

    async def story():
        async with await asyncio.start_server(cutting, "127.0.0.1") as server:
            way = {"host": "127.0.0.1", "port": server.sockets[0].getsockname()[1], "password": PASSWORD}
            store = Store(way, lambda _: None, lambda _: None)
            with pytest.raises(StoreUnavailable):
                await store.append(name, b"block")
            await store.close()

    asyncio.run(story())
    assert client.ttl(name) != -1


def test_a_block_that_redis_refuses_within_a_step_is_not_there(valkey, client):
    name = layout.body(target_hash(fresh_path()), "id", "identity")
    client.rpush(name, "of another type")

    async def story():
        store = quiet_store(valkey)
        with pytest.raises(StoreUnavailable):
            await store.append(name, b"block")
        await store.close()

    asyncio.run(story())


def test_a_large_body_streams_from_redis_in_both_codings(make_cache, origin):
    cache = make_cache(CACHE_MEMORY_BYTES="1000000")
    for media_type in ("application/json", "application/octet-stream"):
        path = fresh_path()
        body = b"".join(b"%d," % number for number in range(600_000))
        origin.on(path, answer(body, f"Content-Type: {media_type}"))
        for outcome in ("fwd=miss; stored", "hit", "hit"):
            found = get(cache, path)
            assert (found.cache, found.body == body) == (outcome, True)
        assert get(cache, path, ("Range", "bytes=1000000-1000009")).body == body[1000000:1000010]


def test_what_is_too_large_is_passed_on_and_not_stored(without_memory, origin):
    path = fresh_path()
    body = bytes(range(256)) * 4000
    origin.on(path, answer(body))
    for _ in range(2):
        assert get(without_memory, path).body == body
    assert len(origin.asked(path)) == 2
