import pytest
from builders import NOW, RFC_ONLY, date, entry, request

from httpcache import reuse
from httpcache.messages import Policy
from httpcache.reuse import Forward, Fwd, Serve, Unsatisfiable, Validate

POLICY = Policy(max_stale=500, stale_if_error=100)


def decide(asked: list[str], lines: list[str], after: float, method: str = "GET") -> reuse.Decision:
    stored = entry(*lines, f"Date: {date()}")
    return reuse.decide(request(*asked, method=method), [stored], NOW + after, POLICY)


def outcome(decision: reuse.Decision) -> str:
    """The decision in words, without its entry."""
    match decision:
        case Serve(stale=stale, revalidate=revalidate):
            return "serve" + " stale" * stale + " and revalidate" * revalidate
        case Validate(fwd=fwd):
            return f"validate {fwd}"
        case Forward(fwd=fwd):
            return f"forward {fwd}"
        case Unsatisfiable(fwd=fwd):
            return f"unsatisfiable {fwd}"


FRESH = ["Cache-Control: max-age=60"]
TAGGED = ["Cache-Control: max-age=60", 'ETag: "a"']


@pytest.mark.parametrize(
    ("asked", "lines", "after", "expected"),
    [
        pytest.param([], FRESH, 0, "serve", id="rfc9111-4.2 fresh"),
        pytest.param([], FRESH, 59.9, "serve", id="rfc9111-4.2 still fresh"),
        pytest.param([], FRESH, 60, "forward stale", id="rfc9111-4.2 age equals lifetime"),
        pytest.param([], TAGGED, 60, "validate stale", id="rfc9111-4.3.1 stale with ETag"),
        pytest.param(
            [], [*FRESH, f"Last-Modified: {date(-9)}"], 60, "validate stale", id="rfc9111-4.3.1 by date"
        ),
        pytest.param([], [*FRESH, "Age: 60"], 0, "forward stale", id="rfc9111-4.2.3 Age counts"),
        # response directives
        pytest.param(
            [], ["Cache-Control: no-cache, max-age=60", 'ETag: "a"'], 0, "validate stale", id="5.2.2.4"
        ),
        pytest.param(
            [], ['Cache-Control: no-cache="x", max-age=60'], 0, "serve", id="rfc9111-5.2.2.4 qualified"
        ),
        pytest.param(
            [], ["Cache-Control: must-revalidate, max-age=60"], 59, "serve", id="rfc9111-5.2.2.2 fresh"
        ),
        pytest.param([], ["Cache-Control: immutable, max-age=60"], 60, "forward stale", id="rfc8246-2 stale"),
        # request directives
        pytest.param(["Cache-Control: max-age=10"], FRESH, 10, "serve", id="rfc9111-5.2.1.1 young enough"),
        pytest.param(
            ["Cache-Control: max-age=10"], FRESH, 10.1, "forward request", id="rfc9111-5.2.1.1 too old"
        ),
        pytest.param(
            ["Cache-Control: max-age=10"], TAGGED, 11, "validate request", id="rfc9111-5.2.1.1 validator"
        ),
        pytest.param(["Cache-Control: max-age=0"], FRESH, 0, "forward request", id="rfc9111-5.2.1.1 reload"),
        pytest.param(
            ["Cache-Control: max-age=x"], FRESH, 0, "forward request", id="rfc9111-5.2.1.1 malformed"
        ),
        pytest.param(
            ["Cache-Control: max-age=99"], FRESH, 60, "forward stale", id="rfc9111-5.2.1.1 but stale"
        ),
        pytest.param(
            ["Cache-Control: max-age=10"],
            [*FRESH, "Age: 20"],
            0,
            "forward request",
            id="cache-tests ccreq-magreaterage",
        ),
        pytest.param(
            ["Cache-Control: max-age=0"],
            ["Cache-Control: immutable, max-age=60"],
            9,
            "serve",
            id="rfc8246-2 reload",
        ),
        pytest.param(
            ["Cache-Control: max-age=0"],
            ["Cache-Control: immutable, max-age=60"],
            60,
            "forward request",
            id="rfc8246-2 reload of stale",
        ),
        pytest.param(
            ["Cache-Control: max-age=1"],
            ["Cache-Control: immutable, max-age=60"],
            9,
            "forward request",
            id="rfc8246-2 not only a reload",
        ),
        pytest.param(
            ["Cache-Control: no-cache"],
            ["Cache-Control: immutable, max-age=60"],
            9,
            "forward request",
            id="rfc8246-2 forced reload",
        ),
        pytest.param(["Cache-Control: min-fresh=10"], FRESH, 50, "serve", id="rfc9111-5.2.1.3 fresh enough"),
        pytest.param(
            ["Cache-Control: min-fresh=10"], FRESH, 50.1, "forward request", id="rfc9111-5.2.1.3 not"
        ),
        pytest.param(
            ["Cache-Control: min-fresh=99"], FRESH, 0, "forward request", id="cache-tests ccreq-min-fresh"
        ),
        pytest.param(["Cache-Control: min-fresh=x"], FRESH, 9, "serve", id="rfc9111-5.2.1.3 malformed"),
        pytest.param(
            ["Cache-Control: max-stale=10"], FRESH, 69.9, "serve stale", id="rfc9111-5.2.1.2 within"
        ),
        pytest.param(
            ["Cache-Control: max-stale=10"], FRESH, 70, "forward stale", id="rfc9111-5.2.1.2 beyond"
        ),
        pytest.param(["Cache-Control: max-stale"], FRESH, 400, "serve stale", id="rfc9111-5.2.1.2 any"),
        pytest.param(
            ["Cache-Control: max-stale"], FRESH, 600, "forward stale", id="rfc9111-5.2.1.2 our bound"
        ),
        pytest.param(
            ["Cache-Control: max-stale=999"], FRESH, 600, "forward stale", id="rfc9111-5.2.1.2 bound"
        ),
        pytest.param(
            ["Cache-Control: max-stale=x"], FRESH, 61, "forward stale", id="rfc9111-5.2.1.2 malformed"
        ),
        pytest.param(["Cache-Control: max-stale=9"], FRESH, 1, "serve", id="rfc9111-5.2.1.2 fresh anyway"),
        pytest.param(
            ["Cache-Control: max-stale"],
            ["Cache-Control: max-age=60, must-revalidate"],
            61,
            "forward stale",
            id="rfc9111-4.2.4 must-revalidate",
        ),
        pytest.param(
            ["Cache-Control: max-stale"],
            ["Cache-Control: max-age=60, proxy-revalidate"],
            61,
            "forward stale",
            id="rfc9111-4.2.4 proxy-revalidate",
        ),
        pytest.param(
            ["Cache-Control: max-stale"],
            ["Cache-Control: s-maxage=60"],
            61,
            "forward stale",
            id="rfc9111-4.2.4 s-maxage",
        ),
        pytest.param(["Cache-Control: no-cache"], FRESH, 0, "forward request", id="rfc9111-5.2.1.4 no-cache"),
        pytest.param(
            ["Cache-Control: no-cache"], TAGGED, 0, "validate request", id="rfc9111-5.2.1.4 validator"
        ),
        pytest.param(["Cache-Control: no-store"], FRESH, 0, "serve", id="rfc9111-5.2.1.5 stored before"),
        pytest.param(
            ["Cache-Control: no-store"], TAGGED, 60, "forward stale", id="rfc9111-5.2.1.5 no freshening"
        ),
        pytest.param(["Cache-Control: only-if-cached"], FRESH, 0, "serve", id="rfc9111-5.2.1.7 fresh"),
        pytest.param(
            ["Cache-Control: only-if-cached"], TAGGED, 60, "unsatisfiable stale", id="rfc9111-5.2.1.7 stale"
        ),
        pytest.param(
            ["Cache-Control: only-if-cached, max-stale"],
            TAGGED,
            60,
            "serve stale",
            id="rfc9111-5.2.1.7 max-stale",
        ),
        pytest.param(["Cache-Control: foo"], FRESH, 0, "serve", id="rfc9111-5.2.3 extension"),
        pytest.param(["Pragma: no-cache"], FRESH, 0, "forward request", id="rfc9111-5.4 Pragma"),
        pytest.param(["Pragma: x, No-Cache"], FRESH, 0, "forward request", id="rfc9111-5.4 in a list"),
        pytest.param(["Pragma: foo"], FRESH, 0, "serve", id="cache-tests pragma-request-extension"),
        pytest.param(
            ["Pragma: no-cache", "Cache-Control: max-stale"], FRESH, 0, "serve", id="rfc9111-5.4 ignored"
        ),
        # stale-while-revalidate
        pytest.param(
            [],
            ["Cache-Control: max-age=60, stale-while-revalidate=10"],
            69.9,
            "serve stale and revalidate",
            id="rfc5861-3 within",
        ),
        pytest.param(
            [],
            ["Cache-Control: max-age=60, stale-while-revalidate=10"],
            70,
            "forward stale",
            id="rfc5861-3 beyond",
        ),
        pytest.param(
            [],
            ["Cache-Control: max-age=60, stale-while-revalidate=10"],
            59,
            "serve",
            id="rfc5861-3 still fresh",
        ),
        pytest.param(
            [],
            ["Cache-Control: max-age=60, stale-while-revalidate=10, must-revalidate"],
            61,
            "forward stale",
            id="rfc9111-4.2.4 must-revalidate wins",
        ),
        pytest.param(
            ["Cache-Control: no-cache"],
            ["Cache-Control: max-age=60, stale-while-revalidate=10"],
            61,
            "forward request",
            id="rfc5861-3 the client minds",
        ),
        pytest.param(
            ["Cache-Control: max-age=100"],
            ["Cache-Control: max-age=60, stale-while-revalidate=10"],
            61,
            "forward stale",
            id="rfc9111-5.2.1.1 max-age without max-stale wants nothing stale",
        ),
        pytest.param(
            ["Cache-Control: max-age=100, max-stale=5"],
            ["Cache-Control: max-age=60, stale-while-revalidate=10"],
            64,
            "serve stale and revalidate",
            id="rfc9111-5.2.1.1 max-age with max-stale",
        ),
        pytest.param(
            ["Cache-Control: max-stale=20"],
            ["Cache-Control: max-age=60, stale-while-revalidate=10"],
            75,
            "serve stale",
            id="rfc5861-3 max-stale is longer",
        ),
        # conditions
        pytest.param(['If-None-Match: "b"'], FRESH, 0, "serve", id="rfc9111-4.3.2 If-None-Match"),
        pytest.param(
            ['If-Match: "b"'], TAGGED, 0, "forward request", id="rfc9111-4.3.2 If-Match is the origin's"
        ),
        pytest.param(
            [f"If-Unmodified-Since: {date()}"], TAGGED, 60, "forward request", id="rfc9111-4.3.2 as is this"
        ),
        pytest.param(
            ['If-Match: "b"', "Cache-Control: only-if-cached"],
            FRESH,
            0,
            "unsatisfiable request",
            id="rfc9111-5.2.1.7",
        ),
        # others
        pytest.param(["Cookie: a=b"], FRESH, 0, "serve", id="cache-tests other-cookie"),
        pytest.param(["Authorization: x"], FRESH, 0, "serve", id="rfc9111-3.5 binds only storing"),
    ],
)
def test_decide(asked: list[str], lines: list[str], after: float, expected: str) -> None:
    assert outcome(decide(asked, lines, after)) == expected


@pytest.mark.parametrize(
    ("method", "expected"),
    [
        pytest.param("HEAD", "serve", id="rfc9110-9.3.2 HEAD from a GET entry"),
        pytest.param("POST", "forward method", id="rfc9111-4 POST writes through"),
        pytest.param("OPTIONS", "forward method", id="rfc9111-4 OPTIONS"),
        pytest.param("get", "forward method", id="rfc9110-9.1 methods are case-sensitive"),
        pytest.param("M-SEARCH", "forward method", id="rfc9111-4 unknown"),
    ],
)
def test_methods(method: str, expected: str) -> None:
    assert outcome(decide([], FRESH, 0, method)) == expected


def test_rfc9211_2_2_a_miss_of_the_url_and_of_the_variant() -> None:
    other = entry(*FRESH, "Vary: Foo", asked=request("Foo: 1"))
    assert reuse.decide(request(), [], NOW, POLICY) == Forward(Fwd.MISS)
    assert reuse.decide(request(), [other], NOW, POLICY) == Forward(Fwd.VARY_MISS)
    only = request("Cache-Control: only-if-cached")
    assert reuse.decide(only, [], NOW, POLICY) == Unsatisfiable(Fwd.MISS)


def test_rfc9111_4_1_each_request_gets_its_variant() -> None:
    one = entry(*FRESH, "Vary: Foo", asked=request("Foo: 1"))
    two = entry(*FRESH, "Vary: Foo", asked=request("Foo: 2"))
    assert reuse.decide(request("Foo: 2"), [one, two], NOW, POLICY) == Serve(two, 0)


def test_a_forwarded_request_keeps_the_entry_that_may_stand_in() -> None:
    stored = entry(*FRESH)
    assert reuse.decide(request(), [stored], NOW + 60, POLICY) == Forward(Fwd.STALE, stored)


@pytest.mark.parametrize(
    ("age", "ttl"),
    [
        pytest.param(0.4, 60, id="rfc9211-2.4 fresh"),
        pytest.param(59.9, 1, id="rfc9211-2.4 Age and ttl make the lifetime"),
        pytest.param(61.5, -1, id="rfc9211-2.4 stale"),
    ],
)
def test_ttl(age: float, ttl: int) -> None:
    assert Serve(entry(*FRESH), age).ttl == ttl


@pytest.mark.parametrize(
    ("asked", "lines", "after", "expected"),
    [
        pytest.param([], FRESH, 61, True, id="rfc9111-4.2.4 not forbidden"),
        pytest.param([], FRESH, 159.9, True, id="policy's window"),
        pytest.param([], FRESH, 160, False, id="beyond the policy's window"),
        pytest.param([], FRESH, 1, True, id="fresh, but the client would not have it"),
        pytest.param([], ["Cache-Control: max-age=60, stale-if-error=10"], 69, True, id="rfc5861-4 within"),
        pytest.param([], ["Cache-Control: max-age=60, stale-if-error=10"], 70, False, id="rfc5861-4 beyond"),
        pytest.param([], ["Cache-Control: max-age=60, stale-if-error=0"], 60, False, id="rfc5861-4 none"),
        pytest.param(
            [], ["Cache-Control: max-age=60, stale-if-error=200"], 200, True, id="rfc5861-4 over policy"
        ),
        pytest.param(
            [], ["Cache-Control: max-age=60, must-revalidate"], 61, False, id="stale-close-must-revalidate"
        ),
        pytest.param(
            [], ["Cache-Control: max-age=60, proxy-revalidate"], 61, False, id="stale-close-proxy-revalidate"
        ),
        pytest.param([], ["Cache-Control: max-age=60, no-cache"], 61, False, id="stale-close-no-cache"),
        pytest.param([], ["Cache-Control: s-maxage=60"], 61, False, id="stale-close-s-maxage"),
        pytest.param(["Cache-Control: no-cache"], FRESH, 61, False, id="rfc9111-5.2.1.4 the client minds"),
        pytest.param(
            ["Cache-Control: stale-if-error=x"], FRESH, 61, False, id="rfc5861-4 client's window, malformed"
        ),
        pytest.param(
            ["Cache-Control: stale-if-error=5"], FRESH, 64, True, id="rfc5861-4 client's window, within"
        ),
        pytest.param(
            ["Cache-Control: stale-if-error=5"], FRESH, 65, False, id="rfc5861-4 client's window, beyond"
        ),
        pytest.param(['If-Match: "a"'], FRESH, 61, False, id="rfc9111-4.3.2 a condition for the origin"),
        pytest.param(["Foo: 2"], [*FRESH, "Vary: Foo"], 61, False, id="rfc9111-4.1 another variant"),
    ],
)
def test_may_serve_stale(asked: list[str], lines: list[str], after: float, expected: bool) -> None:
    assert reuse.may_serve_stale(request(*asked), entry(*lines), NOW + after, POLICY) is expected


@pytest.mark.parametrize(
    ("status", "expected"), [(200, True), (404, True), (500, False), (502, False), (503, False), (504, False)]
)
def test_a_stored_failure_does_not_stand_in_for_a_new_one(status: int, expected: bool) -> None:
    stored = entry(*FRESH, status=status)
    assert reuse.may_serve_stale(request(), stored, NOW + 61, POLICY) is expected


def test_the_shipped_policy_stands_in_for_a_day() -> None:
    stored = entry(*FRESH, policy=RFC_ONLY)
    assert reuse.may_serve_stale(request(), stored, NOW + 86_459, Policy())
    assert not reuse.may_serve_stale(request(), stored, NOW + 86_460, Policy())


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        pytest.param(["Cache-Control: max-age=5"], 5, id="rfc9111-4.2 as long as it is fresh"),
        pytest.param(["Cache-Control: max-age=5, no-cache", 'ETag: "a"'], 0, id="rfc9111-5.2.2.4 no-cache"),
        pytest.param(
            ["Cache-Control: max-age=0, stale-while-revalidate=7"], 7, id="rfc5861-3 refreshed meanwhile"
        ),
        pytest.param(
            ["Cache-Control: max-age=5, stale-while-revalidate=7, must-revalidate"],
            5,
            id="rfc9111-4.2.4 forbidden",
        ),
    ],
)
def test_seconds_of_use(lines: list[str], expected: float) -> None:
    assert reuse.seconds_of_use(entry(*lines)) == expected
