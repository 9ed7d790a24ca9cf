import pytest
from builders import NOW, headers

from httpcache import fields


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        pytest.param([], [], id="rfc9110-5.6.1 no line"),
        pytest.param(["a, b", "c"], ["a", "b", "c"], id="rfc9110-5.2 several lines"),
        pytest.param([" a ,\tb\t"], ["a", "b"], id="rfc9110-5.6.1 white space"),
        pytest.param([",, a,,b ,"], ["a", "b"], id="rfc9110-5.6.1.2 empty members"),
        pytest.param(['a="1,2", b'], ['a="1,2"', "b"], id="rfc9110-5.6.4 comma in quotes"),
        pytest.param(['a="1\\",2", b'], ['a="1\\",2"', "b"], id="rfc9110-5.6.4 escaped quote"),
        pytest.param(['a="1, b', "c"], ['a="1', "b", "c"], id="unfinished quote hides nothing"),
        pytest.param(['x, a="1\\", b'], ["x", 'a="1\\"', "b"], id="unfinished quote after an escape"),
        pytest.param(['"', ","], ['"'], id="lone quote"),
    ],
)
def test_members(lines: list[str], expected: list[str]) -> None:
    assert fields.members(lines) == expected


def test_a_long_run_of_quotes_is_split_in_linear_time() -> None:
    hostile = '"' + '\\"' * 200_000
    assert fields.members([hostile]) == [hostile]


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        pytest.param(["no-store"], {"no-store": None}, id="rfc9111-5.2 no argument"),
        pytest.param(["MaX-aGe=3600"], {"max-age": "3600"}, id="rfc9111-5.2 names in any case"),
        pytest.param(["a=1", "b=2"], {"a": "1", "b": "2"}, id="rfc9111-5.2 several lines"),
        pytest.param(['max-age="3600"'], {"max-age": "3600"}, id="rfc9111-5.2 quoted argument"),
        pytest.param(['x="a\\"b"'], {"x": 'a"b'}, id="rfc9110-5.6.4 quoted pair"),
        pytest.param(['e="max-age=9", max-age=1'], {"e": "max-age=9", "max-age": "1"}, id="within quotes"),
        pytest.param(['private="a, b"'], {"private": "a, b"}, id="rfc9111-5.2.2.7 field names"),
        pytest.param(["max-age=1, max-age=1"], {"max-age": "1"}, id="rfc9111-4.2.1 twice the same"),
        pytest.param(
            ["max-age=1, max-age=2"], {"max-age": fields.MALFORMED}, id="rfc9111-4.2.1 twice, differing"
        ),
        pytest.param(
            ["max-age=1, max-age"], {"max-age": fields.MALFORMED}, id="rfc9111-4.2.1 with and without"
        ),
        pytest.param(['no-cache="a", no-cache'], {"no-cache": fields.MALFORMED}, id="qualified and not"),
        pytest.param(["max-age=1, max-age=2, max-age=1"], {"max-age": fields.MALFORMED}, id="thrice"),
        pytest.param(["max-age =1"], {"max-age": fields.MALFORMED}, id="space before ="),
        pytest.param(["max-age= 1"], {"max-age": fields.MALFORMED}, id="space after ="),
        pytest.param(["max-age="], {"max-age": fields.MALFORMED}, id="no value after ="),
        pytest.param(["private; max-age=60"], {"private": fields.MALFORMED}, id="semicolon for comma"),
        pytest.param(['no-cache="a'], {"no-cache": fields.MALFORMED}, id="unfinished quote"),
        pytest.param(["=1, ;, @"], {}, id="no name at all"),
    ],
)
def test_directives(lines: list[str], expected: dict[str, str | None]) -> None:
    assert fields.directives(lines) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("0", 0, id="rfc9111-1.2.2 zero"),
        pytest.param("3600", 3600, id="rfc9111-1.2.2 digits"),
        pytest.param("003600", 3600, id="rfc9111-1.2.2 leading zeros"),
        pytest.param("2147483648", 2**31, id="rfc9111-1.2.2 greatest"),
        pytest.param("99999999999", 2**31, id="rfc9111-1.2.2 greater"),
        pytest.param("9" * 10_000, 2**31, id="rfc9111-1.2.2 huge"),
        pytest.param(None, None, id="absent"),
        pytest.param("", None, id="empty"),
        pytest.param("-1", None, id="negative"),
        pytest.param("+1", None, id="sign"),
        pytest.param("1.0", None, id="fraction"),
        pytest.param("a1", None, id="leading letter"),
        pytest.param("1a", None, id="trailing letter"),
        pytest.param("'1'", None, id="single quotes"),
        pytest.param(" 1", None, id="space"),
        pytest.param("²", None, id="digit that is not ASCII"),
        pytest.param("\u0661", None, id="decimal that is not ASCII"),
    ],
)
def test_delta_seconds(text: str | None, expected: int | None) -> None:
    assert fields.delta_seconds(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("Sun, 06 Nov 1994 08:49:37 GMT", 784111777, id="rfc9110-5.6.7 IMF-fixdate"),
        pytest.param("Sunday, 06-Nov-94 08:49:37 GMT", 784111777, id="rfc9110-5.6.7 rfc850-date"),
        pytest.param("Sun Nov  6 08:49:37 1994", 784111777, id="rfc9110-5.6.7 asctime-date"),
        pytest.param("Wed Nov 16 08:49:37 1994", 784975777, id="rfc9110-5.6.7 asctime-date, two-digit day"),
        pytest.param("Sat, 31 Dec 2016 23:59:60 GMT", 1483228800, id="rfc9110-5.6.7 leap second"),
        pytest.param("Thu, 29 Feb 1996 00:00:00 GMT", 825552000, id="leap day"),
        pytest.param("Sat, 01 Jan 2000 00:00:00 GMT", 946684800, id="first day of a month"),
        pytest.param("Wed, 29 Feb 1995 00:00:00 GMT", None, id="no leap day"),
        pytest.param("Sun, 00 Nov 1994 08:49:37 GMT", None, id="day 0"),
        pytest.param("Sun, 31 Nov 1994 08:49:37 GMT", None, id="day 31 of 30"),
        pytest.param("Sun, 06 Nov 1994 24:00:00 GMT", None, id="hour 24"),
        pytest.param("Sun, 06 Nov 1994 08:60:37 GMT", None, id="minute 60"),
        pytest.param("Sun, 06 Nov 1994 08:49:61 GMT", None, id="second 61"),
        pytest.param("Sun, 06 Nov 0000 08:49:37 GMT", None, id="year 0"),
        pytest.param("SUN, 06 Nov 1994 08:49:37 GMT", None, id="day name in capitals"),
        pytest.param("Sun, 06 NOV 1994 08:49:37 GMT", None, id="month in capitals"),
        pytest.param("Sun, 06 Nov 1994 08:49:37 gMT", None, id="zone in wrong case"),
        pytest.param("Sun, 06 Nov 1994 08:49:37 UTC", None, id="zone UTC"),
        pytest.param("Sun, 06 Nov 1994 08:49:37 +0000", None, id="numeric zone"),
        pytest.param("Sun, 06 Nov 1994 08:49:37", None, id="no zone"),
        pytest.param("Sun, 06 Nov 94 08:49:37 GMT", None, id="two-digit year"),
        pytest.param("Sun 06 Nov 1994 08:49:37 GMT", None, id="no comma"),
        pytest.param("Sun, 06  Nov  1994 08:49:37 GMT", None, id="several spaces"),
        pytest.param("Sun, 06-Nov-1994 08:49:37 GMT", None, id="dashes"),
        pytest.param("Sun, 06 Nov 1994 08.49.37 GMT", None, id="dots in the time"),
        pytest.param("Sun, 06 Nov 1994 8:49:37 GMT", None, id="one-digit hour"),
        pytest.param("Sun, 6 Nov 1994 08:49:37 GMT", None, id="one-digit day"),
        pytest.param("Sun Nov 6 08:49:37 1994", None, id="asctime without the padding"),
        pytest.param("06 Nov 1994 08:49:37 GMT", None, id="no day name"),
        pytest.param("1994-11-06T08:49:37Z", None, id="RFC 3339"),
        pytest.param("784111777", None, id="seconds"),
        pytest.param("Sun, 06 Nov 1994 08:49:37 GMT ", None, id="trailing space"),
        pytest.param("Sun, 06 Nov 1994 08:49:37 GMT\n", None, id="trailing newline"),
        pytest.param("Sun, \u06606 Nov 1994 08:49:37 GMT", None, id="digits that are not ASCII"),
        pytest.param("0", None, id="zero"),
        pytest.param("", None, id="empty"),
        pytest.param(None, None, id="absent"),
    ],
)
def test_http_date(text: str | None, expected: float | None) -> None:
    assert fields.http_date(text, NOW) == expected


@pytest.mark.parametrize(
    ("year", "digits", "expected"),
    [
        pytest.param(2001, "94", 1994, id="rfc9110-5.6.7 past"),
        pytest.param(2026, "26", 2026, id="rfc9110-5.6.7 this year"),
        pytest.param(2026, "75", 2075, id="rfc9110-5.6.7 within 50 years"),
        pytest.param(2026, "76", 1976, id="rfc9110-5.6.7 50 years and some months"),
        pytest.param(2026, "99", 1999, id="rfc9110-5.6.7 more than 50 years"),
        pytest.param(2099, "00", 2100, id="rfc9110-5.6.7 over the century"),
    ],
)
def test_two_digit_years_lie_at_most_50_years_ahead(year: int, digits: str, expected: int) -> None:
    now = fields.http_date(f"Mon, 15 Jun {year} 00:00:00 GMT", 0)
    assert now is not None
    found = fields.http_date(f"Monday, 06-Nov-{digits} 08:49:37 GMT", now)
    assert found == fields.http_date(f"Mon, 06 Nov {expected} 08:49:37 GMT", 0)


def test_a_two_digit_leap_day_only_stands_in_leap_years() -> None:
    assert fields.http_date("Monday, 29-Feb-95 00:00:00 GMT", NOW) is None


def test_rfc9110_5_6_7_dates_are_written_as_imf_fixdate() -> None:
    assert fields.format_date(784111777.9) == "Sun, 06 Nov 1994 08:49:37 GMT"


@pytest.mark.parametrize(
    ("text", "is_valid"),
    [
        pytest.param('"xyzzy"', True, id="rfc9110-8.8.3 strong"),
        pytest.param('W/"xyzzy"', True, id="rfc9110-8.8.3 weak"),
        pytest.param('""', True, id="rfc9110-8.8.3 empty"),
        pytest.param('"a\\"', True, id="rfc9110-8.8.3 backslash is no escape"),
        pytest.param('"\xfc"', True, id="rfc9110-8.8.3 obs-text"),
        pytest.param("xyzzy", False, id="no quotes"),
        pytest.param('w/"xyzzy"', False, id="lower-case w"),
        pytest.param('W"xyzzy"', False, id="no slash"),
        pytest.param('W\\"xyzzy"', False, id="backslash for slash"),
        pytest.param('"a b"', False, id="space"),
        pytest.param('"a", "b"', False, id="two"),
        pytest.param(None, False, id="absent"),
    ],
)
def test_entity_tag(text: str | None, is_valid: bool) -> None:
    assert fields.entity_tag(text) == (text if is_valid else None)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param('"a"', ['"a"'], id="rfc9110-13.1.2 one"),
        pytest.param('"a", W/"b" ,"c"', ['"a"', 'W/"b"', '"c"'], id="rfc9110-13.1.2 several"),
        pytest.param(',"a",,"b",', ['"a"', '"b"'], id="rfc9110-5.6.1.2 empty members"),
        pytest.param('"a,b", "c"', ['"a,b"', '"c"'], id="rfc9110-8.8.3 comma in a tag"),
        pytest.param('"a\\", "b"', ['"a\\"', '"b"'], id="rfc9110-8.8.3 backslash"),
        pytest.param('"a" "b"', [], id="no comma between"),
        pytest.param('a"b"', [], id="text before"),
        pytest.param("*", [], id="star"),
        pytest.param("", [], id="empty"),
    ],
)
def test_entity_tags(text: str, expected: list[str]) -> None:
    assert fields.entity_tags(text) == expected


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        pytest.param('W/"1"', 'W/"1"', True, id="rfc9110-8.8.3.2 both weak"),
        pytest.param('W/"1"', 'W/"2"', False, id="rfc9110-8.8.3.2 weak, differing"),
        pytest.param('W/"1"', '"1"', True, id="rfc9110-8.8.3.2 weak and strong"),
        pytest.param('"1"', '"1"', True, id="rfc9110-8.8.3.2 both strong"),
        pytest.param('"1"', None, False, id="one absent"),
        pytest.param(None, '"1"', False, id="the other absent"),
        pytest.param(None, None, False, id="both absent"),
    ],
)
def test_weak_match(first: str | None, second: str | None, expected: bool) -> None:
    assert fields.weak_match(first, second) is expected


@pytest.mark.parametrize(
    ("lines", "kept"),
    [
        pytest.param(["Connection: close", "A: 1"], {"a"}, id="rfc9110-7.6.1 Connection"),
        pytest.param(["Connection: a, B", "A: 1", "b: 2", "c: 3"], {"c"}, id="rfc9110-7.6.1 nominated"),
        pytest.param(["Connection: a", "Connection: b", "A: 1", "B: 2"], set(), id="rfc9110-7.6.1 two lines"),
        pytest.param(
            ["Keep-Alive: 1", "Proxy-Connection: x", "TE: trailers"], set(), id="rfc9110-7.6.1 of old"
        ),
        pytest.param(
            ["Trailer: a", "Transfer-Encoding: chunked", "Upgrade: h2c"], set(), id="rfc9110-7.6.1 hop"
        ),
        pytest.param(["Proxy-Authenticate: x", "Proxy-Authorization: y"], set(), id="rfc9111-3.1 proxy"),
        pytest.param(["Proxy-Authentication-Info: x"], set(), id="rfc9111-3.1 proxy info"),
        pytest.param(["Content-Length: 1", "X-A: 2"], {"content-length", "x-a"}, id="end-to-end"),
    ],
)
def test_end_to_end(lines: list[str], kept: set[str]) -> None:
    assert fields.end_to_end(headers(*lines)).names() == kept


@pytest.mark.parametrize(
    ("method", "value", "expected"),
    [
        pytest.param("OPTIONS", "2", "1", id="rfc9110-7.6.2 OPTIONS"),
        pytest.param("TRACE", "10", "9", id="rfc9110-7.6.2 TRACE"),
        pytest.param("OPTIONS", "0", None, id="rfc9110-7.6.2 goes no further"),
        pytest.param("GET", "0", "0", id="rfc9110-7.6.2 other methods"),
        pytest.param("OPTIONS", "x", "x", id="rfc9110-7.6.2 no number"),
    ],
)
def test_max_forwards(method: str, value: str, expected: str | None) -> None:
    found = fields.one_hop_less(method, headers(f"Max-Forwards: {value}", "A: 1"))
    assert (found and found.get("max-forwards")) == expected
    assert fields.one_hop_less("OPTIONS", headers("A: 1")) == headers("A: 1")
