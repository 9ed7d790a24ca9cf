"""api-rest: measurements of air quality out of Postgres, by HTTP."""

import contextlib
from datetime import UTC

from flask import Flask, Response, jsonify, request
from sqlalchemy import func, literal, select

import logs
import measurements
import observability
import openapi
import problems
from config import Config
from database import Database, Statement, Unavailable, engine_options
from departures import client_of
from models import Measurement, db

READY = Statement.of(select(literal(1)))
NEWEST = Statement.of(select(func.max(Measurement.time_instant)))


def create_app(config: Config | None = None) -> Flask:
    """The application; it connects to Postgres with the first request that needs it.

    Raises:
        ConfigError: the environment is wrong.
    """
    config = config or Config.from_environ()
    logs.configure()
    app = Flask("api-rest", static_folder=None)
    app.config.update(
        SQLALCHEMY_DATABASE_URI="postgresql+psycopg2://",
        SQLALCHEMY_ENGINE_OPTIONS=engine_options(config),
        SEND_TIMEOUT=config.send_timeout,
        CACHE_CONTROL=_cache_control(config),
    )
    app.url_map.strict_slashes = False
    app.url_map.merge_slashes = False  # a redirection names the Host of whoever asked
    db.init_app(app)
    with app.app_context():
        app.extensions["database"] = Database(db.engine, places=2 * config.postgres_pool_size)
    observability.POOL_SIZE.set(config.postgres_pool_size)
    problems.register(app)
    app.register_blueprint(measurements.blueprint)
    app.register_blueprint(openapi.blueprint)
    _probes(app)

    @app.before_request
    def _name_route() -> None:
        request.environ[observability.ROUTE] = request.url_rule.rule if request.url_rule else "none"

    app.after_request(_share)
    app.wsgi_app = observability.Observed(app.wsgi_app)  # type: ignore[method-assign]
    return app


def _cache_control(config: Config) -> str:
    return (
        f"public, max-age={config.cache_control_max_age}"
        f", stale-while-revalidate={config.cache_control_stale_while_revalidate}"
        f", stale-if-error={config.cache_control_stale_if_error}"
    )


def _share(response: Response) -> Response:
    """Open data: any page of any origin may read them."""
    response.headers["Access-Control-Allow-Origin"] = "*"
    response.headers["Access-Control-Expose-Headers"] = "ETag, Link, Retry-After, X-Request-ID"
    if request.method == "OPTIONS":
        response.headers["Access-Control-Allow-Methods"] = "GET, HEAD"
        response.headers["Access-Control-Allow-Headers"] = "*"
        response.headers["Access-Control-Max-Age"] = "86400"
    return response


def _probes(app: Flask) -> None:
    database: Database = app.extensions["database"]

    @app.get("/healthz")
    def healthz() -> Response:
        return _unstored(jsonify(status="ok"))

    @app.get("/readyz")
    def readyz() -> Response:
        _ask_postgres(database)
        return _unstored(jsonify(status="ok"))

    @app.get("/metrics")
    def metrics() -> Response:
        _note_newest(database)
        body, media_type = observability.metrics()
        return _unstored(Response(body, content_type=media_type))


def _ask_postgres(database: Database) -> None:
    """Raise Unavailable unless Postgres answers us.

    That all connections are in use is no reason: were this process taken out of service for being busy, the
    others would get its load, too, and follow.
    """
    try:
        with database.snapshot(client_of(request.environ)) as snapshot:
            snapshot.rows(READY)
    except Unavailable as error:
        if error.kind != "busy":
            raise


def _note_newest(database: Database) -> None:
    """Tell the metrics of the newest measurement; while Postgres is down, of the one that was read last."""
    client = client_of(request.environ)  # who stopped waiting for us need not keep a connection
    with contextlib.suppress(Unavailable), database.snapshot(client) as snapshot:
        ((newest,),) = snapshot.rows(NEWEST)
        if newest is not None:
            observability.NEWEST.set(newest.replace(tzinfo=UTC).timestamp())


def _unstored(response: Response) -> Response:
    response.headers["Cache-Control"] = "no-store"
    return response
