#!/usr/bin/env python3
"""Writes synthetic air-quality measurements as CSV to standard output, in the format that the table loads.

    ./generate_measurements.py > air_quality_measurements.csv     # the sample of the repository
    ./generate_measurements.py --stations 100 --rows 10000000     # a table for benchmarks

The same options give the same bytes on every machine and Python: nothing but random() of a seeded generator
and the four IEEE 754 operations go into a value, because libm's sin and exp differ in their last digit.

The shapes are those of a Mediterranean city: NO2 and CO follow the traffic (two peaks a day), ozone the sun
and what NO2 leaves of it, particles a little of both; winter is worse but for ozone. Units: µg/m³, CO mg/m³.
"""

import argparse
import os
import random
import sys
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from itertools import chain, count, islice
from typing import NamedTuple

HEADER = "time_instant,id_entity,so2,no2,co,o3,pm10,pm2_5\n"
PLANTS = ("salvia", "adelfa", "jazmin", "laurel", "lavanda", "mirto", "olivo", "romero", "tomillo", "verbena")

# One number an hour from midnight, read with linear interpolation.
TRAFFIC = (20, 14, 10, 8, 9, 18, 42, 82, 100, 84, 64, 58, 57, 60, 58, 56, 62, 76, 92, 96, 82, 60, 42, 29)
SUN = (6, 5, 5, 4, 4, 4, 6, 10, 20, 36, 54, 72, 86, 95, 100, 98, 90, 76, 58, 40, 26, 17, 11, 8)

# Not every station measures everything: which of so2, no2, co, o3, pm10, pm2_5, in turn.
EQUIPMENT = (
    "111111",
    "010111",
    "011101",
    "110110",
    "010011",
    "011100",
    "110101",
    "000111",
    "010101",
    "011010",
)

CHANCE_OF_GAP = 0.002  # a step: the station falls silent,
LONGEST_GAP = 12  # for at most so many steps
CHANCE_OF_NULL = 0.006  # a value: the instrument calibrates itself
LONGEST_DELAY = 30  # ms after the full step


class Conditions(NamedTuple):
    """What all stations share at one instant; each is 0..1."""

    traffic: float
    sun: float
    winter: float


class Station:
    """One station: its place (more or less traffic), its instruments, and its own slowly wandering air."""

    def __init__(self, number: int, rng: random.Random) -> None:
        suffix = f"_{number // len(PLANTS) + 1}" if number >= len(PLANTS) else ""
        self.name = f"aq_{PLANTS[number % len(PLANTS)]}{suffix}"
        self._measures = [flag == "1" for flag in EQUIPMENT[number % len(EQUIPMENT)]]
        self._roadside = 0.6 + 0.8 * rng.random()
        self._air = [rng.random() for _ in self._measures]
        self._silent_steps = 0

    def row(self, second: str, conditions: Conditions, rng: random.Random) -> str | None:
        """The CSV line of the step that begins at `second`, or None in a gap."""
        if self._is_silent(rng):
            return None
        self._air = [0.95 * air + 0.05 * rng.random() for air in self._air]
        values = ",".join(
            repr(value) if measured and rng.random() >= CHANCE_OF_NULL else ""
            for measured, value in zip(self._measures, self._values(conditions), strict=True)
        )
        return f"{second}.{int(rng.random() * LONGEST_DELAY):03d},{self.name},{values}\n"

    def _is_silent(self, rng: random.Random) -> bool:
        if self._silent_steps == 0 and rng.random() < CHANCE_OF_GAP:
            self._silent_steps = 1 + int(rng.random() * LONGEST_GAP)
        silent = self._silent_steps > 0
        self._silent_steps -= silent
        return silent

    def _values(self, conditions: Conditions) -> Sequence[float]:
        so2, no2, co, o3, pm10, pm2_5 = self._air
        exhaust = self._roadside * conditions.traffic * (0.7 + 0.3 * conditions.winter)
        dust = 8.0 + 14.0 * exhaust + 6.0 * conditions.winter + 24.0 * pm10
        return (
            1.0 + 3.0 * so2 + 2.0 * exhaust,
            4.0 + 44.0 * exhaust * (0.5 + no2),
            0.1 + 0.6 * exhaust * (0.5 + co),
            6.0
            + (96.0 - 36.0 * conditions.winter) * conditions.sun * (0.6 + 0.8 * o3) * (1.0 - 0.3 * exhaust),
            dust,
            dust * (0.4 + 0.3 * pm2_5 + 0.1 * conditions.winter),
        )


def conditions_at(instant: datetime) -> Conditions:
    hour = instant.hour + instant.minute / 60 + instant.second / 3600
    traffic = interpolate(TRAFFIC, hour) * (0.55 if instant.weekday() >= 5 else 1.0)
    day_of_year = instant.timetuple().tm_yday
    return Conditions(traffic / 100, interpolate(SUN, hour) / 100, abs(day_of_year - 196) / 195)


def interpolate(by_hour: Sequence[int], hour: float) -> float:
    before = int(hour)
    return by_hour[before] + (by_hour[(before + 1) % 24] - by_hour[before]) * (hour - before)


def measurements(stations: int, start: datetime, cadence: timedelta, seed: int) -> Iterator[list[str]]:
    """The CSV lines of each step of time, without end (that of the calendar excepted)."""
    rng = random.Random(seed)  # noqa: S311 - weather, not cryptography
    places = [Station(number, rng) for number in range(stations)]
    for step in count():
        instant = start + step * cadence
        conditions, second = conditions_at(instant), instant.isoformat(" ", "seconds")
        yield [row for place in places if (row := place.row(second, conditions, rng))]


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Write synthetic air-quality measurements as CSV to stdout.")
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--days", type=positive, default=2, help="length of the series (default 2)")
    length.add_argument("--rows", type=positive, help="exact number of rows, in place of --days")
    parser.add_argument("--stations", type=positive, default=10, help="number of stations (default 10)")
    parser.add_argument(
        "--start", type=utc, default="2016-10-01", help="first instant, UTC (default 2016-10-01)"
    )
    parser.add_argument(
        "--cadence", type=positive, default=15, help="minutes between two values (default 15)"
    )
    parser.add_argument("--seed", type=int, default=1, help="another seed, other values (default 1)")
    return parser.parse_args(arguments)


def positive(text: str) -> int:
    if (number := int(text)) < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a positive number")
    return number


def utc(text: str) -> datetime:
    if (instant := datetime.fromisoformat(text)).tzinfo is not None:
        raise argparse.ArgumentTypeError(f"{text} has an offset; write UTC without one")
    return instant.replace(microsecond=0)


def main() -> None:
    options = parse_arguments()
    cadence = timedelta(minutes=options.cadence)
    steps = measurements(options.stations, options.start, cadence, options.seed)
    sys.stdout.write(HEADER)
    if options.rows is None:
        sys.stdout.writelines(chain.from_iterable(islice(steps, timedelta(days=options.days) // cadence)))
    else:
        sys.stdout.writelines(islice(chain.from_iterable(steps), options.rows))
    sys.stdout.flush()


if __name__ == "__main__":
    try:
        main()
    except OverflowError:
        sys.exit("generate_measurements.py: the calendar ends with the year 9999, the rows before that.")
    except BrokenPipeError:  # the reader has enough, e.g. `| head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
