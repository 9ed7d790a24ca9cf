import pytest
from builders import NOW, RFC_ONLY, date, entry, exchange, headers, request, response

from httpcache import freshness, reuse, storing, validation
from httpcache.messages import Exchange, Policy, Request

MAX_AGE = "Cache-Control: max-age=60"
MODIFIED = f"Last-Modified: {date(-3600)}"


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        pytest.param(['ETag: "a"'], ['If-None-Match: "a"'], id="rfc9111-4.3.1 strong ETag"),
        pytest.param(['ETag: W/"a"'], ['If-None-Match: W/"a"'], id="rfc9111-4.3.1 weak ETag"),
        pytest.param([MODIFIED], [f"If-Modified-Since: {date(-3600)}"], id="rfc9111-4.3.1 Last-Modified"),
        pytest.param(
            ['ETag: "a"', MODIFIED],
            ['If-None-Match: "a"', f"If-Modified-Since: {date(-3600)}"],
            id="rfc9111-4.3.1 both",
        ),
        pytest.param(
            ["Last-Modified: Sun Nov  6 08:49:37 1994"],
            ["If-Modified-Since: Sun, 06 Nov 1994 08:49:37 GMT"],
            id="rfc9110-5.6.7 sent as IMF-fixdate",
        ),
        pytest.param(["ETag: a"], [], id="rfc9110-8.8.3 invalid ETag"),
    ],
)
def test_condition(lines: list[str], expected: list[str]) -> None:
    assert validation.condition(request(), entry(*lines)) == headers(*expected)


def test_rfc9111_4_3_1_the_clients_conditions_and_range_do_not_reach_the_origin() -> None:
    asked = request(
        "Foo: 1",
        "Connection: x",
        "X: 1",
        'If-None-Match: "c"',
        f"If-Modified-Since: {date()}",
        'If-Range: "c"',
        "Range: bytes=0-1",
    )
    assert validation.unconditional(asked) == headers("Foo: 1")
    assert validation.condition(asked, entry('ETag: "a"')) == headers("Foo: 1", 'If-None-Match: "a"')


@pytest.mark.parametrize(
    ("stored", "lines", "expected"),
    [
        pytest.param(['ETag: "a"'], ['ETag: "a"'], True, id="rfc9111-4.3.4 strong"),
        pytest.param(['ETag: "a"'], ['ETag: "b"'], False, id="rfc9111-4.3.4 another"),
        pytest.param(['ETag: W/"a"'], ['ETag: W/"a"'], True, id="rfc9111-4.3.4 weak"),
        pytest.param(['ETag: W/"a"'], ['ETag: "a"'], True, id="weakened in the 200 alone"),
        pytest.param(['ETag: "a"'], ["ETag: a"], False, id="invalid"),
        pytest.param(
            ['ETag: "a"', MODIFIED], ['ETag: "a"', f"Last-Modified: {date()}"], True, id="ETag first"
        ),
        pytest.param([MODIFIED], [MODIFIED], True, id="rfc9111-4.3.4 Last-Modified"),
        pytest.param([MODIFIED], [f"Last-Modified: {date()}"], False, id="rfc9111-4.3.4 another date"),
        pytest.param([MODIFIED], ['ETag: "a"'], True, id="a tag where there was none"),
        pytest.param(['ETag: "a"', MODIFIED], [], True, id="no validator"),
    ],
)
def test_confirms(stored: list[str], lines: list[str], expected: bool) -> None:
    assert validation.confirms(response(*lines, status=304), entry(*stored)) is expected


def freshened(
    stored: list[str], update: list[str], policy: Policy = RFC_ONLY, asked: list[str] | None = None
):
    before = entry(*stored, policy=policy)
    later = Exchange(request(*(asked or [])), response(*update, status=304), NOW + 100, NOW + 101)
    return validation.freshen(before, later, policy)


@pytest.mark.parametrize(
    "line",
    [
        "Test-Header: 2",
        "Content-Foo: 2",
        "Content-Type: text/plain;charset=utf-8",
        "Content-Location: /bar",
        "Content-Security-Policy: default-src 'self' cdn.example.com",
        "Set-Cookie: a=c",
        "X-Frame-Options: sameorigin",
        "Expires: Mon, 11 Jan 2038 11:11:11 GMT",
        "Cache-Control: max-age=3600",
    ],
)
def test_rfc9111_3_2_a_304_replaces_stored_fields(line: str) -> None:
    name, value = line.split(": ", 1)
    after = freshened(['ETag: "a"', f"{name}: 1", f"{name}: 2", "Kept: 1"], ['ETag: "a"', line])
    assert after.headers.values(name) == (value,)
    assert after.headers.get("kept") == "1"


@pytest.mark.parametrize(
    "line",
    [
        "Content-Length: 9",
        "Content-Encoding: gzip",
        "Content-Range: bytes 0-1/2",
        "Content-MD5: N7UdGUp1E+RbVvZSTy1R8g==",
        "Repr-Digest: sha-256=:x:",
        "Connection: x",
        "Keep-Alive: 9",
        "Transfer-Encoding: chunked",
        "Upgrade: x",
        "Age: 9",
    ],
)
def test_rfc9111_3_2_a_304_leaves_what_describes_the_body_or_a_connection(line: str) -> None:
    name, _ = line.split(": ", 1)
    assert freshened(['ETag: "a"'], ['ETag: "a"', line]).headers.get(name) is None
    if name.startswith(("Content", "Repr")):
        assert freshened(['ETag: "a"', f"{name}: 5"], ['ETag: "a"', line]).headers.get(name) == "5"


def test_rfc9111_4_3_4_a_304_starts_a_new_lifetime() -> None:
    after = freshened(
        [MAX_AGE, 'ETag: "a"', f"Date: {date()}"],
        ["Cache-Control: max-age=90", f"Date: {date(100)}", "Age: 5"],
    )
    assert (after.lifetime, after.response_time, after.initial_age) == (90, NOW + 101, 6)
    assert after.date == NOW + 100
    assert freshness.age(after, NOW + 150) == 55


def test_a_304_without_date_is_dated_by_its_arrival() -> None:
    after = freshened([MAX_AGE, 'ETag: "a"', f"Date: {date()}"], ['ETag: "a"'])
    assert after.date == NOW + 101
    assert after.headers.get("date") == date(101)
    assert after.initial_age == 1


def test_a_304_without_lifetime_keeps_the_stored_one() -> None:
    assert freshened([MAX_AGE, 'ETag: "a"'], ['ETag: "a"']).lifetime == 60


def test_a_304_to_head_gets_the_default_ttl_too() -> None:
    before = entry('ETag: "a"', policy=Policy())
    later = Exchange(request(method="HEAD"), response('ETag: "a"', status=304), NOW + 100, NOW + 100)
    assert validation.freshen(before, later, Policy()).lifetime == 30


def test_rfc9110_8_8_3_a_304_never_strengthens_the_tag() -> None:
    assert freshened(['ETag: W/"a"'], ['ETag: "a"']).etag == 'W/"a"'
    assert freshened([MODIFIED], [MODIFIED, 'ETag: "a"']).etag == '"a"'


def test_rfc9111_4_1_a_304_may_change_what_selects() -> None:
    after = freshened(['ETag: "a"', "Vary: Foo"], ["Vary: Foo, Bar"], asked=["Bar: 2"])
    assert after.selecting == (("bar", "2"), ("foo", None))


def test_rfc9111_4_3_4_another_variant_of_the_same_tag_stays_that_variant() -> None:
    other = entry('ETag: "a"', "Vary: Foo", asked=request("Foo: 1"))
    after = validation.freshen(other, exchange('ETag: "a"', status=304, asked=request("Foo: 2")), RFC_ONLY)
    assert after.selecting == (("foo", "1"),)


def test_a_304_may_forbid_to_keep_the_entry() -> None:
    after = freshened([MAX_AGE, 'ETag: "a"'], ["Cache-Control: no-store"])
    assert storing.refusal(request(), after.response, RFC_ONLY, NOW) is storing.Refusal.NO_STORE


def test_rfc9111_4_3_3_a_freshened_entry_serves() -> None:
    stale = entry(MAX_AGE, 'ETag: "a"')
    assert reuse.decide(request(), [stale], NOW + 100, RFC_ONLY) == reuse.Validate(stale, reuse.Fwd.STALE)
    after = freshened([MAX_AGE, 'ETag: "a"'], [MAX_AGE])
    assert reuse.decide(request(), [after], NOW + 101, RFC_ONLY) == reuse.Serve(after, 1)


@pytest.mark.parametrize(
    ("stored", "lines", "status", "expected"),
    [
        pytest.param([], ["A: 2"], 200, "1", id="rfc9111-4.3.5 no validators show nothing"),
        pytest.param(['ETag: "a"'], ['ETag: "a"', "A: 2"], 200, "2", id="rfc9111-4.3.5 same ETag"),
        pytest.param([MODIFIED], [MODIFIED, "A: 2"], 200, "2", id="rfc9111-4.3.5 same Last-Modified"),
        pytest.param(['ETag: "a"'], ["A: 2"], 200, "1", id="rfc9111-4.3.5 no ETag received shows nothing"),
        pytest.param(['ETag: "a"'], ['ETag: "b"'], 200, None, id="rfc9111-4.3.5 another ETag"),
        pytest.param([], ['ETag: "b"'], 200, None, id="rfc9111-4.3.5 ETag where there was none"),
        pytest.param(
            [MODIFIED], [f"Last-Modified: {date()}"], 200, None, id="rfc9111-4.3.5 another Last-Modified"
        ),
        pytest.param(
            ['ETag: "a"'],
            ['ETag: "a"', "Content-Length: 7", "A: 2"],
            200,
            "2",
            id="rfc9111-4.3.5 its length",
        ),
        pytest.param([], ["Content-Length: 7", "A: 2"], 200, "1", id="rfc9111-4.3.5 only a length"),
        pytest.param([], ["Content-Length: 8"], 200, None, id="rfc9111-4.3.5 another length"),
        pytest.param([], ["A: 2"], 404, "1", id="rfc9111-4.3.5 only a 200 tells"),
    ],
)
def test_freshen_by_head(stored: list[str], lines: list[str], status: int, expected: str | None) -> None:
    before = entry(*stored, "A: 1", MAX_AGE)
    answer = exchange(*lines, status=status, asked=request(method="HEAD"))
    after = validation.freshen_by_head(before, answer, RFC_ONLY, length=7)
    assert (after and after.headers.get("a")) == expected


def test_rfc9111_4_3_5_head_says_nothing_of_other_variants_and_statuses() -> None:
    answer = exchange('ETag: "b"', asked=request("Foo: 2", method="HEAD"))
    variant = entry('ETag: "a"', "Vary: Foo", asked=request("Foo: 1"))
    missing = entry('ETag: "a"', status=404)
    assert validation.freshen_by_head(variant, answer, RFC_ONLY, length=7) is variant
    assert validation.freshen_by_head(missing, answer, RFC_ONLY, length=7) is missing


@pytest.mark.parametrize(
    ("asked", "stored", "expected"),
    [
        pytest.param([], ['ETag: "a"'], False, id="no condition"),
        pytest.param(['If-None-Match: "a"'], ['ETag: "a"'], True, id="conditional-etag-strong-respond"),
        pytest.param(['If-None-Match: "b"'], ['ETag: "a"'], False, id="rfc9110-13.1.2 another"),
        pytest.param(['If-None-Match: W/"a"'], ['ETag: "a"'], True, id="rfc9110-13.1.2 weak against strong"),
        pytest.param(['If-None-Match: "a"'], ['ETag: W/"a"'], True, id="rfc9110-13.1.2 strong against weak"),
        pytest.param(['If-None-Match: W/"a"'], ['ETag: W/"a"'], True, id="conditional-etag-weak-respond"),
        pytest.param(['If-None-Match: "a", "b", "c"'], ['ETag: "a"'], True, id="respond-multiple-first"),
        pytest.param(['If-None-Match: "b", "a", "c"'], ['ETag: "a"'], True, id="respond-multiple-second"),
        pytest.param(['If-None-Match: "b", "c", "a"'], ['ETag: "a"'], True, id="respond-multiple-last"),
        pytest.param(
            ['If-None-Match: "b"', 'If-None-Match: "a"'], ['ETag: "a"'], True, id="rfc9110-5.2 two lines"
        ),
        pytest.param(["If-None-Match: *"], [], True, id="rfc9110-13.1.2 star"),
        pytest.param(
            ["If-None-Match: a"], ['ETag: "a"'], False, id="conditional-etag-quoted-respond-unquoted"
        ),
        pytest.param(
            ["If-None-Match: a"], ["ETag: a"], False, id="conditional-etag-unquoted-respond-unquoted"
        ),
        pytest.param(
            ['If-None-Match: w/"a"'], ['ETag: w/"a"'], False, id="conditional-etag-weak-respond-lowercase"
        ),
        pytest.param(
            ['If-None-Match: "\xfc"'], ['ETag: "\xfc"'], True, id="conditional-etag-strong-respond-obs-text"
        ),
        pytest.param(
            ['If-None-Match: "a"', f"If-Modified-Since: {date(-9999)}"],
            ['ETag: "a"', MODIFIED],
            True,
            id="conditional-etag-precedence",
        ),
        pytest.param(
            ['If-None-Match: "b"', f"If-Modified-Since: {date()}"],
            ['ETag: "a"', MODIFIED],
            False,
            id="rfc9110-13.1.3 ignored beside If-None-Match",
        ),
        pytest.param([f"If-Modified-Since: {date(-3600)}"], [MODIFIED], True, id="conditional-lm-fresh"),
        pytest.param(
            [f"If-Modified-Since: {date(-3599)}"], [MODIFIED], True, id="conditional-lm-fresh-earlier"
        ),
        pytest.param(
            [f"If-Modified-Since: {date(-3601)}"], [MODIFIED], False, id="rfc9110-13.1.3 modified since"
        ),
        pytest.param(
            [f"If-Modified-Since: {date(-9)}"], [f"Date: {date(-9)}"], True, id="rfc9111-4.3.2 Date instead"
        ),
        pytest.param([f"If-Modified-Since: {date(-9)}"], [], False, id="rfc9111-4.3.2 arrival instead"),
        pytest.param(
            ["If-Modified-Since: Sunday, 09-Sep-01 00:46:40 GMT"], [MODIFIED], True, id="lm-fresh-rfc850"
        ),
        pytest.param(["If-Modified-Since: tomorrow"], [MODIFIED], False, id="rfc9110-13.1.3 invalid date"),
        pytest.param(
            [f"If-Modified-Since: {date()}", f"If-Modified-Since: {date()}"], [MODIFIED], False, id="two"
        ),
    ],
)
def test_not_modified(asked: list[str], stored: list[str], expected: bool) -> None:
    assert validation.not_modified(request(*asked), entry(*stored)) is expected


@pytest.mark.parametrize(("status", "expected"), [(200, True), (203, True), (301, False), (404, False)])
def test_rfc9110_13_2_1_conditions_only_count_for_successes(status: int, expected: bool) -> None:
    found = validation.not_modified(request('If-None-Match: "a"'), entry('ETag: "a"', status=status))
    assert found is expected


@pytest.mark.parametrize(
    ("lines", "kept"),
    [
        pytest.param(
            ["Cache-Control: x", "Content-Location: x", "Date: x", 'ETag: "a"', "Expires: x", "Vary: x"],
            {"cache-control", "content-location", "date", "etag", "expires", "vary"},
            id="rfc9110-15.4.5 must",
        ),
        pytest.param(
            ["Content-Type: x", "Content-Length: 1", "Content-Encoding: x", "Content-Language: x"],
            set(),
            id="rfc9110-15.4.5 no other representation metadata",
        ),
        pytest.param(
            ["Last-Modified: x"], {"last-modified"}, id="rfc9110-15.4.5 Last-Modified instead of ETag"
        ),
        pytest.param(["Last-Modified: x", 'ETag: "a"'], {"etag"}, id="rfc9110-15.4.5 ETag suffices"),
        pytest.param(["Age: 1", "Via: x", "X-Other: 1"], {"age", "via", "x-other"}, id="others pass"),
    ],
)
def test_not_modified_headers(lines: list[str], kept: set[str]) -> None:
    assert validation.not_modified_headers(headers(*lines)).names() == kept


def test_freshening_changes_no_value_in_place() -> None:
    before = entry(MAX_AGE, 'ETag: "a"')
    copy = before._replace()
    validation.freshen(before, exchange("A: 1", status=304), RFC_ONLY)
    assert before == copy


@pytest.mark.parametrize(
    ("status", "asked", "expected"),
    [
        pytest.param(200, request(), True, id="rfc9111-4.3.3 another content"),
        pytest.param(302, request(), True, id="rfc9111-4.3.3 moved"),
        pytest.param(404, request(), True, id="rfc9111-4.3.3 not found"),
        pytest.param(410, request(), True, id="rfc9111-4.3.3 gone"),
        pytest.param(304, request(), False, id="rfc9111-4.3.3 not modified"),
        pytest.param(206, request(), False, id="rfc9111-3.3 a part"),
        pytest.param(400, request(), False, id="the fault of one request"),
        pytest.param(429, request(), False, id="rfc6585-4 too many of them"),
        pytest.param(503, request(), False, id="rfc5861-4 a failure"),
        pytest.param(200, request(method="HEAD"), False, id="rfc9111-4.3.5 HEAD has a rule of its own"),
        pytest.param(200, request("Authorization: x"), False, id="rfc9111-3.5 for one user"),
        pytest.param(200, request("Cache-Control: no-store"), False, id="rfc9111-5.2.1.5 not to be stored"),
    ],
)
def test_what_supersedes_the_stored(status: int, asked: Request, expected: bool) -> None:
    assert validation.supersedes(exchange(status=status, asked=asked)) is expected
