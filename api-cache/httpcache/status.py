"""RFC 9211 and the other fields that a cache adds to what it sends."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .messages import Entry, Headers
    from .reuse import Fwd

NAME = "api-cache"


def cache_status(
    *,
    hit: bool = False,
    fwd: Fwd | None = None,
    fwd_status: int | None = None,
    stored: bool = False,
    collapsed: bool = False,
    ttl: int | None = None,
    detail: str | None = None,
) -> str:
    """This cache's member of Cache-Status (RFC 9211 §2)."""
    if hit and ttl is not None and detail is None:
        return f"{NAME}; hit; ttl={ttl}"  # the common case, on the hot path
    parameters = (
        "hit" if hit else None,
        None if fwd is None else f"fwd={fwd.value}",
        None if fwd_status is None else f"fwd-status={fwd_status}",
        "stored" if stored else None,
        "collapsed" if collapsed else None,
        None if ttl is None else f"ttl={ttl}",
        None if detail is None else f"detail={detail if _TOKEN.fullmatch(detail) else _string(detail)}",
    )
    return "; ".join((NAME, *(parameter for parameter in parameters if parameter is not None)))


_TOKEN = re.compile(r"[A-Za-z*][A-Za-z0-9:/!#$%&'*+\-.^_`|~]*")
_UNPRINTABLE = re.compile(r"[^\x20-\x7e]")


def _string(text: str) -> str:
    """A Structured Fields string (RFC 9651 §3.3.3); what it can't hold becomes a question mark."""
    escaped = _UNPRINTABLE.sub("?", text).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def with_cache_status(headers: Headers, member: str) -> Headers:
    """The fields with this cache's member after those of the caches nearer to the origin (RFC 9211 §2)."""
    return headers.extended((("Cache-Status", member),))


def via(version: str) -> tuple[str, str]:
    """The Via line to add to a message received with this HTTP version, such as "1.1" (RFC 9110 §7.6.3)."""
    return ("Via", f"{version} {NAME}")


def served_headers(entry: Entry, age: float, member: str) -> Headers:
    """The stored fields as they leave, with Age in whole seconds (RFC 9111 §5.1), and our Cache-Status."""
    return entry.headers.extended((("Age", str(int(age))), ("Cache-Status", member)))
