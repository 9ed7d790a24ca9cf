"""A response never carries validators that name other data than it holds."""

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from email.utils import parsedate_to_datetime

import pytest
from local.postgres import Postgres
from local.processes import wait_until
from psycopg2.extensions import connection as Connection  # noqa: N812
from psycopg2.extensions import cursor as Cursor  # noqa: N812
from requests import Response

from tests.http_client import Client
from tests.sessions import role_settings, sessions

TABLE = "air_quality_measurements"
CHANGES = {
    "insert": f"INSERT INTO {TABLE} (time_instant, id_entity, no2) VALUES ('2031-01-01', 'v', 1)",
    "update": f"UPDATE {TABLE} SET no2 = 2 WHERE id_entity = 'v'",
    "delete": f"DELETE FROM {TABLE} WHERE id_entity = 'v'",
}


def etag(client: Client, path: str = "/air_quality?limit=1") -> str:
    return client.get(path).headers["ETag"]


def test_every_kind_of_change_changes_the_tag(client: Client, sql: Cursor) -> None:
    for change in CHANGES.values():
        before = etag(client)
        assert etag(client) == before
        sql.execute(change)
        assert etag(client) != before
    before = etag(client)
    sql.execute(f"UPDATE {TABLE} SET no2 = 2 WHERE id_entity = 'nobody'")  # which changes nothing
    assert etag(client) == before


def test_truncate_and_copy_change_the_version(postgres: Postgres) -> None:
    connection = postgres.connect(options="-c search_path=api")
    with connection.cursor() as cursor:  # in one transaction, which is never committed
        versions = []
        for change in (f"TRUNCATE {TABLE}", f"COPY {TABLE} FROM PROGRAM 'echo 2031-01-01,c,,,,,,' CSV"):
            cursor.execute("SELECT version FROM data_version")
            versions.append(cursor.fetchone())
            cursor.execute(change)
        cursor.execute("SELECT version FROM data_version")
        versions.append(cursor.fetchone())
        cursor.execute("SELECT id_entity, measurements FROM stations")
        assert cursor.fetchall() == [("c", 1)]
    connection.rollback()
    connection.close()
    assert len(set(versions)) == 3


def test_representations_differ(client: Client) -> None:
    paths = [
        "/air_quality",
        "/air_quality?limit=5",
        "/air_quality?format=csv",
        "/air_quality?format=ndjson",
        "/stations",
    ]
    assert len({etag(client, path) for path in paths}) == len(paths)
    assert etag(client).startswith('"')  # strong


def test_not_modified(client: Client) -> None:
    path = "/air_quality?limit=2"
    tag = etag(client, path)
    for value in (tag, f'"x", W/{tag}', "*"):
        response = client.get(path, headers={"If-None-Match": value})
        assert (response.status_code, response.content) == (304, b"")
        assert response.headers["ETag"] == tag
        assert "max-age" in response.headers["Cache-Control"]
    assert client.get(path, headers={"If-None-Match": '"x"'}).status_code == 200
    assert client.get(path, headers={"If-Match": '"x"'}).status_code == 412
    assert client.get(path, headers={"If-Match": tag}).status_code == 200


def test_not_modified_asks_for_no_rows(client: Client, sql: Cursor) -> None:
    tag = etag(client, "/air_quality")
    sql.execute(f"GRANT INSERT ON {TABLE} TO api; REVOKE SELECT ON {TABLE} FROM api")
    try:
        assert client.get("/air_quality").status_code == 503
        assert client.get("/air_quality", headers={"If-None-Match": tag}).status_code == 304
    finally:
        sql.execute(f"REVOKE INSERT ON {TABLE} FROM api; GRANT SELECT ON {TABLE} TO api")


def test_if_modified_since(client: Client) -> None:
    path = "/air_quality?limit=2"

    def not_modified() -> bool:
        date = client.get(path).headers["Last-Modified"]
        return client.get(path, headers={"If-Modified-Since": date}).status_code == 304

    assert wait_until(not_modified, timeout=5)  # a change of this very second is not settled yet
    date = client.get(path).headers["Last-Modified"]
    assert client.get(path, headers={"If-Modified-Since": date, "If-None-Match": '"x"'}).status_code == 200
    assert client.get(path, headers={"If-Modified-Since": "Thu, 01 Jan 1970 00:00:00 GMT"}).status_code == 200
    assert parsedate_to_datetime(date).timestamp() <= time.time()


def test_commits_out_of_order(client: Client, postgres: Postgres, sql: Cursor) -> None:
    """The first to write is the last to commit; neither waits for the other, and no tag comes twice."""
    first, second = (postgres.connect(options="-c search_path=api -c lock_timeout=2s") for _ in range(2))
    seen: list[tuple[str, str, bytes]] = []

    def look() -> None:
        response = client.get("/air_quality?id_entity=o1,o2&pollutant=no2")
        seen.append((response.headers["ETag"], response.headers["Last-Modified"], response.content))

    look()
    insert = f"INSERT INTO {TABLE} (time_instant, id_entity, no2) VALUES ('2031-01-01', %s, 1)"
    first.cursor().execute(insert, ("o1",))
    second.cursor().execute(insert, ("o2",))
    look()
    second.commit()
    look()
    first.commit()
    look()
    first.close()
    second.close()
    sql.execute(f"DELETE FROM {TABLE} WHERE id_entity IN ('o1', 'o2')")
    assert (seen[0][0], seen[0][2]) == (seen[1][0], seen[1][2])
    assert len({tag for tag, _, _ in seen}) == len({body for _, _, body in seen}) == 3
    # The date of the state before the last commit is no excuse, though that commit's change is dated earlier.
    since = client.get(
        "/air_quality?id_entity=o1,o2&pollutant=no2", headers={"If-Modified-Since": seen[2][1]}
    )
    assert since.status_code == 200


def test_no_date_is_given_twice_while_a_later_writer_has_yet_to_commit(
    client: Client, postgres: Postgres, sql: Cursor
) -> None:
    """Who wrote last in a second commits after it is over. No snapshot names that writer."""
    path = "/air_quality?id_entity=o1,o2&pollutant=no2"
    insert = f"INSERT INTO {TABLE} (time_instant, id_entity, no2) VALUES ('2031-01-01', %s, 1)"
    first, second = (postgres.connect(options="-c search_path=api") for _ in range(2))
    assert wait_until(lambda: time.time() % 1 < 0.5, timeout=5)  # both write within one second
    first.cursor().execute(insert, ("o1",))
    second.cursor().execute(insert, ("o2",))
    first.commit()
    written = int(time.time())
    assert wait_until(lambda: time.time() > written + 1, timeout=5)
    early = client.get(path)
    second.commit()
    assert client.get(path).content != early.content
    since = {"If-Modified-Since": early.headers["Last-Modified"]}
    late = client.get(path, headers=since)
    # Others may write elsewhere, such as an ANALYZE of Postgres's own.
    settled = wait_until(lambda: _dated(client.get(path)) == written, timeout=5)
    first.close()
    second.close()
    sql.execute(f"DELETE FROM {TABLE} WHERE id_entity IN ('o1', 'o2')")
    assert late.status_code == 200
    assert settled


def _dated(response: Response) -> float:
    return parsedate_to_datetime(response.headers["Last-Modified"]).timestamp()


@pytest.mark.parametrize("isolation", ["READ COMMITTED", "REPEATABLE READ"])
def test_one_tag_is_one_state_while_writers_write(
    client: Client, postgres: Postgres, sql: Cursor, isolation: str
) -> None:
    stop = threading.Event()
    errors: list[BaseException] = []
    writers = [
        threading.Thread(
            target=_guarded,
            args=(_write, errors, postgres.connect(options="-c search_path=api"), name, isolation, stop),
        )
        for name in ("w1", "w2", "w3")
    ]
    bodies: dict[str, bytes] = {}
    try:
        for writer in writers:
            writer.start()
        for _ in range(150):
            response = client.get("/air_quality?id_entity=w1,w2,w3&pollutant=no2")
            held = bodies.setdefault(response.headers["ETag"], response.content)
            assert held == response.content
    finally:
        stop.set()
        for writer in writers:
            writer.join()
        sql.execute(f"DELETE FROM {TABLE} WHERE id_entity IN ('w1', 'w2', 'w3')")
    assert not errors
    assert len(bodies) > 10


def _guarded(target: Callable[..., None], errors: list[BaseException], *args: object) -> None:
    try:
        target(*args)
    except BaseException as error:  # noqa: BLE001
        errors.append(error)


def _write(connection: Connection, name: str, isolation: str, stop: threading.Event) -> None:
    number = 0
    while not stop.is_set():
        number += 1
        with connection.cursor() as cursor:
            cursor.execute(f"SET TRANSACTION ISOLATION LEVEL {isolation}")
            statement = f"INSERT INTO {TABLE} (time_instant, id_entity, no2) VALUES ('2031-01-01', %s, %s)"
            cursor.execute(
                statement + " ON CONFLICT (id_entity, time_instant) DO UPDATE SET no2 = excluded.no2",
                (name, number),
            )
            stop.wait(0.002 * (number % 3))
        connection.commit()
    connection.close()


def test_truncate_amid_a_request(client: Client, postgres: Postgres, sql: Cursor) -> None:
    """TRUNCATE empties the table for older snapshots, too (PostgreSQL, "Caveats" of MVCC)."""
    sql.execute(CHANGES["insert"])
    before = client.get("/air_quality?id_entity=v")
    writer = postgres.connect(options="-c search_path=api")
    with ThreadPoolExecutor(1) as threads, writer.cursor() as cursor:
        cursor.execute(f"CREATE TEMP TABLE kept AS SELECT * FROM {TABLE} WHERE id_entity <> 'v'")
        cursor.execute(f"TRUNCATE {TABLE}; INSERT INTO {TABLE} SELECT * FROM kept")
        asked = threads.submit(client.get, "/air_quality?id_entity=v")
        assert wait_until(lambda: sessions(postgres, "wait_event_type = 'Lock'") == 1, timeout=5)
        writer.commit()
        during = asked.result()
    writer.close()
    assert (len(before.json()), during.json()) == (1, [])
    assert during.headers["ETag"] != before.headers["ETag"]
    assert during.headers["ETag"] == client.get("/air_quality?id_entity=v").headers["ETag"]


def test_truncate_by_an_older_snapshot_leaves_no_station(postgres: Postgres) -> None:
    """TRUNCATE takes away what its own snapshot does not see."""
    connections = [postgres.connect(options="-c search_path=api") for _ in range(2)]
    truncating, writing = (connection.cursor() for connection in connections)
    truncating.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
    truncating.execute(f"CREATE TEMP TABLE kept AS TABLE {TABLE}")
    writing.execute(CHANGES["insert"])
    writing.connection.commit()
    truncating.execute(f"TRUNCATE {TABLE}; INSERT INTO {TABLE} SELECT * FROM kept")
    truncating.connection.commit()
    writing.execute("SELECT FROM stations WHERE id_entity = 'v'")
    left = writing.rowcount
    for connection in connections:
        connection.close()
    assert left == 0


@pytest.fixture
def shared_work(sql: Cursor) -> Iterator[None]:
    """A table so small that it is quickly made, and a Postgres that would have two processes read it."""
    sql.execute(
        f"INSERT INTO {TABLE} (time_instant, id_entity, no2, o3)"
        " SELECT timestamp '2031-01-01' + i * interval '1 min', 'p' || i % 9, random(), random()"
        f" FROM generate_series(1, 5000) i; ANALYZE {TABLE}"
    )
    with role_settings(sql, min_parallel_table_scan_size="0", parallel_setup_cost="0"):
        yield
    sql.execute(f"DELETE FROM {TABLE} WHERE time_instant >= '2031-01-01'")
    sql.execute(f"VACUUM ANALYZE {TABLE}")


@pytest.mark.usefixtures("shared_work")
def test_sums_are_the_same_each_time(client: Client) -> None:
    """Even where Postgres would share the work among processes: one strong tag, one sequence of bytes."""
    answers = [client.get("/air_quality/aggregate?period=month") for _ in range(5)]
    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.headers["ETag"] for answer in answers}) == 1
    assert len({answer.content for answer in answers}) == 1


def test_folding_keeps_the_sums(sql: Cursor) -> None:
    sql.execute("SELECT version FROM data_version")
    (before,) = sql.fetchone() or (0,)
    for number in range(300):
        sql.execute(
            f"INSERT INTO {TABLE} (time_instant, id_entity, no2)"
            " VALUES (timestamp '2031-01-01' + %s * interval '1 h', 'f', 1)",
            (number,),
        )
    sql.execute("SELECT version, (SELECT count(*) FROM data_changes) FROM data_version")
    after, kept = sql.fetchone() or (0, 0)
    sql.execute("SELECT measurements, no2, so2 FROM stations WHERE id_entity = 'f'")
    assert sql.fetchone() == (300, 300, 0)
    assert after == before + 300
    assert kept < 200
    sql.execute(f"DELETE FROM {TABLE} WHERE id_entity = 'f'")
