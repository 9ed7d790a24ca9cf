"""RFC 9111 §4.2: how long a response is fresh, and how old it is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, cast

import http_sf

from . import fields

if TYPE_CHECKING:
    from .messages import Entry, Exchange, Policy, Request, Response

HEURISTICALLY_CACHEABLE = frozenset((200, 203, 204, 300, 301, 308, 404, 405, 410, 414, 501))
"""RFC 9110 §15.1, less 206, which is not stored."""


class Source(StrEnum):
    """What a lifetime was taken from."""

    S_MAXAGE = "s-maxage"
    MAX_AGE = "max-age"
    EXPIRES = "expires"
    HEURISTIC = "heuristic"
    DEFAULT = "default"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class Lifetime:
    """Seconds of freshness from the response's generation on."""

    seconds: float
    source: Source

    @property
    def is_explicit(self) -> bool:
        """Whether the origin stated it (§4.2.1)."""
        return self.source in (Source.S_MAXAGE, Source.MAX_AGE, Source.EXPIRES)


# ---- the directives that hold --------------------------------------------------------------------------

_Dictionary = Mapping[str, tuple[object, object]]
"""What http_sf makes of a dictionary: values (or inner lists), each with its parameters."""

_IN_SECONDS = frozenset(("max-age", "s-maxage", "stale-while-revalidate", "stale-if-error"))


def directives(response: Response, policy: Policy) -> tuple[fields.Directives, bool]:
    """The directives that hold for this cache; whether they come from a targeted field (RFC 9213 §2.2)."""
    for name in policy.targeted_fields:
        if name in response.headers:
            found = targeted_directives(response.headers.values(name))
            if found:
                return found, True
    return fields.directives(response.headers.values("cache-control")), False


def targeted_directives(lines: tuple[str, ...]) -> fields.Directives | None:
    """A targeted field: a Structured Fields dictionary, ignored whole when it is invalid (RFC 9213 §2.1)."""
    try:
        parsed = http_sf.parse(", ".join(lines).encode("latin-1", "replace"), tltype="dictionary")
    except http_sf.StructuredFieldError:
        return None
    found = {}
    for name, member in cast("_Dictionary", parsed).items():
        value = member[0]
        if name in _IN_SECONDS and (not isinstance(value, int) or isinstance(value, bool)):
            return None
        if value is not False:
            found[name] = None if value is True else _argument(value)
    return found


def _argument(value: object) -> str:
    return str(value) if isinstance(value, int | str | http_sf.Token) else fields.MALFORMED


# ---- lifetimes -----------------------------------------------------------------------------------------


def lifetime(request: Request, response: Response, policy: Policy, response_time: float) -> Lifetime:
    """The freshness lifetime of a response that arrived at `response_time` (§4.2.1, §4.2.2).

    s-maxage, then max-age, then Expires less Date; else a heuristic by Last-Modified; else the policy's
    default for a 200 to GET. Malformed explicit values mean 0: stale.
    """
    found, is_targeted = directives(response, policy)
    for source in (Source.S_MAXAGE, Source.MAX_AGE):
        if source.value in found:
            return Lifetime(float(fields.delta_seconds(found[source.value]) or 0), source)
    date = date_of(response, response_time)
    if "expires" in response.headers and not is_targeted:
        return Lifetime(_expires_lifetime(response.headers.values("expires"), date), Source.EXPIRES)
    return _unstated_lifetime(request, response, policy, date, is_public="public" in found)


def _expires_lifetime(lines: tuple[str, ...], date: float) -> float:
    """Expires less Date (§5.3); 0 for what is no single valid date."""
    instant = fields.http_date(lines[0], date) if len(lines) == 1 else None
    return 0.0 if instant is None else max(0.0, instant - date)


def _unstated_lifetime(
    request: Request, response: Response, policy: Policy, date: float, *, is_public: bool
) -> Lifetime:
    modified = fields.http_date(response.headers.get("last-modified"), date)
    if modified is not None and (is_public or response.status in HEURISTICALLY_CACHEABLE):
        seconds = policy.heuristic_fraction * max(0.0, date - modified)
        return Lifetime(min(seconds, policy.heuristic_max), Source.HEURISTIC)
    if response.status == 200 and request.method == "GET" and policy.default_ttl > 0:
        return Lifetime(policy.default_ttl, Source.DEFAULT)
    return Lifetime(0.0, Source.NONE)


def date_of(response: Response, response_time: float) -> float:
    """The response's Date; its arrival where that is absent or invalid (RFC 9110 §6.6.1)."""
    date = fields.http_date(response.headers.get("date"), response_time)
    return response_time if date is None else date


# ---- ages ----------------------------------------------------------------------------------------------


def initial_age(exchange: Exchange) -> float:
    """corrected_initial_age (§4.2.3): by Date and by Age, the response's delay counted."""
    response, arrival = exchange.response, exchange.response_time
    # Date has whole seconds: a fraction of one is not yet an age.
    apparent_age = max(0.0, arrival // 1 - date_of(response, arrival))
    corrected_age_value = _age_value(response) + max(0.0, arrival - exchange.request_time)
    return max(apparent_age, corrected_age_value)


def _age_value(response: Response) -> int:
    """The first member of Age when it is a whole number; else 0 (§5.1)."""
    ages = fields.members(response.headers.values("age"))
    return fields.delta_seconds(ages[0]) or 0 if ages else 0


def age(entry: Entry, now: float) -> float:
    """current_age in seconds (§4.2.3). Never less than the initial age, even when the clock was set back."""
    resident = now - entry.response_time
    return entry.initial_age + resident if resident > 0 else entry.initial_age
