"""CSV (RFC 4180) out of what COPY writes in its text format with commas.

Text has one line a row, whatever the values hold: line breaks and commas in them are escaped (PostgreSQL,
COPY, "Text Format"). Whole blocks of rows are looked at and changed at once, since a look at each row would
cost more than Postgres needs to make it.
"""

import re

WHOLE_SECOND = re.compile(rb"(\n[^,.\n]{19}),")
DATE = re.compile(rb"(\n[^ \n]{10}) ")

FIELD = re.compile(rb"((?:[^\\,\n]|\\.)*)[,\n]")
ESCAPE = re.compile(rb"\\(.)")
ESCAPED = {b"b": b"\b", b"f": b"\f", b"n": b"\n", b"r": b"\r", b"t": b"\t", b"v": b"\v"}
TO_BE_QUOTED = re.compile(rb'[",\r\n]')


class CsvBlocks:
    """Takes blocks of bytes, cut anywhere, and gives back the rows that are whole by then.

    Args:
        instant_first: whether each row begins with a timestamp. It gets its T, which would cost Postgres a
            fifth of its time, and always a fraction: pandas takes the first row's form for all rows.
    """

    def __init__(self, *, instant_first: bool) -> None:
        self._instant_first = instant_first
        self._rest = b""

    def __call__(self, block: bytes) -> bytes:
        rows, newline, rest = block.rpartition(b"\n")
        if not newline:
            self._rest += block
            return b""
        rows, self._rest = self._rest + rows, rest
        if self._instant_first:
            rows = _with_iso_instants(rows)
        return (_quoted(rows) if b"\\" in rows or b'"' in rows else rows) + b"\n"


def _with_iso_instants(rows: bytes) -> bytes:
    rows = b"\n" + rows
    # Where no name holds a space, each row has one.
    one_space_a_row = rows.count(b" ") == rows.count(b"\n")
    rows = rows.replace(b" ", b"T") if one_space_a_row else DATE.sub(rb"\1T", rows)
    return WHOLE_SECOND.sub(rb"\1.0,", rows)[1:]


def _quoted(rows: bytes) -> bytes:
    return b"\n".join(_quoted_row(row) if b"\\" in row or b'"' in row else row for row in rows.split(b"\n"))


def _quoted_row(row: bytes) -> bytes:
    return b",".join(_quoted_field(field) for field in FIELD.findall(row + b"\n"))


def _quoted_field(field: bytes) -> bytes:
    value = ESCAPE.sub(lambda escape: ESCAPED.get(escape[1], escape[1]), field)
    return b'"' + value.replace(b'"', b'""') + b'"' if TO_BE_QUOTED.search(value) else value
