# ruff: noqa: S608 - the statements are constants of this file
"""`make bench-api-rest`: how fast api-rest answers, beside psql asking the same Postgres, in one run.

Every figure is a median. Machines are noisy: the ratios count, not the seconds. `--data` keeps the database
for the next run.
"""

import argparse
import contextlib
import re
import shutil
import socket
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from local.folder import credentials
from local.postgres import BIN, Postgres
from local.services import ApiRest
from local.stack import NAMES

STATIONS_OF_A_CITY = 100
POLLUTANTS = ("so2", "no2", "co", "o3", "pm10", "pm2_5")
TABLE = "api.air_quality_measurements"
WEEK = "id_entity = 'aq_0007' AND time_instant >= '2016-12-05' AND time_instant < '2016-12-12'"
YEAR = "id_entity = 'aq_0007' AND time_instant >= '2016-10-01' AND time_instant < '2017-10-01'"
PAGE = "/air_quality?limit=1000"

# What the generator writes, made by Postgres itself: 100 million rows would take it an hour.
FILL = f"""
ALTER TABLE {TABLE} DISABLE TRIGGER USER;
ALTER TABLE {TABLE} DROP CONSTRAINT air_quality_measurements_pkey;
DROP INDEX api.air_quality_measurements_by_time;
SELECT setseed(0.5);
INSERT INTO {TABLE}
SELECT timestamp '2016-10-01' + i / %(stations)s * interval '15 minutes' + i %% 31 * interval '1 ms',
       'aq_' || to_char(i %% %(stations)s, 'FM0000'),
       random() * 20, random() * 80, random(), random() * 100, CASE WHEN i %% 33 > 0 THEN random() * 50 END,
       random() * 25
FROM generate_series(0::bigint, %(rows)s - 1) AS i;
ALTER TABLE {TABLE} ADD CONSTRAINT air_quality_measurements_pkey PRIMARY KEY (id_entity, time_instant);
CREATE INDEX air_quality_measurements_by_time ON {TABLE} (time_instant, id_entity);
ALTER TABLE {TABLE} ENABLE TRIGGER USER;
INSERT INTO api.station_changes
SELECT id_entity, min(time_instant), max(time_instant),
       count(*), count(so2), count(no2), count(co), count(o3), count(pm10), count(pm2_5)
FROM {TABLE} GROUP BY id_entity;
"""


class Bench:
    def __init__(self, postgres: Postgres, service: ApiRest, rounds: int) -> None:
        self.postgres = postgres
        self.service = service
        self.rounds = rounds

    def _psql(self, *statements: str) -> list[str]:
        program = [str(BIN / "psql"), "-X", "-q", "-h", self.postgres.host, "-p", str(self.postgres.port)]
        options = [option for statement in statements for option in ("-c", statement)]
        return [*program, "-U", "api", "-d", "postgres", *options]

    @property
    def _environ(self) -> dict[str, str]:
        return {"PGPASSWORD": self.postgres.environ["POSTGRES_API_PASSWORD"]}

    def psql(self, *statements: str) -> str:
        command = self._psql(*statements)
        done = subprocess.run(command, env=self._environ, stdout=subprocess.PIPE, text=True, check=True)
        return done.stdout

    def psql_seconds(self, sql: str) -> float:
        """Of the whole program, its output thrown away."""
        began = time.perf_counter()
        subprocess.run(self._psql(sql), env=self._environ, stdout=subprocess.DEVNULL, check=True)
        return time.perf_counter() - began

    def psql_milliseconds(self, sql: str, times: int) -> float:
        r"""The median of psql's own \timing within one session, without the first."""
        text = self.psql(r"\timing on", *[sql] * (times + 1))
        found = [float(each) for each in re.findall(r"^Time: ([0-9.]+) ms", text, re.MULTILINE)]
        return statistics.median(found[1:])

    def curl(self, path: str) -> tuple[float, float]:
        """Seconds until the first byte, and until the last."""
        written = "%{http_code} %{time_starttransfer} %{time_total}"
        command = ["curl", "-s", "-o", "/dev/null", "-w", written, self.service.url + path]
        status, first, total = subprocess.run(
            command, capture_output=True, text=True, check=True
        ).stdout.split()
        assert status == "200", status  # noqa: S101
        return float(first), float(total)

    def http_milliseconds(self, path: str, times: int) -> float:
        """The median of curl's own times over one kept connection, without the first."""
        written = "%{http_code} %{num_connects} %{time_total}\n"
        # Each URL wants an --output of its own.
        each = ["--output", "/dev/null", self.service.url + path]
        command = ["curl", "-s", "-w", written, *each * (times + 1)]
        lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split("\n")
        answers = [line.split() for line in lines if line]
        assert {(status, made) for status, made, _ in answers[1:]} == {("200", "0")}, answers  # noqa: S101
        return statistics.median(float(seconds) * 1000 for _, _, seconds in answers[1:])

    # ---- what is measured ----------------------------------------------------------------------------

    def dumps(self, rows: int) -> None:
        """Whole dumps against psql's COPY, which need not even sort."""
        rivals = {
            "json": f"COPY (SELECT row_to_json(m) FROM {TABLE} m) TO STDOUT",
            "ndjson": f"COPY (SELECT row_to_json(m) FROM {TABLE} m) TO STDOUT",
            "csv": f"COPY (SELECT * FROM {TABLE}) TO STDOUT (FORMAT csv, HEADER)",
        }
        for form, sql in rivals.items():
            theirs, ours, first = [], [], []
            for _ in range(self.rounds):
                theirs.append(self.psql_seconds(sql))
                began, total = self.curl(f"/air_quality?format={form}")
                ours.append(total)
                first.append(began)
            ratio = statistics.median(theirs) / statistics.median(ours)
            print(
                f"dump {form:7} psql {rows / statistics.median(theirs):11,.0f} rows/s   "
                f"api-rest {rows / statistics.median(ours):11,.0f} rows/s   ratio {ratio:.2f}   "
                f"first byte {statistics.median(first) * 1000:.0f} ms"
            )

    def questions(self) -> None:
        means = ", ".join(f"avg({name}) AS {name}_mean, count({name}) AS {name}_count" for name in POLLUTANTS)
        day = "date_trunc('day', time_instant)"
        # Smaller tables hold less than a year of each station.
        days = self.psql(f"COPY (SELECT count(DISTINCT {day}) FROM {TABLE} WHERE {YEAR}) TO STDOUT").strip()
        beside: dict[str, tuple[str, str]] = {
            "week of a station": (
                f"COPY (SELECT row_to_json(m) FROM {TABLE} m WHERE {WEEK} ORDER BY time_instant) TO STDOUT",
                "/air_quality?id_entity=aq_0007&from=2016-12-05&to=2016-12-12",
            ),
            f"{days} daily means": (
                f"COPY (SELECT row_to_json(g) FROM (SELECT id_entity, {day} AS period_start, {means} "
                f"FROM {TABLE} WHERE {YEAR} GROUP BY 1, 2 ORDER BY 2) g) TO STDOUT",
                "/air_quality/aggregate?id_entity=aq_0007&period=day&from=2016-10-01&to=2017-10-01",
            ),
        }
        for name, (sql, path) in beside.items():
            theirs, ours = self.psql_milliseconds(sql, 40), self.http_milliseconds(path, 40)
            print(f"{name:22} psql {theirs:8.2f} ms   api-rest {ours:8.2f} ms   ratio {ours / theirs:.2f}")
        for path in ("/stations", "/air_quality/latest"):
            print(f"{path:22} api-rest {self.http_milliseconds(path, 40):8.2f} ms")
        first, deep = (self.http_milliseconds(path, 40) for path in (PAGE, f"{PAGE}&cursor={self._deep()}"))
        print(f"{'page of 1,000':22} first {first:8.2f} ms   deep {deep:8.2f} ms")

    def _deep(self) -> str:
        """The cursor of a page near the end of the table."""
        last = self.psql(f"COPY (SELECT max(time_instant) - interval '1 day' FROM {TABLE}) TO STDOUT").strip()
        year1 = "timestamp '0001-01-01'"
        micros = f"SELECT (extract(epoch FROM timestamp '{last}' - {year1}) * 1000000)::bigint"
        return f"{int(self.psql(f'COPY ({micros}) TO STDOUT')):015x}-aq_0000"

    def memory(self) -> None:
        """Eight dumps at once, half of them by readers who dawdle."""
        before = self._peak_megabytes()
        fast = [self._background() for _ in range(4)]
        slow = [self._dawdling() for _ in range(4)]
        for process in fast:
            process.wait()
        for sock in slow:
            sock.close()
        print(
            f"{'8 dumps at once':22} peak of a worker {self._peak_megabytes():.0f} MB (idle {before:.0f} MB)"
        )

    def _background(self) -> "subprocess.Popen[bytes]":
        return subprocess.Popen(["curl", "-s", "-o", "/dev/null", self.service.url + "/air_quality"])

    def _dawdling(self) -> socket.socket:
        sock = socket.create_connection((self.service.host, self.service.port))
        sock.sendall(b"GET /air_quality HTTP/1.1\r\nHost: a\r\n\r\n")
        sock.recv(1000)
        return sock

    def _peak_megabytes(self) -> float:
        master = self.service.process.pid
        children = Path(f"/proc/{master}/task/{master}/children").read_text("ascii").split()
        texts = [Path(f"/proc/{child}/status").read_text("utf-8") for child in children]
        return max(int(re.findall(r"VmHWM:\s+(\d+) kB", text)[0]) for text in texts) / 1000


@contextlib.contextmanager
def database(folder: Path, rows: int) -> Iterator[Postgres]:
    fresh = not (folder / f"data-{rows}").exists()
    # Bigger buffers than the default, as any server has; the rest is as Postgres ships.
    settings = {"shared_buffers": "1GB", "max_wal_size": "8GB", "maintenance_work_mem": "1GB"}
    environ = NAMES | credentials(folder)
    with Postgres(folder / f"data-{rows}", environ=environ, sample=False, settings=settings) as postgres:
        if fresh:
            fill(postgres, rows)
        yield postgres


def fill(postgres: Postgres, rows: int) -> None:
    began = time.perf_counter()
    connection = postgres.connect()
    connection.autocommit = True
    with connection.cursor() as cursor:
        # Cities grow with the data: a hundred million rows are not 29 years of a hundred stations.
        stations = max(STATIONS_OF_A_CITY, rows // 100_000)
        for statement in filter(str.strip, FILL.split(";\n")):
            cursor.execute(statement, {"rows": rows, "stations": stations})
        cursor.execute(f"VACUUM ANALYZE {TABLE}, api.station_changes, api.data_changes")
    connection.close()
    print(f"{rows:,} rows of {stations} stations loaded in {time.perf_counter() - began:.0f} s", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=5, help="dumps of each format")
    parser.add_argument(
        "--data", type=Path, help="folder that keeps the database; by default it is thrown away"
    )
    given = parser.parse_args()
    folder = given.data or Path(tempfile.mkdtemp(prefix="benchmark-api-rest-"))
    try:
        with (
            database(folder, given.rows) as postgres,
            ApiRest(postgres.environ, output=folder / "api-rest.log") as service,
        ):
            bench = Bench(postgres, service, given.rounds)
            steps: list[Callable[[], None]] = [bench.questions, lambda: bench.dumps(given.rows), bench.memory]
            for step in steps:
                step()
    finally:
        if given.data is None:
            shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
