"""Every error is a problem document (RFC 9457)."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from http import HTTPStatus

import orjson
from flask import Flask, Response
from werkzeug.exceptions import HTTPException, InternalServerError
from werkzeug.wrappers import Response as WsgiResponse

from database import ClientGone, Unavailable
from observability import LOG

MEDIA_TYPE = "application/problem+json"


@dataclass(frozen=True, slots=True)
class Fault:
    """What is wrong with a request: the parameter, its value as received, and what would be right."""

    parameter: str
    value: str
    detail: str


class BadParameters(Exception):
    """All the faults of a request's parameters."""

    def __init__(self, faults: Sequence[Fault]) -> None:
        super().__init__("; ".join(f"{fault.parameter}: {fault.detail}" for fault in faults))
        self.faults = faults


def document(status: int, detail: str | None = None, **extensions: object) -> bytes:
    """The members of RFC 9457 §3.1; the type is about:blank (§4.2.1), as the status says all."""
    members = {"type": "about:blank", "title": HTTPStatus(status).phrase, "status": status}
    if detail:
        members["detail"] = detail
    return orjson.dumps(members | extensions) + b"\n"


def problem(status: int, detail: str | None = None, **extensions: object) -> Response:
    response = Response(document(status, detail, **extensions), status, content_type=MEDIA_TYPE)
    response.headers["Cache-Control"] = "no-store"
    return response


def of_http_exception(error: HTTPException) -> WsgiResponse:
    """Keeps what the exception's own response carries: Allow, Retry-After, Location."""
    response = error.get_response()
    response.set_data(document(response.status_code, error.description))
    response.headers["Content-Type"] = MEDIA_TYPE
    response.headers["Cache-Control"] = "no-store"
    return response


def of_bad_parameters(error: BadParameters) -> Response:
    return problem(400, str(error), errors=[asdict(fault) for fault in error.faults])


def of_unavailable(error: Unavailable) -> Response:
    response = problem(503, error.detail)
    response.headers["Retry-After"] = str(error.retry_after)
    return response


def of_departure(_error: ClientGone) -> Response:
    """For the log and the metrics alone, by nginx's number for it."""
    return Response(status=499)


def of_defect(error: InternalServerError) -> Response:
    """An error of our own: the log tells what it is, the client learns nothing of it."""
    LOG.error("defect", exc_info=error.original_exception)
    return problem(500, "The service has a defect; its log tells more.")


def register(app: Flask) -> None:
    app.register_error_handler(HTTPException, of_http_exception)
    app.register_error_handler(InternalServerError, of_defect)
    app.register_error_handler(BadParameters, of_bad_parameters)
    app.register_error_handler(ClientGone, of_departure)
    app.register_error_handler(Unavailable, of_unavailable)
