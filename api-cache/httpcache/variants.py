"""RFC 9111 §4.1: which of a URL's stored responses a request selects."""

from __future__ import annotations

from functools import lru_cache
from hashlib import sha256
from typing import TYPE_CHECKING

from . import fields

if TYPE_CHECKING:
    from collections.abc import Iterable

    from .messages import Entry, Headers, Response

Selecting = tuple[tuple[str, str | None], ...]


def nominated(response: Response) -> tuple[str, ...] | None:
    """The lower-case names in Vary, sorted, each once; None when it has `*`, which no request matches."""
    names = {member.lower() for member in fields.members(response.headers.values("vary"))}
    return None if "*" in names else tuple(sorted(names))


def selecting(names: Iterable[str], headers: Headers) -> Selecting:
    """The normalised request fields that nominated names select; None where the request lacks one."""
    return tuple((name, normalise(name, headers.get(name))) for name in names)


def key(names: Iterable[str], headers: Headers) -> str:
    """A short name, the same in every process, for the variant of a URL that this request selects."""
    return sha256(repr(selecting(names, headers)).encode()).hexdigest()[:32]


def matches(entry: Entry, headers: Headers) -> bool:
    """Whether a request with these fields selects the entry; an absent field matches only an absent one."""
    return not entry.selecting or all(
        normalise(name, headers.get(name)) == value for name, value in entry.selecting
    )


def select(entries: Iterable[Entry], headers: Headers) -> Entry | None:
    """The most recent of the entries that the request selects (§4: by Date), or None."""
    found = [entry for entry in entries if matches(entry, headers)]
    if len(found) > 1:
        return max(found, key=lambda entry: (entry.date, entry.response_time))
    return found[0] if found else None


# ---- normalisation -------------------------------------------------------------------------------------

_WEIGHTED = frozenset(("accept-encoding", "accept-language"))
_SINGLETONS = frozenset(
    (
        "authorization",
        "cookie",
        "from",
        "host",
        "if-modified-since",
        "origin",
        "range",
        "referer",
        "user-agent",
    )
)


@lru_cache(maxsize=512)
def normalise(name: str, value: str | None) -> str | None:
    """A form of the field's value that is the same for values that can't mean different things (§4.1).

    White space around list members never matters. Accept-Encoding and Accept-Language are weighted sets: in
    them case, order and the spelling of weights do not matter either.
    """
    if value is None:
        return None
    if name in _WEIGHTED:
        return ",".join(sorted({_preference(member) for member in value.split(",") if member.strip(" \t")}))
    if name in _SINGLETONS:
        return value.strip(" \t")
    return ",".join(part.strip(" \t") for part in fields.split(value))


def _preference(member: str) -> str:
    """A coding or language with its weight, in one spelling (RFC 9110 §12.4.2, §8.4.1.3)."""
    name, *parameters = (part.strip(" \t").lower() for part in member.split(";"))
    name = name.removeprefix("x-") if name in ("x-gzip", "x-compress") else name
    weights = [_weight(parameter) for parameter in parameters]
    return ";".join((name, *(weight for weight in weights if weight != "q=1")))


def _weight(parameter: str) -> str:
    name, _, value = parameter.partition("=")
    if name != "q" or value[:1] not in ("0", "1"):
        return parameter
    whole, _, fraction = value.partition(".")
    fraction = fraction.rstrip("0")
    return f"q={whole}.{fraction}" if fraction else f"q={whole}"
