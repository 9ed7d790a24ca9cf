"""RFC 9110 §14: single byte ranges out of complete entries."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from . import fields

if TYPE_CHECKING:
    from .messages import Entry, Request


@dataclass(frozen=True, slots=True)
class Slice:
    """206: the bytes from `first` to `last`, inclusive, of `length`."""

    first: int
    last: int
    length: int

    @property
    def content_range(self) -> str:
        """The value of Content-Range (§14.4)."""
        return f"bytes {self.first}-{self.last}/{self.length}"


@dataclass(frozen=True, slots=True)
class NotSatisfiable:
    """416: the range lies outside of a representation of `length` bytes."""

    length: int

    @property
    def content_range(self) -> str:
        """The value of Content-Range (§14.4)."""
        return f"bytes */{self.length}"


_UNIT = re.compile(r"[ \t]*bytes=(.*)", re.IGNORECASE | re.DOTALL)
_SPEC = re.compile(r"([0-9]+)-([0-9]*)|-([0-9]+)")


def select(request: Request, entry: Entry, length: int) -> Slice | NotSatisfiable | None:
    """The part of a complete entry of `length` bytes that a GET asks for; None means the whole (200).

    Evaluated after `validation.not_modified` was found false (§13.2.2). Several ranges, unknown units and
    malformed values mean the whole, as does an If-Range that does not match (§13.1.5).
    """
    value = request.headers.get("range")
    if value is None or request.method != "GET" or entry.status != 200 or length == 0:
        return None
    spec = _single(value)
    if spec is None or not if_range_holds(request, entry):
        return None
    first, last, suffix = (fields.whole_number(part) for part in spec.groups())
    if suffix is not None:
        return Slice(max(0, length - suffix), length - 1, length) if suffix else NotSatisfiable(length)
    return _from(first or 0, last, length)


def _single(value: str) -> re.Match[str] | None:
    ranges = _UNIT.fullmatch(value)
    specs = fields.members((ranges[1],)) if ranges else []
    return _SPEC.fullmatch(specs[0]) if len(specs) == 1 else None


def _from(first: int, last: int | None, length: int) -> Slice | NotSatisfiable | None:
    if last is not None and last < first:
        return None
    if first >= length:
        return NotSatisfiable(length)
    return Slice(first, length - 1 if last is None else min(last, length - 1), length)


def if_range_holds(request: Request, entry: Entry) -> bool:
    """Whether If-Range is absent or names this very representation, by strong tag or date (§13.1.5)."""
    value = request.headers.get("if-range")
    if value is None:
        return True
    if '"' in value:
        return fields.strong_match(value, entry.etag)
    return _is_strong_date(fields.http_date(value, entry.response_time), entry)


def _is_strong_date(instant: float | None, entry: Entry) -> bool:
    """§8.8.2.2: Last-Modified is strong where Date shows that it could not have changed unnoticed since."""
    return instant is not None and instant == entry.last_modified and entry.date - instant >= 1
