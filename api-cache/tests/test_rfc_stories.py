"""What the RFCs ask of a shared cache, as exchanges over real connections.

Most stories are cases of the http-wg cache-tests, whose name for them is then the id. Where those wait for an
entry to become stale, the origin here says that its answer is already old (Age), so that no test sleeps.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest
from local.processes import wait_until

from httpcache.fields import format_date
from tests.conftest import starting
from tests.support import Received, Wire, answer, ask, fresh_path, raw

if TYPE_CHECKING:
    from collections.abc import Iterator

    from local.services import ApiCache

NOW = time.time()
OLD = format_date(NOW - 1_000_000)
PAST, FUTURE = format_date(NOW - 3600), format_date(NOW + 3600)
STORED, HIT = "fwd=miss; stored", "hit"
AGED = ("Cache-Control: max-age=60", "Age: 60")
"""An answer that is stale when it arrives."""


@pytest.fixture(scope="module")
def rfc(shared_cache) -> ApiCache:
    """A cache that does nothing but what the RFCs say."""
    return shared_cache(CACHE_TTL="0")


@pytest.fixture(scope="module")
def forsaken(valkey, origin, tmp_path_factory) -> Iterator[ApiCache]:
    """One whose origin breaks off now and then, after which it spares the origin for a moment."""
    with starting(tmp_path_factory.mktemp("forsaken"), valkey, origin) as make:
        yield make(CACHE_TTL="0")


@dataclass(frozen=True)
class Step:
    """One exchange with the cache, and what the origin says should it be asked."""

    cache: str
    """The outcome: Cache-Status without name and ttl."""
    origin: tuple[str, ...] = ()
    """The fields of the origin's answer."""
    asked: tuple[str, ...] = ()
    """The fields of the client's request."""
    method: str = "GET"
    body: bytes = b"0123456789"
    """What the origin sends."""
    says: int = 200
    """The origin's status."""
    status: int = 200
    """The status that the client gets."""
    gets: bytes | None = None
    """The body that the client gets, unless it is the origin's."""
    has: tuple[str, ...] = ()
    """Fields that the client gets."""
    lacks: tuple[str, ...] = ()
    """Names of fields that the client does not get."""
    passes: tuple[str, ...] = ()
    """Fields that the origin gets."""
    withholds: tuple[str, ...] = field(default=())
    """Names of fields that the origin does not get."""


def pairs(lines: tuple[str, ...]) -> list[tuple[str, str]]:
    return [(name, value) for name, _, value in (line.partition(": ") for line in lines)]


def tell(cache, origin, steps: list[Step], path: str | None = None) -> None:
    path = path or fresh_path("story")
    for number, step in enumerate(steps):
        body = b"" if step.says in {204, 304} or step.method == "HEAD" else step.body
        origin.on(path, _script(step, body))
        before = len(origin.asked(path))
        got = ask(cache.port, path, *pairs(step.asked), method=step.method, body=_content(step.method))
        context = f"step {number}: {got}"
        assert (got.status, got.cache) == (step.status, step.cache), context
        received = origin.asked(path)[before:]
        assert bool(received) is not step.cache.startswith(("hit", "fwd=miss; detail=only-if-cached")), (
            context
        )
        _compare(step, got, received, context)


def _script(step: Step, body: bytes):
    if step.says == 304:
        data = "\r\n".join(("HTTP/1.1 304 X", *step.origin)).encode("latin-1") + b"\r\n\r\n"
    elif step.method == "HEAD":
        data = "\r\n".join((f"HTTP/1.1 {step.says} X", *step.origin)).encode("latin-1") + b"\r\n\r\n"
    else:
        data = answer(body, *step.origin, status=step.says)
    return lambda wire, _: wire.send(data)


def _content(method: str) -> bytes | None:
    return b"abc" if method in {"POST", "PUT", "PATCH", "M-SEARCH"} else None


def _compare(step: Step, got, received: list[Received], context: str) -> None:
    expected = step.body if step.gets is None else step.gets
    if step.method != "HEAD" and step.status not in {204, 304} and step.status < 500:
        assert got.body == expected, context
    for name, value in pairs(step.has):
        assert value in got.values(name), context
    for name in step.lacks:
        assert got[name] is None, context
    for name, value in pairs(step.passes):
        assert received[0].values(name) == [value], received
    for name in step.withholds:
        assert received[0].values(name) == [], received


def once(*lines: str, **more) -> list[Step]:
    """Stored, and reused."""
    return [Step(STORED, lines, **more), Step(HIT, status=more.get("says", 200), **without(more))]


def without(more: dict) -> dict:
    return {name: value for name, value in more.items() if name == "body"}


def never(*lines: str, why: str, **more) -> list[Step]:
    """Not stored, so that the origin is asked again."""
    refused = Step(f"fwd=miss; detail={why}", lines, **more)
    return [refused, refused]


def case(identifier: str, *steps: Step | list[Step]):
    flat = [step for each in steps for step in (each if isinstance(each, list) else [each])]
    return pytest.param(flat, id=identifier)


# ---- freshness -----------------------------------------------------------------------------------------

FRESHNESS = [
    case("freshness-none", never(why="no-lifetime")),
    case("freshness-max-age", once("Cache-Control: max-age=3600")),
    case("freshness-max-age-0", never("Cache-Control: max-age=0", why="no-lifetime")),
    case("freshness-max-age-negative", never("Cache-Control: max-age=-1", why="no-lifetime")),
    case("freshness-max-age-100a", never("Cache-Control: max-age=3600a", why="no-lifetime")),
    case("freshness-max-age-decimal-five", never("Cache-Control: max-age=3600.5", why="no-lifetime")),
    case("freshness-max-age-single-quoted", never("Cache-Control: max-age='3600'", why="no-lifetime")),
    case("freshness-max-age-quoted", once('Cache-Control: max-age="3600"')),
    case("freshness-max-age-leading-zero", once("Cache-Control: max-age=003600")),
    case("freshness-max-age-max-plus", once("Cache-Control: max-age=99999999999")),
    case("freshness-max-age-case-insenstive", once("Cache-Control: MaX-aGe=3600")),
    case("freshness-max-age-extension", once("Cache-Control: foobar, max-age=3600")),
    case(
        "freshness-max-age-ignore-quoted", never('Cache-Control: x="max-age=9", max-age=0', why="no-lifetime")
    ),
    case("freshness-max-age-space-before-equals", never("Cache-Control: max-age =3600", why="no-lifetime")),
    case("freshness-max-age-space-after-equals", never("Cache-Control: max-age= 3600", why="no-lifetime")),
    case("freshness-max-age-expires", once("Cache-Control: max-age=3600", f"Expires: {PAST}")),
    case("freshness-max-age-expires-invalid", once("Cache-Control: max-age=3600", "Expires: 0")),
    case(
        "freshness-max-age-0-expires",
        never("Cache-Control: max-age=0", f"Expires: {FUTURE}", why="no-lifetime"),
    ),
    case("freshness-s-maxage-shared", once("Cache-Control: s-maxage=3600")),
    case("freshness-max-age-s-maxage-shared-shorter", once("Cache-Control: max-age=0, s-maxage=3600")),
    case(
        "freshness-max-age-s-maxage-shared-longer-multiple",
        never("Cache-Control: max-age=3600", "Cache-Control: s-maxage=0", why="no-lifetime"),
    ),
    case("freshness-expires-future", once(f"Expires: {FUTURE}", f"Date: {format_date(NOW)}")),
    case("freshness-expires-past", never(f"Expires: {PAST}", why="no-lifetime")),
    case("freshness-expires-invalid", never("Expires: 0", why="no-lifetime")),
    case("freshness-expires-invalid-utc", never("Expires: Thu, 18 Aug 2050 02:01:18 UTC", why="no-lifetime")),
    case(
        "freshness-expires-invalid-2-digit-year",
        never("Expires: Thu, 18 Aug 50 02:01:18 GMT", why="no-lifetime"),
    ),
    case(
        "freshness-expires-rfc850",
        once(time.strftime("Expires: %A, %d-%b-%y %H:%M:%S GMT", time.gmtime(NOW + 3600))),
    ),
    case(
        "freshness-expires-ansi-c",
        once(time.strftime("Expires: %a %b %e %H:%M:%S %Y", time.gmtime(NOW + 3600))),
    ),
    case("freshness-expires-invalid-date", once(f"Expires: {FUTURE}", "Date: foo")),
    case("white-space-after-a-value-is-no-part-of-it", once(f"Expires: {FUTURE} \t", 'ETag: "a" ')),
    case("freshness-expires-invalid-multiple-lines", never(*[f"Expires: {FUTURE}"] * 2, why="no-lifetime")),
    case("heuristic-200-cached", once(f"Last-Modified: {OLD}")),
    case(
        "heuristic-404-cached",
        [Step(STORED, (f"Last-Modified: {OLD}",), says=404, status=404), Step(HIT, status=404)],
    ),
    case("heuristic-502-not_cached", never(f"Last-Modified: {OLD}", says=502, status=502, why="no-lifetime")),
    case(
        "heuristic-599-cached",
        [
            Step(STORED, (f"Last-Modified: {OLD}", "Cache-Control: public"), says=599, status=599),
            Step(HIT, status=599),
        ],
    ),
    case("cdn-max-age-short-cc-max-age", once("Cache-Control: max-age=0", "CDN-Cache-Control: max-age=3600")),
    case(
        "cdn-max-age-long-cc-max-age",
        never("Cache-Control: max-age=3600", "CDN-Cache-Control: max-age=0", why="no-lifetime"),
    ),
    case("cdn-fresh-cc-nostore", once("Cache-Control: no-store", "CDN-Cache-Control: max-age=10000")),
    case(
        "cdn-no-store-cc-fresh",
        never("Cache-Control: max-age=9", "CDN-Cache-Control: no-store", why="no-store"),
    ),
    case(
        "cdn-cc-invalid-sh-type-unknown",
        never("CDN-Cache-Control: max-age=10000, &&&&&", "Cache-Control: no-store", why="no-store"),
    ),
    case(
        "cdn-cc-invalid-sh-type-wrong",
        never('CDN-Cache-Control: max-age="10000"', "Cache-Control: no-store", why="no-store"),
    ),
    case(
        "cdn-remove-header",
        [
            Step(STORED, ("CDN-Cache-Control: max-age=60",), has=("CDN-Cache-Control: max-age=60",)),
            Step(HIT, has=("CDN-Cache-Control: max-age=60",)),
        ],
    ),
]

# ---- age -----------------------------------------------------------------------------------------------

AGE = [
    case(
        "other-age-update-max-age",
        [Step(STORED, ("Cache-Control: max-age=600", "Age: 30")), Step(HIT, has=("Age: 30",))],
    ),
    case(
        "other-age-update-date",
        [Step(STORED, ("Cache-Control: max-age=9999999", f"Date: {OLD}")), Step(HIT, has=(f"Date: {OLD}",))],
    ),
    case(
        "freshness-max-age-age",
        [
            Step(STORED, (*AGED, 'ETag: "a"')),
            Step("fwd=stale; fwd-status=304; stored", says=304, passes=('If-None-Match: "a"',)),
        ],
    ),
    case("age-parse-nonnumeric", once("Cache-Control: max-age=3600", "Age: abc")),
    case("age-parse-negative", once("Cache-Control: max-age=3600", "Age: -7200")),
    case(
        "age-parse-suffix",
        [Step(STORED, ("Cache-Control: max-age=3600", "Age: 7,0")), Step(HIT, has=("Age: 7",))],
    ),
    case(
        "age-parse-prefix-twoline",
        [Step(STORED, ("Cache-Control: max-age=3600", "Age: 8", "Age: 7200")), Step(HIT, has=("Age: 8",))],
    ),
]

# ---- storing -------------------------------------------------------------------------------------------

AUTHORIZED = ("Authorization: FOO",)
STORING = [
    case("cc-resp-private-shared", never("Cache-Control: private, max-age=3600", why="private")),
    case("cc-resp-no-store-case-insensitive", never("Cache-Control: No-StOrE, max-age=9", why="no-store")),
    case(
        "cc-resp-no-cache-revalidate-fresh",
        [
            Step(STORED, ("Cache-Control: max-age=10000, no-cache", 'ETag: "abcd"')),
            Step("fwd=stale; fwd-status=304; stored", says=304, passes=('If-None-Match: "abcd"',)),
        ],
    ),
    case("cc-resp-must-revalidate-fresh", once("Cache-Control: max-age=10000, must-revalidate")),
    case(
        "headers-omit-headers-listed-in-Cache-Control-no-cache",
        [
            Step(STORED, ('Cache-Control: no-cache="a, b", max-age=3600', "A: 1", "B: 2", "C: 3")),
            Step(HIT, has=("C: 3",), lacks=("A", "B")),
        ],
    ),
    case(
        "headers-omit-headers-listed-in-Connection",
        [
            Step(
                STORED,
                ("Connection: a, b", "Cache-Control: max-age=3600", "A: 1", "B: 2", "C: 3"),
                lacks=("A", "B"),
            ),
            Step(HIT, has=("C: 3",), lacks=("A", "B")),
        ],
    ),
    case(
        "headers-store-Proxy-Authenticate",
        [
            Step(
                STORED,
                ("Proxy-Authenticate: x", "Cache-Control: max-age=3600"),
                lacks=("Proxy-Authenticate",),
            ),
            Step(HIT, lacks=("Proxy-Authenticate",)),
        ],
    ),
    case(
        "other-set-cookie",
        [
            Step(STORED, ("Cache-Control: max-age=3600", "Set-Cookie: a=b", "Set-Cookie: c=d")),
            Step(HIT, has=("Set-Cookie: a=b", "Set-Cookie: c=d")),
        ],
    ),
    case("set-cookie-heuristic", never(f"Last-Modified: {OLD}", "Set-Cookie: a=b", why="set-cookie")),
    case("other-cookie", [Step(STORED, ("Cache-Control: max-age=3600",)), Step(HIT, asked=("Cookie: a=b",))]),
    case(
        "other-authorization",
        [
            Step(
                "fwd=miss; detail=authorization",
                ("Cache-Control: max-age=60",),
                AUTHORIZED,
                passes=AUTHORIZED,
            )
        ]
        * 2,
    ),
    case(
        "other-authorization-public",
        [Step(STORED, ("Cache-Control: max-age=60, public",), AUTHORIZED, passes=AUTHORIZED), Step(HIT)],
    ),
    case(
        "other-authorization-must-revalidate",
        [Step(STORED, ("Cache-Control: max-age=60, must-revalidate",), AUTHORIZED), Step(HIT)],
    ),
    case(
        "other-authorization-smaxage", [Step(STORED, ("Cache-Control: s-maxage=60",), AUTHORIZED), Step(HIT)]
    ),
    *(
        case(
            f"status-{status}-fresh",
            [
                Step(STORED, ("Cache-Control: max-age=60",), says=status, status=status),
                Step(HIT, status=status),
            ],
        )
        for status in (203, 204, 299, 301, 302, 308, 400, 404, 410, 499, 500, 503, 599)
    ),
    *(
        case(
            f"status-{status}-stale",
            [
                Step(STORED, (*AGED, 'ETag: "a"'), says=status, status=status),
                Step("fwd=stale; detail=no-lifetime", (), says=status, status=status),
            ],
        )
        for status in (500, 502, 503, 504)
    ),
    case(
        "must-understand",
        never("Cache-Control: must-understand, max-age=9", says=299, status=299, why="status"),
    ),
]

# ---- Vary ----------------------------------------------------------------------------------------------

VARY = ("Cache-Control: max-age=5000", "Vary: Foo")
VARIANTS = [
    case("vary-match", Step(STORED, VARY, ("Foo: 1",)), Step(HIT, asked=("Foo: 1",))),
    case("vary-no-match", Step(STORED, VARY, ("Foo: 1",)), Step("fwd=vary-miss; stored", VARY, ("Foo: 2",))),
    case("vary-omit", Step(STORED, VARY, ("Foo: 1",)), Step("fwd=vary-miss; stored", VARY)),
    case("vary-omit-stored", Step(STORED, VARY), Step("fwd=vary-miss; stored", VARY, ("Foo: 1",)), Step(HIT)),
    case(
        "vary-invalidate",
        Step(STORED, VARY, ("Foo: 1",), body=b"one"),
        Step("fwd=vary-miss; stored", VARY, ("Foo: 2",), body=b"two"),
        Step(HIT, asked=("Foo: 1",), body=b"one"),
        Step(HIT, asked=("Foo: 2",), body=b"two"),
    ),
    case(
        "vary-cache-key", Step(STORED, VARY, ("Foo: 1", "Other: 2")), Step(HIT, asked=("Foo: 1", "Other: 3"))
    ),
    case("vary-normalise-space", Step(STORED, VARY, ("Foo: 1,2",)), Step(HIT, asked=("Foo: 1, 2",))),
    case("vary-normalise-combine", Step(STORED, VARY, ("Foo: 1, 2",)), Step(HIT, asked=("Foo: 1", "Foo: 2"))),
    case(
        "vary-normalise-lang-order",
        Step(STORED, ("Cache-Control: max-age=60", "Vary: Accept-Language"), ("Accept-Language: en, de",)),
        Step(HIT, asked=("Accept-Language: DE,en",)),
    ),
    case(
        "vary-comes-with-a-304",
        Step(STORED, ("Cache-Control: max-age=5000", 'ETag: "a"'), body=b"one"),
        Step(
            "fwd=request; fwd-status=304; stored",
            ("Vary: Foo", 'ETag: "a"'),
            ("Foo: 1", "Cache-Control: no-cache"),
            says=304,
            body=b"one",
        ),
        Step("fwd=vary-miss; stored", VARY, ("Foo: 2",), body=b"two"),
        Step(HIT, asked=("Foo: 1",), body=b"one"),
        Step(HIT, asked=("Foo: 2",), body=b"two"),
    ),
    case("vary-star", never("Cache-Control: max-age=60", "Vary: *", why="vary")),
    case("vary-syntax-empty-star-lines", never("Cache-Control: max-age=60", "Vary: ", "Vary: *", why="vary")),
]

# ---- conditional requests ------------------------------------------------------------------------------

TAGGED = (
    "Cache-Control: max-age=60",
    'ETag: "abcdef"',
    f"Last-Modified: {PAST}",
    "A: 1",
    "Content-Type: a/b",
)
CONDITIONS = [
    case(
        "conditional-etag-strong-respond",
        Step(STORED, TAGGED),
        Step(
            HIT,
            asked=('If-None-Match: "x", W/"abcdef"',),
            status=304,
            has=('ETag: "abcdef"', "A: 1"),
            lacks=("Content-Type",),
        ),
    ),
    case(
        "white-space-after-a-condition-is-no-part-of-it",
        Step(STORED, TAGGED),
        Step(HIT, asked=(f"If-Modified-Since: {PAST} ",), status=304),
        Step(HIT, asked=("If-None-Match: *\t",), status=304),
    ),
    case(
        "conditional-etag-precedence",
        Step(STORED, TAGGED),
        Step(HIT, asked=('If-None-Match: "abcdef"', f"If-Modified-Since: {OLD}"), status=304),
        Step(HIT, asked=('If-None-Match: "other"', f"If-Modified-Since: {FUTURE}"), status=200),
    ),
    case(
        "conditional-lm-fresh",
        Step(STORED, ("Cache-Control: max-age=60", f"Last-Modified: {PAST}")),
        Step(HIT, asked=(f"If-Modified-Since: {PAST}",), status=304, has=(f"Last-Modified: {PAST}",)),
        Step(HIT, asked=(f"If-Modified-Since: {OLD}",)),
    ),
    case(
        "conditional-lm-stale",
        Step(STORED, (*AGED, f"Last-Modified: {PAST}")),
        Step(
            "fwd=stale; fwd-status=304; stored",
            ("Cache-Control: max-age=60",),
            (f"If-Modified-Since: {PAST}",),
            says=304,
            status=304,
            passes=(f"If-Modified-Since: {PAST}",),
        ),
    ),
    case(
        "conditional-etag-strong-generate",
        Step(STORED, (*AGED, 'ETag: "a"'), body=b"first"),
        Step("fwd=stale; fwd-status=304; stored", says=304, body=b"first", passes=('If-None-Match: "a"',)),
    ),
    case(
        "conditional-etag-weak-generate-weak",
        Step(STORED, (*AGED, 'ETag: W/"a"')),
        Step("fwd=stale; fwd-status=304; stored", says=304, passes=('If-None-Match: W/"a"',)),
    ),
    case(
        "conditional-etag-changed",
        Step(STORED, (*AGED, 'ETag: "a"'), body=b"first"),
        Step("fwd=stale; stored", ("Cache-Control: max-age=60", 'ETag: "b"'), body=b"second"),
        Step(HIT, body=b"second", has=('ETag: "b"',)),
    ),
    case(
        "304-etag-update-stored",
        Step(STORED, (*AGED, 'ETag: "a"', "Test-Header: 1", "Kept: 1"), body=b"12345"),
        Step(
            "fwd=stale; fwd-status=304; stored",
            ("Cache-Control: max-age=60", 'ETag: "a"', "Test-Header: 2", "Set-Cookie: a=c"),
            says=304,
            body=b"12345",
            has=("Test-Header: 2", "Kept: 1", "Content-Length: 5"),
        ),
        Step(HIT, body=b"12345", has=("Test-Header: 2", "Kept: 1", "Set-Cookie: a=c", "Content-Length: 5")),
    ),
    case(
        "a-date-is-no-modification-date-of-what-is-not-stored",
        *[Step("fwd=miss; detail=private", ("Cache-Control: private",), (f"If-Modified-Since: {FUTURE}",))]
        * 2,
    ),
    case(
        "if-match-is-the-origins",
        Step(STORED, TAGGED),
        Step(
            "fwd=request; detail=status",
            (),
            ('If-Match: "other"',),
            says=412,
            status=412,
            passes=('If-Match: "other"',),
        ),
        Step(HIT),
    ),
    *(
        case(
            f"{line.partition(':')[0].lower()}-is-the-origins-when-nothing-is-stored",
            Step("fwd=miss; detail=status", (), (line,), says=412, status=412, passes=(line,)),
            Step(STORED, VARY),
            Step("fwd=vary-miss; detail=status", (), ("Foo: 1", line), says=412, status=412, passes=(line,)),
        )
        for line in ('If-Match: "other"', f"If-Unmodified-Since: {OLD}")
    ),
]

# ---- ranges --------------------------------------------------------------------------------------------

LONG = ("Cache-Control: max-age=3600", 'ETag: "a"')


def part(*asked: str, gets: bytes, says: str) -> list[Step]:
    step = Step(
        HIT,
        asked=asked,
        status=206,
        gets=gets,
        has=(f"Content-Range: {says}", f"Content-Length: {len(gets)}"),
    )
    return [Step(STORED, LONG), step]


RANGES = [
    case("partial-store-complete-reuse-partial", part("Range: bytes=0-1", gets=b"01", says="bytes 0-1/10")),
    case(
        "partial-store-complete-reuse-partial-no-last",
        part("Range: bytes=8-", gets=b"89", says="bytes 8-9/10"),
    ),
    case(
        "partial-store-complete-reuse-partial-suffix", part("Range: bytes=-1", gets=b"9", says="bytes 9-9/10")
    ),
    case("if-range", part("Range: bytes=0-1", 'If-Range: "a"', gets=b"01", says="bytes 0-1/10")),
    case("if-range-changed", Step(STORED, LONG), Step(HIT, asked=("Range: bytes=0-1", 'If-Range: "b"'))),
    case("several-ranges", Step(STORED, LONG), Step(HIT, asked=("Range: bytes=0-1,3-4",))),
    case("range-of-head", Step(STORED, LONG), Step(HIT, asked=("Range: bytes=0-1",), method="HEAD")),
    case(
        "range-and-condition",
        Step(STORED, LONG),
        Step(HIT, asked=("Range: bytes=0-1", 'If-None-Match: "a"'), status=304),
    ),
]

# ---- invalidation and other methods --------------------------------------------------------------------

FRESH = ("Cache-Control: max-age=3600",)
METHODS = [
    *(
        case(
            f"invalidate-{method}",
            Step(STORED, FRESH),
            Step("fwd=method", method=method),
            Step(STORED, FRESH),
        )
        for method in ("POST", "PUT", "DELETE", "PATCH", "M-SEARCH")
    ),
    *(
        case(
            f"invalidate-{method}-failed",
            Step(STORED, FRESH),
            Step("fwd=method", method=method, says=500, status=500),
            Step(HIT),
        )
        for method in ("POST", "PUT", "DELETE", "PATCH", "M-SEARCH")
    ),
    case("options-changes-nothing", Step(STORED, FRESH), Step("fwd=method", method="OPTIONS"), Step(HIT)),
    case("head-from-get", Step(STORED, FRESH), Step(HIT, method="HEAD", has=("Content-Length: 10",))),
]

# ---- request directives --------------------------------------------------------------------------------

AGED_FRESH = ("Cache-Control: max-age=1500", "Age: 1000")
DIRECTIVES = [
    case("ccreq-ma0", Step(STORED, FRESH), Step("fwd=request; stored", FRESH, ("Cache-Control: max-age=0",))),
    case(
        "ccreq-magreaterage",
        Step(STORED, AGED_FRESH),
        Step("fwd=request; stored", FRESH, ("Cache-Control: max-age=600",)),
    ),
    case(
        "ccreq-max-age-satisfied", Step(STORED, AGED_FRESH), Step(HIT, asked=("Cache-Control: max-age=1200",))
    ),
    case(
        "ccreq-min-fresh-age",
        Step(STORED, AGED_FRESH),
        Step("fwd=request; stored", FRESH, ("Cache-Control: min-fresh=1000",)),
    ),
    case(
        "ccreq-min-fresh-satisfied",
        Step(STORED, AGED_FRESH),
        Step(HIT, asked=("Cache-Control: min-fresh=400",)),
    ),
    case(
        "ccreq-max-stale-age",
        Step(STORED, (*AGED, 'ETag: "a"')),
        Step(HIT, asked=("Cache-Control: max-stale=1000",)),
    ),
    case(
        "ccreq-no-cache",
        Step(STORED, FRESH),
        Step("fwd=request; stored", FRESH, ("Cache-Control: no-cache",)),
    ),
    case(
        "ccreq-no-cache-etag",
        Step(STORED, TAGGED),
        Step(
            "fwd=request; fwd-status=304; stored",
            (),
            ("Cache-Control: no-cache",),
            says=304,
            passes=('If-None-Match: "abcdef"',),
        ),
    ),
    case(
        "ccreq-no-store",
        Step("fwd=miss; detail=request-no-store", FRESH, ("Cache-Control: no-store",)),
        once(*FRESH),
    ),
    case(
        "ccreq-oic",
        Step("fwd=miss; detail=only-if-cached", asked=("Cache-Control: only-if-cached",), status=504),
    ),
    case("ccreq-oic-fresh", Step(STORED, FRESH), Step(HIT, asked=("Cache-Control: only-if-cached",))),
    case(
        "pragma-request-no-cache",
        Step(STORED, FRESH),
        Step("fwd=request; stored", FRESH, ("Pragma: no-cache",)),
    ),
    case("pragma-request-extension", Step(STORED, FRESH), Step(HIT, asked=("Pragma: foo",))),
    case("pragma-response-no-cache", once("Cache-Control: max-age=3600", "Pragma: no-cache")),
]


@pytest.mark.parametrize(
    "steps",
    [*FRESHNESS, *AGE, *STORING, *VARIANTS, *CONDITIONS, *RANGES, *METHODS, *DIRECTIVES],
)
def test_story(rfc, origin, steps: list[Step]) -> None:
    tell(rfc, origin, steps)


# ---- what no table of answers can tell -----------------------------------------------------------------


@pytest.mark.parametrize("repeats", [1, 3], ids=["once", "out of memory"])
def test_rfc9110_7_6_1_what_connection_nominates_selects_no_variant(rfc, origin, repeats: int) -> None:
    """The origin does not get such a field, so its answer is that for requests without it, for no others."""
    path = fresh_path()
    origin.on(path, lambda wire, it: wire.send(answer(f"Foo is {it.values('Foo')}".encode(), *VARY)))
    for _ in range(repeats):
        hidden = ask(rfc.port, path, ("Connection", "keep-alive, Foo"), ("Foo", "1"))
        assert hidden.body == b"Foo is []"
    for _ in range(repeats):
        assert ask(rfc.port, path, ("Foo", "1")).body == b"Foo is ['1']"
        assert ask(rfc.port, path, ("Foo", "1"), ("Connection", "foo")).body == b"Foo is []"
        assert ask(rfc.port, path).body == b"Foo is []"


def test_rfc9110_15_5_17_a_range_outside_of_the_content_is_416(rfc, origin) -> None:
    path = fresh_path()
    origin.on(path, answer(b"0123456789", *LONG))
    assert ask(rfc.port, path).cache == STORED
    refused = ask(rfc.port, path, ("Range", "bytes=10-"))
    assert (refused.status, refused["Content-Range"]) == (416, "bytes */10")


@pytest.mark.parametrize("name", ["Location", "Content-Location"])
@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "M-SEARCH"])
def test_rfc9111_4_4_same_origin_locations_are_invalidated(rfc, origin, name: str, method: str) -> None:
    path, other, inner, foreign = (fresh_path() for _ in range(4))
    for each in (other, inner, foreign):
        tell(rfc, origin, [Step(STORED, FRESH)], each)
    own = f"http://127.0.0.1:{origin.port}"
    for where in (f"http://cache.test{other}", f"{own}{inner}", f"http://elsewhere.test{foreign}"):
        tell(rfc, origin, [Step("fwd=method", (f"{name}: {where}",), method=method)], path)
    for each in (other, inner):
        tell(rfc, origin, [Step(STORED, FRESH)], each)
    tell(rfc, origin, [Step(HIT)], foreign)


@pytest.mark.parametrize("name", ["X-Forwarded-Host", "X-HTTP-Method-Override", "X-Original-URL"])
def test_a_post_with_what_is_no_part_of_the_key_serves_no_gets(rfc, origin, name: str) -> None:
    path = fresh_path()
    lines = ("Cache-Control: max-age=60", f"Content-Location: {path}")
    origin.on(path, lambda wire, got: wire.send(answer(b"evil" if got.values(name) else b"good", *lines)))
    assert ask(rfc.port, path, (name, "evil.test"), method="POST", body=b"x").body == b"evil"
    assert ask(rfc.port, path).body == b"good"


def test_rfc9111_3_5_what_a_304_says_to_one_user_leaves_the_entry_as_it_is(rfc, origin) -> None:
    validated = "fwd=stale; fwd-status=304"
    tell(
        rfc,
        origin,
        [
            Step(STORED, (*AGED, 'ETag: "a"')),
            Step(f"{validated}; detail=authorization", says=304, asked=AUTHORIZED),
            Step(f"{validated}; stored", says=304, passes=('If-None-Match: "a"',)),
        ],
    )


@pytest.mark.parametrize("before", [0, 1], ids=["first", "in place of another"])
def test_rfc9110_9_3_3_a_post_answer_may_serve_later_gets(rfc, origin, before: int) -> None:
    path = fresh_path()
    lines = (f"Expires: {FUTURE}", f"Content-Location: {path}")
    tell(
        rfc,
        origin,
        [Step(STORED, lines)] * before + [Step("fwd=method; stored", lines, method="POST", body=b"made")],
        path,
    )
    assert wait_until(lambda: ask(rfc.port, path).body == b"made", timeout=1)
    tell(rfc, origin, [Step(HIT, body=b"made")], path)


@pytest.mark.parametrize(
    ("lines", "outcome"),
    [
        pytest.param(
            ("Content-Length: 10", "Cache-Control: max-age=60", 'ETag: "a"', "A: 2"), HIT, id="freshens"
        ),
        pytest.param(("Content-Length: 11", "Cache-Control: max-age=60"), STORED, id="another length"),
        pytest.param(("Content-Length: 10", 'ETag: "b"'), STORED, id="another tag"),
    ],
)
def test_rfc9111_4_3_5_a_head_answer_freshens_or_invalidates(rfc, origin, lines, outcome: str) -> None:
    path = fresh_path()
    tell(rfc, origin, [Step(STORED, (*FRESH, 'ETag: "a"'))], path)
    origin.on(path, lambda wire, _: wire.send("\r\n".join(("HTTP/1.1 200 X", *lines, "", "")).encode()))
    head = ask(rfc.port, path, ("Cache-Control", "no-cache"), method="HEAD")
    assert (head.status, f"Content-Length: {head['Content-Length']}") == (200, lines[0])
    tell(rfc, origin, [Step(outcome, FRESH, has=("A: 2",) if outcome == HIT else ())], path)


WINDOWS = "Cache-Control: max-age=60, stale-while-revalidate=60, stale-if-error=60"


@pytest.mark.parametrize(
    ("says", "lines", "goes"),
    [
        pytest.param(404, (), True, id="404"),
        pytest.param(410, (), True, id="410"),
        pytest.param(403, (), True, id="403"),
        pytest.param(200, ("Cache-Control: no-store",), True, id="no-store"),
        pytest.param(200, ("Cache-Control: private",), True, id="private"),
        pytest.param(302, (), True, id="302"),
        pytest.param(503, (), False, id="503"),
        pytest.param(501, ("Cache-Control: no-store",), False, id="501"),
        pytest.param(429, (), False, id="429"),
    ],
)
def test_rfc9111_4_3_3_what_the_origin_says_in_the_background_ends_what_is_stale(
    rfc, origin, says, lines, goes
) -> None:
    path = fresh_path()
    origin.on(path, answer(b"old", WINDOWS, "Age: 60", 'ETag: "a"'))
    assert ask(rfc.port, path).cache == STORED
    origin.on(path, answer(b"new", *lines, status=says))
    assert ask(rfc.port, path).body == b"old"
    assert wait_until(lambda: len(origin.asked(path)) == 2, timeout=5)
    if goes:
        assert wait_until(lambda: ask(rfc.port, path).body == b"new", timeout=5)
    else:
        assert [ask(rfc.port, path).body for _ in range(8)] == [b"old"] * 8


def test_rfc9111_4_3_3_what_another_validation_says_ends_what_is_stale(rfc, origin) -> None:
    tell(
        rfc,
        origin,
        [
            Step(STORED, (*AGED, 'ETag: "a"')),
            Step("fwd=stale; detail=no-lifetime", says=404, status=404),
            Step("fwd=miss; detail=no-lifetime", says=503, status=503),
        ],
    )


def test_what_one_user_is_told_ends_nothing_of_the_others(rfc, origin) -> None:
    said = ("Cache-Control: no-store",)
    tell(
        rfc,
        origin,
        [
            Step(STORED, FRESH),
            Step("fwd=request; detail=no-store", said, ("Cache-Control: no-cache", "Authorization: x")),
            Step("fwd=request; detail=request-no-store", said, ("Cache-Control: no-cache, no-store",)),
            Step(HIT),
            Step("fwd=request; detail=no-store", said, ("Cache-Control: no-cache",)),
            Step("fwd=miss; detail=no-store", said),
        ],
    )


def test_a_head_answer_without_validators_makes_nothing_old_fresh_anew(rfc, origin):
    """Not even of the same length: so is many another content."""
    tell(
        rfc,
        origin,
        [
            Step(STORED, (*AGED, "Cache-Control: stale-if-error=60")),
            Step("fwd=stale; detail=method", (*FRESH, "Content-Length: 10"), method="HEAD"),
            Step("fwd=stale; stored", FRESH, body=b"9876543210"),
        ],
    )


@pytest.mark.parametrize(
    ("directives", "serves"),
    [
        pytest.param("max-age=60", True, id="stale-close"),
        pytest.param("max-age=60, stale-if-error=60", True, id="stale-sie-close"),
        pytest.param("max-age=60, stale-if-error=0", False, id="stale-sie-exceeded"),
        pytest.param("max-age=60, must-revalidate", False, id="stale-close-must-revalidate"),
        pytest.param("max-age=60, proxy-revalidate", False, id="stale-close-proxy-revalidate"),
        pytest.param("max-age=60, no-cache", False, id="stale-close-no-cache"),
        pytest.param("s-maxage=60", False, id="stale-close-s-maxage"),
    ],
)
@pytest.mark.parametrize("failure", ["close", "503"])
def test_rfc5861_4_stale_stands_in_for_a_failing_origin(
    forsaken, origin, directives: str, serves: bool, failure: str
) -> None:
    path = fresh_path()
    aged = (f"Cache-Control: {directives}", "Age: 60", 'ETag: "a"')
    tell(forsaken, origin, [Step(STORED, aged, body=b"kept")], path)

    def fail(wire: Wire, _: Received) -> bool:
        if failure == "503":
            wire.send(answer(b"broken", status=503))
        return False

    origin.on(path, fail)
    got = ask(forsaken.port, path)
    if serves:
        assert (got.status, got.body) == (200, b"kept")
        assert int(got["Age"] or "0") >= 60
    else:
        assert got.status == (503 if failure == "503" else 502)


def test_rfc9112_7_1_2_trailers_are_dropped(rfc, origin) -> None:
    path = fresh_path()
    head = b"HTTP/1.1 200 X\r\nCache-Control: max-age=60\r\nTransfer-Encoding: chunked\r\nTrailer: T\r\n\r\n"
    origin.on(path, head + b"4\r\nbody\r\n0\r\nT: 1\r\n\r\n")
    first, second = (ask(rfc.port, path) for _ in range(2))
    assert (first.body, second.body, second.cache) == (b"body", b"body", HIT)
    assert [each[name] for each in (first, second) for name in ("T", "Trailer")] == [None] * 4
    assert b"T: 1" not in raw(
        rfc.port, f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode()
    )


def test_rfc9110_7_6_2_max_forwards_counts_the_hops(rfc, origin) -> None:
    path = fresh_path()
    origin.on(path, answer(b"x"))
    assert ask(rfc.port, path, ("Max-Forwards", "1"), method="OPTIONS").status == 200
    assert origin.asked(path)[0].values("Max-Forwards") == ["0"]
    last = ask(rfc.port, path, ("Max-Forwards", "0"), method="OPTIONS")
    assert (last.status, last.cache) == (204, "detail=max-forwards")
    assert "OPTIONS" in (last["Allow"] or "")
    assert ask(rfc.port, path, ("Max-Forwards", "0"), method="TRACE").status == 405
    assert len(origin.asked(path)) == 1


def test_rfc9112_3_2_4_options_without_a_path_is_about_the_server(rfc, origin) -> None:
    origin.on("*", answer(b"all of it"))
    for target in ("*", "http://anywhere"):
        assert ask(rfc.port, target, method="OPTIONS").body == b"all of it"
    origin.on("/", answer(b"the root"))
    assert ask(rfc.port, "http://anywhere/", method="OPTIONS").body == b"the root"


@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_rfc9110_7_6_3_via_has_the_version_as_received(rfc, origin, version: str) -> None:
    path = fresh_path()
    origin.on(path, answer(b"x"))
    raw(rfc.port, f"GET {path} HTTP/{version}\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
    assert origin.asked(path)[0].values("Via") == [f"{version} api-cache"]


@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_rfc9110_7_6_3_via_has_the_version_that_the_origin_spoke(rfc, origin, version: str) -> None:
    path = fresh_path()
    head = f'HTTP/{version} 200 X\r\nContent-Length: 1\r\nCache-Control: max-age=60\r\nETag: "a"\r\n\r\n'
    origin.on(path, head.encode() + b"x")
    passed, hit = ask(rfc.port, path), ask(rfc.port, path)
    assert (passed.cache, hit.cache) == (STORED, HIT)
    assert passed["Via"] == hit["Via"] == f"{version} api-cache"
    other = "1.1" if version == "1.0" else "1.0"
    origin.on(path, f'HTTP/{other} 304 X\r\nETag: "a"\r\nCache-Control: max-age=60\r\n\r\n'.encode())
    confirmed = ask(rfc.port, path, ("Cache-Control", "no-cache"))
    assert (confirmed.status, confirmed["Via"]) == (200, f"{other} api-cache")


def test_rfc9110_7_6_3_what_came_from_nowhere_else_has_no_via(rfc) -> None:
    assert ask(rfc.port, fresh_path(), ("Cache-Control", "only-if-cached"))["Via"] is None


def test_rfc9111_5_2_1_6_a_client_may_want_the_content_as_it_came(rfc, origin) -> None:
    path = fresh_path()
    lines = ("Content-Type: text/plain", "Cache-Control: max-age=60", 'ETag: "a"')
    origin.on(path, answer(b"some text\n" * 100, *lines))
    assert ask(rfc.port, path, ("Accept-Encoding", "gzip")).cache == STORED
    coded = ask(rfc.port, path, ("Accept-Encoding", "gzip"))
    plain = ask(rfc.port, path, ("Accept-Encoding", "gzip"), ("Cache-Control", "no-transform"))
    assert (coded.cache, coded["Content-Encoding"], coded["ETag"]) == (HIT, "gzip", '"a-gzip"')
    assert (plain.cache, plain["Content-Encoding"], plain["ETag"]) == (HIT, None, '"a"')
    assert plain.body == b"some text\n" * 100


def test_rfc9111_4_a_query_is_part_of_the_key(rfc, origin) -> None:
    path = fresh_path()
    origin.on(path, answer(b"x", *FRESH))
    outcomes = [ask(rfc.port, f"{path}?{query}").cache for query in ("a=1", "a=2", "a=1", "b=1&a=1")]
    assert outcomes == [STORED, STORED, HIT, STORED]


def test_rfc9111_4_2_3_age_counts_the_time_in_the_cache(rfc, origin) -> None:
    path = fresh_path()
    origin.on(path, answer(b"x", "Cache-Control: max-age=600", "Age: 30"))
    stored_at = time.time()
    found = [ask(rfc.port, path)]

    def has_aged() -> bool:
        found.append(ask(rfc.port, path))
        return found[-1]["Age"] != "30"

    assert wait_until(has_aged, timeout=5)
    later = found[-1]
    assert later["Age"] == "31"
    assert time.time() - stored_at >= 0.9
    assert (later["Cache-Status"] or "").endswith("ttl=569")


def test_rfc9211_2_the_outcomes_of_caches_nearer_to_the_origin_stay(rfc, origin) -> None:
    path = fresh_path()
    origin.on(path, answer(b"x", *FRESH, "Cache-Status: inner; hit", "Via: 1.1 inner"))
    for _ in range(2):
        got = ask(rfc.port, path)
        assert (got["Cache-Status"] or "").startswith("inner; hit, api-cache; ")
        assert got["Via"] == "1.1 inner, 1.1 api-cache"
