"""The short paths answer exactly as the full one: each request goes to all, in any order, at any moment."""

from __future__ import annotations

import asyncio
import gzip
import time

import pytest
from backports import zstd
from hypothesis import given, settings
from hypothesis import strategies as st

from app import create_proxy
from config import Config
from hits import Hits
from httpcache import storing
from httpcache.messages import Exchange, Headers, Policy, Request, Response
from observability.access import Note
from observability.counters import Counters
from origin.errors import OriginUnreachable
from server.sending import status_line
from store.breaker import StoreUnavailable
from store.found import Found
from store.memory import MAX_PREPARED, Memory, Page
from store.stored import Body, Stored, checksum, encode

VALUES = {
    "accept-encoding": ["gzip", "zstd", "gzip, zstd", "identity", "gzip;q=0", "br", ""],
    "accept-language": ["en", "de, en;q=0.5", "EN"],
    "x-other": ["1", "2"],
    "cache-control": ["no-cache", "max-age=5", "max-stale", "only-if-cached", "no-store"],
    "if-none-match": ['"v"', '"v-gzip"', "*"],
    "range": ["bytes=0-1"],
    "pragma": ["no-cache"],
}
FIELDS = [(name, value) for name, values in VALUES.items() for value in values * (210 // len(values))]
"""Of each name as many, so that one draw does where two would take most of the time."""
ANSWERS = [
    ("Cache-Control: max-age=10",),
    ("Cache-Control: max-age=10", "Vary: Accept-Language"),
    ("Cache-Control: max-age=10, no-cache", 'ETag: "v"'),
    ("Cache-Control: max-age=10, stale-while-revalidate=5", 'ETag: "v"', "Vary: X-Other, Accept-Language"),
    ("Cache-Control: max-age=10", 'ETag: "v"', "Age: 3", "Cache-Status: inner; hit"),
]
request_fields = st.lists(st.sampled_from(FIELDS), max_size=3)
steps = st.lists(st.tuples(request_fields, st.integers(min_value=-4, max_value=6)), min_size=1, max_size=8)


TEXT = b"the content\n" * 100
FORMS = {"identity": TEXT, "gzip": gzip.compress(TEXT), "zstd": zstd.compress(TEXT)}


def found_of(stored):
    """An index with these entries, and the bodies of the first."""
    fields = {each.field.encode(): encode(each) for each in stored}
    for name in stored[0].bodies:
        fields[f"s:{stored[0].body_id}:{name}".encode()] = FORMS[name]
    return Found(fields, b"1", (False, False), lambda: pytest.fail("damaged"))


class HeldStore:
    """A Redis that holds one target's entries, and in which nothing can be stored."""

    def __init__(self, stored):
        self.stored = stored

    async def find(self, _key):
        return found_of(self.stored)

    async def lock(self, _):
        raise StoreUnavailable

    def writer(self, *_):
        raise AssertionError("nothing is stored here")


class DeadOrigin:
    async def send(self, *_):
        raise OriginUnreachable("down")


def stored_answers(lines, selecting, *, coded, status=200):
    headers = Headers(tuple(line.split(": ", 1)) for line in lines)
    request = Request("GET", "/x", Headers(selecting))
    exchange = Exchange(request, Response(status, headers), 1000.0, 1000.0)
    entry = storing.entry(exchange, Policy())
    names = ("zstd", "gzip") if coded else ("identity",)
    return Stored(
        "id", entry, len(TEXT), {name: Body(len(FORMS[name]), (checksum(FORMS[name]),)) for name in names}
    )


def make_memory():
    memory = Memory(2**20)
    memory.vouch(float("inf"))
    return memory


def make_proxy(stored, clock, memory=None):
    memory = make_memory() if memory is None else memory
    counters = Counters(Counters.allocate(1), 0)
    config = Config(redis_password="-", cache_max_object_bytes=1, cache_collapse_wait=0.01)
    return create_proxy(config, HeldStore(stored), memory, DeadOrigin(), counters, clock), memory


def a_note(method, path, status, cache):
    return Note(f"{method} {path} {status} {cache}", memoryview(b""))


def find(hits, target, fields):
    plain = hits.plain(target, fields)
    return None if plain is None else hits.find(plain, time.monotonic())


def first(stored, clock, fields):
    """The answer of who only just read it."""
    return Hits(make_memory(), clock, a_note).first(Page("/x", None, found=found_of(stored)), fields)


def head_of(reply):
    """The head as the server would send it, as a set of lines: the order of fields has no meaning here."""
    lines = {f"{name}: {value}" for name, value in reply.headers} | {f"Content-Length: {reply.length}"}
    return {status_line(reply.status).decode().strip(), *lines}


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(ANSWERS), request_fields, st.booleans(), steps)
def test_the_short_paths_say_what_the_full_path_says(lines, selecting, coded, requests):
    asyncio.run(_compare(lines, selecting, coded, requests))


async def _compare(lines, selecting, coded, requests):
    now = 1000.0
    stored = (stored_answers(lines, selecting, coded=coded),)
    proxy, memory = make_proxy(stored, lambda: now)
    hits = Hits(memory, proxy.clock, a_note)
    for fields, seconds in requests:
        now += seconds
        given_fields = {name.encode(): value.encode() for name, value in fields}
        is_plain = len(given_fields) == len(fields)
        short = (find(hits, b"/x", given_fields), first(stored, hits.clock, given_fields)) if is_plain else ()
        reply = await proxy.respond(Request("GET", "/x", Headers(fields)))
        for found, age in filter(None, short):
            assert set(found.render(age).decode().splitlines()) == {*head_of(reply), "X-Request-ID: "}
            assert found.body == reply.content
            assert reply.cache == "hit"
        if is_plain:
            hits.remember(given_fields, reply)


def test_what_the_short_path_remembers_counts_as_memory():
    """However a client spells what it accepts: the words are kept with the answer."""
    proxy, memory = make_proxy((stored_answers(ANSWERS[0], [], coded=True),), lambda: 1001.0)
    hits = Hits(memory, proxy.clock, a_note)

    def ask(spelling):
        reply = asyncio.run(proxy.respond(Request("GET", "/x", Headers([("Accept-Encoding", spelling)]))))
        hits.remember({b"accept-encoding": spelling.encode()}, reply)
        return reply

    ask("gzip")
    before = memory.size
    ask("gzip")
    assert memory.size == before
    for number in range(MAX_PREPARED - 1):
        ask(f"gzip, x{number}" + "," * 1000)
    least = (MAX_PREPARED - 1) * 1000
    assert least < memory.size - before < 2 * least
    reply = ask("gzip, y")
    assert memory.size < before + 1000  # all others were forgotten
    memory.clear()
    hits.remember({}, reply)
    assert memory.size == 0


@pytest.mark.parametrize(
    ("lines", "is_taken"),
    [
        (("Cache-Control: max-age=10",), True),
        (("Cache-Control: max-age=1",), False),
        (("Cache-Control: max-age=10, no-cache",), False),
        (("Cache-Control: max-age=10", "Vary: X-A"), False),
    ],
    ids=["fresh", "stale", "no-cache", "vary"],
)
@pytest.mark.parametrize("coded", [True, False])
def test_what_is_first_read_is_answered_by_the_short_path(lines, is_taken, coded):
    stored = stored_answers(lines, [], coded=coded)
    for accept, content in (("gzip", FORMS["gzip"]), ("zstd", FORMS["zstd"]), ("identity", TEXT)):
        found = first((stored,), lambda: 1002.0, {b"accept-encoding": accept.encode()})
        assert (found is not None) == is_taken
        if found is not None:
            assert found[0].body == (content if coded else TEXT)
    assert first((stored,), lambda: 1002.0, {b"cache-control": b"no-cache"}) is None
    other = stored._replace(body_id="other", entry=stored.entry._replace(selecting=(("x-a", "1"),)))
    assert first((stored, other), lambda: 1002.0, {}) is None


def test_a_damaged_body_is_not_replaced_by_one_in_another_coding():
    stored, damaged = stored_answers(ANSWERS[0], [], coded=True), []
    fields = {**found_of((stored,)).fields, f"s:{stored.body_id}:gzip".encode(): b"damaged"}
    page = Page("/x", None, found=Found(fields, b"1", (False, False), lambda: damaged.append("gzip")))
    hits = Hits(make_memory(), lambda: 1002.0, a_note)
    assert hits.first(page, {b"accept-encoding": b"gzip"}) is None
    assert damaged == ["gzip"]
    assert hits.first(page, {b"accept-encoding": b"zstd"}) is not None


def test_rfc9110_8_6_no_short_path_says_the_length_of_what_has_no_content():
    stored = stored_answers(ANSWERS[0], [], coded=False, status=204)
    proxy, memory = make_proxy((stored,), lambda: 1002.0)
    hits = Hits(memory, proxy.clock, a_note)
    assert first((stored,), hits.clock, {}) is None
    hits.remember({}, asyncio.run(proxy.respond(Request("GET", "/x", Headers()))))
    assert find(hits, b"/x", {}) is None


def test_what_is_first_answered_by_the_short_path_is_remembered():
    stored = stored_answers(ANSWERS[0], [], coded=True)
    proxy, memory = make_proxy((stored,), lambda: 1002.0)
    hits = Hits(memory, proxy.clock, a_note)
    view = asyncio.run(proxy.levels.view("/x"))
    before, fields = memory.size, {b"accept-encoding": b"identity"}
    found = hits.first(view.page, fields)
    hits.keep(view.page, fields, found[0])
    assert find(hits, b"/x", fields) == found
    assert memory.size > before + len(TEXT)
    assert find(hits, b"/x", {b"accept-encoding": b"gzip"}) is None


def test_the_short_path_is_taken_at_all():
    proxy, memory = make_proxy((stored_answers(ANSWERS[0], [], coded=False),), lambda: 1001.0)
    hits = Hits(memory, proxy.clock, a_note)
    hits.remember({}, asyncio.run(proxy.respond(Request("GET", "/x", Headers()))))
    assert find(hits, b"/x", {b"host": b"h"}) is not None
    assert find(hits, b"/x", {b"range": b"bytes=0-1"}) is None
    assert find(hits, b"/y", {}) is None
    memory.vouch(0.0)
    assert find(hits, b"/x", {}) is None


def test_what_a_request_came_down_to_never_fits_answers_that_vary_by_another_field():
    """As it is remembered while the origin begins to select by something else."""
    memory = make_memory()
    hits = Hits(memory, lambda: 1001.0, a_note)

    def store_and_ask(name):
        memory.clear()
        fields, selecting = {name.encode(): b"en"}, [(name, "en")]
        stored = stored_answers(("Cache-Control: max-age=10", f"Vary: {name}"), selecting, coded=False)
        proxy, _ = make_proxy((stored,), hits.clock, memory)
        hits.remember(fields, asyncio.run(proxy.respond(Request("GET", "/x", Headers(selecting)))))
        return hits.plain(b"/x", fields)

    before = store_and_ask("accept-language")
    assert hits.find(before, time.monotonic()) is not None
    now = store_and_ask("x-other")
    assert hits.find(before, time.monotonic()) is None
    assert hits.find(now, time.monotonic()) is not None
