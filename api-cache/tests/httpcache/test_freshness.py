import pytest
from builders import NOW, RFC_ONLY, date, entry, exchange, request, response

from httpcache import freshness
from httpcache.freshness import Source
from httpcache.messages import Policy

HOUR_AGO = f"Last-Modified: {date(-3600)}"


@pytest.mark.parametrize(
    ("lines", "source", "seconds"),
    [
        pytest.param(["Cache-Control: max-age=60"], Source.MAX_AGE, 60, id="rfc9111-4.2.1 max-age"),
        pytest.param(["Cache-Control: s-maxage=60"], Source.S_MAXAGE, 60, id="rfc9111-4.2.1 s-maxage"),
        pytest.param(
            ["Cache-Control: max-age=60, s-maxage=1"],
            Source.S_MAXAGE,
            1,
            id="rfc9111-4.2.1 s-maxage over max-age",
        ),
        pytest.param(
            ["Cache-Control: s-maxage=60", "Cache-Control: max-age=1"],
            Source.S_MAXAGE,
            60,
            id="rfc9111-4.2.1 s-maxage over max-age, two lines",
        ),
        pytest.param(
            ["Cache-Control: max-age=60", f"Expires: {date(-9)}", f"Date: {date()}"],
            Source.MAX_AGE,
            60,
            id="rfc9111-4.2.1 max-age over a past Expires",
        ),
        pytest.param(
            ["Cache-Control: max-age=60", "Expires: 0"],
            Source.MAX_AGE,
            60,
            id="rfc9111-5.3 max-age over Expires",
        ),
        pytest.param(
            ["Cache-Control: max-age=0", f"Expires: {date(99)}"],
            Source.MAX_AGE,
            0,
            id="rfc9111-5.3 max-age=0",
        ),
        pytest.param(
            ["Cache-Control: max-age=x", f"Expires: {date(99)}"],
            Source.MAX_AGE,
            0,
            id="rfc9111-4.2.1 malformed",
        ),
        pytest.param(["Cache-Control: max-age=-1"], Source.MAX_AGE, 0, id="rfc9111-4.2.1 negative"),
        pytest.param(["Cache-Control: max-age"], Source.MAX_AGE, 0, id="rfc9111-4.2.1 no argument"),
        pytest.param(["Cache-Control: max-age=1.5"], Source.MAX_AGE, 0, id="rfc9111-4.2.1 fraction"),
        pytest.param(["Cache-Control: max-age='60'"], Source.MAX_AGE, 0, id="rfc9111-4.2.1 single quotes"),
        pytest.param(["Cache-Control: max-age= 60"], Source.MAX_AGE, 0, id="rfc9111-4.2.1 space after ="),
        pytest.param(["Cache-Control: max-age=1, max-age=9"], Source.MAX_AGE, 0, id="rfc9111-4.2.1 twice"),
        pytest.param(
            ["Cache-Control: s-maxage=x, max-age=60"], Source.S_MAXAGE, 0, id="rfc9111-4.2.1 bad s-maxage"
        ),
        pytest.param(['Cache-Control: max-age="60"'], Source.MAX_AGE, 60, id="rfc9111-5.2 quoted"),
        pytest.param(["Cache-Control: max-age=0060"], Source.MAX_AGE, 60, id="rfc9111-1.2.2 leading zeros"),
        pytest.param(["Cache-Control: max-age=99999999999"], Source.MAX_AGE, 2**31, id="rfc9111-1.2.2 huge"),
        pytest.param(
            ['Cache-Control: x="max-age=9"'], Source.NONE, 0, id="rfc9111-5.2 in an extension's quotes"
        ),
        pytest.param(
            [f"Expires: {date(60)}", f"Date: {date()}"], Source.EXPIRES, 60, id="rfc9111-5.3 Expires"
        ),
        pytest.param([f"Expires: {date(60)}"], Source.EXPIRES, 60, id="rfc9111-5.3 no Date"),
        pytest.param(
            [f"Expires: {date(60)}", "Date: foo"], Source.EXPIRES, 60, id="rfc9111-5.3 invalid Date"
        ),
        pytest.param(
            [f"Expires: {date()}", f"Date: {date()}"], Source.EXPIRES, 0, id="rfc9111-5.3 equal to Date"
        ),
        pytest.param(
            [f"Expires: {date(3)}", f"Date: {date(4)}"], Source.EXPIRES, 0, id="rfc9111-5.3 before Date"
        ),
        pytest.param(
            [f"Expires: {date(20)}", f"Date: {date(10)}"],
            Source.EXPIRES,
            10,
            id="rfc9111-5.3 both in the future",
        ),
        pytest.param(["Expires: 0"], Source.EXPIRES, 0, id="rfc9111-5.3 zero"),
        pytest.param(["Expires: -1"], Source.EXPIRES, 0, id="rfc9111-5.3 minus one"),
        pytest.param(
            ["Expires: Thu, 18 Aug 2050 02:01:18 UTC"], Source.EXPIRES, 0, id="rfc9111-5.3 wrong zone"
        ),
        pytest.param(
            [f"Expires: {date(60)}", f"Expires: {date(60)}"],
            Source.EXPIRES,
            0,
            id="rfc9111-4.2.1 two Expires",
        ),
        pytest.param(
            ["Expires: Sunday, 09-Sep-01 01:47:40 GMT", f"Date: {date()}"],
            Source.EXPIRES,
            60,
            id="rfc9110-5.6.7 rfc850 Expires",
        ),
        pytest.param(
            ["Expires: Sun Sep  9 01:47:40 2001"], Source.EXPIRES, 60, id="rfc9110-5.6.7 asctime Expires"
        ),
        pytest.param([HOUR_AGO], Source.HEURISTIC, 360, id="rfc9111-4.2.2 a tenth since Last-Modified"),
        pytest.param([HOUR_AGO, f"Date: {date(-600)}"], Source.HEURISTIC, 300, id="rfc9111-4.2.2 by Date"),
        pytest.param(
            ["Last-Modified: Sun, 06 Nov 1994 08:49:37 GMT"],
            Source.HEURISTIC,
            86_400,
            id="rfc9111-4.2.2 bounded",
        ),
        pytest.param(
            [f"Last-Modified: {date(60)}"], Source.HEURISTIC, 0, id="rfc9111-4.2.2 modified in future"
        ),
        pytest.param([HOUR_AGO, "Cache-Control: public"], Source.HEURISTIC, 360, id="rfc9111-5.2.2.9 public"),
        pytest.param(["Last-Modified: yesterday"], Source.NONE, 0, id="rfc9111-4.2.2 invalid Last-Modified"),
        pytest.param([], Source.NONE, 0, id="rfc9111-4.2.2 nothing to go by"),
    ],
)
def test_lifetime(lines: list[str], source: Source, seconds: float) -> None:
    found = freshness.lifetime(request(), response(*lines), RFC_ONLY, NOW)
    assert found == freshness.Lifetime(seconds, source)
    assert found.is_explicit is (source in {Source.S_MAXAGE, Source.MAX_AGE, Source.EXPIRES})


@pytest.mark.parametrize("status", [200, 203, 204, 300, 301, 308, 404, 405, 410, 414, 501])
def test_rfc9110_15_1_heuristically_cacheable_status(status: int) -> None:
    found = freshness.lifetime(request(), response(HOUR_AGO, status=status), RFC_ONLY, NOW)
    assert found == freshness.Lifetime(360, Source.HEURISTIC)


@pytest.mark.parametrize("status", [201, 202, 302, 303, 307, 400, 403, 429, 500, 502, 503, 504, 599])
def test_rfc9110_15_1_other_statuses_need_public_for_a_heuristic(status: int) -> None:
    assert (
        freshness.lifetime(request(), response(HOUR_AGO, status=status), RFC_ONLY, NOW).source is Source.NONE
    )
    public = response(HOUR_AGO, "Cache-Control: public", status=status)
    assert freshness.lifetime(request(), public, RFC_ONLY, NOW).source is Source.HEURISTIC


@pytest.mark.parametrize(
    ("method", "status", "lines", "source", "seconds"),
    [
        pytest.param("GET", 200, [], Source.DEFAULT, 30, id="nothing stated"),
        pytest.param("GET", 200, ["Cache-Control: public"], Source.DEFAULT, 30, id="public"),
        pytest.param("GET", 200, ["Last-Modified: never"], Source.DEFAULT, 30, id="invalid Last-Modified"),
        pytest.param("GET", 200, ["CDN-Cache-Control: none"], Source.DEFAULT, 30, id="targeted, no lifetime"),
        pytest.param(
            "GET", 200, ["Cache-Control: max-age=0"], Source.MAX_AGE, 0, id="the origin's word wins"
        ),
        pytest.param("GET", 200, ["Expires: 0"], Source.EXPIRES, 0, id="the origin's Expires wins"),
        pytest.param("GET", 200, [HOUR_AGO], Source.HEURISTIC, 360, id="Last-Modified wins"),
        pytest.param("POST", 200, [], Source.NONE, 0, id="not for POST"),
        pytest.param("GET", 404, [], Source.NONE, 0, id="not for 404"),
        pytest.param("GET", 204, [], Source.NONE, 0, id="not for 204"),
    ],
)
def test_default_ttl(method: str, status: int, lines: list[str], source: Source, seconds: float) -> None:
    found = freshness.lifetime(request(method=method), response(*lines, status=status), Policy(), NOW)
    assert found == freshness.Lifetime(seconds, source)


@pytest.mark.parametrize(
    ("targeted", "cache_control", "source", "seconds"),
    [
        pytest.param("max-age=60", "max-age=1", Source.MAX_AGE, 60, id="rfc9213-2.2 over a shorter one"),
        pytest.param("max-age=1", "max-age=60", Source.MAX_AGE, 1, id="rfc9213-2.2 over a longer one"),
        pytest.param("max-age=60", "no-store", Source.MAX_AGE, 60, id="rfc9213-2.2 over no-store"),
        pytest.param("max-age=60", "s-maxage=1", Source.MAX_AGE, 60, id="rfc9213-2.2 over s-maxage"),
        pytest.param("s-maxage=60, max-age=1", "", Source.S_MAXAGE, 60, id="rfc9213-2.1 s-maxage"),
        pytest.param("max-age=60;x=1", "", Source.MAX_AGE, 60, id="rfc9213-2.1 parameters are ignored"),
        pytest.param("foo=(a b), max-age=60", "", Source.MAX_AGE, 60, id="rfc9213-2.1 extension"),
        pytest.param("max-age=99999999999", "", Source.MAX_AGE, 2**31, id="rfc9111-1.2.2 huge"),
        pytest.param("max-age=-1", "max-age=60", Source.MAX_AGE, 0, id="rfc9111-4.2.1 negative"),
        pytest.param("max-age=1, max-age=60", "", Source.MAX_AGE, 60, id="rfc9651-3.2 the last counts"),
        pytest.param("none", "max-age=60", Source.NONE, 0, id="rfc9213-2.2 without a lifetime"),
        pytest.param("", "max-age=7", Source.MAX_AGE, 7, id="rfc9213-2.1 empty"),
        pytest.param("max-age=60, &&&", "max-age=7", Source.MAX_AGE, 7, id="rfc9213-2.1 syntax error"),
        pytest.param("MaX-aGe=60", "max-age=7", Source.MAX_AGE, 7, id="rfc9651-3.1.2 keys in lower case"),
        pytest.param("max-age =60", "max-age=7", Source.MAX_AGE, 7, id="rfc9213-2.1 space before ="),
        pytest.param('max-age="60"', "max-age=7", Source.MAX_AGE, 7, id="rfc9213-2.1 string for an integer"),
        pytest.param("max-age=60.0", "max-age=7", Source.MAX_AGE, 7, id="rfc9213-2.1 decimal for an integer"),
        pytest.param("max-age=60, s-maxage=1.5", "max-age=7", Source.MAX_AGE, 7, id="rfc9213-2.1 s-maxage"),
        pytest.param(
            "max-age=60, stale-if-error", "max-age=7", Source.MAX_AGE, 7, id="rfc9213-2.1 stale-if-error"
        ),
        pytest.param(
            "max-age=60, stale-while-revalidate=x",
            "max-age=7",
            Source.MAX_AGE,
            7,
            id="rfc9213-2.1 token for an integer",
        ),
        pytest.param("max-age", "max-age=7", Source.MAX_AGE, 7, id="rfc9213-2.1 boolean for an integer"),
        pytest.param("\u20ac", "max-age=7", Source.MAX_AGE, 7, id="rfc9651-4.2 not ASCII"),
    ],
)
def test_targeted_fields(targeted: str, cache_control: str, source: Source, seconds: float) -> None:
    lines = (f"CDN-Cache-Control: {targeted}", f"Cache-Control: {cache_control}")
    found = freshness.lifetime(request(), response(*lines), RFC_ONLY, NOW)
    assert found == freshness.Lifetime(seconds, source)


def test_rfc9213_2_2_a_valid_targeted_field_makes_expires_ignored() -> None:
    answer = response("CDN-Cache-Control: none", f"Expires: {date(60)}")
    assert freshness.lifetime(request(), answer, RFC_ONLY, NOW).source is Source.NONE


def test_rfc9213_2_2_the_first_of_the_target_list_wins() -> None:
    policy = Policy(targeted_fields=("Air-Cache-Control", "CDN-Cache-Control"))
    answer = response("CDN-Cache-Control: max-age=1", "Air-Cache-Control: max-age=2")
    assert freshness.lifetime(request(), answer, policy, NOW).seconds == 2
    fallback = response("CDN-Cache-Control: max-age=1", "Air-Cache-Control: ,")
    assert freshness.lifetime(request(), fallback, policy, NOW).seconds == 1


def test_rfc9213_2_1_false_is_as_good_as_absent() -> None:
    found, is_targeted = freshness.directives(response("CDN-Cache-Control: no-store=?0, max-age=9"), RFC_ONLY)
    assert is_targeted
    assert found == {"max-age": "9"}


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        pytest.param('private="a, b"', {"private": "a, b"}, id="string"),
        pytest.param("private=a", {"private": "a"}, id="token"),
        pytest.param('private=("a" "b")', {"private": ""}, id="a list means nothing, so all is private"),
        pytest.param("no-cache=:YQ==:", {"no-cache": ""}, id="nor do bytes"),
    ],
)
def test_rfc9213_2_1_field_names_are_strings(value: str, expected: dict[str, str]) -> None:
    found, _ = freshness.directives(response(f"CDN-Cache-Control: {value}"), RFC_ONLY)
    assert found == expected


@pytest.mark.parametrize(
    ("lines", "delay", "expected"),
    [
        pytest.param([], 0, 0, id="rfc9111-4.2.3 nothing stated"),
        pytest.param([], 2, 2, id="rfc9111-4.2.3 response_delay"),
        pytest.param(["Age: 30"], 0, 30, id="rfc9111-4.2.3 age_value"),
        pytest.param(["Age: 30"], 2, 32, id="rfc9111-4.2.3 corrected_age_value"),
        pytest.param([f"Date: {date(-40)}"], 0, 40, id="rfc9111-4.2.3 apparent_age"),
        pytest.param([f"Date: {date(-40)}", "Age: 30"], 2, 40, id="rfc9111-4.2.3 the greater, apparent"),
        pytest.param([f"Date: {date(-10)}", "Age: 30"], 0, 30, id="rfc9111-4.2.3 the greater, corrected"),
        pytest.param([f"Date: {date(40)}"], 0, 0, id="rfc9111-4.2.3 Date in the future"),
        pytest.param(["Date: foo"], 0, 0, id="rfc9111-4.2.3 invalid Date"),
        pytest.param(["Age: 7, 9"], 0, 7, id="rfc9111-5.1 first member"),
        pytest.param(["Age: 7", "Age: 9"], 0, 7, id="rfc9111-5.1 first line"),
        pytest.param(["Age: 0, 9"], 0, 0, id="rfc9111-5.1 first member is zero"),
        pytest.param(["Age: abc"], 0, 0, id="rfc9111-5.1 not a number"),
        pytest.param(["Age: -7"], 0, 0, id="rfc9111-5.1 negative"),
        pytest.param(["Age: 7.0"], 0, 0, id="rfc9111-5.1 fraction"),
        pytest.param(["Age: "], 0, 0, id="rfc9111-5.1 empty"),
        pytest.param(["Age: 99999999999"], 0, 2**31, id="rfc9111-1.2.2 huge"),
    ],
)
def test_initial_age(lines: list[str], delay: float, expected: float) -> None:
    assert freshness.initial_age(exchange(*lines, delay=delay)) == expected


def test_rfc9111_4_2_3_a_fraction_of_a_second_since_date_is_no_age() -> None:
    late = exchange(f"Date: {date()}")
    assert freshness.initial_age(type(late)(late.request, late.response, NOW + 0.9, NOW + 0.9)) == 0


@pytest.mark.parametrize(
    ("now", "age"),
    [
        pytest.param(NOW, 10, id="rfc9111-4.2.3 on arrival"),
        pytest.param(NOW + 5.5, 15.5, id="rfc9111-4.2.3 resident"),
        pytest.param(NOW - 99, 10, id="clock set back"),
    ],
)
def test_age(now: float, age: float) -> None:
    stored = entry("Cache-Control: max-age=60", "Age: 10")
    assert freshness.age(stored, now) == pytest.approx(age)
