"""The values that all rules work on. Bodies stay outside: no rule of HTTP caching looks into them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator


@final
class Headers:
    """An immutable, ordered, case-insensitive multimap of field lines, as strings that hold Latin-1 bytes.

    Names keep the spelling and lines the order in which they came (RFC 9110 §5.3).
    """

    __slots__ = ("_index", "_lines")

    _lines: tuple[tuple[str, str], ...]
    _index: dict[str, tuple[str, ...]]
    """By lower-case name; never changed, so that copies can share the values."""

    def __init__(self, lines: Iterable[tuple[str, str]] = ()) -> None:
        self._lines = tuple(lines)
        self._index = {name.lower(): (value,) for name, value in self._lines}
        if len(self._index) != len(self._lines):  # some name is repeated
            self._index = _add({}, self._lines)

    @classmethod
    def _made(cls, lines: tuple[tuple[str, str], ...], index: dict[str, tuple[str, ...]]) -> Headers:
        made = cls.__new__(cls)
        made._lines, made._index = lines, index
        return made

    def get(self, name: str) -> str | None:
        """The combined value: all lines of that name joined by commas (RFC 9110 §5.2); None when absent."""
        values = self._index.get(name.lower())
        if values is None:
            return None
        return values[0] if len(values) == 1 else ", ".join(values)

    def values(self, name: str) -> tuple[str, ...]:
        """The values of all lines of that name, in order."""
        return self._index.get(name.lower(), ())

    def names(self) -> frozenset[str]:
        """The lower-case names of all fields."""
        return frozenset(self._index)

    def without(self, names: Iterable[str]) -> Headers:
        """A copy that lacks the named fields."""
        unwanted = self._index.keys() & map(str.lower, names)
        if not unwanted:
            return self
        index = dict(self._index)
        for name in unwanted:
            del index[name]
        return Headers._made(tuple(line for line in self._lines if line[0].lower() in index), index)

    def replaced(self, name: str, value: str) -> Headers:
        """A copy in which the field has this one value, at its end."""
        return self.without((name,)).extended(((name, value),))

    def extended(self, lines: Iterable[tuple[str, str]]) -> Headers:
        """A copy with these lines added at its end."""
        added = tuple(lines)
        return Headers._made((*self._lines, *added), _add(dict(self._index), added))

    def has_any(self, names: Iterable[str]) -> bool:
        """Whether any of these fields is there; `names` are lower-case."""
        return not self._index.keys().isdisjoint(names)

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and name.lower() in self._index

    def __iter__(self) -> Iterator[tuple[str, str]]:
        return iter(self._lines)

    def __len__(self) -> int:
        return len(self._lines)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Headers) and self._lines == other._lines

    def __hash__(self) -> int:
        return hash(self._lines)

    def __repr__(self) -> str:
        return f"Headers({list(self._lines)!r})"


def _add(index: dict[str, tuple[str, ...]], lines: Iterable[tuple[str, str]]) -> dict[str, tuple[str, ...]]:
    for name, value in lines:
        lower = name.lower()
        index[lower] = (*index[lower], value) if lower in index else (value,)
    return index


class Request(NamedTuple):
    """A request as the client sent it. `target` is its path and query, byte for byte as received.

    With a scheme, `authority` completes the target URI (RFC 9110 §7.1); only same-origin checks look at it.
    """

    method: str
    target: str
    headers: Headers
    authority: str = ""
    version: str = "1.1"
    """Of HTTP, as received."""
    interim: Callable[[Response], None] | None = None
    """Takes interim responses (RFC 9110 §15.2), for whoever waits for the final one."""

    @property
    def has_credentials(self) -> bool:
        """Whether its answer may be for this client alone (§3.5)."""
        return "authorization" in self.headers


@dataclass(frozen=True, slots=True)
class Response:
    """A response's status and fields. Only final ones are ever looked at by the rules."""

    status: int
    headers: Headers


@dataclass(frozen=True, slots=True)
class Exchange:
    """A request to the origin and its answer, and when they went out and came in (§4.2.3)."""

    request: Request
    response: Response
    request_time: float
    response_time: float


class Entry(NamedTuple):
    """A stored response: what reuse needs of it, worked out once when it was stored, in plain values.

    Instants and durations are in seconds, instants since the Unix epoch. (A tuple: each hit out of Redis
    makes two, and a frozen dataclass of so many fields takes more than twice as long.)
    """

    status: int
    headers: Headers
    """End-to-end fields to send; Date is always among them, Age never."""
    selecting: tuple[tuple[str, str | None], ...]
    """Lower-case names that Vary nominates, with the normalised values of the answered request (§4.1)."""
    date: float
    """The Date field's instant, or that of the response's arrival where it has no valid one."""
    response_time: float
    """When the response (or the one that last freshened it) arrived (§4.2.3)."""
    initial_age: float
    """corrected_initial_age (§4.2.3)."""
    lifetime: float
    """freshness_lifetime (§4.2.1)."""
    stale_while_revalidate: float = 0.0
    """Seconds after the lifetime in which a stale answer may go out while it is validated (RFC 5861 §3)."""
    stale_if_error: float | None = None
    """Seconds after the lifetime within which the entry may stand in for a failing origin (RFC 5861 §4).
    None: the origin said nothing, so the policy's default holds."""
    always_validate: bool = False
    """no-cache (§5.2.2.4): never reuse without validation."""
    must_revalidate: bool = False
    """must-revalidate, proxy-revalidate or s-maxage: never reuse when stale (§4.2.4)."""
    immutable: bool = False
    """RFC 8246: a reload need not validate while fresh."""
    etag: str | None = None
    """The valid entity tag, with its quotes and W/."""
    last_modified: float | None = None
    """The Last-Modified field's instant, where it has a valid one."""

    @property
    def has_validator(self) -> bool:
        """Whether the origin can be asked if the entry is still good (§4.3.1)."""
        return self.etag is not None or self.last_modified is not None

    @property
    def response(self) -> Response:
        """The stored response alone."""
        return Response(self.status, self.headers)


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """What RFC 9111 leaves to the cache. Durations are in seconds."""

    default_ttl: float = 30.0
    """Lifetime of a 200 to GET whose origin states none and that has no Last-Modified. 0: none."""
    heuristic_fraction: float = 0.1
    """Part of the time since Last-Modified that is taken for a lifetime (§4.2.2)."""
    heuristic_max: float = 86_400.0
    stale_if_error: float = 86_400.0
    """How stale an entry may stand in for a failing origin whose own fields neither allow nor forbid it."""
    max_stale: float = 86_400.0
    """The most that a client's max-stale is granted; also how long a stale entry is kept to be validated."""
    targeted_fields: tuple[str, ...] = ("CDN-Cache-Control",)
    """Targeted Cache-Control fields that address this cache, the most specific first (RFC 9213 §2.2)."""
