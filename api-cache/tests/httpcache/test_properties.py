"""What holds for every message, however odd: hypothesis looks for one for which it does not."""

import string
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import http_sf
from builders import NOW, RFC_ONLY
from hypothesis import example, given
from hypothesis import strategies as st

from httpcache import fields, freshness, invalidation, ranges, reuse, status, storing, validation, variants
from httpcache.messages import Entry, Exchange, Headers, Policy, Request, Response

# ---- strategies ----------------------------------------------------------------------------------------

RESPONSE_FIELDS = (
    *(
        "Age",
        "Cache-Control",
        "CDN-Cache-Control",
        "Connection",
        "Content-Length",
        "Content-Location",
        "Date",
    ),
    *("ETag", "Expires", "Last-Modified", "Location", "Set-Cookie", "Vary", "X-Other"),
)
REQUEST_FIELDS = (
    *("Accept-Encoding", "Accept-Language", "Authorization", "Cache-Control", "Connection", "If-Match"),
    *("If-Modified-Since", "If-None-Match", "If-Range", "If-Unmodified-Since", "Pragma", "Range", "X-Other"),
)
DIRECTIVES = (
    *("immutable", "max-age", "max-stale", "min-fresh", "must-revalidate", "must-understand", "no-cache"),
    *("no-store", "only-if-cached", "private", "proxy-revalidate", "public", "s-maxage"),
    *("stale-if-error", "stale-while-revalidate"),
)
instants = st.floats(min_value=0, max_value=4e9)
any_bytes = st.binary(max_size=30).map(lambda value: value.decode("latin-1"))
numbers = st.integers(min_value=-(10**12), max_value=10**12).map(str)
directives = st.builds(
    lambda name, argument: name if argument is None else f"{name}={argument}",
    st.sampled_from(DIRECTIVES),
    st.none() | numbers | st.sampled_from(['"60"', '"x-other, set-cookie"', '"', "0060"]),
)
likely_values = st.one_of(
    st.lists(directives, max_size=4).map(", ".join),
    instants.map(fields.format_date),
    st.sampled_from(
        ['"a"', 'W/"a"', '"a", "b"', "*", "bytes=0-1", "bytes=-5", "bytes=3-", "gzip, br;q=0.5", "x-other"]
    ),
    numbers,
)
values = any_bytes | likely_values


def lines(names: tuple[str, ...]) -> st.SearchStrategy[Headers]:
    return st.lists(st.tuples(st.sampled_from(names), values), max_size=8).map(Headers)


requests = st.builds(
    Request,
    method=st.sampled_from(["GET", "GET", "HEAD", "POST", "M-SEARCH"]),
    target=st.sampled_from(["/", "/a?b", "*", ""]),
    headers=lines(REQUEST_FIELDS),
    authority=st.sampled_from(["here.example", "here.example:80", "[", ""]),
)
responses = st.builds(
    Response, status=st.sampled_from([200, 200, 204, 206, 304, 404, 599]), headers=lines(RESPONSE_FIELDS)
)
policies = st.builds(Policy, default_ttl=st.sampled_from([0.0, 30.0]))
exchanges = st.builds(
    lambda asked, answer, sent, delay: Exchange(asked, answer, sent, sent + delay),
    requests,
    responses,
    instants,
    st.floats(min_value=0, max_value=1e6),
)
entries = st.builds(storing.entry, exchanges, policies)


# ---- nothing raises ------------------------------------------------------------------------------------


@given(requests, exchanges, exchanges, instants, policies)
def test_no_rule_raises_whatever_the_fields_hold(
    asked: Request, first: Exchange, second: Exchange, now: float, policy: Policy
) -> None:
    storing.refusal(first.request, first.response, policy, first.response_time)
    stored = storing.entry(first, policy)
    assert storing.retention(stored, policy) >= 0
    decision = reuse.decide(asked, [stored], now, policy)
    assert isinstance(decision, reuse.Serve | reuse.Validate | reuse.Forward | reuse.Unsatisfiable)
    reuse.may_serve_stale(asked, stored, now, policy)
    validation.condition(asked, stored)
    validation.confirms(second.response, stored)
    validation.freshen(stored, second, policy)
    validation.freshen_by_head(stored, second, policy, 9)
    validation.not_modified(asked, stored)
    validation.not_modified_headers(stored.headers)
    ranges.select(asked, stored, 9)
    invalidation.targets(asked, second.response)
    variants.key(variants.nominated(first.response) or (), asked.headers)


@given(st.text())
@example('"\\')
def test_cache_status_is_always_a_valid_structured_field(detail: str) -> None:
    found = status.cache_status(fwd=reuse.Fwd.MISS, detail=detail)
    assert len(http_sf.parse(found.encode("ascii"), tltype="list")) == 1


# ---- parsing and formatting ----------------------------------------------------------------------------

whole_seconds = st.integers(min_value=0, max_value=4_000_000_000)


@given(whole_seconds, st.floats(min_value=0, max_value=0.99))
def test_a_formatted_date_parses_to_its_second(instant: int, fraction: float) -> None:
    assert fields.http_date(fields.format_date(instant + fraction), NOW) == instant


@given(whole_seconds)
def test_all_three_formats_name_the_same_instant(instant: int) -> None:
    moment = datetime.fromtimestamp(instant, UTC)
    rfc850 = moment.strftime("%A, %d-%b-%y %H:%M:%S GMT")
    asctime = moment.strftime(f"%a %b {moment.day:2} %H:%M:%S %Y")
    assert fields.http_date(rfc850, instant) == instant
    assert fields.http_date(asctime, NOW) == instant


@given(st.text(alphabet="SunMoWedJaFbGT0123456789 ,:-", max_size=32) | whole_seconds.map(fields.format_date))
def test_what_is_taken_for_a_date_is_one_for_the_standard_library_too(text: str) -> None:
    found = fields.http_date(text, NOW)
    if found is not None:
        assert parsedate_to_datetime(text).timestamp() == found


@given(st.integers(min_value=0, max_value=10**30), st.integers(min_value=0, max_value=5))
def test_numbers_parse_with_any_leading_zeros(number: int, zeros: int) -> None:
    assert fields.delta_seconds("0" * zeros + str(number)) == min(number, 2**31)


tokens = st.text(alphabet=string.ascii_lowercase + string.digits + "-_!", min_size=1, max_size=8)
quotables = st.text(alphabet=string.printable.replace("\n", "").replace("\r", ""), min_size=1, max_size=12)


def formatted(name: str, argument: str | None) -> str:
    if argument is None:
        return name
    escaped = argument.replace("\\", "\\\\").replace('"', '\\"')
    return f'{name}="{escaped}"'


@given(st.dictionaries(tokens, st.none() | quotables, max_size=5), st.integers(min_value=0, max_value=5))
def test_directives_round_trip_over_any_number_of_lines(wanted: dict[str, str | None], cut: int) -> None:
    parts = [formatted(name, argument) for name, argument in wanted.items()]
    field_lines = [", ".join(parts[:cut]), " ,".join(parts[cut:])]
    assert fields.directives(field_lines) == wanted


tag_characters = [chr(code) for code in (0x21, *range(0x23, 0x7F), *range(0x80, 0x100))]
tags = st.builds(
    lambda weak, text: weak + f'"{text}"', st.sampled_from(["", "W/"]), st.text(tag_characters, max_size=9)
)


@given(st.lists(tags, max_size=5))
def test_entity_tags_round_trip(wanted: list[str]) -> None:
    assert fields.entity_tags(" , ".join(wanted)) == wanted


@given(st.lists(any_bytes, max_size=4))
def test_members_are_trimmed_and_never_empty(field_lines: list[str]) -> None:
    found = fields.members(field_lines)
    assert all(member and member == member.strip(" \t") for member in found)


# ---- storing and variants ------------------------------------------------------------------------------


@given(exchanges, policies)
def test_nothing_of_the_connection_is_stored_and_date_always_is(exchange: Exchange, policy: Policy) -> None:
    kept = storing.entry(exchange, policy).headers
    nominated = {member.lower() for member in fields.members(exchange.response.headers.values("connection"))}
    assert kept.names().isdisjoint((nominated | fields.HOP_BY_HOP | {"age"}) - {"date"})
    assert "date" in kept
    assert fields.end_to_end(kept) == kept


@given(exchanges, policies)
def test_the_request_that_was_answered_selects_the_entry(exchange: Exchange, policy: Policy) -> None:
    stored = storing.entry(exchange, policy)
    assert variants.matches(stored, exchange.request.headers)
    assert variants.select([stored], exchange.request.headers) is stored


@given(st.sampled_from(["accept-encoding", "accept-language", "x-other", "cookie"]), values)
def test_normalising_twice_changes_nothing(name: str, value: str) -> None:
    once = variants.normalise(name, value)
    assert variants.normalise(name, once) == once


@given(st.permutations(["gzip", "br;q=0.5", "zstd;q=1.0", "identity; q=0"]))
def test_the_order_of_codings_never_matters(codings: list[str]) -> None:
    expected = "br;q=0.5,gzip,identity;q=0,zstd"
    assert variants.normalise("accept-encoding", ", ".join(codings)) == expected


# ---- freshness and reuse -------------------------------------------------------------------------------


@given(exchanges, policies)
def test_lifetimes_and_ages_are_never_negative(exchange: Exchange, policy: Policy) -> None:
    stored = storing.entry(exchange, policy)
    assert stored.lifetime >= 0
    assert stored.initial_age >= exchange.response_time - exchange.request_time >= 0


@given(entries, instants, instants)
def test_age_never_sinks(stored: Entry, one: float, other: float) -> None:
    earlier, later = sorted((one, other))
    assert freshness.age(stored, earlier) <= freshness.age(stored, later)


def rank(decision: reuse.Decision) -> int:
    """Fresh, then stale, then not served at all."""
    return 2 - decision.stale if isinstance(decision, reuse.Serve) else 0


@given(requests, entries, instants, instants, policies)
def test_time_only_takes_permissions_away(
    asked: Request, stored: Entry, one: float, other: float, policy: Policy
) -> None:
    earlier, later = sorted((one, other))
    assert rank(reuse.decide(asked, [stored], earlier, policy)) >= rank(
        reuse.decide(asked, [stored], later, policy)
    )
    early, late = (reuse.may_serve_stale(asked, stored, now, policy) for now in (earlier, later))
    assert early >= late


@given(requests, entries, instants, policies)
def test_only_what_the_rules_allow_is_served(
    asked: Request, stored: Entry, now: float, policy: Policy
) -> None:
    decision = reuse.decide(asked, [stored], now, policy)
    if isinstance(decision, reuse.Serve):
        assert not stored.always_validate
        assert decision.stale is (freshness.age(stored, now) >= stored.lifetime)
        assert not (decision.stale and stored.must_revalidate)
        assert variants.matches(stored, asked.headers)
        assert asked.method in {"GET", "HEAD"}


@given(requests, entries, instants, policies)
def test_only_if_cached_never_reaches_the_origin(
    asked: Request, stored: Entry, now: float, policy: Policy
) -> None:
    headers = asked.headers.extended([("Cache-Control", "only-if-cached")])
    only = asked._replace(method="GET", headers=headers)
    decision = reuse.decide(only, [stored], now, policy)
    assert isinstance(decision, reuse.Serve | reuse.Unsatisfiable)


# ---- validation and ranges -----------------------------------------------------------------------------


@given(entries, exchanges, policies)
def test_freshening_keeps_what_describes_the_body(stored: Entry, update: Exchange, policy: Policy) -> None:
    fresh = validation.freshen(stored, update, policy)
    assert fresh.status == stored.status
    assert fresh.headers.values("content-length") == stored.headers.values("content-length")
    assert fresh.response_time == update.response_time
    assert stored.etag is None or fresh.etag == stored.etag


@given(entries)
def test_a_client_that_repeats_the_validators_has_the_answer(stored: Entry) -> None:
    asked = Request("GET", "/", validation.condition(Request("GET", "/", Headers()), stored))
    if stored.has_validator and 200 <= stored.status < 300:
        assert validation.not_modified(asked, stored)


@given(st.integers(0, 50), st.none() | st.integers(0, 50), st.integers(0, 50))
def test_a_slice_is_what_python_would_cut(first: int, last: int | None, length: int) -> None:
    asked = Request("GET", "/", Headers([("Range", f"bytes={first}-{'' if last is None else last}")]))
    found = ranges.select(asked, WHOLE, length)
    body = bytes(range(length))
    expected = body[first:] if last is None else body[first : last + 1]
    if isinstance(found, ranges.Slice):
        assert body[found.first : found.last + 1] == expected != b""
    else:
        assert expected == b""


@given(st.integers(0, 50), st.integers(0, 50))
def test_a_suffix_is_what_python_would_cut(suffix: int, length: int) -> None:
    found = ranges.select(Request("GET", "/", Headers([("Range", f"bytes=-{suffix}")])), WHOLE, length)
    body = bytes(range(length))
    if isinstance(found, ranges.Slice):
        assert body[found.first : found.last + 1] == body[-suffix:]
    else:
        assert suffix == 0 or length == 0


WHOLE = storing.entry(
    Exchange(Request("GET", "/", Headers()), Response(200, Headers()), request_time=NOW, response_time=NOW),
    RFC_ONLY,
)
