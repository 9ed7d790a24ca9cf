import pytest
from builders import date, entry, headers, request, response

from httpcache import variants


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        pytest.param([], (), id="rfc9110-12.5.5 absent"),
        pytest.param(["Vary: "], (), id="rfc9110-12.5.5 empty"),
        pytest.param(["Vary: Foo, bar"], ("bar", "foo"), id="rfc9110-12.5.5 names"),
        pytest.param(["Vary: foo", "Vary: Foo, baz"], ("baz", "foo"), id="rfc9110-12.5.5 lines"),
        pytest.param(["Vary: *"], None, id="rfc9110-12.5.5 star"),
        pytest.param(["Vary: *, *"], None, id="cache-tests vary-syntax-star-star"),
        pytest.param(["Vary: *", "Vary: *"], None, id="cache-tests vary-syntax-star-star-lines"),
        pytest.param(["Vary: , *"], None, id="cache-tests vary-syntax-empty-star"),
        pytest.param(["Vary: ", "Vary: *"], None, id="cache-tests vary-syntax-empty-star-lines"),
        pytest.param(["Vary: *, Foo"], None, id="cache-tests vary-syntax-star-foo"),
        pytest.param(["Vary: Foo, *"], None, id="cache-tests vary-syntax-foo-star"),
    ],
)
def test_nominated(lines: list[str], expected: tuple[str, ...] | None) -> None:
    assert variants.nominated(response(*lines)) == expected


@pytest.mark.parametrize(
    ("vary", "asked", "now", "expected"),
    [
        pytest.param("", ["Foo: 1"], [], True, id="rfc9111-4.1 no Vary"),
        pytest.param("Foo", ["Foo: 1"], ["foo: 1"], True, id="rfc9111-4.1 match"),
        pytest.param("Foo", ["Foo: 1"], ["foo: 2"], False, id="rfc9111-4.1 no match"),
        pytest.param("Foo", ["Foo: a"], ["foo: A"], False, id="rfc9111-4.1 values in any case differ"),
        pytest.param("Foo", ["Foo: 1"], [], False, id="rfc9111-4.1 absent now"),
        pytest.param("Foo", [], ["Foo: 1"], False, id="rfc9111-4.1 absent then"),
        pytest.param("Foo", [], ["Foo: "], False, id="rfc9111-4.1 absent is not empty"),
        pytest.param("Foo", [], [], True, id="rfc9111-4.1 absent both times"),
        pytest.param(
            "Foo", ["Foo: 1", "Bar: 1"], ["Foo: 1", "Bar: 2"], True, id="rfc9111-4.1 others don't count"
        ),
        pytest.param("Foo, Bar", ["Foo: 1", "Bar: 1"], ["Bar: 1", "Foo: 1"], True, id="rfc9111-4.1 two"),
        pytest.param(
            "Foo, Bar", ["Foo: 1", "Bar: 1"], ["Bar: 1", "Foo: 2"], False, id="rfc9111-4.1 one differs"
        ),
        pytest.param("Foo", ["Foo: 1,2"], ["Foo:  1, 2 "], True, id="rfc9111-4.1 white space"),
        pytest.param("Foo", ["Foo: 1, 2"], ["Foo: 1", "Foo: 2"], True, id="rfc9111-4.1 lines combined"),
        pytest.param("Foo", ["Foo: 1, 2"], ["Foo: 2, 1"], False, id="rfc9111-4.1 order counts"),
        pytest.param(
            "Foo", ['Foo: "1,2"'], ['Foo: "1, 2"'], False, id="rfc9111-4.1 quoted white space counts"
        ),
    ],
)
def test_matches(vary: str, asked: list[str], now: list[str], expected: bool) -> None:
    stored = entry("Cache-Control: max-age=60", f"Vary: {vary}", asked=request(*asked))
    assert variants.matches(stored, headers(*now)) is expected
    names = variants.nominated(stored.response) or ()
    assert (variants.key(names, headers(*asked)) == variants.key(names, headers(*now))) is expected


@pytest.mark.parametrize(
    ("name", "first", "second", "expected"),
    [
        pytest.param("accept-encoding", "gzip, br", "br,gzip", True, id="rfc9110-12.5.3 order"),
        pytest.param("accept-encoding", "GZip", "gzip", True, id="rfc9110-8.4.1 case"),
        pytest.param("accept-encoding", "x-gzip", "gzip", True, id="rfc9110-8.4.1.3 x-gzip"),
        pytest.param("accept-encoding", "x-compress", "compress", True, id="rfc9110-8.4.1.1 x-compress"),
        pytest.param("accept-encoding", "x-other", "other", False, id="other x- names are names"),
        pytest.param("accept-encoding", "gzip;q=1.0", "gzip", True, id="rfc9110-12.4.2 full weight"),
        pytest.param("accept-encoding", "gzip; Q=0.50", "gzip;q=0.5", True, id="rfc9110-12.4.2 spelling"),
        pytest.param("accept-encoding", "gzip;q=0.000", "gzip;q=0", True, id="rfc9110-12.4.2 zero"),
        pytest.param("accept-encoding", "gzip;q=0", "gzip", False, id="rfc9110-12.5.3 not acceptable"),
        pytest.param("accept-encoding", "gzip;q=0.5", "gzip", False, id="rfc9110-12.4.2 weights differ"),
        pytest.param("accept-encoding", "gzip;q=x", "gzip", False, id="malformed weight"),
        pytest.param("accept-encoding", "gzip;x=1", "gzip", False, id="unknown parameter"),
        pytest.param("accept-encoding", "gzip, gzip", "gzip,", True, id="twice, and empty"),
        pytest.param("accept-encoding", "", "identity", False, id="rfc9110-12.5.3 empty"),
        pytest.param("accept-language", "en, de", "de, en", True, id="cache-tests vary-normalise-lang-order"),
        pytest.param("accept-language", "EN-us", "en-US", True, id="cache-tests vary-normalise-lang-case"),
        pytest.param("accept-language", "en , de", "en,de", True, id="cache-tests vary-normalise-lang-space"),
        pytest.param("accept-language", "en, de;q=0.5", "de, en;q=0.5", False, id="rfc9110-12.5.4 weights"),
        pytest.param("user-agent", "A (b,c)", "A (b, c)", False, id="rfc9110-10.1.5 no list"),
        pytest.param("cookie", "a=b ", "a=b", True, id="rfc6265 no list"),
    ],
)
def test_normalise(name: str, first: str, second: str, expected: bool) -> None:
    assert (variants.normalise(name, first) == variants.normalise(name, second)) is expected


def test_rfc9111_4_1_absent_stays_absent() -> None:
    assert variants.normalise("accept-encoding", None) is None


def test_rfc9111_4_the_most_recent_match_is_selected() -> None:
    old = entry("Cache-Control: max-age=60", f"Date: {date(-9)}", "A: old")
    new = entry("Cache-Control: max-age=60", f"Date: {date(-1)}", "A: new")
    other = entry("Cache-Control: max-age=60", "Vary: Foo", asked=request("Foo: 1"))
    assert variants.select([new, old, other], headers()) is new
    assert variants.select([old, new], headers()) is new
    assert variants.select([other], headers("Foo: 1")) is other
    assert variants.select([other], headers()) is None


def test_keys_are_the_same_in_every_process() -> None:
    assert variants.key(("foo",), headers("Foo: 1")) == "0f656b2d507028674f01bd8db4908a82"
