"""What the init script makes of an empty database: table, keys, constraints, data."""

import csv
from pathlib import Path

import psycopg2
import pytest
from psycopg2.errors import CheckViolation, NotNullViolation, StringDataRightTruncation, UniqueViolation
from psycopg2.extensions import connection

SAMPLE = Path("postgres/air_quality_measurements.csv")
POLLUTANTS = ("so2", "no2", "co", "o3", "pm10", "pm2_5")


def test_columns_have_the_order_types_and_nullability_of_the_contract(superuser: connection) -> None:
    with superuser.cursor() as cursor:
        cursor.execute(
            "SELECT attname, format_type(atttypid, atttypmod), attnotnull FROM pg_attribute"
            " WHERE attrelid = 'api.air_quality_measurements'::regclass AND attnum > 0 ORDER BY attnum"
        )
        assert cursor.fetchall() == [
            ("time_instant", "timestamp without time zone", True),
            ("id_entity", "character varying(50)", True),
            *((pollutant, "double precision", False) for pollutant in POLLUTANTS),
        ]


@pytest.mark.parametrize(
    ("column", "unit"),
    [("time_instant", "UTC"), ("co", "mg/m³"), *((name, "µg/m³") for name in POLLUTANTS if name != "co")],
)
def test_comments_name_the_unit(superuser: connection, column: str, unit: str) -> None:
    with superuser.cursor() as cursor:
        cursor.execute(
            "SELECT col_description(attrelid, attnum) FROM pg_attribute"
            " WHERE attrelid = 'api.air_quality_measurements'::regclass AND attname = %s",
            (column,),
        )
        assert cursor.fetchone()[0].endswith(f", {unit}")


def test_the_sample_is_loaded_to_the_last_digit(superuser: connection) -> None:
    with SAMPLE.open() as file:
        expected = {
            (row["time_instant"], row["id_entity"], *(float(row[p]) if row[p] else None for p in POLLUTANTS))
            for row in csv.DictReader(file)
        }
    with superuser.cursor() as cursor:
        cursor.execute(
            "SELECT to_char(time_instant, 'YYYY-MM-DD HH24:MI:SS.MS'), id_entity,"
            " so2, no2, co, o3, pm10, pm2_5 FROM api.air_quality_measurements"
        )
        rows = cursor.fetchall()
    assert len(rows) == len(expected)
    assert set(rows) == expected


@pytest.mark.parametrize("column", POLLUTANTS)
@pytest.mark.parametrize("value", ["NaN", "Infinity", "-Infinity"])
def test_values_that_json_lacks_are_refused(superuser: connection, column: str, value: str) -> None:
    with superuser.cursor() as cursor, pytest.raises(CheckViolation, match=f"{column}_is_finite"):
        cursor.execute(
            f"INSERT INTO api.air_quality_measurements VALUES (now(), 'x', {values(column, value)})"
        )


@pytest.mark.parametrize("value", ["-0.5", "0", "1e-308", "1.7976931348623157e308", "NULL"])
def test_every_finite_value_and_null_are_taken(superuser: connection, value: str) -> None:
    row = ", ".join(f"CAST({value} AS double precision)" for _ in POLLUTANTS)
    with superuser.cursor() as cursor:
        cursor.execute(f"INSERT INTO api.air_quality_measurements VALUES (now(), 'x', {row})")
        cursor.execute("SELECT count(*) FROM api.air_quality_measurements WHERE id_entity = 'x'")
        assert cursor.fetchone() == (1,)


def values(column: str, value: str) -> str:
    return ", ".join(f"'{value}'" if column == name else "NULL" for name in POLLUTANTS)


@pytest.mark.parametrize(
    ("row", "error"),
    [
        (("infinity", "x"), CheckViolation),
        (("-infinity", "x"), CheckViolation),
        (("0044-03-15 BC", "x"), CheckViolation),
        (("10000-01-01", "x"), CheckViolation),
        ((None, "x"), NotNullViolation),
        (("2020-01-01", None), NotNullViolation),
        (("2020-01-01", "x" * 51), StringDataRightTruncation),
    ],
)
def test_rows_that_cannot_be_published_are_refused(
    superuser: connection, row: tuple[str | None, str | None], error: type[psycopg2.Error]
) -> None:
    with superuser.cursor() as cursor, pytest.raises(error):
        cursor.execute("INSERT INTO api.air_quality_measurements VALUES (%s, %s)", row)


def test_a_station_has_one_measurement_an_instant(superuser: connection) -> None:
    insert = "INSERT INTO api.air_quality_measurements VALUES ('2020-01-01', %s)"
    with superuser.cursor() as cursor:
        cursor.execute(insert, ("x",))
        cursor.execute(insert, ("y",))
        with pytest.raises(UniqueViolation):
            cursor.execute(insert, ("x",))


@pytest.mark.parametrize(
    ("where", "index"),
    [
        ("time_instant >= '2016-10-01 10:00' AND time_instant < '2016-10-01 11:00'", "measurements_by_time"),
        ("id_entity = 'aq_salvia' AND time_instant < '2016-10-01 06:00'", "measurements_pkey"),
    ],
)
def test_time_ranges_are_read_from_an_index(superuser: connection, where: str, index: str) -> None:
    with superuser.cursor() as cursor:
        cursor.execute(f"EXPLAIN SELECT * FROM api.air_quality_measurements WHERE {where}")
        plan = "\n".join(line for (line,) in cursor.fetchall())
    assert index in plan
    assert "Seq Scan" not in plan


def test_the_answers_order_needs_no_sort(superuser: connection) -> None:
    with superuser.cursor() as cursor:
        cursor.execute(
            "EXPLAIN SELECT * FROM api.air_quality_measurements ORDER BY time_instant, id_entity LIMIT 100"
        )
        plan = "\n".join(line for (line,) in cursor.fetchall())
    assert "Sort" not in plan


def test_stations_sort_bytewise_on_every_system(superuser: connection) -> None:
    with superuser.cursor() as cursor:
        cursor.execute(
            "INSERT INTO api.air_quality_measurements VALUES (now(), 'é'), (now(), 'Z'), (now(), 'a_')"
        )
        cursor.execute(
            "SELECT id_entity FROM api.air_quality_measurements WHERE time_instant = now() ORDER BY id_entity"
        )
        assert cursor.fetchall() == [("Z",), ("a_",), ("é",)]


def test_a_station_has_a_name(superuser: connection) -> None:
    with superuser.cursor() as cursor, pytest.raises(CheckViolation, match="id_entity_is_named"):
        cursor.execute("INSERT INTO api.air_quality_measurements VALUES ('2020-01-01', '')")
