"""RFC 9111 §4.3: validation with the origin, freshening by its answers, and clients' own conditions."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from . import fields, freshness, storing, variants
from .messages import Response
from .reuse import request_directives

if TYPE_CHECKING:
    from .messages import Entry, Exchange, Headers, Policy, Request

CONDITIONS = ("if-match", "if-none-match", "if-modified-since", "if-unmodified-since", "if-range")


# ---- with the origin -----------------------------------------------------------------------------------


def condition(request: Request, entry: Entry) -> Headers:
    """The request's end-to-end fields for the origin, with conditions that validate the entry (§4.3.1).

    The client's own conditions and Range are left out: the answer must be good for everyone.
    """
    return unconditional(request).extended(_validators(entry))


def unconditional(request: Request) -> Headers:
    """The request's end-to-end fields without conditions and Range, so that a whole answer comes back."""
    return fields.end_to_end(request.headers).without((*CONDITIONS, "range"))


def _validators(entry: Entry) -> list[tuple[str, str]]:
    lines = []
    if entry.etag is not None:
        lines.append(("If-None-Match", entry.etag))
    if entry.last_modified is not None:
        lines.append(("If-Modified-Since", fields.format_date(entry.last_modified)))
    return lines


def confirms(response: Response, entry: Entry) -> bool:
    """Whether a 304 to a condition made for this entry is about this entry (§4.3.3, §4.3.4).

    Its validators must be the entry's. One that has none, as many origins send, is about what was asked. Weak
    comparison, since some origins weaken the tag of the 200 alone. When false, ask again without conditions.
    """
    tag = response.headers.get("etag")
    if tag is not None and entry.etag is not None:
        return fields.weak_match(tag, entry.etag)
    modified = fields.http_date(response.headers.get("last-modified"), entry.response_time)
    return modified is None or entry.last_modified is None or modified == entry.last_modified


_WITHDRAWN = frozenset((401, 403, 404, 410, 451))


def supersedes(exchange: Exchange) -> bool:
    """Whether this answer, though it is not stored, shows that what is stored in its place must go (§4.3.3).

    It is a full one to a GET that is like everybody's, and says of the resource that it is another now, or is
    no more. Failures do not (RFC 5861 §4), nor what may be the fault of one request.
    """
    request, status = exchange.request, exchange.response.status
    is_like_others = not request.has_credentials and "no-store" not in request_directives(request)
    is_full = 200 <= status < 400 and status not in storing.UNSTORED_STATUSES
    return request.method == "GET" and is_like_others and (is_full or status in _WITHDRAWN)


_DIGESTS = frozenset(("content-digest", "content-md5", "digest", "repr-digest"))
_KEPT = _DIGESTS | {"content-encoding", "content-length", "content-range"}
"""Fields that describe the stored body's bytes, whatever a bodiless answer says (§3.2)."""


def freshen(entry: Entry, exchange: Exchange, policy: Policy) -> Entry:
    """The entry with the fields of a 304 that confirms it (§3.2), as if stored now; never Content-Length.

    The 304 may forbid to keep the entry: ask storing.refusal about its `response` before putting it back.
    """
    update = storing.stored_headers(exchange.response, policy, exchange.response_time)
    kept = _KEPT if entry.etag is None else _KEPT | {"etag"}
    update = update.without(kept)
    headers = entry.headers.without(update.names()).extended(update)
    request = exchange.request._replace(method="GET")
    updated = storing.entry(
        replace(exchange, request=request, response=Response(entry.status, headers)), policy
    )
    is_same_variant = variants.nominated(updated.response) == tuple(name for name, _ in entry.selecting)
    return updated._replace(
        initial_age=freshness.initial_age(exchange),
        selecting=entry.selecting if is_same_variant else updated.selecting,
    )


def freshen_by_head(entry: Entry, exchange: Exchange, policy: Policy, length: int) -> Entry | None:
    """The entry after the answer to a HEAD (§4.3.5); None when that shows that it is out of date.

    Only a 200 tells; its validators and Content-Length, where it has them, must be those of the entry, whose
    body has `length` bytes. Without a validator it does not freshen: were the content another one, each HEAD
    of a monitor would make what is old fresh anew, and nobody would ever see the other.
    """
    response = exchange.response
    if response.status != 200 or entry.status != 200 or not variants.matches(entry, exchange.request.headers):
        return entry
    headers, own = response.headers, entry.headers
    validators = [name for name in ("etag", "last-modified") if name in headers]
    has_same_validators = all(headers.get(name) == own.get(name) for name in validators)
    if not has_same_validators or headers.get("content-length") not in (None, str(length)):
        return None
    return freshen(entry, exchange, policy) if validators else entry


# ---- for clients ---------------------------------------------------------------------------------------


def not_modified(request: Request, entry: Entry) -> bool:
    """Whether the client's condition is false for this entry, so that 304 is its answer (§4.3.2).

    If-None-Match goes before If-Modified-Since and compares weakly. Date stands for a missing Last-Modified.
    """
    if not 200 <= entry.status < 300:
        return False
    tags = request.headers.get("if-none-match")
    if tags is not None:
        return tags == "*" or any(fields.weak_match(tag, entry.etag) for tag in fields.entity_tags(tags))
    since = fields.http_date(request.headers.get("if-modified-since"), entry.response_time)
    modified = entry.date if entry.last_modified is None else entry.last_modified
    return since is not None and modified <= since


_REPRESENTATION_METADATA = _KEPT | {"content-language", "content-type"}


def not_modified_headers(headers: Headers) -> Headers:
    """The fields of a 304 made from those of the 200 that would have gone out (RFC 9110 §15.4.5).

    All but representation metadata; of that, Last-Modified stays where there is no ETag.
    """
    unwanted = _REPRESENTATION_METADATA | {"last-modified"} if "etag" in headers else _REPRESENTATION_METADATA
    return headers.without(unwanted)
