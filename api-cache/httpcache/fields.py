"""Field values: lists, Cache-Control directives, dates, entity tags, connection-specific fields.

Nothing here raises on any input. What is malformed comes out as None (or is left out), and each caller's
rule says what that means.
"""

from __future__ import annotations

import calendar
import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .messages import Headers

Directives = Mapping[str, str | None]
"""Lower-case directive names with their arguments: None where there is none, or MALFORMED."""

MALFORMED = ""
"""The argument of a directive that is garbled, or that comes twice with different arguments.

It is no delta-seconds and names no fields, so that each rule takes the cautious way: stale, or unqualified.
"""

MAX_DELTA_SECONDS = 2**31
"""What a greater delta-seconds counts as (RFC 9111 §1.2.2)."""

_NAME = r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_COMMA_OR_QUOTED = re.compile(r',|"(?:[^"\\]|\\.)*("?)', re.DOTALL)
_DIRECTIVE = re.compile(rf'({_NAME})(?:=(?:"((?:[^"\\]|\\.)*)"|([^\s",;=]+)))?', re.DOTALL)
_GARBLED_DIRECTIVE = re.compile(_NAME)
_ESCAPED = re.compile(r"\\(.)", re.DOTALL)


# ---- lists and directives ------------------------------------------------------------------------------


def members(lines: Iterable[str]) -> list[str]:
    """The members of a list field's lines; a comma within quotes does not end one (RFC 9110 §5.6.1)."""
    parts = (part.strip(" \t") for line in lines for part in split(line))
    return [part for part in parts if part]


def split(line: str) -> list[str]:
    """What stands between the commas outside of quotes. Within a quote that never ends, all commas count."""
    if '"' not in line:
        return line.split(",")
    parts, start = [], 0
    for match in _COMMA_OR_QUOTED.finditer(line):
        if match[0] == ",":
            parts.append(line[start : match.start()])
            start = match.end()
        elif not match[1]:
            return [*parts, *line[start:].split(",")]
    return [*parts, line[start:]]


def directives(lines: Iterable[str]) -> dict[str, str | None]:
    """The directives in a Cache-Control field's lines (RFC 9111 §5.2), their quotes taken off."""
    found: dict[str, str | None] = {}
    for member in members(lines):
        directive = _directive(member)
        if directive is not None:
            name, argument = directive
            found[name] = argument if found.get(name, argument) == argument else MALFORMED
    return found


def _directive(member: str) -> tuple[str, str | None] | None:
    match = _DIRECTIVE.fullmatch(member)
    if match is not None:
        name, quoted, bare = match.groups()
        return name.lower(), bare if quoted is None else _ESCAPED.sub(r"\1", quoted)
    garbled = _GARBLED_DIRECTIVE.match(member)
    return None if garbled is None else (garbled[0].lower(), MALFORMED)


def delta_seconds(text: str | None) -> int | None:
    """A non-negative number of seconds (RFC 9111 §1.2.2), at most MAX_DELTA_SECONDS; None when malformed."""
    number = whole_number(text)
    return None if number is None else min(number, MAX_DELTA_SECONDS)


def whole_number(text: str | None) -> int | None:
    """The number that ASCII digits, and nothing else, spell; more than 18 of them count as 10^18."""
    if text is None or not text.isascii() or not text.isdigit():
        return None
    digits = text.lstrip("0")
    return 10**18 if len(digits) > 18 else int(digits or "0")


# ---- dates ---------------------------------------------------------------------------------------------

_DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_DAY = f"(?:{'|'.join(day[:3] for day in _DAYS)})"
_LONG_DAY = f"(?:{'|'.join(_DAYS)})"
_MONTH = f"(?P<month>{'|'.join(_MONTHS)})"
_TIME = r"(?P<hour>[01][0-9]|2[0-3]):(?P<minute>[0-5][0-9]):(?P<second>[0-5][0-9]|60)"
_DATE_FORMATS = tuple(
    re.compile(pattern)
    for pattern in (
        rf"{_DAY}, (?P<day>[0-9]{{2}}) {_MONTH} (?P<year>[0-9]{{4}}) {_TIME} GMT",  # IMF-fixdate
        rf"{_LONG_DAY}, (?P<day>[0-9]{{2}})-{_MONTH}-(?P<year>[0-9]{{2}}) {_TIME} GMT",  # rfc850-date
        rf"{_DAY} {_MONTH} (?P<day>[0-9]{{2}}| [0-9]) {_TIME} (?P<year>[0-9]{{4}})",  # asctime-date
    )
)
_YEAR_SECONDS = 31_556_952
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def http_date(text: str | None, now: float) -> float | None:
    """The instant of an HTTP-date in any of its three formats, and in no other (RFC 9110 §5.6.7); else None.

    A two-digit year is the latest one with these digits that is not more than 50 years after `now`.
    """
    if text is None:
        return None
    for pattern in _DATE_FORMATS:
        match = pattern.fullmatch(text)
        if match is not None:
            year = match["year"]
            return _instant(match, int(year)) if len(year) == 4 else _short_year_instant(match, now)
    return None


def _short_year_instant(match: re.Match[str], now: float) -> float | None:
    last = 1970 + int(now // _YEAR_SECONDS) + 51
    year = last - (last - int(match["year"])) % 100
    instant = _instant(match, year)
    too_late = instant is None or instant > now + 50 * _YEAR_SECONDS
    return _instant(match, year - 100) if too_late else instant


def _instant(match: re.Match[str], year: int) -> float | None:
    month, day = _MONTHS.index(match["month"]) + 1, int(match["day"])
    if year < 1 or not 1 <= day <= calendar.monthrange(year, month)[1]:
        return None
    clock = (int(match["hour"]), int(match["minute"]), int(match["second"]))
    return float(calendar.timegm((year, month, day, *clock)))


def format_date(instant: float) -> str:
    """The IMF-fixdate of an instant, its fraction cut off (RFC 9110 §5.6.7)."""
    moment = _EPOCH + timedelta(seconds=int(instant))
    day, month = _DAYS[moment.weekday()][:3], _MONTHS[moment.month - 1]
    return f"{day}, {moment.day:02} {month} {moment.year:04} {moment:%H:%M:%S} GMT"


# ---- entity tags ---------------------------------------------------------------------------------------

_TAG = r'(?:W/)?"[\x21\x23-\x7e\x80-\xff]*"'
_ENTITY_TAG = re.compile(_TAG)
_ENTITY_TAGS = re.compile(rf"[ \t,]*(?:{_TAG}[ \t]*(?:,[ \t,]*|\Z))*")


def entity_tag(text: str | None) -> str | None:
    """The text, when it is one valid entity-tag (RFC 9110 §8.8.3); else None."""
    return text if text is not None and _ENTITY_TAG.fullmatch(text) else None


def entity_tags(text: str) -> list[str]:
    """The entity-tags of a list; none when it is malformed. A backslash in them escapes nothing."""
    return _ENTITY_TAG.findall(text) if _ENTITY_TAGS.fullmatch(text) else []


def strong_match(first: str | None, second: str | None) -> bool:
    """Whether two entity-tags match by strong comparison (RFC 9110 §8.8.3.2); itself, a weak one does not."""
    return first is not None and first == second and not first.startswith("W/")


def weak_match(first: str | None, second: str | None) -> bool:
    """Whether two entity-tags match by weak comparison (RFC 9110 §8.8.3.2)."""
    return first is not None and second is not None and first.removeprefix("W/") == second.removeprefix("W/")


# ---- connection-specific fields ------------------------------------------------------------------------

HOP_BY_HOP = frozenset(
    (
        "connection",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authentication-info",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    )
)
"""Fields of one connection, or of one proxy, never forwarded nor stored (RFC 9110 §7.6.1, RFC 9111 §3.1)."""


def end_to_end(headers: Headers) -> Headers:
    """The fields without those of one connection, nor any that Connection nominates. For both directions."""
    if not headers.has_any(HOP_BY_HOP):  # as is the rule, and soon seen
        return headers
    nominated = (member.lower() for member in members(headers.values("connection")))
    return headers.without(HOP_BY_HOP.union(nominated))


def one_hop_less(method: str, headers: Headers) -> Headers | None:
    """The fields of a TRACE or OPTIONS to pass on, its Max-Forwards decreased; None when it goes no further.

    RFC 9110 §7.6.2. Other methods, and values that are no number, stay as they are.
    """
    hops = whole_number(headers.get("max-forwards")) if method in ("TRACE", "OPTIONS") else None
    if hops is None:
        return headers
    return headers.replaced("Max-Forwards", str(hops - 1)) if hops else None
