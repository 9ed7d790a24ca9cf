import pytest
from builders import date, entry, request

from httpcache import ranges
from httpcache.ranges import NotSatisfiable, Slice

STORED = ("Cache-Control: max-age=60", 'ETag: "a"')


@pytest.mark.parametrize(
    ("value", "length", "expected"),
    [
        pytest.param("bytes=0-1", 10, Slice(0, 1, 10), id="rfc9110-14.1.2 first-last"),
        pytest.param("bytes=0-0", 10, Slice(0, 0, 10), id="rfc9110-14.1.2 one byte"),
        pytest.param("bytes=9-9", 10, Slice(9, 9, 10), id="rfc9110-14.1.2 last byte"),
        pytest.param("bytes=5-99", 10, Slice(5, 9, 10), id="rfc9110-14.1.2 last beyond the end"),
        pytest.param("bytes=4-", 10, Slice(4, 9, 10), id="rfc9110-14.1.2 open"),
        pytest.param("bytes=-3", 10, Slice(7, 9, 10), id="rfc9110-14.1.2 suffix"),
        pytest.param("bytes=-99", 10, Slice(0, 9, 10), id="rfc9110-14.1.2 suffix beyond the start"),
        pytest.param("bytes=-0", 10, NotSatisfiable(10), id="rfc9110-14.1.2 empty suffix"),
        pytest.param("bytes=10-", 10, NotSatisfiable(10), id="rfc9110-15.5.17 after the end"),
        pytest.param("bytes=10-12", 10, NotSatisfiable(10), id="rfc9110-15.5.17 wholly after the end"),
        pytest.param(f"bytes={'9' * 5000}-", 10, NotSatisfiable(10), id="rfc9110-14.1.2 huge first"),
        pytest.param(f"bytes=1-{'9' * 5000}", 10, Slice(1, 9, 10), id="rfc9110-14.1.2 huge last"),
        pytest.param(f"bytes={'0' * 5000}1-1", 10, Slice(1, 1, 10), id="leading zeros"),
        pytest.param("bytes=5-4", 10, None, id="rfc9110-14.1.1 last before first"),
        pytest.param("bytes=0-1,4-5", 10, None, id="rfc9110-14.2 several"),
        pytest.param("bytes=0-1, ", 10, Slice(0, 1, 10), id="rfc9110-5.6.1.2 empty member"),
        pytest.param("Bytes=0-1", 10, Slice(0, 1, 10), id="rfc9110-14.1 units in any case"),
        pytest.param("lines=0-1", 10, None, id="rfc9110-14.2 unknown unit"),
        pytest.param("bytes=a-b", 10, None, id="rfc9110-14.2 no numbers"),
        pytest.param("bytes=-", 10, None, id="rfc9110-14.2 no position"),
        pytest.param("bytes=--1", 10, None, id="rfc9110-14.2 two dashes"),
        pytest.param("bytes=+0-1", 10, None, id="rfc9110-14.2 sign"),
        pytest.param("bytes 0-1", 10, None, id="rfc9110-14.2 no ="),
        pytest.param("bytes=", 10, None, id="rfc9110-14.2 nothing"),
        pytest.param("bytes=0-", 0, None, id="an empty representation has no ranges"),
        pytest.param("bytes=-1", 0, None, id="nor suffixes"),
    ],
)
def test_select(value: str, length: int, expected: Slice | NotSatisfiable | None) -> None:
    assert ranges.select(request(f"Range: {value}"), entry(*STORED), length) == expected


def test_rfc9110_14_2_two_range_lines_are_several_ranges() -> None:
    assert ranges.select(request("Range: bytes=0-1", "Range: bytes=3-4"), entry(*STORED), 10) is None


def test_rfc9110_14_2_only_get_has_ranges() -> None:
    assert ranges.select(request("Range: bytes=0-1", method="HEAD"), entry(*STORED), 10) is None
    assert ranges.select(request(), entry(*STORED), 10) is None


@pytest.mark.parametrize("status", [203, 301, 404])
def test_rfc9110_14_2_only_a_200_has_ranges(status: int) -> None:
    assert ranges.select(request("Range: bytes=0-1"), entry(*STORED, status=status), 10) is None


@pytest.mark.parametrize(
    ("if_range", "stored", "expected"),
    [
        pytest.param('"a"', ['ETag: "a"'], True, id="rfc9110-13.1.5 strong tag"),
        pytest.param('"b"', ['ETag: "a"'], False, id="rfc9110-13.1.5 another tag"),
        pytest.param('W/"a"', ['ETag: W/"a"'], False, id="rfc9110-13.1.5 weak tags never match"),
        pytest.param('"a"', ['ETag: W/"a"'], False, id="rfc9110-13.1.5 strong against weak"),
        pytest.param('W/"a"', ['ETag: "a"'], False, id="rfc9110-13.1.5 weak against strong"),
        pytest.param('"a"', [], False, id="rfc9110-13.1.5 no tag"),
        pytest.param('"a", "b"', ['ETag: "a"'], False, id="rfc9110-13.1.5 no list"),
        pytest.param(date(-60), [f"Last-Modified: {date(-60)}"], True, id="rfc9110-13.1.5 date"),
        pytest.param(date(-59), [f"Last-Modified: {date(-60)}"], False, id="rfc9110-13.1.5 later date"),
        pytest.param(date(-61), [f"Last-Modified: {date(-60)}"], False, id="rfc9110-13.1.5 earlier date"),
        pytest.param(
            date(-60), [f"Last-Modified: {date(-60)}", f"Date: {date(-60)}"], False, id="8.8.2.2 weak date"
        ),
        pytest.param(
            date(-60), [f"Last-Modified: {date(-60)}", f"Date: {date(-59)}"], True, id="8.8.2.2 strong date"
        ),
        pytest.param(date(), [], False, id="rfc9110-13.1.5 no Last-Modified"),
        pytest.param("yesterday", [], False, id="rfc9110-13.1.5 invalid, no Last-Modified"),
        pytest.param("yesterday", [f"Last-Modified: {date(-60)}"], False, id="rfc9110-13.1.5 invalid"),
    ],
)
def test_if_range(if_range: str, stored: list[str], expected: bool) -> None:
    asked = request("Range: bytes=0-1", f"If-Range: {if_range}")
    found = ranges.select(asked, entry("Cache-Control: max-age=60", *stored), 10)
    assert found == (Slice(0, 1, 10) if expected else None)


def test_rfc9110_14_4_content_range() -> None:
    assert Slice(4, 6, 10).content_range == "bytes 4-6/10"
    assert NotSatisfiable(10).content_range == "bytes */10"
