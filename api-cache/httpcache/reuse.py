"""RFC 9111 §4: serve, validate, forward, or refuse."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple

from . import fields, freshness, variants

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .messages import Entry, Policy, Request


class Fwd(StrEnum):
    """Why a request goes to the origin, spelt as RFC 9211 §2.2 does."""

    BYPASS = "bypass"
    METHOD = "method"
    MISS = "miss"
    VARY_MISS = "vary-miss"
    REQUEST = "request"
    STALE = "stale"


class Serve(NamedTuple):
    """Answer with this entry, whose age is `age` seconds.

    When `revalidate`, it is stale and within stale-while-revalidate: send it, and validate it meanwhile.
    """

    entry: Entry
    age: float
    stale: bool = False
    revalidate: bool = False

    @property
    def ttl(self) -> int:
        """Remaining seconds of freshness for Cache-Status; negative when stale (RFC 9211 §2.4)."""
        return int(self.entry.lifetime) - int(self.age)


@dataclass(frozen=True, slots=True)
class Validate:
    """Ask the origin whether this entry is still good (§4.3): it has a validator."""

    entry: Entry
    fwd: Fwd


@dataclass(frozen=True, slots=True)
class Forward:
    """Ask the origin for a whole answer. `entry` may serve should the origin fail (see may_serve_stale)."""

    fwd: Fwd
    entry: Entry | None = None


@dataclass(frozen=True, slots=True)
class Unsatisfiable:
    """Nothing may serve and the client forbade to forward: 504 (§5.2.1.7). `fwd` says why nothing may."""

    fwd: Fwd


Decision = Serve | Validate | Forward | Unsatisfiable

_NO_DIRECTIVES: fields.Directives = {}
_ORIGIN_CONDITIONS = ("if-match", "if-unmodified-since")


def decide(request: Request, entries: Sequence[Entry], now: float, policy: Policy) -> Decision:
    """What to do with a request, given all stored entries of its URL."""
    if request.method not in ("GET", "HEAD"):
        return Forward(Fwd.METHOD)
    wanted = request_directives(request)
    entry = variants.select(entries, request.headers)
    if entry is None:
        return _ask(request, wanted, Fwd.VARY_MISS if entries else Fwd.MISS, None)
    age = freshness.age(entry, now)
    objection = _client_objection(request, wanted, entry, age)
    if objection is None and not entry.always_validate:
        if age < entry.lifetime:
            return Serve(entry, age)
        staleness = age - entry.lifetime
        if not entry.must_revalidate and staleness < _stale_window(wanted, entry, policy):
            return Serve(entry, age, stale=True, revalidate=staleness < entry.stale_while_revalidate)
    return _ask(request, wanted, objection or Fwd.STALE, entry)


def seconds_of_use(entry: Entry) -> float:
    """At which age the entry begins to need validation before each use (§4.2, §5.2.2.4; RFC 5861 §3)."""
    if entry.always_validate:
        return 0.0
    return entry.lifetime + (0.0 if entry.must_revalidate else entry.stale_while_revalidate)


def _client_objection(request: Request, wanted: fields.Directives, entry: Entry, age: float) -> Fwd | None:
    """REQUEST when what the client says forbids this entry to serve, fresh or not (§5.2.1, §4.3.2)."""
    if has_origin_condition(request):
        return Fwd.REQUEST
    if not wanted:
        return None
    too_old = "max-age" in wanted and _is_older_than(wanted["max-age"], entry, age)
    too_brief = entry.lifetime - age < (fields.delta_seconds(wanted.get("min-fresh")) or 0)
    is_refused = "no-cache" in wanted or too_old or ("min-fresh" in wanted and too_brief)
    return Fwd.REQUEST if is_refused else None


def has_origin_condition(request: Request) -> bool:
    """If-Match and If-Unmodified-Since are for the origin to evaluate (§4.3.2)."""
    return request.headers.has_any(_ORIGIN_CONDITIONS)


def _is_older_than(argument: str | None, entry: Entry, age: float) -> bool:
    """max-age (§5.2.1.1). 0, a reload, is always exceeded, but for a fresh immutable entry (RFC 8246 §2)."""
    limit = fields.delta_seconds(argument) or 0
    if limit == 0:
        return not (entry.immutable and age < entry.lifetime)
    return age > limit


def _stale_window(wanted: fields.Directives, entry: Entry, policy: Policy) -> float:
    """For how long past its lifetime the entry may serve: by max-stale (§5.2.1.2), or RFC 5861 §3.

    Whoever sends max-age without max-stale wants nothing stale (§5.2.1.1).
    """
    if "max-stale" not in wanted:
        return 0.0 if "max-age" in wanted else entry.stale_while_revalidate
    argument = wanted["max-stale"]
    tolerated = policy.max_stale if argument is None else fields.delta_seconds(argument) or 0
    return max(min(tolerated, policy.max_stale), entry.stale_while_revalidate)


def _ask(request: Request, wanted: fields.Directives, fwd: Fwd, entry: Entry | None) -> Decision:
    if "only-if-cached" in wanted:
        return Unsatisfiable(fwd)
    if entry is not None and may_validate(request, entry):
        return Validate(entry, fwd)
    return Forward(fwd, entry)


def may_validate(request: Request, entry: Entry) -> bool:
    """Whether the origin may be asked if the entry is still good, in place of what the client asks (§4.3.1).

    A 304 would end in the store, which no-store forbids, and is no answer to another's condition.
    """
    if not entry.has_validator or has_origin_condition(request):
        return False
    return "no-store" not in request_directives(request)


def request_directives(request: Request) -> fields.Directives:
    """The request's Cache-Control directives; Pragma: no-cache counts where it has none (§5.4)."""
    headers = request.headers
    if "cache-control" in headers:
        return fields.directives(headers.values("cache-control"))
    if "pragma" in headers and "no-cache" in fields.directives(headers.values("pragma")):
        return {"no-cache": None}
    return _NO_DIRECTIVES


FAILURES = frozenset((500, 502, 503, 504))
"""Answers that count as a failing origin (RFC 5861 §4), besides none at all."""


def may_serve_stale(request: Request, entry: Entry, now: float, policy: Policy) -> bool:
    """Whether the entry may answer since the origin failed: it gave no answer, or one of FAILURES.

    Not where a directive or the client forbids it, and only within the window: the client's stale-if-error,
    the origin's, or the policy's (RFC 9111 §4.2.4, RFC 5861 §4). A stored failure stands in for no other.
    """
    wanted = request_directives(request)
    is_forbidden = entry.always_validate or entry.must_revalidate or "no-cache" in wanted
    is_other = has_origin_condition(request) or not variants.matches(entry, request.headers)
    if is_forbidden or is_other or entry.status in FAILURES:
        return False
    window = policy.stale_if_error if entry.stale_if_error is None else entry.stale_if_error
    if "stale-if-error" in wanted:
        window = fields.delta_seconds(wanted["stale-if-error"]) or 0
    return freshness.age(entry, now) - entry.lifetime < window
