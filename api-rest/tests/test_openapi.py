"""The description agrees with what is described."""

import re
from pathlib import Path

import jsonschema
import pytest

from app import create_app
from config import Config
from measurements import ENDPOINTS, Endpoint
from tests.http_client import Client

README = Path(__file__).parents[2] / "README.md"


def test_every_route_is_described(client: Client) -> None:
    app = create_app(Config(postgres_api_password="x"))
    routes = {rule.rule for rule in app.url_map.iter_rules() if "<" not in rule.rule}
    document = client.get("/openapi.json").json()
    assert document["openapi"].startswith("3.1")
    assert set(document["paths"]) == routes


def test_every_parameter_is_described(client: Client) -> None:
    paths = client.get("/openapi.json").json()["paths"]
    for endpoint in ENDPOINTS:
        told = [parameter["name"] for parameter in paths[endpoint.path]["get"]["parameters"]]
        assert told == [parameter.name for parameter in endpoint.parameters]


@pytest.mark.parametrize("endpoint", ENDPOINTS, ids=lambda endpoint: endpoint.name)
def test_rows_match_their_schema(client: Client, endpoint: Endpoint) -> None:
    response = client.get(f"{endpoint.path}?{endpoint.example}")
    rows = response.json()
    assert rows
    jsonschema.validate(rows, {"type": "array", "items": endpoint.row})


def test_the_docs_load_nothing_from_elsewhere(client: Client) -> None:
    page = client.get("/docs")
    assert page.headers["Content-Type"].startswith("text/html")
    sources = re.findall(r'(?:src|href)="([^"#]+)"', page.text)
    assert sources
    for source in sources:
        assert not re.match(r"[a-z]+:|//", source)
        assert client.get(f"/{source}").status_code == 200
    for endpoint in ENDPOINTS:
        assert f'id="{endpoint.name}"' in page.text
        assert (
            f"curl &#39;http://localhost:8080{endpoint.path}" in page.text
            or f"curl 'http://localhost:8080{endpoint.path}" in page.text
        )


@pytest.mark.parametrize("path", ["/openapi.json", "/docs", "/docs/docs.css", "/docs/docs.js"])
def test_the_docs_are_asked_for_as_all_else(client: Client, path: str) -> None:
    tag = client.get(path).headers["ETag"]
    assert client.get(path, headers={"If-None-Match": tag}).status_code == 304
    assert client.get(path, headers={"If-None-Match": '"x"'}).status_code == 200
    assert client.get(f"{path}?colour=red").json()["errors"][0]["parameter"] == "colour"


def test_the_readme_shows_a_curl_line_for_each_url() -> None:
    lines = [line for line in README.read_text().splitlines() if "curl" in line]
    for endpoint in ENDPOINTS:
        assert any(re.search(rf"localhost:8080{endpoint.path}(['?\s]|$)", line) for line in lines), (
            endpoint.path
        )


def test_index_links_to_everything(client: Client) -> None:
    index = client.get("/").json()
    assert {endpoint.path for endpoint in ENDPOINTS} | {"/docs", "/openapi.json"} == set(
        index["links"].values()
    )
    assert index["data_version"] in client.get("/stations").headers["ETag"]
