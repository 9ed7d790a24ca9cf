"""gunicorn's threaded worker, whose own errors are problem documents, too; and its logger."""

from http import HTTPStatus
from socket import socket
from typing import Any

from gunicorn import glogging, util  # type: ignore[import-untyped]
from gunicorn.http.errors import (  # type: ignore[import-untyped]
    LimitRequestHeaders,
    LimitRequestLine,
    ParseException,
)
from gunicorn.workers.gthread import ThreadWorker  # type: ignore[import-untyped]

import problems

STATUSES = {LimitRequestLine: 414, LimitRequestHeaders: 431}


class Worker(ThreadWorker):  # type: ignore[misc]
    def handle_error(self, req: Any, client: socket, addr: Any, exc: Exception) -> None:
        """Answer what never became a request; gunicorn does the rest."""
        if not isinstance(exc, ParseException):
            super().handle_error(req, client, addr, exc)
            return
        status = next((status for error, status in STATUSES.items() if isinstance(exc, error)), 400)
        util.write(client, _response(status))


class Logger(glogging.Logger):  # type: ignore[misc]
    def access(self, *_exchange: Any) -> None:
        """Nothing, since observability.py has a line for each request; gunicorn would add one of its own."""


def _response(status: int) -> bytes:
    body = problems.document(status)
    head = (
        f"HTTP/1.1 {status} {HTTPStatus(status).phrase}",
        f"Content-Type: {problems.MEDIA_TYPE}",
        f"Content-Length: {len(body)}",
        "Cache-Control: no-store",
        "Access-Control-Allow-Origin: *",
        "Connection: close",
    )
    return "\r\n".join([*head, "", ""]).encode() + body
