"""Rows as JSON, NDJSON and CSV, written by Postgres itself as far as it is fast at it.

For JSON and NDJSON each row is one text column, put together by `concat` (faster than row_to_json, which
looks every column's type up again for every row). COPY's text format would double each backslash in it. So
COPY writes CSV whose delimiter and quote are control characters: JSON text never holds one unescaped
(RFC 8259 §7), nothing needs quoting, and each row leaves as it is.

For CSV, COPY writes its text format with commas, a third faster than its own CSV, which looks at each value
for what to quote. Rows without a backslash or a quote are the same in both; csv_blocks mends the others.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

import orjson
from sqlalchemy import ColumnElement, Date, Text, Time, case, cast, func, literal

from csv_blocks import CsvBlocks

RAW_LINES = r"FORMAT csv, DELIMITER E'\x01', QUOTE E'\x02'"
COMMA_SEPARATED_TEXT = "FORMAT text, DELIMITER ',', NULL ''"
MOST_ARGUMENTS = 100
"""Of one function in Postgres (FUNC_MAX_ARGS)."""


class Kind(Enum):
    """What a column holds, and so how it is written.

    Text may be anything; nothing else needs escaping. An INSTANT is a timestamp in UTC, written as the
    table has it; ZONED is text, an instant with its offset.
    """

    INSTANT = "instant"
    ZONED = "zoned"
    TEXT = "text"
    NUMBER = "number"
    LIST = "list"


@dataclass(frozen=True, slots=True)
class Field:
    name: str
    kind: Kind


@dataclass(frozen=True, slots=True)
class Column(Field):
    expression: ColumnElement[Any]

    def field(self) -> Field:
        """Without the expression, which holds the whole query: a megabyte, where that is kept."""
        return Field(self.name, self.kind)


@dataclass(frozen=True, slots=True, kw_only=True)
class Format(ABC):
    """One representation of rows.

    Attributes:
        copy_options: what COPY needs to write it.
        skipped: how many bytes of the first row to drop.
        closing: what goes after the rows.
    """

    name: str
    media_type: str
    content_type: str
    copy_options: str
    skipped: int = 0
    closing: bytes = b""

    @abstractmethod
    def select_list(self, columns: Sequence[Column]) -> list[ColumnElement[Any]]:
        """What COPY is to write of each row."""

    @abstractmethod
    def head(self, columns: Sequence[Field]) -> bytes:
        """What goes before the rows."""

    @abstractmethod
    def rewriter(self, columns: Sequence[Field]) -> Callable[[bytes], bytes]:
        """What makes this format of the blocks of bytes that COPY writes, one after the other."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JsonText(Format):
    """An object a row, each of which begins with `separator`."""

    copy_options: str = RAW_LINES
    opening: bytes = b""
    separator: str = ""

    def select_list(self, columns: Sequence[Column]) -> list[ColumnElement[Any]]:
        return [_json_line(columns, before=self.separator)]

    def head(self, columns: Sequence[Field]) -> bytes:  # noqa: ARG002
        return self.opening

    def rewriter(self, columns: Sequence[Field]) -> Callable[[bytes], bytes]:  # noqa: ARG002
        return _unchanged


@dataclass(frozen=True, slots=True, kw_only=True)
class Csv(Format):
    copy_options: str = COMMA_SEPARATED_TEXT

    def select_list(self, columns: Sequence[Column]) -> list[ColumnElement[Any]]:
        return [_csv(column).label(column.name) for column in columns]

    def head(self, columns: Sequence[Field]) -> bytes:
        return ",".join(column.name for column in columns).encode() + b"\n"

    def rewriter(self, columns: Sequence[Field]) -> Callable[[bytes], bytes]:
        return CsvBlocks(instant_first=columns[0].kind is Kind.INSTANT)


JSON = JsonText(
    name="json",
    media_type="application/json",
    content_type="application/json",
    opening=b"[",
    separator=",",  # the first row's is dropped
    skipped=1,
    closing=b"]\n",
)
NDJSON = JsonText(name="ndjson", media_type="application/x-ndjson", content_type="application/x-ndjson")
CSV = Csv(name="csv", media_type="text/csv", content_type="text/csv; charset=utf-8; header=present")
FORMATS = {each.name: each for each in (JSON, NDJSON, CSV)}


def _json_line(columns: Sequence[Column], *, before: str) -> ColumnElement[str]:
    parts: list[str | ColumnElement[Any]] = [before + "{"]
    for column in columns:
        parts += [orjson.dumps(column.name).decode() + ":", *_json_value(column), ","]
    parts[-1] = "}"
    return _concat(_merged(parts))


def _concat(parts: Sequence[ColumnElement[Any]]) -> ColumnElement[str]:
    """One text of all parts, also of more than Postgres passes to a function."""
    some = [parts[at : at + MOST_ARGUMENTS] for at in range(0, len(parts), MOST_ARGUMENTS)]
    texts = [func.concat(*each, type_=Text) for each in some]
    return texts[0] if len(texts) == 1 else func.concat(*texts, type_=Text)


def _json_value(column: Column) -> list[str | ColumnElement[Any]]:
    value = column.expression
    match column.kind:
        case Kind.INSTANT:  # ISO 8601; the schema admits only years that have four digits
            return ['"', cast(value, Date), "T", cast(value, Time), '"']
        case Kind.ZONED:
            return ['"', value, '"']
        case Kind.NUMBER:  # concat leaves nulls out
            return [value, case((value.is_(None), literal("null", Text)))]
        case Kind.TEXT | Kind.LIST:
            return [func.to_json(value)]


def _merged(parts: Sequence[str | ColumnElement[Any]]) -> list[ColumnElement[Any]]:
    """Each argument of concat costs time for every row: neighbouring literals become one."""
    merged: list[ColumnElement[Any]] = []
    text = ""
    for part in parts:
        if isinstance(part, str):
            text += part
        else:
            merged += [literal(text, Text), part] if text else [part]
            text = ""
    return [*merged, literal(text, Text)]


def _csv(column: Column) -> ColumnElement[Any]:
    match column.kind:
        case Kind.LIST:
            return func.array_to_string(column.expression, " ")
        case _:
            return column.expression


def _unchanged(block: bytes) -> bytes:
    return block
