"""The profile `tls` in front of the composed stack."""

import http.client
import ssl
from collections.abc import Iterator

import pytest
from local.processes import free_port, wait_until
from tests.stack.compose import Compose, need


@pytest.fixture(scope="module")
def tls(stack: Compose) -> Iterator[Compose]:
    need("tls")  # without it, tests/tls still runs the Caddyfile natively
    stack.environ |= {"TLS_PORT": str(free_port()), "TLS_HTTP_PORT": str(free_port())}
    stack.run("--profile", "tls", "up", "--detach", "--no-recreate", "--wait", "tls")
    yield stack
    stack.run("--profile", "tls", "rm", "--stop", "--force", "tls")


@pytest.fixture(scope="module")
def context(tls: Compose) -> ssl.SSLContext:
    path = "/tmp/caddy/pki/authorities/local/root.crt"  # noqa: S108 - in the container
    authority = tls.run("--profile", "tls", "exec", "-T", "tls", "cat", path)
    return ssl.create_default_context(cadata=authority)


def get(tls: Compose, context: ssl.SSLContext, target: str) -> tuple[http.client.HTTPResponse, bytes]:
    port = int(tls.environ["TLS_PORT"])
    connection = http.client.HTTPSConnection("localhost", port, context=context, timeout=10)
    connection.request("GET", target)
    response = connection.getresponse()
    body = response.read()
    connection.close()
    return response, body


def test_measurements_come_by_https(tls: Compose, context: ssl.SSLContext) -> None:
    assert wait_until(lambda: get(tls, context, "/air_quality?limit=1")[0].status == 200, timeout=20)
    response, _ = get(tls, context, "/air_quality?limit=1")
    assert "Strict-Transport-Security" in response.headers
    assert "api-cache" in response.headers["Cache-Status"]


@pytest.mark.parametrize("path", ["/metrics", "/healthz", "/readyz"])
def test_what_is_internal_stays_inside(tls: Compose, context: ssl.SSLContext, path: str) -> None:
    assert get(tls, context, path)[0].status == 404


def test_http_is_sent_to_https(tls: Compose) -> None:
    connection = http.client.HTTPConnection("localhost", int(tls.environ["TLS_HTTP_PORT"]), timeout=10)
    connection.request("GET", "/air_quality?limit=1")
    response = connection.getresponse()
    response.read()
    connection.close()
    location = f"https://localhost:{tls.environ['TLS_PORT']}/air_quality?limit=1"
    assert (response.status, response.headers["Location"]) == (301, location)
