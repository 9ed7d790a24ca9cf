"""What a request may say, and what it hears when it says something else."""

import http.client
import json
from datetime import UTC, datetime

import pytest
import requests
from hypothesis import given
from hypothesis import strategies as st
from local.services import ApiRest
from werkzeug.datastructures import MultiDict

from measurements import COMMON, ENDPOINTS
from parameters import Cursor, cursor, instant, read
from problems import BadParameters
from tests.http_client import Client


def is_problem(response: requests.Response, status: int) -> dict[str, object]:
    assert response.status_code == status
    assert response.headers["Content-Type"] == "application/problem+json"
    body: dict[str, object] = response.json()
    assert body["status"] == status
    return body


@pytest.mark.parametrize(
    ("query", "parameter", "value"),
    [
        ("limit=0", "limit", "0"),
        ("limit=1000001", "limit", "1000001"),
        ("limit=1e3", "limit", "1e3"),
        ("limit=5&limit=5", "limit", "5, 5"),
        ("order=up", "order", "up"),
        ("from=yesterday", "from", "yesterday"),
        ("from=2016-02-30", "from", "2016-02-30"),
        ("to=2016-10-01T24:00:00Z", "to", "2016-10-01T24:00:00Z"),
        ("pollutant=no2,xx", "pollutant", "xx"),
        ("pollutant=", "pollutant", ""),
        ("id_entity=" + 51 * "a", "id_entity", 51 * "a"),
        ("id_entity=a%00b", "id_entity", "a\0b"),
        ('id_entity="a', "id_entity", '"a'),
        ("cursor=x", "cursor", "x"),
        ("format=xml", "format", "xml"),
        ("colour=red", "colour", "red"),
        ("FROM=2016-10-01", "FROM", "2016-10-01"),
    ],
)
def test_a_fault_names_parameter_value_and_remedy(
    client: Client, query: str, parameter: str, value: str
) -> None:
    (fault,) = is_problem(client.get(f"/air_quality?{query}"), 400)["errors"]
    assert (fault["parameter"], fault["value"]) == (parameter, value)
    assert fault["detail"]


@pytest.mark.parametrize(
    ("path", "parameter"),
    [
        ("/air_quality/aggregate?period=decade", "period"),
        ("/air_quality/aggregate?statistic=mode", "statistic"),
        ("/air_quality/aggregate?tz=Mars/Olympus", "tz"),
        ("/air_quality/aggregate?coverage=1.1", "coverage"),
        ("/air_quality/aggregate?coverage=nan", "coverage"),
        ("/air_quality/aggregate?window=8h", "window"),
        ("/air_quality/rolling?window=31d", "window"),
        ("/air_quality/rolling?window=0h", "window"),
        ("/stations?limit=3", "limit"),
        ("/?x=1", "x"),
    ],
)
def test_faults_elsewhere(client: Client, path: str, parameter: str) -> None:
    assert [fault["parameter"] for fault in is_problem(client.get(path), 400)["errors"]] == [parameter]


def test_faults_are_told_together(client: Client) -> None:
    body = is_problem(client.get("/air_quality?limit=0&order=up&x=1&pollutant=a,b"), 400)
    assert [fault["parameter"] for fault in body["errors"]] == [
        "x",
        "pollutant",
        "pollutant",
        "order",
        "limit",
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2016-10-01", "2016-10-01T00:00:00"),
        ("2016-10-01T08:00:00Z", "2016-10-01T08:00:00"),
        ("2016-10-01t08:00:00z", "2016-10-01T08:00:00"),
        ("2016-10-01T08:00:00", "2016-10-01T08:00:00"),
        ("2016-10-01 08:00:00", "2016-10-01T08:00:00"),
        ("2016-10-01T08:00:00+02:00", "2016-10-01T06:00:00"),
        ("2016-10-01T08:00:00 02:00", "2016-10-01T06:00:00"),
        ("2016-10-01T08:00:00-03:30", "2016-10-01T11:30:00"),
        ("2016-10-01T08:00:00.5Z", "2016-10-01T08:00:00.500000"),
        ("2016-10-01T08:00:00.0000001Z", "2016-10-01T08:00:00.000001"),
        ("2016-12-31T23:59:60Z", "2017-01-01T00:00:00"),
        ("0001-01-01T00:00:00+05:00", "0001-01-01T00:00:00"),
        ("9999-12-31T23:59:59-05:00", "9999-12-31T23:59:59.999999"),
    ],
)
def test_instants(text: str, expected: str) -> None:
    assert instant(text).isoformat() == expected


@given(st.datetimes(timezones=st.timezones()).filter(lambda when: 1 < when.year < 9999))
def test_any_instant_with_an_offset_is_converted(when: datetime) -> None:
    offset = when.utcoffset()
    if offset is not None and offset.total_seconds() % 60 == 0:  # RFC 3339 knows no seconds there
        assert instant(when.isoformat()) == when.astimezone(UTC).replace(tzinfo=None)


@given(
    st.datetimes(),
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=50),
)
def test_a_cursor_comes_back_as_it_went(when: datetime, name: str) -> None:
    assert cursor(str(Cursor(when, name))) == Cursor(when, name)


@given(
    st.lists(st.tuples(st.sampled_from(["limit", "from", "id_entity", "cursor", "x"]), st.text()), max_size=4)
)
def test_no_query_is_more_than_a_fault(pairs: list[tuple[str, str]]) -> None:
    try:
        read(COMMON, MultiDict(pairs))
    except BadParameters as error:
        assert error.faults  # noqa: PT017


def test_a_plus_that_became_a_space(client: Client) -> None:
    one = client.get("/air_quality?from=2016-10-01T10:00:00+02:00&to=2016-10-01T10:20:00%2B02:00").json()
    assert one
    assert {row["time_instant"][:16] for row in one} <= {"2016-10-01T08:00", "2016-10-01T08:15"}


def test_names_with_commas_can_be_quoted() -> None:
    given = read(COMMON, MultiDict([("id_entity", 'a,"b,c","d""e"'), ("id_entity", "f")]))
    assert given["id_entity"] == ("a", "b,c", 'd"e', "f")


def test_what_matches_nothing_is_an_empty_array(client: Client) -> None:
    for endpoint in ENDPOINTS[:4]:
        assert client.get(f"{endpoint.path}?id_entity=nobody").json() == []
        assert client.get(f"{endpoint.path}?from=3000-01-01").json() == []


@pytest.mark.parametrize("path", ["/nothing", "/air_quality//latest"])
def test_404(client: Client, path: str) -> None:
    """Not a redirection either, which would name the Host of the client that asks."""
    is_problem(client.get(path), 404)


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH"])
def test_405_says_what_is_allowed(client: Client, method: str) -> None:
    response = client.request(method, "/air_quality")
    is_problem(response, 405)
    assert {"GET", "HEAD"} <= set(response.headers["Allow"].split(", "))


def test_406(client: Client) -> None:
    is_problem(client.get("/air_quality", headers={"Accept": "image/png"}), 406)


@pytest.mark.parametrize(
    ("accept", "media_type"),
    [
        ("*/*", "application/json"),
        ("text/csv;q=0.9, application/json;q=0.1", "text/csv"),
        ("application/x-ndjson", "application/x-ndjson"),
        ("text/*", "text/csv"),
        ("text/csv; charset=utf-8", "text/csv"),
        ("application/json;charset=utf-8;q=0.5, text/csv;q=0.4", "application/json"),
    ],
)
def test_negotiation(client: Client, accept: str, media_type: str) -> None:
    response = client.get("/air_quality?limit=1", headers={"Accept": accept})
    assert response.headers["Content-Type"].split(";")[0] == media_type
    assert "Accept" in response.headers["Vary"]


@pytest.mark.parametrize(
    ("path", "headers", "status"),
    [("/air_quality?" + "x" * 9000, {}, 414), ("/air_quality", {"X-Long": "x" * 9000}, 431)],
)
def test_too_long(service: ApiRest, path: str, headers: dict[str, str], status: int) -> None:
    connection = http.client.HTTPConnection(service.host, service.port, timeout=5)
    connection.request("GET", path, headers=headers)
    response = connection.getresponse()
    assert response.status == status
    assert response.headers["Content-Type"] == "application/problem+json"
    assert json.load(response)["status"] == status
    connection.close()


def test_head_has_the_headers_of_get(client: Client) -> None:
    for path in ("/", "/openapi.json", "/docs", *(endpoint.path for endpoint in ENDPOINTS)):
        head, get = head_and_get(client, path)
        assert head.content == b""
        assert lasting(head) == lasting(get)


def head_and_get(client: Client, path: str) -> tuple[requests.Response, requests.Response]:
    """Of one state: Last-Modified moves by itself when the second of the last change is over."""
    for _ in range(20):
        before, head, after = (client.request(method, path) for method in ("GET", "HEAD", "GET"))
        if lasting(before) == lasting(after):
            return head, after
    raise AssertionError("the headers of GET never stay the same")


def lasting(response: requests.Response) -> dict[str, str]:
    """Without what each response has of its own, and the length, which a HEAD need not know."""
    passing = {"Date", "X-Request-ID", "Content-Length", "Transfer-Encoding"}
    return {name: value for name, value in response.headers.items() if name not in passing}


def test_any_origin_may_read(client: Client) -> None:
    for path in ("/air_quality?limit=1", "/air_quality?limit=x", "/nothing"):
        assert (
            client.get(path, headers={"Origin": "https://a.example"}).headers["Access-Control-Allow-Origin"]
            == "*"
        )
    preflight = client.request("OPTIONS", "/air_quality", headers={"Access-Control-Request-Method": "GET"})
    assert preflight.headers["Access-Control-Allow-Methods"] == "GET, HEAD"
