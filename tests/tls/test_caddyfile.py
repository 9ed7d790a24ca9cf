"""The TLS profile's Caddyfile, run by a real Caddy in front of a server that says what reached it."""

import http.client
import json
import os
import re
import socket
import ssl
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from local.processes import Process, free_port

CADDYFILE = Path(__file__).parents[2] / "tls" / "Caddyfile"
CADDY = Path(sys.executable).with_name("caddy")


class Echo(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        body = json.dumps({"path": self.path, "headers": dict(self.headers)}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
        pass


class Proxy:
    """Caddy, and what its clients need: the ports, and the certificate of its local authority."""

    def __init__(self, folder: Path, upstream: int) -> None:
        # Under Compose, users know another port than Caddy, which listens in its container.
        self.http, self.https, self.published = free_port(), free_port(), 8443
        self.authority = folder / "caddy" / "pki" / "authorities" / "local" / "root.crt"
        environ = {
            "PATH": os.environ["PATH"],
            "HOME": str(folder),
            "XDG_DATA_HOME": str(folder),
            "XDG_CONFIG_HOME": str(folder),
            "TLS_HTTP_LISTEN": str(self.http),
            "TLS_LISTEN": str(self.https),
            "TLS_PORT": str(self.published),
            "TLS_UPSTREAM_HOST": "127.0.0.1",
            "TLS_UPSTREAM_PORT": str(upstream),
        }
        self.log = folder / "caddy.log"
        command = [CADDY, "run", "--config", CADDYFILE, "--adapter", "caddyfile"]
        self.process = Process("Caddy", command, environ=environ, output=self.log, stop_timeout=10)

    def context(self, *protocols: str) -> ssl.SSLContext:
        context = ssl.create_default_context(cafile=str(self.authority))
        if protocols:
            context.set_alpn_protocols(list(protocols))
        return context

    def get(self, target: str) -> tuple[http.client.HTTPResponse, bytes]:
        connection = http.client.HTTPSConnection("localhost", self.https, context=self.context(), timeout=15)
        connection.request("GET", target)
        response = connection.getresponse()
        body = response.read()
        connection.close()
        return response, body

    def is_ready(self) -> bool:
        try:
            return self.get("/healthz")[0].status == 404
        except (OSError, http.client.HTTPException):
            return False


@pytest.fixture(scope="module")
def proxy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    upstream = ThreadingHTTPServer(("127.0.0.1", 0), Echo)
    thread = threading.Thread(target=upstream.serve_forever)
    thread.start()
    caddy = Proxy(tmp_path_factory.mktemp("caddy"), upstream.server_port)
    caddy.process.start()
    try:
        caddy.process.wait_until_ready(caddy.is_ready)
        yield caddy
    finally:
        caddy.process.stop()
        upstream.shutdown()
        thread.join()
        upstream.server_close()


def test_requests_pass_with_a_verified_certificate(proxy: Proxy) -> None:
    response, body = proxy.get("/air_quality?limit=1")
    assert response.status == 200
    assert json.loads(body)["path"] == "/air_quality?limit=1"


def test_the_service_learns_whom_it_serves(proxy: Proxy) -> None:
    headers = json.loads(proxy.get("/")[1])["headers"]
    assert headers["X-Forwarded-Proto"] == "https"
    assert headers["X-Forwarded-For"] in {"127.0.0.1", "::1"}


def test_browsers_are_told_to_come_back_by_https_alone(proxy: Proxy) -> None:
    assert int(proxy.get("/")[0].headers["Strict-Transport-Security"].partition("=")[2]) >= 31_536_000


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "another.example"])
def test_plain_http_is_sent_to_https(proxy: Proxy, host: str) -> None:
    connection = http.client.HTTPConnection("localhost", proxy.http, timeout=15)
    connection.request("GET", "/air_quality?limit=1", headers={"Host": host})
    response = connection.getresponse()
    response.read()
    connection.close()
    assert response.status == 301
    assert response.headers["Location"] == f"https://localhost:{proxy.published}/air_quality?limit=1"


@pytest.mark.parametrize("protocol", ["h2", "http/1.1"])
def test_protocols(proxy: Proxy, protocol: str) -> None:
    with (
        socket.create_connection(("localhost", proxy.https), timeout=15) as plain,
        proxy.context(protocol).wrap_socket(plain, server_hostname="localhost") as secure,
    ):
        assert secure.selected_alpn_protocol() == protocol


def test_http_3_is_offered_where_users_find_it(proxy: Proxy) -> None:
    assert proxy.get("/")[0].headers.get_all("Alt-Svc") == [f'h3=":{proxy.published}"; ma=2592000']


def test_lines_have_instant_level_and_message_where_those_of_the_services_have_them(proxy: Proxy) -> None:
    """Those of the time before the configuration was read are Caddy's own."""
    lines = [json.loads(line) for line in proxy.log.read_text().splitlines()]
    lines = lines[next(n for n, line in enumerate(lines) if "message" in line) :]
    assert len(lines) > 5
    for line in lines:
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", line["time"])
        assert line["level"] in {"info", "warn", "error"}
        assert line["message"]


@pytest.mark.parametrize(
    "target",
    [
        "/metrics",
        "/healthz",
        "/readyz",
        "/readyz?verbose",
        "/METRICS",
        "/%6detrics",
        "//metrics",
        "/./metrics",
        "/air_quality/../metrics",
        "/metrics/",
    ],
)
def test_what_is_internal_stays_inside(proxy: Proxy, target: str) -> None:
    response, body = proxy.get(target)
    assert (response.status, body) == (404, b"")


def test_a_dead_service_is_a_502_in_time(tmp_path: Path) -> None:
    caddy = Proxy(tmp_path, free_port())
    caddy.process.start()
    try:
        caddy.process.wait_until_ready(caddy.is_ready)
        response, body = caddy.get("/")
        assert response.status == 502
        assert b"Traceback" not in body
    finally:
        caddy.process.stop()
