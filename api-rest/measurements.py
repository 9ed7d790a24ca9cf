"""The URLs that answer questions about measurements: what they take, and what they give."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import lru_cache
from typing import Any
from urllib.parse import urlencode

from flask import Blueprint, Response, current_app, g, jsonify, request
from werkzeug.datastructures import MIMEAccept
from werkzeug.exceptions import NotAcceptable

import parameters as p
import queries
from aggregates import CONCENTRATIONS, PERIODS, STATISTICS, aggregate, rolling
from database import Database, Snapshot, Statement
from departures import client_of
from formats import FORMATS, Format
from models import POLLUTANTS, Measurement
from parameters import Cursor, Parameter
from queries import Given, Place, Question, Shape
from streaming import CopyResponse, Rows
from validators import Validators


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Endpoint:
    """One URL. Requests are checked by it, and OpenAPI is made of it.

    Attributes:
        ask: the question that parameters, and a cursor, ask.
        by_station: whether it must be asked of named stations.
        row: JSON Schema of each object of the answer.
        example: a query string that shows what it is for.
    """

    path: str
    summary: str
    description: str
    ask: Callable[[Given, Place | None], Question]
    parameters: Sequence[Parameter]
    row: Mapping[str, Any]
    example: str = ""
    by_station: bool = False

    @property
    def name(self) -> str:
        return self.path.strip("/").replace("/", "_")


FORMAT = Parameter(
    "format",
    "The representation, in place of the Accept header.",
    {"type": "string", "enum": list(FORMATS)},
    p.one_of(list(FORMATS)),
)
COMMON = (
    Parameter(
        "id_entity",
        'Only these stations. Repeat it, or part names by commas; quote one that holds a comma: "a,b".',
        {"type": "string", "pattern": p.STATION_PATTERN},
        p.station,
        repeatable=True,
        example="aq_salvia",
    ),
    Parameter(
        "from",
        "Only measurements at or after this instant (RFC 3339) or date; without an offset, it is UTC.",
        p.INSTANT_SCHEMA,
        p.instant,
        example="2016-10-01",
    ),
    Parameter(
        "to",
        "Only measurements before this instant (RFC 3339) or date; without an offset, it is UTC.",
        p.INSTANT_SCHEMA,
        p.instant,
        example="2016-10-02T00:00:00+02:00",
    ),
    Parameter(
        "pollutant",
        "Only these columns. Repeat it, or part names by commas.",
        {"type": "string", "enum": list(POLLUTANTS)},
        p.one_of(POLLUTANTS),
        repeatable=True,
        example="no2",
    ),
    Parameter(
        "order",
        "Oldest or newest first; at one instant, stations go the same way by name.",
        {"type": "string", "enum": list(p.ORDERS), "default": "asc"},
        p.one_of(p.ORDERS),
        default="asc",
    ),
    Parameter(
        "limit",
        'Rows a page. A Link header with rel="next" leads to the next one, as long as there is one.',
        {"type": "integer", "minimum": 1, "maximum": p.LIMIT_MAX},
        p.limit,
        example="1000",
    ),
    Parameter(
        "cursor",
        "Where the page before ended: take the whole URL from its Link header.",
        {"type": "string", "pattern": p.CURSOR_PATTERN},
        p.cursor,
    ),
    FORMAT,
)
COVERAGE = Parameter(
    "coverage",
    "Numbers that stand on a smaller share of the expected values are null; regulators ask for 0.75. "
    "See `expected` for how many are expected.",
    {"type": "number", "minimum": 0, "maximum": 1, "default": 0},
    p.share,
    default=0.0,
    example="0.75",
)

INSTANT: dict[str, Any] = {
    "type": "string",
    "pattern": r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,6})?$",
    "description": "UTC, always; a fraction of a second where there is one.",
}
ZONED: dict[str, Any] = {"type": "string", "format": "date-time"}
NAME: dict[str, Any] = {"type": "string", "maxLength": p.NAME_MAX}
COUNT: dict[str, Any] = {"type": "integer", "minimum": 0}
EXPECTED: dict[str, Any] = {
    "type": ["integer", "null"],
    "minimum": 1,
    "description": "How many values there would be without gaps; null while the cadence is unknown.",
}


def _row(properties: Mapping[str, Any], others: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """An object with these properties, and perhaps others, by pattern of their names."""
    row = {"type": "object", "properties": properties, "required": list(properties)}
    return row | {"patternProperties": others or {}, "additionalProperties": False}


_NAMES = "|".join(POLLUTANTS)
MEASUREMENT = _row(
    {"time_instant": INSTANT, "id_entity": NAME},
    {
        f"^({_NAMES})$": {
            "type": ["number", "null"],
            "description": "µg/m³, and mg/m³ for co; null where not measured. See /pollutants.",
        }
    },
)
STATISTIC_COLUMNS = {
    f"^({_NAMES})_count$": COUNT,
    f"^({_NAMES})_({'|'.join(CONCENTRATIONS)})$": {"type": ["number", "null"]},
}

ENDPOINTS = (
    Endpoint(
        path="/air_quality",
        row=MEASUREMENT,
        summary="Measurements",
        description="All of them unless narrowed, by time, then station.",
        ask=lambda given, _last: queries.measurements(given),
        parameters=COMMON,
        example="id_entity=aq_salvia&from=2016-10-01T08:00:00Z&to=2016-10-01T09:00:00Z&pollutant=no2,o3",
    ),
    Endpoint(
        path="/air_quality/latest",
        row=MEASUREMENT,
        summary="The newest measurement of each station",
        description="With `from` and `to`: the newest one between them.",
        ask=lambda given, _last: queries.latest(given),
        parameters=COMMON,
        example="pollutant=pm2_5",
    ),
    Endpoint(
        path="/air_quality/aggregate",
        row=_row({"id_entity": NAME, "period_start": ZONED, "expected": EXPECTED}, STATISTIC_COLUMNS),
        summary="Statistics by station and period",
        description="By period, then station. Each number comes with the count of values behind it; "
        "`expected` is how many there would be without gaps: the length of the period by "
        "the station's cadence. That is the median gap between its last 1,000 "
        "measurements before `to`, rounded to seconds, or to minutes from five minutes "
        "on, so that jitter of milliseconds leaves no trace. Codes for missing values "
        "(-99 and below) do not count as values. Percentiles interpolate between "
        "neighbours.",
        ask=aggregate,
        parameters=(
            Parameter(
                "period",
                "The length of a period; weeks begin on Monday.",
                {"type": "string", "enum": list(PERIODS), "default": "day"},
                p.one_of(PERIODS),
                default="day",
            ),
            Parameter(
                "statistic",
                "Which ones. Repeat it, or part names by commas.",
                {"type": "string", "enum": list(STATISTICS)},
                p.one_of(STATISTICS),
                default=("mean",),
                repeatable=True,
                example="mean,max,p98",
            ),
            Parameter(
                "tz",
                "The IANA time zone whose clocks bound the periods, daylight saving included.",
                {"type": "string", "enum": p.ZONES, "default": "UTC"},
                p.zone,
                default="UTC",
                example="Europe/Madrid",
            ),
            COVERAGE,
            *COMMON,
        ),
        example="id_entity=aq_salvia&period=day&tz=Europe/Madrid&statistic=mean,max&pollutant=no2",
    ),
    Endpoint(
        path="/air_quality/rolling",
        row=_row({"time_instant": INSTANT, "id_entity": NAME, "expected": EXPECTED}, STATISTIC_COLUMNS),
        summary="Running means by station",
        description="For each measurement, the means of the values in the window that ends with it (t"
        " - window < t' <= t), with their counts; by time, then station. `expected` is "
        "the window by the station's cadence, as for aggregates.",
        ask=rolling,
        by_station=True,
        parameters=(
            Parameter(
                "window",
                "The length of the window: 1h to 30d, in hours or days.",
                {"type": "string", "pattern": p.DURATION_PATTERN, "default": "24h"},
                p.duration,
                default=p.duration("24h"),
                example="8h",
            ),
            COVERAGE,
            *COMMON,
        ),
        example="id_entity=aq_salvia&window=8h&pollutant=o3&coverage=0.75&limit=3",
    ),
    Endpoint(
        path="/stations",
        row=_row(
            {
                "id_entity": NAME,
                "first_instant": ZONED,
                "last_instant": ZONED,
                "measurements": COUNT,
                "pollutants": {"type": "array", "items": {"enum": list(POLLUTANTS)}},
            }
        ),
        summary="The stations",
        description="Each with its first and last instant, its number of measurements, and the "
        "pollutants that it has measured.",
        ask=lambda _given, _last: queries.stations(),
        parameters=(FORMAT,),
    ),
    Endpoint(
        path="/pollutants",
        row=_row({name: {"type": "string"} for name in ("name", "formula", "unit", "long_name")}),
        summary="The pollutants and their units",
        description="The unit of every number that the API gives.",
        ask=lambda _given, _last: queries.pollutants(),
        parameters=(FORMAT,),
    ),
)

# Each takes up to 100 KB, and whoever asks can make new ones.
SHAPES_KEPT = 250
KNOWN_STATIONS = Statement.of(queries.known_stations(None))

blueprint = Blueprint("measurements", __name__)


def _view(endpoint: Endpoint) -> Callable[[], Response]:
    return lambda: answer(endpoint)


for _endpoint in ENDPOINTS:
    blueprint.add_url_rule(_endpoint.path, _endpoint.name, _view(_endpoint), methods=["GET"])


def answer(endpoint: Endpoint) -> Response:
    given = p.read(endpoint.parameters, request.args)
    form = _negotiated(given["format"])
    snapshot = _snapshot()
    validators = Validators.read(snapshot, [form.name, request.path, *map("=".join, sorted(_given_pairs()))])
    if validators.satisfied_by(request):
        return _cacheable(Response(status=304), validators)
    if endpoint.by_station and not given["id_entity"]:
        known = [name for (name,) in snapshot.rows(KNOWN_STATIONS)]
        given["id_entity"] = known or [""]  # no station has the empty name: no rows
    shape, bound = Shape.of(given)
    response = CopyResponse(snapshot, _rows(endpoint, shape, form).bind(bound), form)
    if given.get("limit") is not None:
        _link_next(response, snapshot.rows(_end_of_page(endpoint, shape).bind(bound)))
    if form.name == "csv":
        response.headers["Content-Disposition"] = f'attachment; filename="{endpoint.name}.csv"'
    # The last byte need not wait for the end of the transaction.
    response.call_on_close(g.snapshots.pop_all().close)
    return _cacheable(response, validators)


@blueprint.get("/")
def index() -> Response:
    """What there is, and the version of the data that it is about."""
    p.read((), request.args)
    validators = Validators.read(_snapshot(), ["index"])
    if validators.satisfied_by(request):
        return _cacheable(Response(status=304), validators)
    links = {endpoint.name: endpoint.path for endpoint in ENDPOINTS}
    response = jsonify(
        name="City air quality",
        description="Measurements of air quality by station, as open data.",
        data_version=validators.version,
        data_changed=f"{validators.last_modified:%Y-%m-%dT%H:%M:%SZ}",
        links=links | {"openapi": "/openapi.json", "docs": "/docs"},
    )
    return _cacheable(response, validators)


def _given_pairs() -> list[tuple[str, str]]:
    return list(request.args.items(multi=True))


def _negotiated(name: str | None) -> Format:
    if name is not None:
        return FORMATS[name]
    if "Accept" not in request.headers:
        return FORMATS["json"]
    media_types = {form.media_type: form for form in FORMATS.values()}
    # Without parameters, which clients like to send: ours say no more than the type does.
    ranges = [(name.partition(";")[0].strip(), quality) for name, quality in request.accept_mimetypes]
    best = MIMEAccept(ranges).best_match(list(media_types))
    if best is None:
        raise NotAcceptable(f"This resource comes as {', '.join(media_types)}.")
    return media_types[best]


def _question(endpoint: Endpoint, given: Given) -> Question:
    question = endpoint.ask(given, given.get("cursor"))
    return question.after(given["cursor"]) if given.get("cursor") else question


@lru_cache(maxsize=SHAPES_KEPT)
def _rows(endpoint: Endpoint, shape: Shape, form: Format) -> Rows:
    given = shape.given()
    question = _question(endpoint, given)
    statement = Statement.of(question.select(form, given.get("limit")), planning=question.planning)
    return Rows(statement, [column.field() for column in question.columns])


@lru_cache(maxsize=SHAPES_KEPT)
def _end_of_page(endpoint: Endpoint, shape: Shape) -> Statement:
    given = shape.given()
    question = _question(endpoint, given)
    return Statement.of(question.end_of_page(given["limit"]), planning=question.planning)


def _link_next(response: Response, ends: Sequence[tuple[Any, ...]]) -> None:
    if len(ends) == 2:
        instant, station = ends[0]
        others = [(name, value) for name, value in _given_pairs() if name != "cursor"]
        query = urlencode([*others, ("cursor", str(Cursor(instant, station)))])
        # Relative (RFC 8288 §3.1): whatever Host the client named must not get into an answer that is cached.
        response.headers["Link"] = f'<{request.path}?{query}>; rel="next"'


def _cacheable(response: Response, validators: Validators) -> Response:
    validators.put_on(response)
    response.headers["Cache-Control"] = current_app.config["CACHE_CONTROL"]
    response.vary.add("Accept")
    return response


def _snapshot() -> Snapshot:
    """The request's one snapshot; it ends with the request, unless a response takes it over."""
    database: Database = current_app.extensions["database"]
    g.snapshots = ExitStack()
    client, table = client_of(request.environ), Measurement.__tablename__
    snapshot: Snapshot = g.snapshots.enter_context(database.snapshot(client, table=table))
    return snapshot


@blueprint.teardown_app_request
def _end_snapshot(_error: BaseException | None) -> None:
    if "snapshots" in g:
        g.snapshots.close()
