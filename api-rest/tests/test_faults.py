"""Clients that leave, readers that dawdle, and a Postgres that restarts."""

import http.client
import json
import os
import re
import signal
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import requests
from local import processes
from local.postgres import Postgres
from local.services import ApiRest
from local.template import copied_database

from database import Unavailable, translated
from tests.http_client import Client, ask
from tests.sessions import END_SESSIONS, locked_table, role_settings, sessions

BIG = "/air_quality"


def wait_until(condition: Callable[[], bool], seconds: float = 5) -> None:
    assert processes.wait_until(condition, timeout=seconds), "not in time"


@pytest.fixture(scope="module")
def big(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Postgres]:
    """A server of its own, to be restarted, whose table does not fit into any socket's buffers."""
    with copied_database(tmp_path_factory.mktemp("big")) as server:
        connection = server.connect(options="-c search_path=api")
        with connection, connection.cursor() as cursor:
            cursor.execute(
                "INSERT INTO air_quality_measurements"
                " SELECT timestamp '2020-01-01' + i * interval '1 s', 'big',"
                " random(), random(), random(), random()"
                " FROM generate_series(1, 150000) i"
            )
        connection.close()
        yield server


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("log") / "api-rest.log"


@pytest.fixture(scope="module")
def small_service(big: Postgres, log: Path) -> Iterator[ApiRest]:
    settings = {
        "WEB_CONCURRENCY": "1",
        "POSTGRES_POOL_SIZE": "2",
        "POSTGRES_POOL_TIMEOUT": "1",
        "SEND_TIMEOUT": "60",
    }
    with ApiRest(big.environ | settings, output=log) as service:
        yield service


@pytest.fixture
def near(small_service: ApiRest) -> Iterator[Client]:
    client = Client(small_service.url)
    with client.session:
        yield client


def begin(service: ApiRest, path: str = BIG) -> socket.socket:
    """A client that has read the beginning of its answer, and reads no further."""
    sock = ask(service, path)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    assert sock.recv(12) == b"HTTP/1.1 200"
    return sock


def active(postgres: Postgres) -> int:
    return sessions(postgres, "state = 'active'")


def test_a_client_that_leaves_ends_its_query(small_service: ApiRest, big: Postgres) -> None:
    sock = begin(small_service)
    wait_until(lambda: active(big) == 1)
    sock.close()
    wait_until(lambda: active(big) == 0, seconds=1)


def test_a_client_that_leaves_before_the_first_byte_ends_its_query(
    small_service: ApiRest, big: Postgres, log: Path
) -> None:
    with locked_table(big):
        sock = ask(small_service, BIG, **{"X-Request-ID": "left-early"})
        wait_until(lambda: active(big) == 1)
        sock.close()
        wait_until(lambda: active(big) == 0, seconds=1)
    wait_until(lambda: "left-early" in log.read_text())
    assert "defect" not in log.read_text()  # of ours


def test_a_busy_pool_is_a_503_and_leaves_healthz_alone(small_service: ApiRest, near: Client) -> None:
    readers = [begin(small_service) for _ in range(2)]
    began = time.monotonic()
    response = near.get("/air_quality?limit=1")
    assert response.status_code == 503, response.text
    assert 0.9 < time.monotonic() - began < 2, response.text
    assert int(response.headers["Retry-After"]) >= 1
    assert response.headers["Content-Type"] == "application/problem+json"
    assert near.get("/healthz").status_code == 200
    assert near.get("/readyz").status_code == 200  # or else the others would get this one's load, too
    in_use = re.search(r"^api_rest_pool_connections_in_use (\S+)", near.get("/metrics").text, re.MULTILINE)
    assert in_use
    assert float(in_use[1]) == 2
    assert "api_rest_pool_connections_max 2.0" in near.get("/metrics").text
    for reader in readers:
        reader.close()
    wait_until(lambda: near.get("/air_quality?limit=1").status_code == 200)


def test_a_restart_of_postgres_breaks_the_answer_visibly(
    small_service: ApiRest, big: Postgres, near: Client
) -> None:
    connection = http.client.HTTPConnection(small_service.host, small_service.port, timeout=20)
    connection.request("GET", BIG)
    response = connection.getresponse()
    assert response.status == 200
    response.read(1000)
    big.stop()
    with pytest.raises((http.client.IncompleteRead, ConnectionError)):
        response.read()
    connection.close()
    down = near.get("/air_quality?limit=1")
    assert (down.status_code, down.headers["Retry-After"]) == (503, "5")
    assert near.get("/healthz").status_code == 200
    big.start()
    wait_until(lambda: near.get("/readyz").status_code == 200)
    assert len(near.get("/air_quality?limit=1").json()) == 1


def test_connections_that_ended_while_idle_cost_no_request(
    small_service: ApiRest, near: Client, big: Postgres
) -> None:
    session = big.connect()
    session.autocommit = True
    held = begin(small_service)  # of the pool's two connections, one
    assert near.get("/readyz").status_code == 200
    held.close()
    wait_until(lambda: sessions(big, "application_name = 'api-rest'") >= 1)
    for _ in range(3):
        with session.cursor() as cursor:
            cursor.execute(END_SESSIONS)
        assert [near.get("/readyz").status_code for _ in range(3)] == [200] * 3
    session.close()


def test_no_dump_is_sorted_before_its_first_row(small_service: ApiRest, big: Postgres) -> None:
    """Though Postgres finds it cheaper, as it does at 100 million rows."""
    admin = big.connect()
    admin.autocommit = True
    with admin.cursor() as cursor, role_settings(cursor, random_page_cost="10000", work_mem="64kB"):
        sock = begin(small_service)
        cursor.execute("SELECT count(*) FROM pg_ls_tmpdir()")
        assert cursor.fetchone() == (0,)
        sock.close()
    admin.close()


def test_a_client_that_leaves_a_paused_postgres_holds_up_nobody(
    small_service: ApiRest, big: Postgres
) -> None:
    with locked_table(big):
        sock = ask(small_service, BIG)
        wait_until(lambda: active(big) == 1)
        big.pause()
        try:
            sock.close()
            assert all(small_service.get("/healthz") == 200 for _ in range(200))
        finally:
            big.resume()
        wait_until(lambda: active(big) == 0)


@pytest.fixture(scope="module")
def impatient_service(big: Postgres) -> Iterator[ApiRest]:
    settings = {"SEND_TIMEOUT": "1", "POSTGRES_API_STATEMENT_TIMEOUT": "4", "WEB_CONCURRENCY": "1"}
    with ApiRest(big.environ | settings) as service:
        yield service


def test_a_slow_statement_is_a_503(impatient_service: ApiRest, big: Postgres) -> None:
    with locked_table(big):
        response = requests.get(impatient_service.url + "/air_quality?limit=1", timeout=10)
    assert response.status_code == 503
    assert "narrow" in response.json()["detail"]


@pytest.mark.parametrize(
    ("statement", "kind", "retry_after"),
    [
        pytest.param(f"SELECT concat({'1, ' * 100}1)", "refused", 30, id="a limit"),
        pytest.param("SELECT 1 / 0", "refused", 30, id="data"),
        pytest.param("SELECT pg_terminate_backend(pg_backend_pid())", "down", 5, id="end"),
    ],
)
def test_an_error_says_whether_the_database_is_away(
    postgres: Postgres, statement: str, kind: str, retry_after: int
) -> None:
    connection = postgres.connect()
    with pytest.raises(Unavailable) as error, translated(), connection.cursor() as cursor:
        cursor.execute(statement)
    connection.close()
    assert (error.value.kind, error.value.retry_after) == (kind, retry_after)


def test_a_slow_reader_is_cut_off(impatient_service: ApiRest, big: Postgres) -> None:
    sock = begin(impatient_service)
    wait_until(lambda: active(big) == 1)
    wait_until(lambda: active(big) == 0, seconds=2.5)  # before the statement's own time is over
    sock.close()


@dataclass
class Ending:
    """What a service did that got SIGTERM amid an answer: the rest of that answer, and all its lines."""

    rest: bytes
    log: str


@pytest.fixture(scope="module")
def ending(big: Postgres, tmp_path_factory: pytest.TempPathFactory) -> Ending:
    log = tmp_path_factory.mktemp("ending") / "log"
    with ApiRest(big.environ | {"WEB_CONCURRENCY": "1"}, output=log) as service:
        connection = http.client.HTTPConnection(service.host, service.port, timeout=30)
        connection.request("GET", BIG)
        response = connection.getresponse()
        response.read(1000)
        os.kill(service.process.pid, signal.SIGTERM)
        rest = response.read()
        connection.close()
    return Ending(rest, log.read_text())


def test_sigterm_drains(ending: Ending) -> None:
    assert ending.rest.endswith(b"}\n]\n")


def test_every_line_from_start_to_end_is_json(ending: Ending) -> None:
    lines = [json.loads(line) for line in ending.log.splitlines()]
    said = " ".join(str(line.get("message")) for line in lines)
    assert "Starting gunicorn" in said
    assert "Shutting down" in said
    for line in lines:
        assert line.keys() >= {"time", "level", "service"}
        assert line["level"] == "info"


def test_log_lines(near: Client, log: Path) -> None:
    trace = "4bf92f3577b34da6a3ce929d0e0e4736"
    path = "/air_quality?limit=1&id_entity=%C3%A9"
    response = near.get(
        path, headers={"X-Request-ID": "mine-1", "traceparent": f"00-{trace}-00f067aa0ba902b7-01"}
    )
    assert response.headers["X-Request-ID"] == "mine-1"

    def lines() -> list[dict[str, object]]:
        found = [json.loads(line) for line in log.read_text().splitlines() if line.startswith("{")]
        return [line for line in found if line.get("request_id") == "mine-1"]

    wait_until(lambda: len(lines()) == 1)
    (line,) = lines()
    assert log.read_text().count(path) == 1  # gunicorn says nothing of its own about it
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", str(line.pop("time")))
    assert 0 < float(str(line.pop("duration"))) < 10
    assert line == {
        "level": "info",
        "service": "api-rest",
        "method": "GET",
        "path": path,
        "status": 200,
        "bytes": len(response.content),
        "request_id": "mine-1",
        "trace_id": trace,
    }
    assert near.get("/healthz", headers={"X-Request-ID": "bad id"}).headers["X-Request-ID"] != "bad id"


def test_metrics_count_across_workers(client: Client) -> None:
    def counted() -> float:
        text = client.get("/metrics").text
        name = re.escape('http_requests_total{method="GET",route="/stations",status="200"}')
        found = re.search(rf"^{name} (\S+)", text, re.MULTILINE)
        return float(found[1]) if found else 0.0

    before = counted()
    for _ in range(20):  # over connections of their own, so that both workers get some
        requests.get(client.url + "/stations", timeout=5)
    wait_until(lambda: counted() == before + 20)
    metrics = client.get("/metrics")
    assert metrics.headers["Cache-Control"] == "no-store"
    for name in (
        "http_request_duration_seconds_bucket",
        "http_response_bytes_total",
        "api_rest_rows_total",
        "api_rest_pool_connections_in_use",
        "api_rest_pool_connections_max",
    ):
        assert name in metrics.text
    assert 'route="/stations"' in metrics.text
    client.get("/made/up/by/a/client")
    wait_until(lambda: 'route="none",status="404"' in client.get("/metrics").text)
    assert "made/up" not in client.get("/metrics").text


def test_probes_are_not_stored(client: Client) -> None:
    for path in ("/healthz", "/readyz", "/metrics"):
        response = client.get(path)
        assert (response.status_code, response.headers["Cache-Control"]) == (200, "no-store")
