"""Problem documents (RFC 9457): the only bodies that api-cache itself makes for errors."""

from __future__ import annotations

import json
from http import HTTPStatus
from typing import TYPE_CHECKING

from httpcache.messages import Headers

if TYPE_CHECKING:
    from werkzeug.exceptions import HTTPException
    from werkzeug.sansio.response import Response

MEDIA_TYPE = "application/problem+json"


def document(status: int, detail: str) -> bytes:
    """The JSON of an `about:blank` problem, whose title is the status code's own phrase."""
    problem = {"type": "about:blank", "title": HTTPStatus(status).phrase, "status": status, "detail": detail}
    return json.dumps(problem).encode() + b"\n"


def headers(*more: tuple[str, str]) -> Headers:
    """The fields of a problem document, which no cache may keep."""
    return Headers((("Content-Type", MEDIA_TYPE), ("Cache-Control", "no-store"), *more))


def handle(error: HTTPException) -> Response:
    """Flask's error handler: keeps the fields that the exception brings, such as Allow."""
    response = error.get_response()
    response.data = document(response.status_code, error.description or "")
    response.content_type = MEDIA_TYPE
    response.headers["Cache-Control"] = "no-store"
    return response
