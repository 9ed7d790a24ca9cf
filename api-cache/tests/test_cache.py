"""What clients and the origin see of the cache, over real HTTP, with a real Valkey."""

import contextlib
import gzip
import http.client
import itertools
import json
import re
import socket
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from backports import zstd
from local.processes import wait_until

from store.stored import target_hash
from tests.support import all_wait, answer, ask, fresh_path, metrics

TEXT = b'{"station": "aq_salvia", "no2": 41.5}\n' * 100
CREDENTIALS = ("Authorization", "Basic eDp4")
CHUNKED = b"HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.fixture
def narrow(shared_cache):
    """A cache that keeps what nothing is said of for a second, and takes requests of a kilobyte at most."""
    return shared_cache(CACHE_TTL="1", CACHE_MAX_REQUEST_BYTES="1000")


def get(cache, target, *lines, **more):
    return ask(cache.port, target, *lines, **more)


def test_a_second_request_is_a_hit_with_age_and_the_same_body(cache, origin):
    path = fresh_path()
    origin.on(path, answer(b"hello", "Content-Type: text/plain", "X-Own: 1"))
    first, second, third = (get(cache, path) for _ in range(3))
    assert (first.status, first.body, first.cache) == (200, b"hello", "fwd=miss; stored")
    for hit in (second, third):
        assert (hit.status, hit.body, hit.cache) == (200, b"hello", "hit")
        assert hit["Age"] == "0"
        assert hit["X-Own"] == "1"
        assert hit["Date"] is not None
        assert hit["Via"] == "1.1 api-cache"
    assert len(origin.asked(path)) == 1


def test_each_query_is_a_target_of_its_own(cache, origin):
    path = fresh_path()
    origin.on(path, lambda wire, got: wire.send(answer(got.target.encode())))
    assert [get(cache, f"{path}?{query}").body for query in ("a=1", "a=2", "", "a=1")] == [
        f"{path}?{query}".encode() for query in ("a=1", "a=2", "", "a=1")
    ]
    assert get(cache, path).body == path.encode()


def test_the_raw_target_reaches_the_origin_and_tells_entries_apart(cache, origin):
    path = fresh_path()
    for target in (f"{path}%2Fb", f"{path}/b", f"{path}//b/../c%20d;e|f"):
        origin.on(target, answer(target.encode()))
        assert get(cache, target).body == target.encode()
        assert get(cache, target).body == target.encode()


def test_head_is_answered_from_the_entry_of_get(cache, origin):
    path = fresh_path()
    origin.on(path, answer(b"hello"))
    get(cache, path)
    head = get(cache, path, method="HEAD")
    assert (head.status, head.body, head.cache, head["Content-Length"]) == (200, b"", "hit", "5")
    assert len(origin.asked(path)) == 1


def test_an_origin_without_a_word_gets_cache_ttl(narrow, origin):
    path = fresh_path()
    origin.on(path, answer(b"x"))
    assert get(narrow, path)["Cache-Status"] == "api-cache; fwd=miss; stored"
    assert get(narrow, path)["Cache-Status"] == "api-cache; hit; ttl=1"
    assert wait_until(lambda: get(narrow, path).cache != "hit", timeout=5)
    assert len(origin.asked(path)) == 2


def test_errors_are_not_stored_without_the_origins_word(cache, origin):
    path = fresh_path()
    origin.on(path, answer(b"oops", status=500))
    assert [get(cache, path).cache for _ in range(2)] == ["fwd=miss; detail=no-lifetime"] * 2
    assert len(origin.asked(path)) == 2


@pytest.mark.parametrize(
    ("accept", "coding"), [("zstd, gzip", "zstd"), ("gzip", "gzip"), ("gzip;q=1, zstd;q=0.5", "gzip")]
)
def test_text_is_stored_compressed_and_each_coding_has_its_own_tag(cache, origin, accept, coding):
    path = fresh_path()
    origin.on(path, answer(TEXT, "Content-Type: application/json", 'ETag: "v1"'))
    assert get(cache, path).body == TEXT
    coded = get(cache, path, ("Accept-Encoding", accept))
    assert coded["Content-Encoding"] == coding
    assert coded["ETag"] == f'"v1-{coding}"'
    assert coded["Vary"] == "Accept-Encoding"
    assert len(coded.body) < len(TEXT) / 5
    assert {"gzip": gzip.decompress, "zstd": zstd.decompress}[coding](coded.body) == TEXT
    plain = get(cache, path)
    assert (plain["Content-Encoding"], plain["ETag"], plain["Vary"]) == (None, '"v1"', "Accept-Encoding")
    assert plain.body == TEXT
    conditional = get(cache, path, ("Accept-Encoding", accept), ("If-None-Match", f'"v1-{coding}"'))
    assert (conditional.status, conditional["ETag"]) == (304, f'"v1-{coding}"')
    assert len(origin.asked(path)) == 1


@pytest.mark.parametrize(("accept", "coding"), [("gzip", "gzip"), ("zstd", "zstd"), ("identity", None)])
def test_an_empty_text_is_empty_in_each_coding(cache, origin, accept, coding):
    path = fresh_path()
    origin.on(path, CHUNKED.replace(b"\r\n\r\n", b"\r\nContent-Type: text/plain\r\n\r\n") + b"0\r\n\r\n")
    assert get(cache, path).cache == "fwd=miss; stored"
    hit = get(cache, path, ("Accept-Encoding", accept))
    assert (hit.cache, hit["Content-Encoding"], hit["Vary"]) == ("hit", coding, "Accept-Encoding")
    assert {"gzip": gzip.decompress, "zstd": zstd.decompress, None: bytes}[coding](hit.body) == b""


def test_no_transform_is_never_compressed(cache, origin):
    path = fresh_path()
    origin.on(path, answer(TEXT, "Content-Type: application/json", "Cache-Control: max-age=60, no-transform"))
    get(cache, path)
    hit = get(cache, path, ("Accept-Encoding", "gzip, zstd"))
    assert (hit.cache, hit["Content-Encoding"], hit["Vary"], hit.body) == ("hit", None, None, TEXT)


def test_no_transform_that_comes_with_a_304_counts_as_well(cache, origin):
    path = fresh_path()
    origin.on(path, answer(TEXT, "Content-Type: application/json", 'ETag: "v1"', "Cache-Control: max-age=60"))
    get(cache, path)
    assert get(cache, path, ("Accept-Encoding", "gzip"))["Content-Encoding"] == "gzip"
    origin.on(path, b'HTTP/1.1 304 X\r\nETag: "v1"\r\nCache-Control: max-age=60, no-transform\r\n\r\n')
    for demand in ("no-cache", "max-age=60"):
        found = get(cache, path, ("Accept-Encoding", "gzip"), ("Cache-Control", demand))
        assert (found["Content-Encoding"], found["ETag"], found.body) == (None, '"v1"', TEXT)


def test_a_stale_entry_is_validated_with_the_origins_own_tag(cache, origin):
    path = fresh_path()

    def script(wire, got):
        if got.values("If-None-Match") == ['"v1"']:
            wire.send(b'HTTP/1.1 304 X\r\nETag: "v1"\r\nCache-Control: max-age=60\r\nX-New: yes\r\n\r\n')
        else:
            wire.send(
                answer(TEXT, "Content-Type: application/json", 'ETag: "v1"', "Cache-Control: max-age=0")
            )

    origin.on(path, script)
    assert get(cache, path).cache == "fwd=miss; stored"
    validated = get(cache, path, ("Accept-Encoding", "gzip"), ("If-None-Match", '"v1-gzip"'))
    assert (validated.status, validated["ETag"], validated["X-New"]) == (304, '"v1-gzip"', "yes")
    assert validated.cache.startswith("fwd=stale; fwd-status=304")
    hit = get(cache, path)
    assert (hit.cache, hit.body, hit["X-New"]) == ("hit", TEXT, "yes")
    assert len(origin.asked(path)) == 2


def test_ranges_come_out_of_complete_entries(cache, origin):
    path = fresh_path()
    origin.on(path, answer(b"0123456789", 'ETag: "r"'))
    get(cache, path)
    part = get(cache, path, ("Range", "bytes=2-4"))
    assert (part.status, part.body, part["Content-Range"], part.cache) == (206, b"234", "bytes 2-4/10", "hit")
    assert get(cache, path, ("Range", "bytes=-2")).body == b"89"
    assert get(cache, path, ("Range", "bytes=20-")).status == 416
    assert get(cache, path, ("Range", "bytes=2-4"), ("If-Range", '"other"')).body == b"0123456789"
    assert len(origin.asked(path)) == 1


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "BREW", "delete"])
def test_unsafe_and_unknown_methods_pass_with_their_content_and_invalidate(cache, origin, method):
    path = fresh_path()
    origin.on(path, lambda wire, got: wire.send(answer(got.method.encode() + b":" + got.body)))
    assert get(cache, path).body == b"GET:"
    assert get(cache, path).cache == "hit"
    changed = get(cache, path, method=method, body=b"content")
    assert (changed.body, changed.cache) == (f"{method}:content".encode(), "fwd=method")
    # The other worker learns of it at once, but not before this one's answer.
    assert wait_until(lambda: get(cache, path).cache == "fwd=miss; stored", timeout=1)


@pytest.mark.parametrize("content", [b"", b"x"])
def test_what_a_client_changed_that_left_before_its_answer_is_forgotten(cache, origin, log, content):
    path = fresh_path()
    released, versions = threading.Event(), itertools.count(1)

    def script(wire, received):
        assert received.method == "GET" or released.wait(10)
        wire.send(answer(b"%d" % next(versions), "Cache-Control: max-age=60"))

    origin.on(path, script)
    assert get(cache, path).body == b"1"
    with socket.create_connection(("127.0.0.1", cache.port), timeout=10) as sock:
        lines = (b"DELETE %b HTTP/1.1" % path.encode(), b"Host: h", b"Content-Length: %d" % len(content))
        sock.sendall(b"\r\n".join((*lines, b"", content)))
        assert wait_until(lambda: len(origin.asked(path)) == 2, timeout=5)

    def is_noted():
        lines = log.read_text().splitlines()
        return any(f'"{path}"' in line and '"detail=client-left"' in line for line in lines)

    assert wait_until(is_noted, timeout=5)
    released.set()
    assert wait_until(lambda: get(cache, path).body == b"3", timeout=5)


def test_an_answer_to_post_is_not_stored_when_another_one_has_changed_the_target_meanwhile(cache, origin):
    path = fresh_path()
    released = threading.Event()

    def script(wire, received):
        if received.body == b"slow":
            assert released.wait(10)
        lines = (f"Content-Location: {path}", "Cache-Control: max-age=60")
        wire.send(answer(received.body or b"fast", *lines))

    origin.on(path, script)
    with ThreadPoolExecutor() as pool:
        slow = pool.submit(get, cache, path, method="POST", body=b"slow")
        assert wait_until(lambda: origin.asked(path), timeout=5)
        assert get(cache, path, method="POST", body=b"fast").cache == "fwd=method; stored"
        released.set()
        assert slow.result().cache == "fwd=method"
    assert wait_until(lambda: get(cache, path).cache == "hit", timeout=5)
    assert get(cache, path).body == b"fast"


def test_chunked_content_is_passed_on(cache, origin):
    path = fresh_path()
    origin.on(path, lambda wire, got: wire.send(answer(got.body)))
    chunked = b"3\r\nabc\r\n2;x=y\r\nde\r\n0\r\nTrailer: t\r\n\r\n"
    assert get(cache, path, ("Transfer-Encoding", "chunked"), method="POST", body=chunked).body == b"abcde"


def test_content_beyond_the_limit_is_413(narrow, origin):
    path = fresh_path()
    origin.on(path, lambda wire, got: wire.send(answer(got.body)))
    assert get(narrow, path, method="POST", body=b"x" * 1000).status == 200
    for size in (1001, 5_000_000):  # whoever only reads after all is sent gets the answer, too
        assert get(narrow, path, method="POST", body=b"x" * size).status == 413
        chunked = b"%x\r\n" % size + b"x" * size + b"\r\n0\r\n\r\n"
        assert get(narrow, path, ("Transfer-Encoding", "chunked"), method="POST", body=chunked).status == 413
    assert get(narrow, path).status == 200


def test_nothing_of_the_client_that_the_key_lacks_reaches_the_origin(cache, origin):
    path = fresh_path()
    origin.on(path, answer(b"x"))
    poison = [
        ("Host", "evil.test"), ("X-Forwarded-Host", "evil.test"), ("X-Forwarded-Proto", "evil"),
        ("Forwarded", "host=evil"), ("X-Original-URL", "/evil"), ("X-HTTP-Method-Override", "DELETE"),
        ("X-Rewrite-URL", "/evil"), ("X-Host", "evil"), ("X-HTTP-Host-Override", "evil"),
    ]  # fmt: skip
    get(cache, path, *poison)
    (got,) = origin.asked(path)
    assert "evil" not in str(got.headers)
    assert "DELETE" not in str(got.headers)
    assert got.values("Host") == [f"127.0.0.1:{origin.port}"]


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_field_with_an_underscore_reaches_no_origin(cache, origin, method):
    """CGI and WSGI would take it for the one with hyphens, which may be kept from the origin, or in Vary."""
    path = fresh_path()
    origin.on(path, answer(b"x", "Vary: Accept-Language"))
    get(cache, path, ("Accept_Language", "evil"), ("Via_", "evil"), ("_", "evil"), method=method)
    (got,) = origin.asked(path)
    assert "evil" not in str(got.headers)


def test_the_origin_gets_the_clients_fields_and_none_of_ours(cache, origin):
    path = fresh_path()
    origin.on(path, answer(b"x", "Cache-Control: no-store"))
    get(cache, path, ("X-A", "1"), ("X-A", "2"), ("Connection", "X-Hop"), ("X-Hop", "1"), ("TE", "trailers"))
    (got,) = origin.asked(path)
    names = {name.lower() for name, _ in got.headers}
    assert names == {"host", "x-a", "via", "cdn-loop", "x-request-id"}
    assert got.values("X-A") == ["1", "2"]


def test_repeated_fields_and_cookies_stay_as_they_are(cache, origin):
    path = fresh_path()
    origin.on(
        path,
        answer(b"x", "Set-Cookie: a=1", "Set-Cookie: b=2", "X-A: 1", "X-A: 2", "Cache-Control: no-store"),
    )
    first = get(cache, path)
    assert first.values("Set-Cookie") == ["a=1", "b=2"]
    assert first.values("X-A") == ["1", "2"]
    get(cache, path)
    assert not origin.asked(path)[1].values("Cookie")


def test_what_the_origin_sends_unasked_reaches_nobody(cache, origin):
    path = fresh_path()
    origin.on(path, answer(b"one", "Cache-Control: no-store") + answer(b"stolen"))
    assert [get(cache, path).body for _ in range(4)] == [b"one"] * 4


@pytest.mark.parametrize(
    "broken",
    [
        b"HTTP/1.1 200 OK\r\nno colon\r\nContent-Length: 1\r\n\r\nx",
        b"HTTP/1.1 200 OK\r\nX: a\r\n folded\r\nContent-Length: 1\r\n\r\nx",
        b"HTTP/1.1 200 OK\r\nX: a\x00b\r\nContent-Length: 1\r\n\r\nx",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nx",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 101 Switching\r\n\r\n",
        b"HTTP/1.1 99 X\r\n\r\n",
        b"HTTP/2.0 200 OK\r\nContent-Length: 1\r\n\r\nx",
        b"HTTP/0.9 200 OK\r\nContent-Length: 1\r\n\r\nx",
        b"HTTP/2.0 103 X\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx",
        b"not HTTP at all\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"y" * 100_000 + b"\r\nContent-Length: 1\r\n\r\nx",
        b"",
    ],
    ids=[
        "no-colon",
        "fold",
        "nul",
        "both-lengths",
        "two-lengths",
        "codings",
        "101",
        "99",
        "http-2.0",
        "http-0.9",
        "interim-http-2.0",
        "garbage",
        "huge",
        "silence",
    ],
)
def test_a_malformed_answer_is_a_502_problem(cache, origin, broken):
    path = fresh_path()

    def script(wire, _):
        wire.send(broken)
        return False

    origin.on(path, script)
    found = get(cache, path)
    assert (found.status, found["Content-Type"]) == (502, "application/problem+json")
    assert json.loads(found.body)["status"] == 502
    assert "fwd=miss" in found.cache


@pytest.mark.parametrize(
    "cut",
    [
        b"HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nContent-Length: 99\r\n\r\nhalf",
        CHUNKED + b"4\r\nhalf\r\n",
        CHUNKED + b"4\r\nhalf\r\nzz\r\n",
    ],
    ids=["length", "chunked", "bad-chunk"],
)
def test_a_truncated_answer_never_ends_well_and_is_never_stored(cache, origin, cut):
    path = fresh_path()

    def script(wire, _):
        wire.send(cut)
        return False

    origin.on(path, script)
    for _ in range(2):
        with pytest.raises((http.client.IncompleteRead, ConnectionError)):
            get(cache, path)
    origin.on(path, answer(b"whole", "Cache-Control: max-age=60"))
    assert get(cache, path).cache == "fwd=miss; stored"
    assert get(cache, path).body == b"whole"


def test_the_first_bytes_pass_before_the_origin_has_sent_the_rest(cache, origin):
    path = fresh_path()
    go_on = threading.Event()

    def script(wire, _):
        wire.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n")
        assert go_on.wait(10)
        wire.send(b"4\r\nlast\r\n0\r\n\r\n")

    origin.on(path, script)
    connection = http.client.HTTPConnection("127.0.0.1", cache.port, timeout=10)
    connection.request("GET", path)
    response = connection.getresponse()
    assert response.read1(100) == b"first"
    go_on.set()
    assert response.read() == b"last"
    connection.close()


@contextlib.contextmanager
def asking(cache, path, number, *lines):
    """So many clients ask at once; at the end all have their answers, in the list that this gives."""
    found = []
    clients = [threading.Thread(target=lambda: found.append(get(cache, path, *lines))) for _ in range(number)]
    for client in clients:
        client.start()
    try:
        yield found
    finally:
        for client in clients:
            client.join(20)


@pytest.mark.parametrize("before", [None, CREDENTIALS], ids=["first", "after-one-with-credentials"])
def test_only_one_of_many_asks_the_origin(cache, origin, before):
    """Whatever one with credentials got, which may not be stored."""
    path = fresh_path()
    release = threading.Event()

    def script(wire, got):
        assert got.values("Authorization") or release.wait(10)
        wire.send(answer(TEXT, "Content-Type: application/json"))

    origin.on(path, script)
    if before is not None:
        assert get(cache, path, before).cache == "fwd=miss; detail=authorization"
    with asking(cache, path, 50) as found:
        assert all_wait(cache, 50)
        release.set()
    assert [each.body for each in found] == [TEXT] * 50
    assert len([got for got in origin.asked(path) if not got.values("Authorization")]) == 1


def test_those_without_credentials_do_not_wait_for_those_with(one_worker, origin):
    path = fresh_path()
    release = threading.Event()

    def script(wire, got):
        assert not got.values("Authorization") or release.wait(20)
        wire.send(answer(b"x"))

    origin.on(path, script)
    with asking(one_worker, path, 1, CREDENTIALS) as found:
        assert wait_until(lambda: origin.asked(path), timeout=5)
        assert get(one_worker, path).cache == "fwd=miss; stored"
        release.set()
    assert found[0].cache == "fwd=miss; detail=authorization"


def test_shareable_answers_to_those_with_credentials_are_shared(cache, origin):
    """RFC 9111 §3.5: the origin says so by `public`; even while those without get what may not be stored."""
    path = fresh_path()
    release = threading.Event()

    def script(wire, got):
        if not got.values("Authorization"):
            wire.send(answer(b"who are you?", status=401))
        else:
            assert release.wait(10)
            wire.send(answer(b"x", "Cache-Control: public, max-age=60"))

    origin.on(path, script)
    assert get(cache, path).status == 401
    with asking(cache, path, 10, CREDENTIALS) as found:
        assert all_wait(cache, 10)
        release.set()
    assert [each.body for each in found] == [b"x"] * 10
    assert len(origin.asked(path)) == 2


@pytest.mark.parametrize(
    ("lines", "fields"),
    [((), ("Cache-Control: private",)), ((CREDENTIALS,), ())],
    ids=["private", "credentials"],
)
def test_uncacheable_answers_do_not_queue(cache, origin, lines, fields):
    path = fresh_path()
    together = threading.Barrier(10, timeout=10)

    def first(wire, _):
        wire.send(answer(b"mine", *fields))

    def script(wire, _):
        together.wait()
        wire.send(answer(b"mine", *fields))

    origin.on(path, first)
    get(cache, path, *lines)
    origin.on(path, script)
    with asking(cache, path, 10, *lines) as found:
        pass
    assert [each.body for each in found] == [b"mine"] * 10


def test_stale_serves_while_it_is_revalidated_in_the_background(cache, origin):
    path = fresh_path()
    versions = itertools.chain([b"one"], itertools.repeat(b"two"))
    header = "Cache-Control: max-age=0, stale-while-revalidate=60"
    origin.on(path, lambda wire, _: wire.send(answer(next(versions), header)))
    assert get(cache, path).body == b"one"
    assert get(cache, path).body == b"one"
    assert wait_until(lambda: get(cache, path).body == b"two", timeout=5)


@pytest.mark.parametrize("directive", ["no-store", "only-if-cached"])
def test_what_one_client_demands_is_no_part_of_the_refreshment_for_all(cache, origin, directive):
    path = fresh_path()
    origin.on(path, answer(b"old", "Cache-Control: max-age=60, stale-while-revalidate=60", "Age: 60"))
    assert get(cache, path).body == b"old"
    origin.on(path, answer(b"new", "Cache-Control: max-age=60"))
    assert get(cache, path, ("Cache-Control", directive)).body == b"old"
    assert wait_until(lambda: len(origin.asked(path)) == 2, timeout=5)
    assert wait_until(lambda: get(cache, path, ("Cache-Control", "only-if-cached")).body == b"new", timeout=5)
    assert not origin.asked(path)[1].values("Cache-Control")


def test_our_own_endpoints_are_never_forwarded(cache, origin):
    # A letter may be percent-encoded, and is the same one (RFC 9110 §4.2.3).
    for path in ("/healthz", "/readyz", "/metrics", "/healthz?x=1", "/%6detrics"):
        found = get(cache, path, ("Accept", "*/*"))
        assert (found.status, found["Cache-Control"]) == (200, "no-store")
        assert not origin.asked(path)
    wrong = get(cache, "/healthz", method="POST", body=b"x")
    assert (wrong.status, wrong["Content-Type"]) == (405, "application/problem+json")
    assert "GET" in wrong["Allow"]


def test_a_request_leaves_one_log_line(cache, origin, log):
    path = fresh_path()
    origin.on(path, answer(b"hello"))
    trace = "0af7651916cd43dd8448eb211c80319c"
    get(cache, f"{path}?a=%22", ("X-Request-ID", "mine"), ("traceparent", f"00-{trace}-b7ad6b7169203331-01"))

    def lines():
        return [line for line in log.read_text().splitlines() if f"{path}?" in line]

    assert wait_until(lines, timeout=5)
    (line,) = lines()
    fields = json.loads(line)
    assert fields.pop("duration") >= 0
    assert fields.pop("time").endswith("Z")
    assert fields == {
        "level": "info", "service": "api-cache", "method": "GET", "path": f"{path}?a=%22", "status": 200,
        "bytes": 5,
        "cache": "fwd=miss; stored", "request_id": "mine", "trace_id": trace,
    }  # fmt: skip
    assert origin.asked(f"{path}?a=%22")[0].values("X-Request-ID") == ["mine"]


def test_a_client_that_sends_too_much_is_no_error_of_the_origin(narrow, origin):
    """The origin has the head by then, and never gets all of the content."""
    path = fresh_path()
    with socket.create_connection(("127.0.0.1", narrow.port), timeout=10) as sock:
        head = b"POST %b HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n" % path.encode()
        sock.sendall(head + b"1\r\nx\r\n")
        assert wait_until(lambda: path in origin.begun, timeout=5)
        sock.sendall(b"2000\r\n" + bytes(0x2000) + b"\r\n0\r\n\r\n")
        assert sock.recv(65536).startswith(b"HTTP/1.1 413 ")
    assert not [name for name in metrics(narrow) if name.startswith("api_cache_origin_errors_total")]


def test_the_log_counts_what_was_sent_of_an_answer_that_broke_off(cache, origin, log):
    path = fresh_path()
    origin.on(path, lambda wire, _: wire.send(CHUNKED + b"4\r\nhalf\r\nzz\r\n") is not None)
    with pytest.raises(http.client.IncompleteRead):
        get(cache, path)

    def sizes():
        return [json.loads(line)["bytes"] for line in log.read_text().splitlines() if f'"{path}"' in line]

    assert wait_until(lambda: sizes() == [4], timeout=5), sizes()


def test_every_answer_carries_the_id_of_its_own_request_alone(cache, origin):
    path = fresh_path()
    origin.on(path, answer(b"hello", "X-Request-ID: the-origin's", "Cache-Control: max-age=60"))
    for mine in ("first", "second"):
        assert get(cache, path, ("X-Request-ID", mine)).values("X-Request-ID") == [mine]
    assert len(origin.asked(path)) == 1


def test_metrics_count_all_workers(make_cache, origin):
    cache = make_cache(CACHE_WORKERS="3")
    path = fresh_path()
    origin.on(path, answer(b"hello"))
    for _ in range(30):
        get(cache, path)
    hits = 'http_requests_total{cache="hit",method="GET",status="200"}'
    assert wait_until(
        lambda: metrics(cache).get(hits) == 29, timeout=2
    )  # counted after the last byte is sent
    counted = metrics(cache)
    assert counted['http_requests_total{cache="miss",method="GET",status="200"}'] == 1
    assert counted['http_response_bytes_total{cache="hit",method="GET",status="200"}'] == 29 * 5
    assert counted['http_request_duration_seconds_count{cache="hit"}'] == 29
    # On a busy machine one may still be starting.
    assert wait_until(lambda: metrics(cache)["api_cache_workers"] == 3, timeout=10)
    assert counted["api_cache_hit_ratio"] == pytest.approx(29 / 30)


def test_variants_are_kept_side_by_side(cache, origin):
    path = fresh_path()
    origin.on(path, lambda wire, got: wire.send(answer("".join(got.values("X-A")).encode(), "Vary: X-A")))
    for value in ("1", "2", "1", "2"):
        assert get(cache, path, ("X-A", value)).body == value.encode()
    assert get(cache, path).body == b""
    assert len(origin.asked(path)) == 3
    assert get(cache, path, ("X-A", "2"), ("X-A", "1")).body == b"21"
    assert get(cache, path, ("X-A", "1")).body == b"1"


def test_a_post_without_content_says_so_to_the_origin(cache, origin):
    path = fresh_path()
    origin.on(path, answer(b"x"))
    get(cache, path, method="POST")
    get(cache, path, method="POST", body=b"")
    assert [each.values("Content-Length") for each in origin.asked(path)] == [["0"], ["0"]]


def test_our_own_answers_have_a_date(cache):
    for target in ("/healthz", fresh_path("none")):
        assert re.fullmatch(r"\w{3}, \d\d \w{3} \d{4} [\d:]{8} GMT", get(cache, target)["Date"])


@pytest.mark.parametrize("size", [1, 5_000, 70_000])
def test_too_many_variants_do_not_fill_redis(cache, client, origin, size):
    path = fresh_path()
    origin.on(path, answer(bytes(size), "Vary: X-A", "Cache-Control: max-age=600"))
    for number in range(70):
        assert get(cache, path, ("X-A", str(number))).status == 200
    (index,) = client.keys(f"api-cache:2:i:{target_hash(path)}")
    fields = client.hkeys(index)
    bodies = [field for field in fields if field.startswith(b"s:")]
    bodies += client.keys(f"api-cache:2:b:{target_hash(path)}:*")
    lasting = [name for name in bodies if name in fields or client.pttl(name) > 61_000]
    entries = [field for field in fields if not field.startswith(b"s:")]
    assert len(lasting) == len(entries) <= 64
