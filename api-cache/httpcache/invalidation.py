"""RFC 9111 §4.4: what an unsafe request makes stale."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import SplitResult, urljoin, urlsplit

if TYPE_CHECKING:
    from .messages import Request, Response

SAFE_METHODS = frozenset(("GET", "HEAD", "OPTIONS", "TRACE"))
"""RFC 9110 §9.2.1. Any other method, known or not, may change something."""


def targets(request: Request, response: Response, also: str | None = None) -> tuple[str, ...]:
    """The targets (paths with queries) of which all entries must go, now that this request got this answer.

    Non-error answers to unsafe methods name the request's own target, and those in Location and
    Content-Location that have the same origin. `also` is the authority under which the origin was asked,
    where that is not the client's: many origins make their references from it.
    """
    if request.method in SAFE_METHODS or not 200 <= response.status < 400:
        return ()
    views = [request] if also is None else [request, request._replace(authority=also)]
    references = [response.headers.get(name) for name in ("location", "content-location")]
    found = (local_target(view, reference) for reference in references for view in views)
    return tuple(dict.fromkeys([request.target, *(target for target in found if target is not None)]))


def local_target(request: Request, reference: str | None) -> str | None:
    """The path and query that a URI reference names, when it has the origin of the request's own URI.

    Its scheme is http, or https where TLS ends before us: by both it is the same target here.
    """
    if reference is None:
        return None
    for scheme in _DEFAULT_PORTS:
        base = f"{scheme}://{request.authority}{request.target}"
        try:
            own, url = urlsplit(base), urlsplit(urljoin(base, reference.strip(" \t")))
            if _origin(own) == _origin(url):
                return (url.path or "/") + (f"?{url.query}" if url.query else "")
        except ValueError:  # such as an unfinished IPv6 address, or a port that is no number
            return None
    return None


_DEFAULT_PORTS = {"http": 80, "https": 443}


def _origin(url: SplitResult) -> tuple[str, str | None, int | None]:
    """RFC 9110 §4.3.1."""
    return url.scheme, url.hostname, url.port or _DEFAULT_PORTS.get(url.scheme)
