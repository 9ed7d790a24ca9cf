"""RFC 9111 §3: may this response be stored, and as what."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple

from . import fields, freshness, invalidation, variants
from .messages import Entry, Response

if TYPE_CHECKING:
    from collections.abc import Callable

    from .messages import Exchange, Headers, Policy, Request


class Refusal(StrEnum):
    """Why a response is not stored; spelt as Cache-Status `detail`."""

    METHOD = "method"
    STATUS = "status"
    REQUEST_NO_STORE = "request-no-store"
    NO_STORE = "no-store"
    PRIVATE = "private"
    AUTHORIZATION = "authorization"
    VARY = "vary"
    SET_COOKIE = "set-cookie"
    NO_LIFETIME = "no-lifetime"
    NO_VALIDATOR = "no-validator"


def refusal(request: Request, response: Response, policy: Policy, response_time: float) -> Refusal | None:
    """Why the response must not be stored, or is of no use when stored; None when it may be (§3)."""
    found, _ = freshness.directives(response, policy)
    lifetime = freshness.lifetime(request, response, policy, response_time)
    candidate = _Candidate(request, response, found, lifetime)
    return next((reason for reason, applies in _CHECKS.items() if applies(candidate)), None)


class _Candidate(NamedTuple):
    request: Request
    response: Response
    directives: fields.Directives
    lifetime: freshness.Lifetime


def _is_method_refused(candidate: _Candidate) -> bool:
    """GET is stored; so is an answer to POST that says it is what a GET would get (RFC 9110 §9.3.3).

    Only a 200: what else became of a POST, such as 201, is no answer to a GET, even with the content of one.
    """
    request, response = candidate.request, candidate.response
    if request.method == "POST":
        own = invalidation.local_target(request, response.headers.get("content-location"))
        is_such = response.status == 200 and own == request.target
        return not (is_such and candidate.lifetime.is_explicit)
    return request.method != "GET"


UNSTORED_STATUSES = frozenset((206, 304, 412, 416))
"""Answers to the request's own Range or conditions, which are no part of the key (§3.3, §4.3.2)."""

UNDERSTOOD_STATUSES = frozenset(
    (
        *(*range(200, 209), 226, *range(300, 309)),
        *(*range(400, 419), *range(421, 427), 428, 429, 431, 451),
        *(*range(500, 509), 510, 511),
    )
)
"""The registered final status codes; none but UNSTORED_STATUSES asks for more than RFC 9111 §3 says."""


def _is_status_refused(candidate: _Candidate) -> bool:
    """Interim and partial answers; with must-understand, also unknown status codes (§5.2.2.3)."""
    status = candidate.response.status
    is_unknown = "must-understand" in candidate.directives and status not in UNDERSTOOD_STATUSES
    return status < 200 or status in UNSTORED_STATUSES or is_unknown


def _is_no_store(candidate: _Candidate) -> bool:
    """no-store, unless must-understand is there for caches that know the status code (§5.2.2.3)."""
    return "no-store" in candidate.directives and "must-understand" not in candidate.directives


def _is_private(candidate: _Candidate) -> bool:
    """Unqualified private; with names only those fields are private (§5.2.2.7)."""
    return "private" in candidate.directives and not qualifying(candidate.directives, "private")


_SHAREABLE = ("must-revalidate", "public", "s-maxage")


def _is_authorized(candidate: _Candidate) -> bool:
    """§3.5: an answer to an authenticated request, without a directive that allows to share it."""
    return candidate.request.has_credentials and candidate.directives.keys().isdisjoint(_SHAREABLE)


def _sets_cookie(candidate: _Candidate) -> bool:
    """A cookie is somebody's unless the origin's explicit lifetime says that it is everybody's (§7.3)."""
    return "set-cookie" in candidate.response.headers and not candidate.lifetime.is_explicit


def _has_validator(candidate: _Candidate) -> bool:
    headers = candidate.response.headers
    modified = fields.http_date(headers.get("last-modified"), 0.0)
    return modified is not None or fields.entity_tag(headers.get("etag")) is not None


def _has_no_lifetime(candidate: _Candidate) -> bool:
    """Nothing says that it may be stored (§3), or it is born stale and can't be validated: of no use."""
    is_heuristic = (
        candidate.response.status in freshness.HEURISTICALLY_CACHEABLE or "public" in candidate.directives
    )
    if candidate.lifetime.source is freshness.Source.NONE and not is_heuristic:
        return True
    is_windowed = any(_window(candidate.directives, name) for name in _WINDOWS)
    return candidate.lifetime.seconds <= 0 and not is_windowed and not _has_validator(candidate)


_WINDOWS = ("stale-while-revalidate", "stale-if-error")


def _must_validate(candidate: _Candidate) -> bool:
    return "no-cache" in candidate.directives and not qualifying(candidate.directives, "no-cache")


_CHECKS: dict[Refusal, Callable[[_Candidate], bool]] = {
    Refusal.METHOD: _is_method_refused,
    Refusal.STATUS: _is_status_refused,
    Refusal.REQUEST_NO_STORE: lambda it: (
        "no-store" in fields.directives(it.request.headers.values("cache-control"))
    ),
    Refusal.NO_STORE: _is_no_store,
    Refusal.PRIVATE: _is_private,
    Refusal.AUTHORIZATION: _is_authorized,
    Refusal.VARY: lambda it: variants.nominated(it.response) is None,
    Refusal.SET_COOKIE: _sets_cookie,
    Refusal.NO_VALIDATOR: lambda it: _must_validate(it) and not _has_validator(it),
    Refusal.NO_LIFETIME: _has_no_lifetime,
}


# ---- what is stored ------------------------------------------------------------------------------------


def entry(exchange: Exchange, policy: Policy) -> Entry:
    """The entry for a response that was not refused."""
    request, response, response_time = exchange.request, exchange.response, exchange.response_time
    found, _ = freshness.directives(response, policy)
    headers = stored_headers(response, policy, response_time)
    is_stated = "stale-if-error" in found
    return Entry(
        status=response.status,
        headers=headers,
        selecting=variants.selecting(variants.nominated(response) or (), request.headers),
        date=freshness.date_of(response, response_time),
        response_time=response_time,
        initial_age=freshness.initial_age(exchange),
        lifetime=freshness.lifetime(request, response, policy, response_time).seconds,
        stale_while_revalidate=_window(found, "stale-while-revalidate"),
        stale_if_error=_window(found, "stale-if-error") if is_stated else None,
        always_validate="no-cache" in found and not qualifying(found, "no-cache"),
        must_revalidate=not found.keys().isdisjoint(("must-revalidate", "proxy-revalidate", "s-maxage")),
        immutable="immutable" in found,
        etag=fields.entity_tag(response.headers.get("etag")),
        last_modified=fields.http_date(response.headers.get("last-modified"), response_time),
    )


def _window(found: fields.Directives, name: str) -> float:
    return float(fields.delta_seconds(found.get(name)) or 0)


def qualifying(found: fields.Directives, name: str) -> list[str]:
    """The field names that qualify private or no-cache (§5.2.2.4, §5.2.2.7); none when it holds for all."""
    return fields.members((found.get(name) or "",))


def retention(entry: Entry, policy: Policy) -> float:  # pylint: disable=redefined-outer-name
    """Seconds from its arrival on for which an entry can be of use: fresh, stale in a window, validated."""
    stale_if_error = policy.stale_if_error if entry.stale_if_error is None else entry.stale_if_error
    windows = (
        entry.stale_while_revalidate,
        0.0 if entry.must_revalidate or entry.always_validate else stale_if_error,
        policy.max_stale if entry.has_validator else 0.0,
    )
    return max(0.0, entry.lifetime - entry.initial_age) + max(windows)


def stored_headers(response: Response, policy: Policy, response_time: float) -> Headers:
    """The fields to store with a response (§3.1): its own, and a Date where it has none (RFC 9110 §6.6.1).

    Left out are those of a connection, those that private and no-cache directives name, and Age.
    """
    found, _ = freshness.directives(response, policy)
    secret = (*qualifying(found, "private"), *qualifying(found, "no-cache"))
    headers = fields.end_to_end(response.headers).without(("age", *secret))
    return headers if "date" in headers else headers.extended((("Date", fields.format_date(response_time)),))
