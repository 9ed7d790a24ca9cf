"""Fluent Bit's configuration, Kibana's saved objects, and the script that sets both up."""

import base64
import json
import os
import re
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from tests.delivery.manifests import compose
from tests.monitoring.shipping import LOGS, ROOT, configuration, fields, shipped

PASSWORDS = {
    "ELASTIC_PASSWORD": """e'l"a \\ $x""",
    "KIBANA_PASSWORD": """k'i"b \\ $y""",
    "FLUENT_BIT_PASSWORD": """f'l"u \\""",
}


def docker_line(log: str, **more: Any) -> str:
    line = {"log": log, "stream": "stderr", "time": "2026-01-01T00:00:00.123456789Z"}
    return json.dumps(line | more)


def test_what_is_no_json_becomes_a_message() -> None:
    labels = {"com.docker.compose.service": "postgres"}
    record = shipped(docker_line("LOG:  checkpoint complete\n", attrs=labels), configuration())
    assert record == {
        "@timestamp": "2026-01-01T00:00:00.123456789Z",
        "container": "postgres",
        "stream": "stderr",
        "message": "LOG:  checkpoint complete\n",
    }
    assert record.keys() <= fields().keys()


def test_other_containers_are_left_alone() -> None:
    assert shipped(docker_line("hello\n"), configuration()) is None


def test_compose_adds_the_label_that_tells_whose_line_it_is() -> None:
    text = (ROOT / "docker-compose.yml").read_text()
    renamed = next(step for step in configuration()["pipeline"]["filters"] if "rename" in step)
    assert f"labels: {renamed['rename'].split()[0]}}}" in text


def test_variables_are_given() -> None:
    used = set(re.findall(r"\$\{(\w+)\}", (LOGS / "fluent-bit.yaml").read_text()))
    assert used == set(compose()["services"]["fluent-bit"]["environment"])


# ---- Kibana ------------------------------------------------------------------------------------------


def saved_objects() -> list[dict[str, Any]]:
    return [json.loads(line) for line in (LOGS / "saved-objects.ndjson").read_text().splitlines()]


def test_saved_objects_refer_to_one_another() -> None:
    known = {(each["type"], each["id"]) for each in saved_objects()}
    for each in saved_objects():
        assert {(reference["type"], reference["id"]) for reference in each["references"]} <= known


def test_the_data_view_covers_the_index() -> None:
    (view,) = (each["attributes"] for each in saved_objects() if each["type"] == "index-pattern")
    (output,) = configuration()["pipeline"]["outputs"]
    assert output["index"].startswith(view["title"].removesuffix("*"))
    assert view["timeFieldName"] in fields()


def test_searches_name_mapped_fields() -> None:
    searches = [each["attributes"] for each in saved_objects() if each["type"] == "search"]
    assert len(searches) == 2
    for search in searches:
        source = json.loads(search["kibanaSavedObjectMeta"]["searchSourceJSON"])
        queried = set(re.findall(r"(\w+) *(?::|>=)", source["query"]["query"]))
        assert queried | set(search["columns"]) <= set(fields())


# ---- setup.sh ----------------------------------------------------------------------------------------


class Elastic(BaseHTTPRequestHandler):
    """Takes down what it is asked; Elasticsearch and Kibana are in no package registry."""

    def _take(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.requests.append((self.command, self.path, dict(self.headers), body))  # type: ignore[attr-defined]
        self.send_response(self.server.status)  # type: ignore[attr-defined]
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_PUT = do_POST = _take  # noqa: N815 - the library calls them so

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def elastic() -> Iterator[Any]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Elastic)
    server.requests, server.status = [], 200  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))  # else it ends half a second late
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def setup(what: str, elastic: Any, **environ: str) -> subprocess.CompletedProcess[str]:
    url = f"http://127.0.0.1:{elastic.server_port}"
    given = {"PATH": os.environ["PATH"], "ELASTICSEARCH_URL": url, "KIBANA_URL": url, **PASSWORDS, **environ}
    command = [str(LOGS / "setup.sh"), what]
    return subprocess.run(command, env=given, capture_output=True, text=True, check=False)


def basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


def test_elasticsearch_gets_template_and_users(elastic: Any) -> None:
    done = setup("elasticsearch", elastic)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    asked = {(method, path): json.loads(body) for method, path, _, body in elastic.requests}
    template = json.loads((LOGS / "index-template.json").read_text())
    assert asked["PUT", "/_index_template/air-quality-logs"] == template
    assert asked["PUT", "/_security/user/fluent-bit"]["password"] == PASSWORDS["FLUENT_BIT_PASSWORD"]
    assert asked["PUT", "/_security/user/fluent-bit"]["roles"] == ["fluent-bit"]
    kibana = asked["POST", "/_security/user/kibana_system/_password"]
    assert kibana == {"password": PASSWORDS["KIBANA_PASSWORD"]}
    (rights,) = asked["PUT", "/_security/role/fluent-bit"]["indices"]
    assert rights["names"] == template["index_patterns"]
    expected = basic("elastic", PASSWORDS["ELASTIC_PASSWORD"])
    assert {headers["Authorization"] for _, _, headers, _ in elastic.requests} == {expected}


def test_kibana_gets_the_saved_objects(elastic: Any) -> None:
    assert setup("kibana", elastic).returncode == 0
    ((method, path, headers, body),) = elastic.requests
    assert (method, path) == ("POST", "/api/saved_objects/_import?overwrite=true")
    assert headers["kbn-xsrf"] == "true"
    assert (LOGS / "saved-objects.ndjson").read_bytes() in body


def test_a_refusal_fails_the_job(elastic: Any) -> None:
    elastic.status = 400
    assert setup("elasticsearch", elastic).returncode != 0
    assert len(elastic.requests) == 1


@pytest.mark.parametrize("empty", PASSWORDS)
def test_empty_passwords_are_refused(elastic: Any, empty: str) -> None:
    done = setup("elasticsearch", elastic, **{empty: ""})
    assert done.returncode == 1
    assert all(name in done.stderr for name in PASSWORDS)
    assert elastic.requests == []
