"""What goes into Postgres comes back equal, in each format."""

import csv
import io
import json
import math
import re
from datetime import datetime

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from psycopg2.extensions import cursor as Cursor  # noqa: N812

from tests.http_client import Client

TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=50)
NAMES = st.one_of(
    TEXT,
    st.sampled_from(
        ["\\.", "\\", '"', "a\nb", "a,b", "\x01\x02", "é€😀", "a\\.", " ", "\r\n", "'", "%s", "%(x)s"]
    ),
)
NUMBERS = st.none() | st.floats(allow_nan=False, allow_infinity=False)
INSTANTS = st.datetimes(datetime(1, 1, 1), datetime(9999, 12, 31, 23, 59, 59, 999999))  # noqa: DTZ001
ROWS = st.lists(
    st.tuples(INSTANTS, NAMES, NUMBERS, NUMBERS), min_size=1, max_size=8, unique_by=lambda row: row[:2]
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(ROWS)
@example([(datetime(2000, 1, 1), "zero", -0.0, 0.0)])  # noqa: DTZ001
def test_round_trip(
    client: Client, sql: Cursor, values: list[tuple[datetime, str, float | None, float | None]]
) -> None:
    for instant, name, so2, co in values:
        insert = (
            "INSERT INTO air_quality_measurements (time_instant, id_entity, so2, co) VALUES (%s, %s, %s, %s)"
        )
        sql.execute(insert, (instant, name, as_text(so2), as_text(co)))
    names = [("id_entity", quoted(name)) for _, name, _, _ in values]
    try:
        answers = {
            form: client.get("/air_quality", params=[*names, ("pollutant", "so2,co"), ("format", form)])
            for form in ("json", "ndjson", "csv")
        }
    finally:
        sql.execute("DELETE FROM air_quality_measurements WHERE id_entity NOT LIKE 'aq\\_%%'")
    assert {form: answer.status_code for form, answer in answers.items()} == dict.fromkeys(answers, 200)
    expected = sorted((row for row in values if not row[1].startswith("aq_")), key=lambda row: row[:2])
    assert [same(row) for row in answers["json"].json(parse_int=float)] == [bits(row) for row in expected]
    lines = answers["ndjson"].content.decode().split("\n")
    assert lines.pop() == ""
    assert [same(json.loads(line, parse_int=float)) for line in lines] == [bits(row) for row in expected]
    read = csv.DictReader(io.StringIO(answers["csv"].content.decode(), newline=""))
    assert [same(number_by_number(row)) for row in read] == [bits(row) for row in expected]


def as_text(number: float | None) -> str | None:
    """A bare -0.0 in SQL is a numeric, which knows no negative zero; from text, Postgres reads the double."""
    return None if number is None else repr(number)


def quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def number_by_number(row: dict[str, str]) -> dict[str, object]:
    return row | {name: float(row[name]) if row[name] else None for name in ("so2", "co")}


def same(row: dict[str, object]) -> tuple[object, ...]:
    return bits((datetime.fromisoformat(str(row["time_instant"])), row["id_entity"], row["so2"], row["co"]))


def bits(row: tuple[object, ...]) -> tuple[object, ...]:
    """Equal doubles, down to the sign of a zero, which Python's JSON keeps of floats alone (parse_int)."""
    numbers = (
        None if each is None else (float(str(each)), math.copysign(1, float(str(each)))) for each in row[2:]
    )
    return (*row[:2], *numbers)


def test_numbers_are_as_short_as_can_be(client: Client, sql: Cursor) -> None:
    sql.execute(
        "INSERT INTO air_quality_measurements (time_instant, id_entity, so2) VALUES ('2000-01-01', 'n', 0.1)"
    )
    try:
        text = client.get("/air_quality?id_entity=n&pollutant=so2").text
    finally:
        sql.execute("DELETE FROM air_quality_measurements WHERE id_entity = 'n'")
    assert text == '[{"time_instant":"2000-01-01T00:00:00","id_entity":"n","so2":0.1}\n]\n'


def test_csv_instants_have_one_form(client: Client) -> None:
    """pandas takes the first row's form for all rows."""
    rows = list(csv.reader(io.StringIO(client.get("/air_quality?format=csv").text)))[1:]
    assert all(re.fullmatch(r"2016-10-0[12]T\d\d:\d\d:\d\d\.\d{1,6}", row[0]) for row in rows)
    assert any(row[0].endswith(":00.0") for row in rows)


def test_csv_is_a_download(client: Client) -> None:
    assert client.get("/air_quality/latest?format=csv").headers["Content-Disposition"] == (
        'attachment; filename="air_quality_latest.csv"'
    )
    assert "Content-Disposition" not in client.get("/air_quality/latest").headers
