"""Requests that come back to the cache that sent them, since its origin leads to itself (RFC 8586)."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

from httpcache.fields import members
from httpcache.status import NAME

if TYPE_CHECKING:
    from httpcache.messages import Request

_FIELD = "CDN-Loop"
_SELF = f"{NAME}-{secrets.token_hex(8)}"
"""New at each start, and the same for all workers: their parent imports this before it forks them. Other
caches have other names, so they may well stand in front of each other."""


def mark() -> tuple[str, str]:
    """The line to add to whatever goes to the origin; those of others stay (RFC 8586 §2)."""
    return _FIELD, _SELF


def has_come_back(request: Request) -> bool:
    """Whether this process or one beside it has sent the request to the origin before."""
    return any(
        member.partition(";")[0].strip() == _SELF for member in members(request.headers.values(_FIELD))
    )
