import pytest
from builders import NOW, RFC_ONLY, date, entry, exchange, request, response

from httpcache import storing
from httpcache.messages import Policy
from httpcache.storing import Refusal

FRESH = "Cache-Control: max-age=60"
HOUR_AGO = f"Last-Modified: {date(-3600)}"


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        pytest.param([FRESH], None, id="rfc9111-3 explicit lifetime"),
        pytest.param([f"Expires: {date(60)}"], None, id="rfc9111-3 Expires, no Date"),
        pytest.param([f"Expires: {date(60)}", f"Date: {date()}"], None, id="rfc9111-3 Expires"),
        pytest.param([HOUR_AGO], None, id="rfc9111-3 heuristic"),
        pytest.param([], Refusal.NO_LIFETIME, id="rfc9111-3 nothing stated, no validator"),
        pytest.param(['ETag: "a"'], None, id="rfc9111-3 nothing stated, validator"),
        pytest.param(["Cache-Control: max-age=0"], Refusal.NO_LIFETIME, id="stale on arrival, no validator"),
        pytest.param(["Expires: 0"], Refusal.NO_LIFETIME, id="Expires: 0, no validator"),
        pytest.param([f"Expires: {date(-60)}"], Refusal.NO_LIFETIME, id="rfc9111-5.3 past Expires, no Date"),
        pytest.param(["Expires: Sunday, 09-Sep-01 01:47:40 GMT"], None, id="rfc9110-5.6.7 rfc850, no Date"),
        pytest.param(["Cache-Control: max-age=0", 'ETag: "a"'], None, id="rfc9111-4.3 stale, validator"),
        pytest.param(["Cache-Control: max-age=0", HOUR_AGO], None, id="rfc9111-4.3 stale, Last-Modified"),
        pytest.param(
            ["Cache-Control: max-age=0", "Last-Modified: Thu, 01 Jan 1970 00:00:00 GMT"],
            None,
            id="stale, the epoch",
        ),
        pytest.param(["Cache-Control: max-age=0", "ETag: a"], Refusal.NO_LIFETIME, id="stale, invalid ETag"),
        pytest.param(
            ["Cache-Control: max-age=0, stale-if-error=9"], None, id="rfc5861-4 stale, but in error"
        ),
        pytest.param(
            ["Cache-Control: max-age=0, stale-while-revalidate=9"], None, id="rfc5861-3 stale, meanwhile"
        ),
        pytest.param(["Cache-Control: no-store"], Refusal.NO_STORE, id="rfc9111-5.2.2.5 no-store"),
        pytest.param(["Cache-Control: No-StOrE, max-age=9"], Refusal.NO_STORE, id="rfc9111-5.2.2.5 any case"),
        pytest.param([FRESH, "Cache-Control: no-store"], Refusal.NO_STORE, id="rfc9111-5.2.2.5 second line"),
        pytest.param(
            ["Cache-Control: no-store=1, max-age=9"], Refusal.NO_STORE, id="rfc9111-5.2.2.5 argument"
        ),
        pytest.param(["Cache-Control: private, max-age=9"], Refusal.PRIVATE, id="rfc9111-5.2.2.7 private"),
        pytest.param(
            ['Cache-Control: private="", max-age=9'], Refusal.PRIVATE, id="rfc9111-5.2.2.7 no names"
        ),
        pytest.param(['Cache-Control: private="a", max-age=9'], None, id="rfc9111-5.2.2.7 qualified"),
        pytest.param(["Cache-Control: private; max-age=9"], Refusal.PRIVATE, id="private before a semicolon"),
        pytest.param(["Cache-Control: no-cache", 'ETag: "a"'], None, id="rfc9111-5.2.2.4 no-cache"),
        pytest.param(["Cache-Control: no-cache"], Refusal.NO_VALIDATOR, id="rfc9111-5.2.2.4 no validator"),
        pytest.param(["Cache-Control: no-cache, max-age=9"], Refusal.NO_VALIDATOR, id="no-cache and max-age"),
        pytest.param(['Cache-Control: no-cache="a", max-age=9'], None, id="rfc9111-5.2.2.4 qualified"),
        pytest.param(['Cache-Control: no-cache="a"'], Refusal.NO_LIFETIME, id="qualified, no lifetime"),
        pytest.param([FRESH, "Vary: *"], Refusal.VARY, id="rfc9111-4.1 Vary: *"),
        pytest.param([FRESH, "Vary: a, *"], Refusal.VARY, id="rfc9111-4.1 Vary with *"),
        pytest.param([FRESH, "Vary: a"], None, id="rfc9111-4.1 Vary"),
        pytest.param([FRESH, "Set-Cookie: a=b"], None, id="rfc9111-7.3 Set-Cookie, explicit lifetime"),
        pytest.param(
            [HOUR_AGO, "Set-Cookie: a=b"], Refusal.SET_COOKIE, id="rfc9111-7.3 Set-Cookie, heuristic"
        ),
        pytest.param(["Pragma: no-cache", FRESH], None, id="rfc9111-5.4 Pragma in a response means nothing"),
        pytest.param(["CDN-Cache-Control: no-store", FRESH], Refusal.NO_STORE, id="rfc9213-2.2 no-store"),
        pytest.param(["CDN-Cache-Control: private", FRESH], Refusal.PRIVATE, id="rfc9213-2.2 private"),
        pytest.param(
            ["CDN-Cache-Control: max-age=9", "Cache-Control: no-store"], None, id="rfc9213-2.2 over no-store"
        ),
        pytest.param(
            ["CDN-Cache-Control: max-age=9, &", "Cache-Control: no-store"],
            Refusal.NO_STORE,
            id="rfc9213-2.1 invalid",
        ),
        pytest.param(
            ["Content-Disposition: attachment", FRESH],
            None,
            id="cache-tests other-fresh-content-disposition-attachment",
        ),
    ],
)
def test_refusal_of_a_200_to_get(lines: list[str], expected: Refusal | None) -> None:
    assert storing.refusal(request(), response(*lines), RFC_ONLY, NOW) == expected


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        pytest.param([], None, id="nothing stated"),
        pytest.param(["Set-Cookie: a=b"], Refusal.SET_COOKIE, id="rfc9111-7.3 Set-Cookie"),
        pytest.param(["Cache-Control: no-cache"], Refusal.NO_VALIDATOR, id="rfc9111-5.2.2.4 no-cache"),
        pytest.param(
            ["Cache-Control: no-cache", 'ETag: "a"', "Set-Cookie: a=b"], Refusal.SET_COOKIE, id="no-cache"
        ),
    ],
)
def test_refusal_with_a_default_ttl(lines: list[str], expected: Refusal | None) -> None:
    assert storing.refusal(request(), response(*lines), Policy(), NOW) == expected


@pytest.mark.parametrize(
    "status",
    [
        *(200, 201, 202, 203, 204, 299, 300, 301, 302, 303, 307, 308),
        *(400, 401, 403, 404, 405, 410, 414, 429, 499, 500, 501, 502, 503, 504, 599, 999),
    ],
)
def test_rfc9111_3_any_final_status_with_explicit_freshness_is_stored(status: int) -> None:
    assert storing.refusal(request(), response(FRESH, status=status), RFC_ONLY, NOW) is None


@pytest.mark.parametrize(
    ("status", "lines", "expected"),
    [
        pytest.param(404, ['ETag: "a"'], None, id="heuristically cacheable"),
        pytest.param(403, ['ETag: "a"'], Refusal.NO_LIFETIME, id="not heuristically cacheable"),
        pytest.param(403, ['ETag: "a"', "Cache-Control: public"], None, id="public"),
        pytest.param(
            403, ['ETag: "a"', "Cache-Control: no-cache"], Refusal.NO_LIFETIME, id="no-cache allows nothing"
        ),
    ],
)
def test_rfc9111_3_statuses_without_a_lifetime(
    status: int, lines: list[str], expected: Refusal | None
) -> None:
    assert storing.refusal(request(), response(*lines, status=status), RFC_ONLY, NOW) == expected


@pytest.mark.parametrize("status", [100, 102, 103, 206, 304, 412, 416])
def test_rfc9111_3_interim_and_partial_answers_are_not_stored(status: int) -> None:
    assert storing.refusal(request(), response(FRESH, status=status), RFC_ONLY, NOW) is Refusal.STATUS


@pytest.mark.parametrize(
    ("status", "lines", "expected"),
    [
        pytest.param(200, ["Cache-Control: must-understand, no-store, max-age=9"], None, id="known code"),
        pytest.param(
            299, ["Cache-Control: must-understand, no-store, max-age=9"], Refusal.STATUS, id="unknown code"
        ),
        pytest.param(
            299, ["Cache-Control: must-understand, max-age=9"], Refusal.STATUS, id="unknown, no no-store"
        ),
        pytest.param(206, ["Cache-Control: must-understand, max-age=9"], Refusal.STATUS, id="partial"),
    ],
)
def test_rfc9111_5_2_2_3_must_understand(status: int, lines: list[str], expected: Refusal | None) -> None:
    assert storing.refusal(request(), response(*lines, status=status), RFC_ONLY, NOW) == expected


@pytest.mark.parametrize(
    ("directives", "expected"),
    [
        pytest.param("max-age=60", Refusal.AUTHORIZATION, id="rfc9111-3.5 max-age alone"),
        pytest.param("max-age=60, public", None, id="rfc9111-3.5 public"),
        pytest.param("max-age=60, must-revalidate", None, id="rfc9111-3.5 must-revalidate"),
        pytest.param("s-maxage=60", None, id="rfc9111-3.5 s-maxage"),
        pytest.param(
            "max-age=60, proxy-revalidate", Refusal.AUTHORIZATION, id="rfc9111-3.5 proxy-revalidate"
        ),
    ],
)
def test_rfc9111_3_5_authorization(directives: str, expected: Refusal | None) -> None:
    asked = request("Authorization: Basic eDp5")
    assert storing.refusal(asked, response(f"Cache-Control: {directives}"), RFC_ONLY, NOW) == expected


@pytest.mark.parametrize("method", ["HEAD", "PUT", "DELETE", "PATCH", "OPTIONS", "M-SEARCH"])
def test_rfc9110_9_2_3_other_methods_are_not_stored(method: str) -> None:
    assert storing.refusal(request(method=method), response(FRESH), RFC_ONLY, NOW) is Refusal.METHOD


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        pytest.param([FRESH, "Content-Location: /x?y"], None, id="own path"),
        pytest.param([FRESH, "Content-Location: "], None, id="empty reference"),
        pytest.param([FRESH, "Content-Location: http://here.example/x?y"], None, id="own URI"),
        pytest.param([FRESH, "Content-Location: /x"], Refusal.METHOD, id="another path"),
        pytest.param(
            [FRESH, "Content-Location: http://there.example/x?y"], Refusal.METHOD, id="another origin"
        ),
        pytest.param([FRESH], Refusal.METHOD, id="no Content-Location"),
        pytest.param([HOUR_AGO, "Content-Location: /x?y"], Refusal.METHOD, id="no explicit lifetime"),
        pytest.param(
            ["Content-Location: /x?y", "Cache-Control: no-store, max-age=9"], Refusal.NO_STORE, id="no-store"
        ),
    ],
)
def test_rfc9110_9_3_3_post(lines: list[str], expected: Refusal | None) -> None:
    assert storing.refusal(request(method="POST"), response(*lines), Policy(), NOW) == expected


@pytest.mark.parametrize("status", [201, 202, 303, 404])
def test_rfc9110_9_3_3_what_else_became_of_a_post_answers_no_get(status: int) -> None:
    answer = response(FRESH, "Content-Location: /x?y", status=status)
    assert storing.refusal(request(method="POST"), answer, RFC_ONLY, NOW) is Refusal.METHOD


def test_rfc9111_5_2_1_5_a_request_with_no_store_leaves_nothing() -> None:
    asked = request("Cache-Control: no-store")
    assert storing.refusal(asked, response(FRESH), RFC_ONLY, NOW) is Refusal.REQUEST_NO_STORE


@pytest.mark.parametrize(
    ("lines", "kept"),
    [
        pytest.param(["A: 1", "Date: foo"], {"a", "date"}, id="rfc9111-3.1 all fields"),
        pytest.param(
            ["Connection: a", "A: 1", "Keep-Alive: 5"], {"date"}, id="rfc9111-3.1 of the connection"
        ),
        pytest.param(["Age: 3"], {"date"}, id="rfc9111-5.1 Age is worked out anew"),
        pytest.param(
            ['Cache-Control: no-cache="a, B"', "A: 1", "b: 2"], {"cache-control", "date"}, id="no-cache"
        ),
        pytest.param(
            ['Cache-Control: private="a"', "A: 1", "b: 2"], {"cache-control", "b", "date"}, id="private"
        ),
        pytest.param(["Cache-Control: no-cache", "A: 1"], {"cache-control", "a", "date"}, id="unqualified"),
        pytest.param(
            ["CDN-Cache-Control: max-age=9"], {"cdn-cache-control", "date"}, id="rfc9213-2.2 passed on"
        ),
    ],
)
def test_stored_headers(lines: list[str], kept: set[str]) -> None:
    assert storing.stored_headers(response(*lines), RFC_ONLY, NOW).names() == kept


def test_rfc9110_6_6_1_a_missing_date_is_that_of_the_arrival() -> None:
    assert entry(FRESH).headers.get("date") == "Sun, 09 Sep 2001 01:46:40 GMT"
    assert (
        entry(FRESH, "Date: Sat, 01 Sep 2001 00:00:00 GMT").headers.get("date")
        == "Sat, 01 Sep 2001 00:00:00 GMT"
    )


def test_an_entry_holds_what_reuse_needs() -> None:
    stored = storing.entry(
        exchange(
            "Cache-Control: max-age=60, stale-while-revalidate=5, stale-if-error=7, immutable",
            'ETag: "a"',
            f"Last-Modified: {date(-9)}",
            f"Date: {date(-2)}",
            "Vary: Foo",
            "Age: 1",
            status=404,
            asked=request("foo: 1"),
            delay=3,
        ),
        RFC_ONLY,
    )
    assert (stored.status, stored.selecting, stored.date) == (404, (("foo", "1"),), NOW - 2)
    assert (stored.response_time, stored.initial_age, stored.lifetime) == (NOW, 4, 60)
    assert (stored.stale_while_revalidate, stored.stale_if_error) == (5, 7)
    assert (stored.etag, stored.last_modified) == ('"a"', NOW - 9)
    assert (stored.always_validate, stored.must_revalidate, stored.immutable) == (False, False, True)


@pytest.mark.parametrize(
    ("directives", "expected"),
    [
        pytest.param("max-age=9", (False, False), id="neither"),
        pytest.param("no-cache", (True, False), id="rfc9111-5.2.2.4 no-cache"),
        pytest.param('no-cache="a"', (False, False), id="rfc9111-5.2.2.4 qualified no-cache"),
        pytest.param("must-revalidate", (False, True), id="rfc9111-5.2.2.2 must-revalidate"),
        pytest.param("proxy-revalidate", (False, True), id="rfc9111-5.2.2.8 proxy-revalidate"),
        pytest.param("s-maxage=9", (False, True), id="rfc9111-5.2.2.10 s-maxage"),
    ],
)
def test_an_entry_knows_when_to_validate(directives: str, expected: tuple[bool, bool]) -> None:
    stored = entry(f"Cache-Control: {directives}")
    assert (stored.always_validate, stored.must_revalidate) == expected


@pytest.mark.parametrize(
    ("directives", "expected"),
    [
        pytest.param("max-age=9", (0, None), id="not stated"),
        pytest.param("stale-while-revalidate=5", (5, None), id="rfc5861-3 stale-while-revalidate"),
        pytest.param("stale-if-error=5", (0, 5), id="rfc5861-4 stale-if-error"),
        pytest.param("stale-if-error=x, stale-while-revalidate=-1", (0, 0), id="malformed means none"),
        pytest.param("stale-if-error", (0, 0), id="no argument means none"),
    ],
)
def test_an_entry_knows_its_windows(directives: str, expected: tuple[float, float | None]) -> None:
    stored = entry(f"Cache-Control: {directives}")
    assert (stored.stale_while_revalidate, stored.stale_if_error) == expected


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        pytest.param(["Cache-Control: max-age=60"], 60 + 1000, id="policy's stale-if-error"),
        pytest.param(["Cache-Control: max-age=60", "Age: 20"], 40 + 1000, id="age on arrival"),
        pytest.param(["Cache-Control: max-age=60", "Age: 90"], 1000, id="stale on arrival"),
        pytest.param(["Cache-Control: max-age=60, stale-if-error=7"], 67, id="own stale-if-error"),
        pytest.param(
            ["Cache-Control: max-age=60, stale-if-error=7, stale-while-revalidate=9"], 69, id="the longest"
        ),
        pytest.param(["Cache-Control: max-age=60, must-revalidate"], 60, id="never stale"),
        pytest.param(["Cache-Control: max-age=60, must-revalidate", 'ETag: "a"'], 60 + 2000, id="validator"),
        pytest.param(["Cache-Control: no-cache", HOUR_AGO], 360 + 2000, id="always validated"),
    ],
)
def test_retention(lines: list[str], expected: float) -> None:
    policy = Policy(stale_if_error=1000, max_stale=2000)
    assert storing.retention(entry(*lines), policy) == expected


def test_rfc9111_5_2_2_4_what_is_always_validated_is_not_kept_to_stand_in() -> None:
    policy = Policy(stale_if_error=3000, max_stale=2000)
    assert storing.retention(entry("Cache-Control: no-cache, max-age=60", 'ETag: "a"'), policy) == 60 + 2000
