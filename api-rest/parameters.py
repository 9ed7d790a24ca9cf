"""The parameters of every URL, declared once: requests are checked by them, and OpenAPI is made of them."""

import csv
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import KW_ONLY, dataclass
from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING, Any
from zoneinfo import available_timezones

from problems import BadParameters, Fault

if TYPE_CHECKING:
    from werkzeug.datastructures import MultiDict

LIMIT_MAX = 1_000_000
NAME_MAX = 50
# In UTC, without zone, as the table has them.
FIRST_INSTANT, LAST_INSTANT = datetime.min, datetime.max  # noqa: DTZ901
ORDERS = ("asc", "desc")


@dataclass(frozen=True, slots=True)
class Parameter:
    """One query parameter.

    Attributes:
        schema: JSON Schema of its value, or of each of its values.
        parse: makes a value of its text; raises ValueError with what would be right.
        repeatable: may occur several times, and hold several values parted by commas.
        example: a value as a request would have it.
    """

    name: str
    description: str
    schema: dict[str, Any]
    parse: Callable[[str], Any]
    _: KW_ONLY
    default: Any = None
    repeatable: bool = False
    example: str | None = None

    @property
    def numeric(self) -> bool:
        return self.schema["type"] in ("integer", "number")


def read(declared: Sequence[Parameter], given: "MultiDict[str, str]") -> dict[str, Any]:
    """The values of all declared parameters, defaults included.

    Raises:
        BadParameters: with every fault at once: unknown, repeated and malformed ones.
    """
    known = {parameter.name: parameter for parameter in declared}
    remedy = f"is unknown here; known are: {', '.join(known)}" if known else "is unknown: there are none here"
    faults = [Fault(name, given[name], remedy) for name in given if name not in known]
    values = {name: _value(parameter, given.getlist(name), faults) for name, parameter in known.items()}
    if faults:
        raise BadParameters(faults)
    return values


def _value(parameter: Parameter, texts: Sequence[str], faults: list[Fault]) -> Any:
    if parameter.repeatable:
        values = [value for text in texts for value in _members(parameter, text, faults)]
        return tuple(dict.fromkeys(values)) or parameter.default
    if len(texts) > 1:
        faults.append(Fault(parameter.name, ", ".join(texts), "must be given once"))
    return _parsed(parameter, texts[0], faults) if texts else parameter.default


def _members(parameter: Parameter, text: str, faults: list[Fault]) -> Iterable[Any]:
    """Values parted by commas; one that holds a comma itself is quoted as in CSV (RFC 4180)."""
    try:
        texts = next(csv.reader([text], strict=True), [""]) if '"' in text else text.split(",")
    except csv.Error:
        faults.append(
            Fault(parameter.name, text, 'must quote as CSV does: "a,b" for a,b, and """a""" for "a"')
        )
        return
    for each in texts:
        value = _parsed(parameter, each, faults)
        if value is not None:
            yield value


def _parsed(parameter: Parameter, text: str, faults: list[Fault]) -> Any:
    try:
        return parameter.parse(text)
    except ValueError as error:
        faults.append(Fault(parameter.name, text, str(error)))
        return None


# ---- values ------------------------------------------------------------------------------------------------

# RFC 3339 §5.6; also without offset (UTC), and with the + that a client's URL turned into a space.
_INSTANT = re.compile(
    r"(?P<date>\d{4}-\d\d-\d\d)"
    r"(?:[Tt ](?P<hour>[01]\d|2[0-3]):(?P<minute>[0-5]\d):(?P<second>[0-5]\d|60)(?:\.(?P<fraction>\d{1,30}))?"
    r"(?:[Zz]|(?P<sign>[-+ ])(?P<offset_hour>[01]\d|2[0-3]):(?P<offset_minute>[0-5]\d))?)?",
    re.ASCII,
)
INSTANT_SCHEMA: dict[str, Any] = {"type": "string", "anyOf": [{"format": "date-time"}, {"format": "date"}]}
_REMEDY_INSTANT = "must be an instant as 2016-10-01T08:00:00Z (RFC 3339) or a date as 2016-10-01"


def instant(text: str) -> datetime:
    """UTC, without zone, as the table has it.

    Digits beyond the microsecond round up: the rows with t ≥ bound, and with t < bound, remain the same.
    """
    found = _INSTANT.fullmatch(text)
    if found is None:
        raise ValueError(_REMEDY_INSTANT)
    try:
        day = datetime.combine(date.fromisoformat(found["date"]), datetime.min.time())
    except ValueError as error:
        raise ValueError(f"{_REMEDY_INSTANT}: {error}") from error
    try:
        return day + _time_of_day(found)
    except OverflowError:  # at the ends of the calendar
        return FIRST_INSTANT if day.year == 1 else LAST_INSTANT


def _time_of_day(found: "re.Match[str]") -> timedelta:
    if found["hour"] is None:
        return timedelta()
    fraction = found["fraction"] or ""
    microseconds = int(fraction[:6].ljust(6, "0")) + (fraction[6:].strip("0") != "")
    offset = timedelta(hours=int(found["offset_hour"] or 0), minutes=int(found["offset_minute"] or 0))
    time = timedelta(
        hours=int(found["hour"]),
        minutes=int(found["minute"]),
        seconds=int(found["second"]),
        microseconds=microseconds,
    )
    return time + offset if found["sign"] == "-" else time - offset


# A name as it is, or quoted.
STATION_PATTERN = r'^([^",\u0000]{1,50}|"([^"\u0000]|""){1,50}")$'


def station(text: str) -> str:
    if not 1 <= len(text) <= NAME_MAX or "\0" in text:
        raise ValueError(f"must be the name of a station: 1 to {NAME_MAX} characters, none of them NUL")
    return text


def one_of(choices: Sequence[str]) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if text not in choices:
            raise ValueError(f"must be one of {', '.join(choices)}")
        return text

    return parse


def limit(text: str) -> int:
    if re.fullmatch(r"[0-9]{1,7}", text, re.ASCII) and 1 <= int(text) <= LIMIT_MAX:
        return int(text)
    raise ValueError(f"must be a whole number from 1 to {LIMIT_MAX}")


# Microseconds since the first instant in 15 hexadecimal digits, and the station. Whatever matches is a
# place in the order of every URL, even when no row is there: rows that are gone invalidate no cursor.
_CURSOR = re.compile(r"([0-9a-f]{15})-([^\0]{1,50})", re.ASCII | re.DOTALL)
CURSOR_PATTERN = r"^[0-9a-f]{15}-[^\u0000]{1,50}$"


@dataclass(frozen=True, slots=True)
class Cursor:
    """Where a page ended: the key of its last row."""

    instant: datetime
    station: str

    def __str__(self) -> str:
        return f"{(self.instant - FIRST_INSTANT) // timedelta(microseconds=1):015x}-{self.station}"


def cursor(text: str) -> Cursor:
    found = _CURSOR.fullmatch(text)
    if found is None:
        raise ValueError("must be the cursor of a Link header of an earlier answer, unchanged")
    try:
        return Cursor(FIRST_INSTANT + timedelta(microseconds=int(found[1], 16)), found[2])
    except OverflowError:
        return Cursor(LAST_INSTANT, found[2])


# 1h to 720h, or 1d to 30d.
DURATION_PATTERN = r"^([1-9]|[1-9][0-9]|[1-6][0-9][0-9]|7[01][0-9]|720)h$|^([1-9]|[12][0-9]|30)d$"


def duration(text: str) -> timedelta:
    if not re.fullmatch(DURATION_PATTERN, text):
        raise ValueError("must be from 1h to 30d, in whole hours (8h) or days (30d)")
    hours = 24 if text.endswith("d") else 1
    return timedelta(hours=hours * int(text[:-1]))


def share(text: str) -> float:
    if re.fullmatch(r"-?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][-+ ]?[0-9]+)?", text, re.ASCII):
        number = float(text.replace(" ", "+"))
        if 0 <= number <= 1:
            return number
    raise ValueError("must be a number from 0 to 1, as 0.75")


# The last ones are no zones, but what some systems keep beside them.
ZONES = sorted(available_timezones() - {"Factory", "localtime", "posixrules"})


def zone(text: str) -> str:
    """A name of the IANA time-zone database."""
    if text not in ZONES:
        raise ValueError("must be an IANA time zone, as Europe/Madrid")
    return text
