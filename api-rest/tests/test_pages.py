"""Keyset pages."""

from collections.abc import Iterator
from datetime import datetime, timedelta

import pytest
from psycopg2.extensions import cursor as Cursor  # noqa: N812
from werkzeug.datastructures import MultiDict

from formats import FORMATS
from measurements import ENDPOINTS, _end_of_page, _rows
from parameters import Cursor as Place
from parameters import read
from queries import MERGED_STATIONS, Shape
from tests.http_client import Client
from tests.rows import INSERT, rows


def pages(client: Client, path: str) -> list[list[dict[str, object]]]:
    found = []
    while path:
        response = client.get(path)
        assert response.status_code == 200, response.text
        found.append(response.json())
        link = response.links.get("next", {}).get("url", "")
        assert link.startswith("/") or not link  # relative
        path = link
    return found


@pytest.mark.parametrize("order", ["asc", "desc"])
@pytest.mark.parametrize(
    ("path", "limit"),
    [
        ("/air_quality?from=2016-10-01&to=2016-10-01T06:00:00", 7),
        ("/air_quality?id_entity=aq_salvia,aq_jazmin&to=2016-10-01T06:00:00", 5),
        ("/air_quality/latest?pollutant=o3", 3),
        ("/air_quality/aggregate?period=hour&pollutant=no2&tz=Europe/Madrid&to=2016-10-01T12:00:00", 11),
        ("/air_quality/rolling?window=8h&pollutant=o3&from=2016-10-01T12:00:00&to=2016-10-01T15:00:00", 13),
        ("/air_quality/rolling?window=2d&pollutant=no2,co&id_entity=aq_salvia", 40),
    ],
)
def test_pages_add_up_to_the_whole(client: Client, path: str, limit: int, order: str) -> None:
    whole = client.get(f"{path}&order={order}").json()
    cut = pages(client, f"{path}&order={order}&limit={limit}")
    assert [row for page in cut for row in page] == whole
    assert [len(page) for page in cut[:-1]] == [limit] * (len(cut) - 1)
    assert len(cut) > 1
    ascending = client.get(f"{path}&order=asc").json()
    assert whole == (ascending if order == "asc" else ascending[::-1])


def test_an_exact_last_page_has_no_next(client: Client) -> None:
    assert "Link" not in client.get("/air_quality/latest?limit=10").headers
    assert "Link" in client.get("/air_quality/latest?limit=9").headers


def test_pages_neither_skip_nor_repeat_while_others_insert(client: Client, sql: Cursor) -> None:
    began = datetime(2030, 1, 1)  # noqa: DTZ001
    mine = [(began + timedelta(hours=2 * number), "paged", number) for number in range(20)]
    with rows(sql, mine):
        path, seen = "/air_quality?id_entity=paged&pollutant=no2&limit=3", []
        while path:
            response = client.get(path)
            seen += [row["no2"] for row in response.json()]
            # One before and one after what has been read.
            for instant in (began - timedelta(hours=len(seen)), began + timedelta(hours=2 * len(seen) + 1)):
                sql.execute(INSERT % "(%s, 'paged', 1000)", (instant,))
            path = response.links.get("next", {}).get("url", "")
        assert [number for number in seen if number < 1000] == list(range(20))


@pytest.mark.parametrize("order", ["asc", "desc"])
def test_deep_pages_use_the_index(sql: Cursor, order: str) -> None:
    """Neither the page nor its end is sought from the beginning, nor sorted."""
    endpoint = ENDPOINTS[0]
    asked = {"order": order, "limit": "10", "cursor": str(Place(datetime(2016, 10, 2), "aq_l"))}  # noqa: DTZ001
    shape, bound = Shape.of(read(endpoint.parameters, MultiDict(asked)))
    of_page = [_rows(endpoint, shape, FORMATS["json"]).statement, _end_of_page(endpoint, shape)]
    for statement in of_page:
        settings = "".join(f"SET {setting}; " for setting in statement.planning)
        sql.execute(f"{settings}EXPLAIN {statement.query}", statement.bind(bound).values)
        plan = "\n".join(line for (line,) in sql.fetchall())
        assert "Index Cond: (ROW(time_instant" in plan
        assert "Sort" not in plan


def test_pages_of_many_stations_begin_with_the_first_instant_there_is(client: Client, sql: Cursor) -> None:
    first = datetime(1, 1, 1)  # noqa: DTZ001
    with rows(sql, [(first, name, 1.0) for name in MANY]):
        path = (
            f"/air_quality/rolling?pollutant=no2&window=1h&order=desc&limit=1000&id_entity={','.join(MANY)}"
        )
        assert len(client.get(path).json()) == len(MANY)


MANY = [f"many_{number:02}" for number in range(MERGED_STATIONS + 4)]


@pytest.fixture
def many_stations(sql: Cursor) -> Iterator[None]:
    """Each hour one more station misses."""
    measured = [
        (datetime(2021, 1, 1, hour, 0, 0, 7 * number), name, float(hour * number % 11))  # noqa: DTZ001
        for hour in range(20)
        for number, name in enumerate(MANY)
        if number != hour
    ]
    with rows(sql, measured):
        yield


@pytest.mark.parametrize(
    "path",
    [
        "/air_quality?",
        "/air_quality/latest?",
        "/air_quality/aggregate?period=hour&",
        "/air_quality/rolling?window=5h&coverage=0.9&",
    ],
)
@pytest.mark.usefixtures("many_stations")
def test_many_stations_are_answered_as_few_are(client: Client, path: str) -> None:
    common = "pollutant=no2&from=2021-01-01T03:00:00&to=2021-01-01T17:30:00"
    groups = (MANY[:10], MANY[10:])
    each = [client.get(f"{path}{common}&id_entity={','.join(names)}").json() for names in groups]
    key = "period_start" if "aggregate" in path else "time_instant"
    expected = sorted(each[0] + each[1], key=lambda row: (row[key], row["id_entity"]))
    assert len(expected) >= len(MANY)
    whole = f"{path}{common}&id_entity={','.join(MANY)}"
    assert client.get(whole).json() == expected
    for order in ("asc", "desc"):
        cut = [row for page in pages(client, f"{whole}&limit=7&order={order}") for row in page]
        assert cut == (expected if order == "asc" else expected[::-1])


@pytest.mark.usefixtures("many_stations")
def test_the_newest_of_many_stations(client: Client) -> None:
    found = client.get(f"/air_quality/latest?id_entity={','.join(MANY)}").json()
    assert sorted(row["id_entity"] for row in found) == MANY


def test_a_shape_does_not_grow_with_the_stations() -> None:
    names = [str(number) for number in range(3000)]
    shapes = {Shape.of({"id_entity": names[:count]})[0] for count in range(MERGED_STATIONS + 1, len(names))}
    assert len(shapes) == 1
