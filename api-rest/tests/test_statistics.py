"""Aggregates and running means, against Python's own."""

import csv
import io
import json
import statistics
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from psycopg2.extensions import cursor as Cursor  # noqa: N812

from aggregates import STATISTICS
from parameters import FIRST_INSTANT, LAST_INSTANT
from tests.http_client import Client
from tests.rows import rows

HOUR = timedelta(hours=1)


def series(
    began: datetime, count: int, step: timedelta, name: str = "own"
) -> list[tuple[datetime, str, float]]:
    """With instants that jitter by milliseconds."""
    return [
        (began + number * step + timedelta(milliseconds=number * 7 % 31), name, float(number * 13 % 17))
        for number in range(count)
    ]


def test_statistics_of_a_day(client: Client, sql: Cursor) -> None:
    mine = series(datetime(2020, 5, 1), 24, HOUR)  # noqa: DTZ001
    with rows(sql, mine):
        query = "id_entity=own&pollutant=no2&statistic=mean,min,max&statistic=median,p95,p98,count"
        (row,) = client.get(f"/air_quality/aggregate?{query}").json()
    values = [value for _, _, value in mine]
    cuts = statistics.quantiles(values, n=100, method="inclusive")
    assert row == {
        "id_entity": "own",
        "period_start": "2020-05-01T00:00:00Z",
        "expected": 24,
        "no2_mean": pytest.approx(statistics.fmean(values)),
        "no2_min": min(values),
        "no2_max": max(values),
        "no2_median": statistics.median(values),
        "no2_p95": pytest.approx(cuts[94]),
        "no2_p98": pytest.approx(cuts[97]),
        "no2_count": 24,
    }


def test_all_statistics_of_all_pollutants_at_once(client: Client) -> None:
    """More columns than Postgres passes to one function."""
    url = f"/air_quality/aggregate?id_entity=aq_salvia&statistic={','.join(STATISTICS)}"
    objects = client.get(url).json()
    assert {len(each) for each in objects} == {3 + 6 * len(STATISTICS)}
    assert [json.loads(line) for line in client.get(f"{url}&format=ndjson").text.splitlines()] == objects
    table = csv.DictReader(io.StringIO(client.get(f"{url}&format=csv").text))
    assert [{name: as_json(text) for name, text in row.items()} for row in table] == objects


def as_json(text: str) -> float | str | None:
    try:
        return float(text) if text else None
    except ValueError:
        return text


@pytest.mark.parametrize(("day", "hours"), [("2020-03-29", 23), ("2020-10-25", 25), ("2020-06-01", 24)])
def test_days_follow_the_clocks_of_the_zone(client: Client, sql: Cursor, day: str, hours: int) -> None:
    madrid = ZoneInfo("Europe/Madrid")
    began = datetime.fromisoformat(day).replace(tzinfo=madrid)
    with rows(sql, series(began.astimezone(ZoneInfo("UTC")).replace(tzinfo=None) - 30 * HOUR, 100, HOUR)):
        found = client.get(
            "/air_quality/aggregate?id_entity=own&pollutant=no2&tz=Europe/Madrid&coverage=1"
        ).json()
        by_hour = client.get(
            "/air_quality/aggregate?id_entity=own&pollutant=no2&tz=Europe/Madrid&period=hour"
        ).json()
    (row,) = [row for row in found if row["period_start"].startswith(day)]
    assert (row["expected"], row["no2_count"]) == (hours, hours)
    assert row["no2_mean"] is not None
    assert datetime.fromisoformat(row["period_start"]) == began
    of_day = [row["period_start"] for row in by_hour if row["period_start"].startswith(day)]
    assert len(of_day) == len(set(of_day)) == hours  # the hour that comes twice is two periods


@pytest.mark.parametrize(
    ("zone", "day", "hours"),
    [
        ("America/Sao_Paulo", "2016-10-15", 24),
        ("America/Sao_Paulo", "2016-10-16", 23),  # has no midnight
        ("America/Havana", "2016-11-05", 24),
        ("America/Havana", "2016-11-06", 25),  # has two
    ],
)
def test_days_whose_midnight_is_changed(client: Client, sql: Cursor, zone: str, day: str, hours: int) -> None:
    with rows(sql, series(datetime.fromisoformat(day) - 24 * HOUR, 90, HOUR)):
        found = client.get(f"/air_quality/aggregate?id_entity=own&pollutant=no2&tz={zone}").json()
    (row,) = [row for row in found if row["period_start"].startswith(day)]
    assert (row["expected"], row["no2_count"]) == (hours, hours)


@pytest.mark.parametrize("zone", ["Europe/Madrid", "Asia/Tokyo"])
def test_pages_at_the_ends_of_the_calendar(client: Client, sql: Cursor, zone: str) -> None:
    ends = [(FIRST_INSTANT, "own", 1.0), (LAST_INSTANT, "own", 2.0)]
    path = f"/air_quality/aggregate?id_entity=own&pollutant=no2&tz={zone}&period=year&limit=1"
    with rows(sql, ends):
        for order in ("asc", "desc"):
            first = client.get(f"{path}&order={order}")
            second = client.get(first.links["next"]["url"])
            means = [row["no2_mean"] for page in (first, second) for row in page.json()]
            assert means == ([1, 2] if order == "asc" else [2, 1])
            assert "next" not in second.links


@pytest.mark.parametrize(("period", "starts"), [
    ("week", ["2019-12-30T00:00:00Z", "2020-01-06T00:00:00Z"]),
    ("month", ["2020-01-01T00:00:00Z"]),
    ("year", ["2020-01-01T00:00:00Z"]),
])  # fmt: skip
def test_periods(client: Client, sql: Cursor, period: str, starts: list[str]) -> None:
    with rows(sql, series(datetime(2020, 1, 2), 240, HOUR)):  # noqa: DTZ001
        found = client.get(f"/air_quality/aggregate?id_entity=own&pollutant=no2&period={period}").json()
    assert [row["period_start"] for row in found] == starts


@pytest.mark.parametrize(
    ("step", "expected"), [(timedelta(minutes=15), 96), (HOUR, 24), (timedelta(minutes=1), 1440)]
)
def test_the_cadence_is_the_stations_own(client: Client, sql: Cursor, step: timedelta, expected: int) -> None:
    mine = series(datetime(2020, 1, 1), 2 * expected, step)  # noqa: DTZ001
    del mine[5:9], mine[20:30:3]  # gaps do not change it
    with rows(sql, mine):
        found = client.get("/air_quality/aggregate?id_entity=own&pollutant=no2").json()
    assert [row["expected"] for row in found] == [expected, expected]
    days = [instant.day for instant, _, _ in mine]
    assert [row["no2_count"] for row in found] == [days.count(1), days.count(2)]


def test_coverage_nulls_what_stands_on_too_little(client: Client, sql: Cursor) -> None:
    mine = series(datetime(2020, 1, 1), 18, HOUR) + series(datetime(2020, 1, 2), 17, HOUR)  # noqa: DTZ001
    with rows(sql, mine):
        found = client.get("/air_quality/aggregate?id_entity=own&pollutant=no2&coverage=0.75").json()
        without = client.get("/air_quality/aggregate?id_entity=own&pollutant=no2").json()
    assert [(row["no2_count"], row["no2_mean"] is None) for row in found] == [(18, False), (17, True)]
    assert all(row["no2_mean"] is not None for row in without)


def test_codes_for_missing_values_do_not_count(client: Client, sql: Cursor) -> None:
    mine = [
        (datetime(2020, 1, 1, hour), "own", value)  # noqa: DTZ001
        for hour, value in enumerate([-999.0, 10.0, -0.5, -9999.0])
    ]
    with rows(sql, mine):
        (row,) = client.get("/air_quality/aggregate?id_entity=own&pollutant=no2&statistic=mean,min").json()
        last = client.get("/air_quality/rolling?id_entity=own&pollutant=no2&window=4h").json()[-1]
    assert (row["no2_mean"], row["no2_min"], row["no2_count"]) == (4.75, -0.5, 2)
    assert (last["no2_mean"], last["no2_count"]) == (4.75, 2)


@pytest.mark.parametrize(("window", "length"), [("8h", 8 * HOUR), ("1d", 24 * HOUR)])
def test_running_means(client: Client, sql: Cursor, window: str, length: timedelta) -> None:
    mine = series(datetime(2020, 1, 1), 60, HOUR)  # noqa: DTZ001
    with rows(sql, mine):
        found = client.get(f"/air_quality/rolling?id_entity=own&pollutant=no2&window={window}").json()
        later = client.get(
            f"/air_quality/rolling?id_entity=own&pollutant=no2&window={window}&from=2020-01-02"
        ).json()
    width = length // HOUR
    for number, row in enumerate(found):
        values = [value for _, _, value in mine[max(0, number - width + 1) : number + 1]]
        assert row["no2_mean"] == pytest.approx(statistics.fmean(values))
        assert (row["no2_count"], row["expected"]) == (len(values), width)
    assert later == found[24:]  # whose windows reach back before `from`


def test_the_mean_of_one_value_is_that_value(client: Client, sql: Cursor) -> None:
    with rows(sql, [(datetime(2020, 1, 1), "own", 3.547493301202549)]):  # noqa: DTZ001
        (row,) = client.get("/air_quality/rolling?id_entity=own&pollutant=no2").json()
    assert row["no2_mean"] == 3.547493301202549


def test_a_station_that_measured_once_has_no_cadence(client: Client, sql: Cursor) -> None:
    with rows(sql, series(datetime(2020, 1, 1), 1, HOUR)):  # noqa: DTZ001
        (row,) = client.get("/air_quality/aggregate?id_entity=own&pollutant=no2").json()
        (strict,) = client.get("/air_quality/aggregate?id_entity=own&pollutant=no2&coverage=0.75").json()
    assert (row["expected"], row["no2_mean"]) == (None, 0.0)
    assert strict["no2_mean"] is None


def test_latest(client: Client, sql: Cursor) -> None:
    sql.execute(
        "SELECT row_to_json(m) FROM (SELECT DISTINCT ON (id_entity) * FROM air_quality_measurements"
        " ORDER BY id_entity, time_instant DESC) m ORDER BY time_instant, id_entity"
    )
    assert client.get("/air_quality/latest").json() == [row for (row,) in sql.fetchall()]
    earlier = client.get("/air_quality/latest?id_entity=aq_salvia&to=2016-10-01T01:00:00").json()
    assert [row["time_instant"][:16] for row in earlier] == ["2016-10-01T00:45"]


def test_latest_between(client: Client) -> None:
    everywhere = client.get("/air_quality/latest").json()
    assert client.get("/air_quality/latest?to=2100-01-01").json() == everywhere
    since = everywhere[len(everywhere) // 2]["time_instant"]
    newest = [row for row in everywhere if row["time_instant"] >= since]
    assert client.get(f"/air_quality/latest?from={since}").json() == newest
    assert client.get(f"/air_quality/latest?from={since}&to=2100-01-01").json() == newest
    name = newest[-1]["id_entity"]
    assert client.get(f"/air_quality/latest?from={since}&id_entity={name}").json() == newest[-1:]


def test_stations(client: Client, sql: Cursor) -> None:
    with rows(sql, series(datetime(2020, 1, 1), 3, HOUR)):  # noqa: DTZ001
        found = {row["id_entity"]: row for row in client.get("/stations").json()}
    assert found["own"] == {
        "id_entity": "own",
        "first_instant": "2020-01-01T00:00:00.000000Z",
        "last_instant": "2020-01-01T02:00:00.014000Z",
        "measurements": 3,
        "pollutants": ["no2"],
    }
    sql.execute("SELECT id_entity, count(*) FROM air_quality_measurements GROUP BY 1")
    assert {name: found[name]["measurements"] for name in found if name != "own"} == dict(sql.fetchall())
    assert "own" not in {row["id_entity"] for row in client.get("/stations").json()}


def test_codes_for_missing_values_are_no_pollutants(client: Client, sql: Cursor) -> None:
    with rows(sql, [(datetime(2020, 1, 1), "own", -999.0)]):  # noqa: DTZ001
        found = {row["id_entity"]: row for row in client.get("/stations").json()}
    assert (found["own"]["measurements"], found["own"]["pollutants"]) == (1, [])


def test_pollutants_are_those_of_the_table(client: Client) -> None:
    found = {row["name"]: row["unit"] for row in client.get("/pollutants").json()}
    assert found == dict.fromkeys(("so2", "no2", "o3", "pm10", "pm2_5"), "µg/m³") | {"co": "mg/m³"}
