"""The rows themselves."""

import csv
import io

from psycopg2.extensions import cursor as Cursor  # noqa: N812

from tests.http_client import Client

COLUMNS = ["time_instant", "id_entity", "so2", "no2", "co", "o3", "pm10", "pm2_5"]


def test_all_rows_in_order(client: Client, sql: Cursor) -> None:
    response = client.get("/air_quality")
    assert response.status_code == 200
    assert response.headers["Content-Type"] == "application/json"
    rows = response.json()
    sql.execute("SELECT row_to_json(m) FROM air_quality_measurements m ORDER BY time_instant, id_entity")
    assert rows == [row for (row,) in sql.fetchall()]
    assert all(list(row) == COLUMNS for row in rows)


def test_only_some_columns(client: Client) -> None:
    rows = client.get("/air_quality?pollutant=o3,no2&pollutant=no2&limit=3").json()
    assert [list(row) for row in rows] == [["time_instant", "id_entity", "no2", "o3"]] * 3


def test_csv(client: Client) -> None:
    response = client.get("/air_quality", headers={"Accept": "text/csv"})
    assert response.headers["Content-Type"].startswith("text/csv")
    rows = list(csv.reader(io.StringIO(response.text)))
    assert rows[0] == COLUMNS
    assert len(rows) == 1 + len(client.get("/air_quality").json())


def test_a_range_of_time_of_one_station_and_of_some(client: Client, sql: Cursor) -> None:
    path = "/air_quality?from=2016-10-01T10:00:00%2B02:00&to=2016-10-01T09:00:00"
    for stations in (["aq_salvia"], ["aq_salvia", "aq_jazmin"]):
        rows = client.get(f"{path}&id_entity={','.join(stations)}").json()
        sql.execute(
            "SELECT row_to_json(m) FROM air_quality_measurements m WHERE id_entity = ANY(%s)"
            " AND time_instant >= '2016-10-01 08:00' AND time_instant < '2016-10-01 09:00'"
            " ORDER BY time_instant, id_entity",
            (stations,),
        )
        assert rows == [row for (row,) in sql.fetchall()]
        assert len(rows) == 4 * len(stations)
