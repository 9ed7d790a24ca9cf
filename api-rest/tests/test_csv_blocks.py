"""What COPY writes as text is the same data as CSV, however the blocks are cut."""

import csv
import io
import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from csv_blocks import CsvBlocks

NAMES = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=9)
HARD_NAMES = st.text('ab\\",\n\r\t\b ', min_size=1, max_size=5)
INSTANTS = st.sampled_from(["2016-10-01 00:00:00", "2016-10-01 00:00:00.004", "0001-01-01 23:59:59.999999"])
ROWS = st.lists(st.tuples(INSTANTS, NAMES | HARD_NAMES, st.sampled_from(["", "1.5", "-0", "1e-300"])))
CUTS = st.lists(st.integers(0, 200), max_size=5)

ESCAPES = {
    "\\": "\\\\",
    "\b": "\\b",
    "\f": "\\f",
    "\n": "\\n",
    "\r": "\\r",
    "\t": "\\t",
    "\v": "\\v",
    ",": "\\,",
}


def copied(rows: list[tuple[str, ...]]) -> bytes:
    """As COPY writes them: FORMAT text, DELIMITER ','."""
    lines = (",".join("".join(ESCAPES.get(c, c) for c in value) for value in row) for row in rows)
    return "".join(line + "\n" for line in lines).encode()


def rewritten(blocks: CsvBlocks, text: bytes, cuts: list[int]) -> str:
    ends = [*sorted(min(cut, len(text)) for cut in cuts), len(text)]
    parts = [text[begin:end] for begin, end in zip([0, *ends[:-1]], ends, strict=True)]
    return b"".join(map(blocks, parts)).decode()


@given(ROWS, CUTS)
@example([("2016-10-01 00:00:00", "a b", "")], [])
@example([("2016-10-01 00:00:00.5", 'a,"b\\\n2016-10-01 00:00:00,', "")], [3])
def test_rows_come_back_with_iso_instants(rows: list[tuple[str, ...]], cuts: list[int]) -> None:
    text = rewritten(CsvBlocks(instant_first=True), copied(rows), cuts)
    found = [tuple(row) for row in csv.reader(io.StringIO(text, newline=""))]
    assert found == [(iso(instant), *others) for instant, *others in rows]


def iso(instant: str) -> str:
    return re.sub(r"^(\S+) ([^.]+)(\.\d+)?$", lambda m: f"{m[1]}T{m[2]}{m[3] or '.0'}", instant)


@given(st.lists(st.tuples(NAMES | HARD_NAMES, NAMES)), CUTS)
def test_other_rows_come_back_as_they_are(rows: list[tuple[str, ...]], cuts: list[int]) -> None:
    text = rewritten(CsvBlocks(instant_first=False), copied(rows), cuts)
    assert [tuple(row) for row in csv.reader(io.StringIO(text, newline=""))] == rows


@pytest.mark.parametrize("value", ["plain", "a b", "é"])
def test_only_what_needs_quotes_gets_them(value: str) -> None:
    assert rewritten(CsvBlocks(instant_first=False), copied([(value, 'a"b')]), []) == f'{value},"a""b"\n'
