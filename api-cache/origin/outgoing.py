"""A request as the origin gets it: nothing of the client's connection, nothing that is not in the key."""

from __future__ import annotations

from typing import TYPE_CHECKING

import coding
from httpcache import fields, status, validation
from httpcache.messages import Headers

from . import loops

if TYPE_CHECKING:
    from httpcache.messages import Entry, Request

_UNKEYED = frozenset(
    (
        "forwarded", "x-host", "x-backend-host", "x-original-url", "x-original-host", "x-rewrite-url",
        "x-http-method-override", "x-http-method", "x-method-override", "x-url-scheme", "front-end-https",
        "x-real-ip", "x-client-ip", "x-cluster-client-ip", "client-ip", "true-client-ip", "cf-connecting-ip",
        "x-http-host-override", "proxy",
    )
)  # fmt: skip
"""Fields by which some origins change their answers though they are no part of the key. They stay here, as
do all whose names begin with X-Forwarded."""
_NEVER_SENT = ("host", "content-length", "expect")
_WITH_TAGS = frozenset(("if-none-match", "if-match"))
"""Not If-Range: the origin must send no part of another representation than the client has one of."""


def outgoing(request: Request, entry: Entry | None = None, *, shared: bool = False) -> Request:
    """The request with conditions that validate the entry, if there is one.

    `shared`: its answer is for others, too, so the client's own conditions and range stay here.
    No field whose name has an underscore goes out: CGI, and so WSGI, cannot tell it from the one with
    hyphens, which may be kept from the origin, or be named by Vary.
    """
    if entry is not None:
        headers = validation.condition(request, entry)
    elif shared:
        headers = validation.unconditional(request)
    else:
        headers = fields.end_to_end(request.headers)
    is_stored = request.method in ("GET", "HEAD")
    lines = [
        (name, coding.origin_tags(value) if name.lower() in _WITH_TAGS else value)
        for name, value in headers.without(_NEVER_SENT)
        if "_" not in name and not (is_stored and _is_unkeyed(name))
    ]
    return request._replace(headers=Headers((*lines, status.via(request.version), loops.mark())))


def has_unkeyed(request: Request) -> bool:
    """Whether the request has a field that may change the answer, though it is no part of the key."""
    return any(_is_unkeyed(name) for name in request.headers.names())


def _is_unkeyed(name: str) -> bool:
    lower = name.lower()
    return lower.startswith("x-forwarded") or lower in _UNKEYED
