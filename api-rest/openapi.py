"""OpenAPI 3.1 and a page for people, of the declarations that check the requests."""

from typing import Any
from urllib.parse import parse_qsl

import orjson
from flask import Blueprint, Response, render_template, request, send_from_directory

import parameters
from formats import FORMATS, Format
from measurements import ENDPOINTS, Endpoint
from parameters import Parameter
from problems import MEDIA_TYPE as PROBLEM

VERSION = "1.0.0"
TITLE = "City air quality"
DESCRIPTION = (
    "Measurements of SO2, NO2, CO, O3, PM10 and PM2.5 by station. Instants are UTC; units: /pollutants. "
    "Answers carry an ETag that changes with the data. Errors are problem documents (RFC 9457)."
)
# What each measurement's URL may answer besides the rows.
RESPONSES = {
    304: "You have it already: nothing has changed since the validators that you named.",
    400: "Parameters are wrong; `errors` names each one, its value, and what would be right.",
    406: "None of the representations is acceptable.",
    412: "The data are not those that If-Match or If-Unmodified-Since ask for.",
    503: "The database is down, busy or too slow; Retry-After says when to ask again.",
}
# The URLs that are about the service, not about measurements: what each gives, and as what.
OTHERS = {
    "/healthz": ("Whether the process answers", "application/json"),
    "/readyz": ("Whether the database answers", "application/json"),
    "/metrics": ("Metrics for Prometheus", "text/plain"),
    "/openapi.json": ("This document", "application/json"),
    "/docs": ("This document, for people", "text/html"),
    "/": ("What there is, and the version of the data", "application/json"),
}

CONTENT_SECURITY = "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'"

blueprint = Blueprint("openapi", __name__, static_folder=None, template_folder="templates")


def document() -> dict[str, Any]:
    measured = {endpoint.path: {"get": _operation(endpoint)} for endpoint in ENDPOINTS}
    others = {path: {"get": _plain(path, *about)} for path, about in OTHERS.items()}
    return {
        "openapi": "3.1.1",
        "info": {"title": TITLE, "version": VERSION, "description": DESCRIPTION},
        "paths": measured | others,
        "components": {
            "schemas": {"Problem": _problem_schema()},
            "responses": {str(status): _response(status, text) for status, text in RESPONSES.items()},
        },
    }


def _operation(endpoint: Endpoint) -> dict[str, Any]:
    return {
        "operationId": endpoint.name,
        "summary": endpoint.summary,
        "description": endpoint.description,
        "parameters": [_parameter(parameter) for parameter in endpoint.parameters],
        "responses": {
            "200": {
                "description": "The rows.",
                "headers": _headers(endpoint),
                "content": {form.media_type: _content(form, endpoint) for form in FORMATS.values()},
            },
            **{str(status): {"$ref": f"#/components/responses/{status}"} for status in RESPONSES},
        },
    }


def _parameter(parameter: Parameter) -> dict[str, Any]:
    schema = {"type": "array", "items": parameter.schema} if parameter.repeatable else parameter.schema
    told = {"name": parameter.name, "in": "query", "description": parameter.description, "schema": schema}
    return told | ({} if parameter.example is None else {"example": _example(parameter)})


def _example(parameter: Parameter) -> Any:
    if parameter.repeatable:
        return str(parameter.example).split(",")
    return orjson.loads(str(parameter.example)) if parameter.numeric else parameter.example


def _headers(endpoint: Endpoint) -> dict[str, Any]:
    names = {
        "ETag": "Strong, and different for each representation.",
        "Last-Modified": "When the data changed last.",
        "X-Request-ID": "The request's own, or a new one; the log has it, too.",
    }
    if any(parameter.name == "limit" for parameter in endpoint.parameters):
        names["Link"] = 'With rel="next": the next page, as long as there is one (RFC 8288).'
    return {name: {"description": text, "schema": {"type": "string"}} for name, text in names.items()}


def _content(form: Format, endpoint: Endpoint) -> dict[str, Any]:
    if form.name == "json":
        return {"schema": {"type": "array", "items": endpoint.row}}
    return {"schema": {"type": "string"}}


def _plain(path: str, summary: str, media_type: str) -> dict[str, Any]:
    schema = {"type": "object"} if media_type == "application/json" else {"type": "string"}
    answers = {"200": {"description": summary, "content": {media_type: {"schema": schema}}}}
    if path in ("/", "/readyz"):
        answers["503"] = {"$ref": "#/components/responses/503"}
    return {
        "operationId": path.strip("/").replace(".", "_") or "index",
        "summary": summary,
        "responses": answers,
    }


def _response(status: int, text: str) -> dict[str, Any]:
    if status == 304:
        return {"description": text}
    return {"description": text, "content": {PROBLEM: {"schema": {"$ref": "#/components/schemas/Problem"}}}}


def _problem_schema() -> dict[str, Any]:
    text = {"type": "string"}
    fault = {"parameter": text, "value": text, "detail": text}
    return {
        "type": "object",
        "required": ["type", "title", "status"],
        "properties": {
            "type": text,
            "title": text,
            "status": {"type": "integer"},
            "detail": text,
            "errors": {
                "type": "array",
                "items": {"type": "object", "properties": fault, "required": list(fault)},
            },
        },
    }


@blueprint.get("/openapi.json")
def openapi_json() -> Response:
    parameters.read((), request.args)
    return _static(Response(orjson.dumps(document()), content_type="application/json"))


@blueprint.get("/docs")
def docs() -> Response:
    parameters.read((), request.args)
    page = render_template(
        "docs.html",
        title=TITLE,
        description=DESCRIPTION,
        endpoints=[(endpoint, dict(parse_qsl(endpoint.example))) for endpoint in ENDPOINTS],
    )
    response = _static(Response(page, content_type="text/html; charset=utf-8"))
    response.headers["Content-Security-Policy"] = CONTENT_SECURITY
    return response


@blueprint.get("/docs/<any('docs.css', 'docs.js'):name>")
def asset(name: str) -> Response:
    parameters.read((), request.args)
    return _static(send_from_directory("templates", name, conditional=False))


def _static(response: Response) -> Response:
    response.headers["Cache-Control"] = "public, max-age=300"
    response.direct_passthrough = False
    response.add_etag(overwrite=True)
    response.make_conditional(request)
    return response
