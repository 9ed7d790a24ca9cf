"""What each answer must be. A check holds one rule, and tells what is wrong; None where nothing is.

Freshness and age are judged by the moments of the origin's answers, with some slack for the way.
"""

import gzip
import math
import re
import zlib
from collections.abc import Callable, Iterator
from email.utils import parsedate_to_datetime

from backports import zstd

from tests.stress.exchanges import Exchange
from tests.stress.history import EVERYBODY
from tests.stress.origin import echo
from tests.stress.records import Records
from tests.stress.targets import accepts, variant

SLACK = 0.05
"""Seconds that two clocks and the way between them may make."""
Check = Callable[[Exchange, Records], str | None]


def broken(exchange: Exchange, records: Records) -> Iterator[tuple[Check, str]]:
    """The checks that an exchange does not pass, and what each of them says."""
    if exchange.request.is_unsafe:
        checks = UNSAFE
    elif exchange.sent is None:
        checks = OWN
    else:
        checks = SAFE
    for check in checks:
        if (wrong := check(exchange, records)) is not None:
            yield check, wrong


# ---- of all


def says_what_became_of_it(exchange: Exchange, _: Records) -> str | None:
    """Each answer has Cache-Status (RFC 9211 §2)."""
    return None if exchange.outcome else "it has none"


# ---- of unsafe requests


def unsafe_is_forwarded_as_it_is(exchange: Exchange, records: Records) -> str | None:
    """An unsafe request goes to the origin (RFC 9111 §4), with its method and content (RFC 9110 §7.6)."""
    request, found = exchange.request, exchange.answer["X-Echo"]
    if exchange.outcome.get("fwd") != "method":
        return "it was not forwarded for its method"
    if found is None and exchange.answer.status in (502, 504):
        return None if _origin_was_away(exchange, records) else "the origin was there"
    sent = echo(request.number, request.method, request.content)
    return None if found == sent else f"the origin got {found}, not {sent}"


# ---- of what api-cache answers by itself


def own_answer_has_a_reason(exchange: Exchange, records: Records) -> str | None:
    """Without the origin's word there is 504 to only-if-cached (RFC 9111 §5.2.1.7), 416 to a range (RFC 9110
    §15.5.17), and 502 or 504 where the origin fails (§15.6)."""
    request, status = exchange.request, exchange.answer.status
    if status == 504 and "only-if-cached" in request.directives:
        return None
    if status == 416 and "range" in request.fields:
        return None
    if status not in (502, 504):
        return f"{status} without the origin"
    breaks = request.target.breaking and records.failed_lately(request.target, 6)
    return None if breaks or _origin_was_away(exchange, records) else "the origin did not fail"


def stale_serves_when_the_origin_fails(exchange: Exchange, records: Records) -> str | None:
    """What is stored serves when the origin fails (RFC 5861 §4), unless it or the client forbids that."""
    request, target = exchange.request, exchange.request.target
    policy, wishes = target.policy, {"cache-control", "pragma", "if-match"} & request.fields.keys()
    is_forbidden = policy.is_strict or policy.is_validated or policy.if_error == 0 or wishes
    # Which codings select one variant is the origin's to say.
    has_one_variant = len(target.varies) == 1 and "Accept-Encoding" not in target.varies
    is_plain = target.is_shared and not target.failing and has_one_variant
    if exchange.answer.status < 500 or is_forbidden or not is_plain or records.has_had("redis"):
        return None
    stored = records.stored.get((target.path, variant(target.varies[0], request.fields)), -math.inf)
    if records.changed.get(target.path, 0) + 0.3 < stored < exchange.begun:
        return f"it was stored {exchange.begun - stored:.3f} s before"
    return None


def _origin_was_away(exchange: Exchange, records: Records) -> bool:
    return records.troubled({"origin"}, exchange.begun, exchange.ended, after=1.2)


# ---- of what the origin said


def is_of_its_target(exchange: Exchange, _: Records) -> str | None:
    """A stored answer serves the target that it was stored for (RFC 9111 §4)."""
    return (
        None if exchange.sent.target is exchange.request.target else f"it is of {exchange.sent.target.path}"
    )


def is_of_its_variant(exchange: Exchange, _: Records) -> str | None:
    """A stored answer serves requests alike in the fields that its Vary names (RFC 9111 §4.1)."""
    wanted = variant(exchange.sent.vary, exchange.request.fields)
    return None if exchange.sent.form.variant == wanted else f"{exchange.sent.form.variant}, not {wanted}"


def personal_is_not_shared(exchange: Exchange, _: Records) -> str | None:
    """Nobody gets what is another's: no-store, private, credentials, cookies (RFC 9111 §3, §3.5, §7.3)."""
    whom = exchange.sent.form.whom
    if whom not in (EVERYBODY, exchange.request.client):
        return f"it is for {whom}"
    is_shared = bool({"hit", "stored", "collapsed"} & exchange.outcome.keys())
    return "it is stored or shared" if whom != EVERYBODY and is_shared else None


def secret_field_is_not_shared(exchange: Exchange, _: Records) -> str | None:
    """A field that private or no-cache names is for one client (RFC 9111 §5.2.2.4, §5.2.2.7)."""
    secret = exchange.answer["X-Secret"]
    if secret is not None and exchange.is_hit:
        return "it was stored"
    return None if secret in (None, exchange.request.client) else f"X-Secret is that of {secret}"


def connection_fields_end_here(exchange: Exchange, _: Records) -> str | None:
    """Fields of the origin's connection are not forwarded (RFC 9110 §7.6.1)."""
    found = [name for name in ("X-Hop", "Keep-Alive") if exchange.answer.values(name)]
    return f"it has {found}" if found else None


def content_is_whole_and_right(exchange: Exchange, _: Records) -> str | None:
    """The content is the origin's, whole (RFC 9111 §3.3), in a coding that is wanted (RFC 9110 §12.5.3)."""
    sent, answer = exchange.sent, exchange.answer
    if exchange.request.method == "HEAD" or answer.status in (206, 304, 412):
        return None
    coding = answer["Content-Encoding"] or "identity"
    try:
        content = _decoded(answer.body, coding)
    except (OSError, EOFError, zlib.error, zstd.ZstdError) as error:
        return f"it cannot be decoded: {error!r}"
    expected = b"failure" if sent.is_failure else sent.target.body(sent.form)
    if content != expected:
        return f"{len(content)} bytes {content[:150]!r} instead of {len(expected)} bytes {expected[:150]!r}"
    if coding == "identity":
        return None
    if not accepts(exchange.request.fields.get("accept-encoding"), coding):
        return f"the client did not ask for {coding}"
    return (
        None if "accept-encoding" in (answer["Vary"] or "").lower() else "Vary does not name Accept-Encoding"
    )


def _decoded(body: bytes, coding: str) -> bytes:
    match coding:
        case "gzip":
            return gzip.decompress(body)
        case "zstd":
            return zstd.decompress(body)
    return body


def one_strong_tag_is_one_content(exchange: Exchange, records: Records) -> str | None:
    """Two contents never have the same strong tag (RFC 9110 §8.8.1)."""
    tag = exchange.answer["ETag"] or ""
    if exchange.answer.status != 200 or exchange.request.method != "GET" or not tag.startswith('"'):
        return None
    kept = records.keep_content((exchange.request.target.path, tag), exchange.answer.body)
    return None if kept == exchange.answer.body else f"{len(kept)} bytes {kept[:100]!r} had it, too"


def part_is_of_the_content(exchange: Exchange, records: Records) -> str | None:
    """A 206 has the bytes that Content-Range says (RFC 9110 §15.3.7), of If-Range's content (§13.1.5)."""
    request, answer = exchange.request, exchange.answer
    if answer.status != 206:
        return None
    match = re.fullmatch(r"bytes (\d+)-(\d+)/(\d+)", answer["Content-Range"] or "")
    if match is None or "range" not in request.fields:
        return "nobody asked for it"
    first, last, size = map(int, match.groups())
    condition, tag = request.fields.get("if-range"), answer["ETag"]
    if condition is not None and (condition != tag or condition.startswith("W/")):
        return f"it is of {tag}"
    if last - first + 1 != len(answer.body):
        return f"it has {len(answer.body)} bytes"
    content = _content_of(exchange, records)
    if content is None or (content[first : last + 1] == answer.body and len(content) == size):
        return None
    return f"the content has {len(content)} bytes, there {content[first : first + 100]!r}"


def _content_of(exchange: Exchange, records: Records) -> bytes | None:
    """The whole content of which the answer is a part or the head; None where nobody has seen it."""
    sent, answer = exchange.sent, exchange.answer
    if answer["Content-Encoding"] == ("gzip" if sent.target.is_coded(sent.form) else None):
        return sent.content
    return records.contents.get((sent.target.path, answer["ETag"] or ""))


def head_is_that_of_get(exchange: Exchange, records: Records) -> str | None:
    """HEAD has no content (RFC 9110 §9.3.2), and the length of what GET would have (§8.6)."""
    answer, length = exchange.answer, exchange.answer["Content-Length"]
    if exchange.request.method != "HEAD" or answer.status in (304, 412):
        return None
    if answer.body:
        return "it has content"
    content = _content_of(exchange, records)
    if length is None or content is None or int(length) == len(content):
        return None
    return f"the content has {len(content)} bytes"


def not_modified_is_true(exchange: Exchange, _: Records) -> str | None:
    """A 304 is to a client that has the content: by its tag (RFC 9110 §13.1.2), else by a date (§13.1.3)."""
    fields, answer = exchange.request.fields, exchange.answer
    if answer.status != 304:
        return None
    if (known := fields.get("if-none-match")) is not None:
        tags = [each.strip().removeprefix("W/") for each in known.split(",")]
        is_known = known == "*" or (answer["ETag"] or "-").removeprefix("W/") in tags
        return None if is_known else f"{answer['ETag']} is none of {tags}"
    if "if-modified-since" not in fields:
        return "the request has no condition"
    return _not_modified_since(exchange, fields["if-modified-since"])


def _not_modified_since(exchange: Exchange, since: str) -> str | None:
    """What is stored may be judged by its Date (RFC 9111 §4.3.2), what is not by Last-Modified alone."""
    outcome = exchange.outcome
    is_stored = bool({"hit", "stored", "collapsed"} & outcome.keys()) or outcome.get("fwd-status") == "304"
    is_stored = is_stored or exchange.is_for_error
    date = exchange.answer["Date"] if is_stored else None
    modified = exchange.sent.modified or (parsedate_to_datetime(date).timestamp() if date else math.inf)
    return None if modified <= parsedate_to_datetime(since).timestamp() else f"it was modified at {modified}"


def not_modified_has_its_fields(exchange: Exchange, _: Records) -> str | None:
    """A 304 has the fields that 200 would have and that matter to caches (RFC 9110 §15.4.5)."""
    if exchange.answer.status != 304:
        return None
    names = [line.partition(":")[0] for line in exchange.sent.policy.lines]
    names += ["Date", *(["Vary"] if exchange.sent.vary else [])]
    missing = [name for name in names if not exchange.answer.values(name)]
    return f"it lacks {missing}" if missing else None


def validators_are_the_origins(exchange: Exchange, _: Records) -> str | None:
    """Validators are those of the content (RFC 9110 §8.8); a coded form's tag begins like the origin's."""
    sent, answer = exchange.sent, exchange.answer
    if answer.status not in (200, 206):
        return None
    tag, date = answer["ETag"], answer["Last-Modified"]
    is_tag_right = tag is None if sent.tag is None else (tag or "").startswith(sent.tag[:-1])
    if not is_tag_right:
        return f"ETag is {tag}, the origin's {sent.tag}"
    modified = None if date is None else parsedate_to_datetime(date).timestamp()
    return None if modified == sent.modified else f"Last-Modified is {modified}, the origin's {sent.modified}"


def outcome_is_true(exchange: Exchange, records: Records) -> str | None:
    """Cache-Status tells whether the origin was asked (RFC 9211 §2.1, §2.2)."""
    outcome = exchange.outcome
    is_fresh_hit = exchange.is_hit and "detail" not in outcome and int(outcome.get("ttl", 0)) > 0
    may_be_lost = records.troubled({"redis"}, exchange.begun, exchange.ended, after=1)
    if is_fresh_hit and exchange.is_asked and not may_be_lost:  # else the origin gives the rest
        return "a hit, though the origin was asked"
    if exchange.is_hit and outcome.get("fwd") not in (None, "stale"):
        return "both a hit and forwarded"
    if not exchange.is_own_fetch or records.troubled({"origin"}, exchange.begun, exchange.ended, after=2):
        return None
    if not exchange.is_asked:
        return "the origin was not asked"
    return None if exchange.sent.asked >= exchange.begun else "the origin was asked for another request"


def age_is_right(exchange: Exchange, _: Records) -> str | None:
    """What was stored has its Age (RFC 9111 §5.1), counted in whole seconds by §4.2.3."""
    if not (exchange.is_hit or "collapsed" in exchange.outcome):
        return None
    age = exchange.answer["Age"]
    if age is None:
        return "it has none"
    most = exchange.ended - exchange.sent.asked + exchange.sent.policy.age
    is_right = exchange.least_age - 1 - SLACK <= int(age) <= most + 1 + 6 * SLACK
    return None if is_right else f"{age}, but it is between {exchange.least_age:.2f} and {most:.2f}"


def is_fresh_or_may_be_stale(exchange: Exchange, _: Records) -> str | None:
    """A stored answer is fresh (RFC 9111 §4.2), or stale within what §4.2.4 and RFC 5861 allow."""
    if not (exchange.is_hit or exchange.is_for_error):
        return None
    staleness, most = exchange.least_age - exchange.sent.lifetime, _most_staleness(exchange)
    return f"stale for {staleness:.3f} s, not {most:.3f}" if staleness > most + SLACK else None


def _most_staleness(exchange: Exchange) -> float:
    """Seconds after its lifetime for which the stored answer may serve this request."""
    wishes, policy = exchange.request.directives, exchange.sent.policy
    if policy.is_strict:
        return 0
    if exchange.is_for_error:
        return float(wishes.get("stale-if-error", policy.if_error))
    is_limited = "max-age" in wishes and "max-stale" not in wishes
    wanted = float(wishes["max-stale"] or math.inf) if "max-stale" in wishes else 0
    return max(wanted, 0 if is_limited else policy.while_revalidate)


def stale_for_an_error_only(exchange: Exchange, records: Records) -> str | None:
    """stale-if-error serves after the origin has failed (RFC 5861 §4)."""
    if not exchange.is_for_error or records.failed_lately(exchange.request.target, 8):
        return None
    is_away = records.troubled({"origin"}, exchange.begun, exchange.ended, after=2)
    return None if is_away else "the origin did not fail"


def no_cache_is_validated(exchange: Exchange, _: Records) -> str | None:
    """no-cache of either side has the origin asked (RFC 9111 §5.2.1.4, §5.2.2.4); If-Match has it, too."""
    request = exchange.request
    is_demanded = "no-cache" in request.directives or "if-match" in request.fields
    is_stored = exchange.is_hit or exchange.is_for_error
    return "it is stored" if is_stored and (is_demanded or exchange.sent.policy.is_validated) else None


def request_directives_hold(exchange: Exchange, _: Records) -> str | None:
    """A client may bound age and freshness (RFC 9111 §5.2.1.1, §5.2.1.3), save of what is immutable (RFC
    8246) or serves for an error (RFC 5861 §4), and not wish to wait for the origin (§5.2.1.7)."""
    wishes, age = exchange.request.directives, exchange.least_age
    if not exchange.is_hit or exchange.is_for_error:
        return "the origin was asked" if exchange.is_asked and "only-if-cached" in wishes else None
    most = float(wishes.get("max-age", math.inf))
    if (age > most + SLACK or most == 0) and not (exchange.sent.policy.is_immutable and most == 0):
        return f"{age:.3f} s old"
    left = exchange.sent.lifetime - age
    return f"fresh for {left:.3f} s" if left < float(wishes.get("min-fresh", -math.inf)) - SLACK else None


def acknowledged_change_is_seen(exchange: Exchange, records: Records) -> str | None:
    """What an unsafe request changed is invalid in every process (RFC 9111 §4.4) 0.1 s after its answer."""
    if exchange.sent.is_failure:
        return None
    oldest, version = (
        records.oldest_version(exchange.request.target, exchange.begun),
        exchange.sent.form.version,
    )
    return f"version {version}, though {oldest} was acknowledged" if version < oldest else None


UNSAFE: tuple[Check, ...] = (says_what_became_of_it, unsafe_is_forwarded_as_it_is)
OWN: tuple[Check, ...] = (
    says_what_became_of_it,
    own_answer_has_a_reason,
    stale_serves_when_the_origin_fails,
)
SAFE: tuple[Check, ...] = (
    says_what_became_of_it,
    is_of_its_target,
    is_of_its_variant,
    personal_is_not_shared,
    secret_field_is_not_shared,
    connection_fields_end_here,
    content_is_whole_and_right,
    one_strong_tag_is_one_content,
    part_is_of_the_content,
    head_is_that_of_get,
    not_modified_is_true,
    not_modified_has_its_fields,
    validators_are_the_origins,
    outcome_is_true,
    age_is_right,
    is_fresh_or_may_be_stale,
    stale_for_an_error_only,
    no_cache_is_validated,
    request_directives_hold,
    acknowledged_change_is_seen,
)
