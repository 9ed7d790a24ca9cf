"""Our own endpoints, which Flask serves: never forwarded, never stored, whatever the method or query."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import unquote

from flask import Flask, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from werkzeug.exceptions import HTTPException

import problems
from httpcache.messages import Headers
from observability.exposition import registry
from replies import Reply

if TYPE_CHECKING:
    import mmap

    from werkzeug.sansio.response import Response as AnyResponse

    from httpcache.messages import Request

OWN = frozenset(("/healthz", "/readyz", "/metrics"))


def path_of(target: str) -> str:
    """What a target's path means: a letter may be percent-encoded, and is the same one (RFC 9110 §4.2.3)."""
    path, _, _ = target.partition("?")
    return unquote(path) if "%" in path else path


class Endpoints:
    """Answers for them. `shared` is the memory of all workers' counters."""

    def __init__(self, shared: mmap.mmap) -> None:
        self._flask = _create(shared)

    def answer(self, request: Request) -> Reply | None:
        """None when the target is not ours."""
        path = path_of(request.target)
        if path not in OWN:
            return None
        _, _, query = request.target.partition("?")
        with self._flask.test_request_context(path, method=request.method, query_string=query):
            response = self._flask.full_dispatch_request()
        content = response.get_data()
        headers = Headers(
            (name, value) for name, value in response.headers if name.lower() != "content-length"
        )
        return Reply(response.status_code, headers, content, len(content), "own")


def _create(shared: mmap.mmap) -> Flask:
    flask = Flask(__name__, static_folder=None)
    all_metrics = registry(shared)

    @flask.get("/healthz")
    @flask.get("/readyz")
    def healthz() -> dict[str, str]:
        """Without Redis or the origin we degrade, and so are ready all the same."""
        return {"status": "ok"}

    @flask.get("/metrics")
    def metrics() -> Response:
        return Response(generate_latest(all_metrics), content_type=CONTENT_TYPE_LATEST)

    @flask.after_request
    def never_stored(response: Response) -> Response:
        response.headers["Cache-Control"] = "no-store"
        return response

    @flask.errorhandler(HTTPException)
    def problem(error: HTTPException) -> AnyResponse:
        return problems.handle(error)

    return flask
