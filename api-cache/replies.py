"""Answers for clients: out of the store, out of the origin's answer as it passes, and our own for errors."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import coding
import problems
from httpcache import fields, freshness, ranges, reuse, status, storing, validation
from httpcache.messages import Headers
from origin.errors import OriginTimeout

if TYPE_CHECKING:
    from httpcache.messages import Entry, Policy, Request
    from httpcache.reuse import Fwd
    from origin.errors import OriginError
    from sharing.buffer import Parts, Reader
    from sharing.fetch import Fetch
    from store.memory import Page
    from store.stored import Stored

_NO_CONTENT = frozenset((204, 304))
_ALLOWED = ("Allow", "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS")


class Reply(NamedTuple):
    """An answer for a client. `length` of streamed content is None when it shows only at its end."""

    status: int
    headers: Headers
    content: bytes | Parts
    length: int | None
    cache: str
    """The outcome as the log has it: Cache-Status without this cache's name and without the ttl."""
    page: Page | None = None
    stored: Stored | None = None
    """What a plain hit came from, for the short path to remember."""


def _outcome(member: str) -> str:
    """What the log says of a Cache-Status member; the ttl would make every line different."""
    parts = member.split("; ")[1:]
    return "; ".join(part for part in parts if not part.startswith("ttl="))


# ---- out of the store


class Form(NamedTuple):
    """A stored response in the content coding in which a request is answered."""

    stored: Stored
    coding: str
    entry: Entry
    """With the fields and the tag that are true of this coding."""
    length: int
    part: ranges.Slice | ranges.NotSatisfiable | None
    """What of it is asked for; None means all."""

    @property
    def slice(self) -> ranges.Slice | None:
        """What of it is sent; None means all."""
        return self.part if isinstance(self.part, ranges.Slice) else None


def form(request: Request, stored: Stored) -> Form:
    """The form that the request prefers (RFC 9110 §12.5.3)."""
    chosen = _coding_for(request, stored)
    tag = stored.entry.etag
    entry = stored.entry._replace(
        headers=stored.headers_in(chosen), etag=coding.own_tag(tag, chosen) if tag else None
    )
    length = stored.length_in(chosen)
    return Form(stored, chosen, entry, length, ranges.select(request, entry, length))


def _coding_for(request: Request, stored: Stored) -> str:
    """The coding that the client prefers, or none when it wants no transformation (RFC 9111 §5.2.1.6)."""
    if "no-transform" in reuse.request_directives(request):
        return "identity"
    return coding.negotiate(request.headers.get("accept-encoding"), stored.codings)


def without_content(request: Request, shown: Form, age: float, member: str) -> Reply | None:
    """The answer out of the store, where its head is all of it: 304, 416 and those to HEAD."""
    if validation.not_modified(request, shown.entry):
        headers = validation.not_modified_headers(_served(shown, age, member))
        return Reply(304, headers, b"", None, _outcome(member))
    if isinstance(shown.part, ranges.NotSatisfiable):
        line = ("Content-Range", shown.part.content_range)
        return problem(416, "The range lies outside of the content.", member, line)
    if request.method == "HEAD":
        return Reply(shown.entry.status, _served(shown, age, member), b"", shown.length, _outcome(member))
    return None


def with_content(shown: Form, age: float, member: str, content: bytes | Parts, plain: Page | None) -> Reply:
    """The answer out of the store; `content` is what is asked for of it. `plain`: see Reply.page."""
    headers, outcome = _served(shown, age, member), _outcome(member)
    part = shown.slice
    if part is not None:
        headers = headers.extended((("Content-Range", part.content_range),))
        return Reply(206, headers, content, part.last - part.first + 1, outcome)
    return Reply(shown.entry.status, headers, content, shown.length, outcome, plain, shown.stored)


def _served(shown: Form, age: float, member: str) -> Headers:
    return status.served_headers(shown.entry, age, member)


# ---- out of the origin's answer


def passing(
    request: Request, fwd: Fwd, fetch: Fetch, place: Reader, *, now: float, policy: Policy,
    collapsed: bool,
) -> Reply:  # fmt: skip
    """The origin's answer as it passes. A reply without content gives the place in that back."""
    code = fetch.exchange.response.status
    member = status.cache_status(
        fwd=fwd, stored=fetch.is_to_be_stored, collapsed=collapsed, detail=fetch.refusal
    )
    headers = status.with_cache_status(_fetched(fetch, now if collapsed else None), member)
    is_not_modified = _is_not_modified(request, fetch, policy)
    if is_not_modified or code == 304:
        headers = _with_known_tag(headers, request)
    if is_not_modified:
        place.leave()
        return Reply(304, validation.not_modified_headers(headers), b"", None, _outcome(member))
    if request.method == "HEAD" or code in _NO_CONTENT:
        place.leave()
        return Reply(code, headers, b"", fetch.length, _outcome(member))
    return Reply(code, headers, place, fetch.length, _outcome(member))


def _fetched(fetch: Fetch, now: float | None) -> Headers:
    """The fields of the answer; for those who did not ask themselves, as the store has them, and as old."""
    entry, response = fetch.entry, fetch.exchange.response
    if entry is not None and now is not None:
        age = str(int(freshness.age(entry, now)))
        headers = entry.headers.without(("content-length",)).replaced("Age", age)
    else:
        headers = fields.end_to_end(response.headers).without(("content-length",))
        if "date" not in headers:
            headers = headers.extended((("Date", fields.format_date(fetch.exchange.response_time)),))
    return coding.coded_headers(headers, "identity", coded=fetch.is_coded)


def _is_not_modified(request: Request, fetch: Fetch, policy: Policy) -> bool:
    """Whether a whole answer, asked for without the client's conditions, makes its condition false."""
    if fetch.exchange.response.status != 200 or request.method not in ("GET", "HEAD"):
        return False
    tags = request.headers.get("if-none-match")
    if fetch.is_coded and tags is not None:
        headers = request.headers.replaced("If-None-Match", coding.origin_tags(tags))
        request = request._replace(headers=headers)
    entry = fetch.entry or storing.entry(fetch.exchange, policy)
    if not fetch.is_to_be_stored and tags is None and entry.last_modified is None:
        return False  # only of what is stored does Date stand for it (RFC 9110 §13.1.3, RFC 9111 §4.3.2)
    return validation.not_modified(request, entry)


def _with_known_tag(headers: Headers, request: Request) -> Headers:
    tag, condition = headers.get("etag"), request.headers.get("if-none-match")
    if tag is None or condition is None:
        return headers
    return headers.replaced("ETag", coding.known_tag(tag, condition))


# ---- our own


def problem(code: int, detail: str, member: str, *more: tuple[str, str]) -> Reply:
    """An error of our own."""
    content = problems.document(code, detail)
    headers = status.with_cache_status(problems.headers(*more), member)
    return Reply(code, headers, content, len(content), _outcome(member))


def failure(error: OriginError, fwd: Fwd) -> Reply:
    """Nothing stored stands in for an origin that gave no answer."""
    code = 504 if isinstance(error, OriginTimeout) else 502
    member = status.cache_status(fwd=fwd, detail=error.kind)
    return problem(code, str(error), member, ("Retry-After", "1"))


def unsatisfiable(fwd: Fwd) -> Reply:
    """The client wants no other than a stored answer (RFC 9111 §5.2.1.7)."""
    member = status.cache_status(fwd=fwd, detail="only-if-cached")
    return problem(504, "No stored response may answer this request.", member)


def last_hop(request: Request) -> Reply:
    """Max-Forwards has it that we answer (RFC 9110 §7.6.2): OPTIONS, though not TRACE."""
    member = status.cache_status(detail="max-forwards")
    if request.method == "TRACE":
        return problem(405, "TRACE is not answered here.", member, _ALLOWED)
    return Reply(204, status.with_cache_status(Headers((_ALLOWED,)), member), b"", None, _outcome(member))
