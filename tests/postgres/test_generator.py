"""The generator of synthetic measurements, and the sample that it made."""

import csv
import io
import os
import re
import subprocess
import sys
from collections import defaultdict
from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path
from statistics import mean

import pytest

FOLDER = Path("postgres").resolve()
SAMPLE = FOLDER / "air_quality_measurements.csv"
COLUMNS = ["time_instant", "id_entity", "so2", "no2", "co", "o3", "pm10", "pm2_5"]

Row = dict[str, str]


def generate(*options: str, **environ: str) -> bytes:
    return subprocess.run(
        [sys.executable, FOLDER / "generate_measurements.py", *options],
        env=os.environ | environ,
        check=True,
        stdout=subprocess.PIPE,
    ).stdout


def rows(text: bytes) -> list[Row]:
    return list(csv.DictReader(io.StringIO(text.decode())))


@pytest.fixture(scope="module")
def sample() -> list[Row]:
    return rows(SAMPLE.read_bytes())


def test_the_sample_is_what_the_generator_writes() -> None:
    assert generate() == SAMPLE.read_bytes()


def test_the_sample_is_small() -> None:
    assert SAMPLE.stat().st_size <= 200_000


def test_same_options_same_bytes() -> None:
    options = ("--rows", "3000", "--stations", "13", "--seed", "5")
    assert generate(*options, PYTHONHASHSEED="1") == generate(*options, PYTHONHASHSEED="2")
    assert generate(*options) != generate(*options[:-1], "6")


def test_the_header_and_the_stations(sample: list[Row]) -> None:
    assert list(sample[0]) == COLUMNS
    stations = {row["id_entity"] for row in sample}
    assert len(stations) == 10
    assert "aq_salvia" in stations
    assert all(re.fullmatch(r"aq_[a-z]+", station) for station in stations)


def test_instants_jitter_by_milliseconds_around_each_quarter(sample: list[Row]) -> None:
    assert all(
        re.fullmatch(r"2016-10-0[12] \d\d:(00|15|30|45):00\.0\d\d", row["time_instant"]) for row in sample
    )
    assert len({row["time_instant"][-3:] for row in sample}) > 10


def test_a_station_never_repeats_an_instant(sample: list[Row]) -> None:
    keys = [(row["id_entity"], row["time_instant"]) for row in sample]
    assert len(set(keys)) == len(keys)


def test_values_have_full_precision_and_sense(sample: list[Row]) -> None:
    values = [row[column] for row in sample for column in COLUMNS[2:] if row[column]]
    assert all(repr(float(value)) == value for value in values)
    assert mean(len(value.replace(".", "")) for value in values) > 15
    assert all(0 < float(value) < 500 for value in values)
    assert all(float(row["pm2_5"]) < float(row["pm10"]) for row in sample if row["pm10"] and row["pm2_5"])


def test_some_values_are_missing_and_some_rows(sample: list[Row]) -> None:
    salvia = [row for row in sample if row["id_entity"] == "aq_salvia"]  # it measures everything
    nulls = sum(not row[column] for row in salvia for column in COLUMNS[2:])
    assert 0 < nulls < len(salvia)
    instants = defaultdict(list)
    for row in sample:
        instants[row["id_entity"]].append(datetime.fromisoformat(row["time_instant"]))
    gaps = [
        b - a for of_one in instants.values() for a, b in pairwise(of_one) if b - a > timedelta(minutes=20)
    ]
    assert 0 < len(gaps) < 30


def by_hour(rows: list[Row], column: str) -> list[float]:
    """The mean of `column` in each of the 24 hours."""
    hours = defaultdict(list)
    for row in rows:
        if row[column]:
            hours[int(row["time_instant"][11:13])].append(float(row[column]))
    return [mean(hours[hour]) for hour in range(24)]


@pytest.mark.parametrize("days", [["--days", "2"], ["--days", "7", "--start", "2020-02-03", "--seed", "9"]])
def test_the_day_has_its_shape(days: list[str]) -> None:
    data = rows(generate(*days))
    for column in ("no2", "co"):
        hours = by_hour(data, column)
        assert hours[8] > 1.3 * hours[13] > 1.3 * hours[3], column
        assert hours[19] > 1.3 * hours[15], column
    ozone = by_hour(data, "o3")
    assert 12 <= ozone.index(max(ozone)) <= 16
    assert max(ozone) > 3 * ozone[4]


def test_any_number_of_rows_stations_and_years() -> None:
    data = rows(
        generate("--rows", "20000", "--stations", "25", "--start", "1999-12-31T23:00", "--cadence", "1440")
    )
    assert len(data) == 20_000
    assert len({row["id_entity"] for row in data}) == 25
    assert data[0]["time_instant"].startswith("1999-12-31 23:00:00.0")
    assert data[-1]["time_instant"] > "2002"
    assert [row["time_instant"][:19] for row in data] == sorted(row["time_instant"][:19] for row in data)


def test_it_streams_and_stops_when_the_reader_has_enough() -> None:
    command = [sys.executable, FOLDER / "generate_measurements.py", "--rows", "100000000"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout.readline().decode().strip() == ",".join(COLUMNS)
        process.stdout.close()
        _, errors = process.communicate(timeout=20)
    assert (process.returncode, errors) == (0, b"")


@pytest.mark.parametrize(
    "options",
    [
        ["--rows", "0"],
        ["--stations", "-1"],
        ["--start", "2020-01-01T00:00+02:00"],
        ["--days", "1", "--rows", "1"],
    ],
)
def test_bad_options_are_refused(options: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, FOLDER / "generate_measurements.py", *options], check=False, capture_output=True
    )
    assert (done.returncode, done.stdout) == (2, b"")
    assert options[0] in done.stderr.decode()


@pytest.mark.parametrize("length", [["--rows", "1000"], ["--days", "2"]])
def test_it_says_so_when_the_calendar_ends(length: list[str]) -> None:
    command = [sys.executable, FOLDER / "generate_measurements.py", "--start", "9999-12-31", *length]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 1
    assert [row["time_instant"][:16] for row in rows(done.stdout.encode())][-1] == "9999-12-31 23:45"
    assert (
        done.stderr
        == "generate_measurements.py: the calendar ends with the year 9999, the rows before that.\n"
    )
