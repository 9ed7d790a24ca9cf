"""The role of api-rest reads its schema and can do nothing else, whatever it tries."""

import pytest
from local.postgres import Postgres
from local.template import ENVIRON
from psycopg2 import OperationalError
from psycopg2.errors import InsufficientPrivilege, QueryCanceled, ReadOnlySqlTransaction
from psycopg2.extensions import connection

TABLE = "api.air_quality_measurements"


def test_it_reads_the_measurements(api: connection) -> None:
    with api.cursor() as cursor:
        cursor.execute(f"SELECT count(*) FROM {TABLE}")
        assert cursor.fetchone()[0] > 1000


@pytest.mark.parametrize(
    "statement",
    [
        f"INSERT INTO {TABLE} VALUES (now(), 'x')",
        f"UPDATE {TABLE} SET co = 0",
        f"DELETE FROM {TABLE}",
        f"TRUNCATE {TABLE}",
        f"BEGIN; LOCK TABLE {TABLE} IN SHARE MODE",
        f"SELECT * FROM {TABLE} FOR UPDATE",
        f"ALTER TABLE {TABLE} ADD COLUMN x int",
        f"DROP TABLE {TABLE}",
        f"CREATE INDEX ON {TABLE} (co)",
        f"CREATE RULE r AS ON INSERT TO {TABLE} DO NOTHING",
        "CREATE TABLE api.x ()",
        "CREATE TABLE public.x ()",
        "CREATE TEMP TABLE x ()",
        "CREATE VIEW api.x AS SELECT 1",
        "CREATE FUNCTION api.x() RETURNS int LANGUAGE sql AS 'SELECT 1'",
        "CREATE SCHEMA x",
        "CREATE DATABASE x",
        "CREATE ROLE x",
        "CREATE PUBLICATION x FOR ALL TABLES",
        "SELECT lo_create(0)",
        "SELECT lo_from_bytea(0, 'x')",
        "SELECT lo_creat(-1)",
        "SELECT * FROM pg_authid",
        "SELECT pg_read_file('postgresql.conf')",
        f"COPY {TABLE} TO '/tmp/x'",
        f"COPY {TABLE} TO PROGRAM 'cat'",
        "SET ROLE postgres",
        "ALTER SYSTEM SET work_mem = '1GB'",
        "SELECT * FROM api.data_changes",
        "SELECT * FROM public.others",
        "SELECT * FROM other.others",
    ],
)
def test_it_can_do_nothing_else(postgres: Postgres, api: connection, statement: str) -> None:
    others(postgres)
    api.autocommit = True
    with api.cursor() as cursor:
        cursor.execute("SET default_transaction_read_only = off")  # it is the grants that have to hold
        with pytest.raises(InsufficientPrivilege):
            cursor.execute(statement)


def others(postgres: Postgres) -> None:
    """Tables that somebody else keeps beside ours."""
    session = postgres.connect()
    with session.cursor() as cursor:
        cursor.execute("CREATE SCHEMA IF NOT EXISTS other")
        cursor.execute(
            "CREATE TABLE IF NOT EXISTS other.others (); CREATE TABLE IF NOT EXISTS public.others ()"
        )
    session.commit()
    session.close()


@pytest.mark.parametrize("schema", ["public", "other"])
def test_it_cannot_even_look_into_other_schemas(postgres: Postgres, api: connection, schema: str) -> None:
    others(postgres)
    with api.cursor() as cursor:
        cursor.execute("SELECT has_schema_privilege(%s, 'USAGE')", (schema,))
        assert cursor.fetchone() == (False,)


def test_its_transactions_are_read_only_by_default(api: connection) -> None:
    with api.cursor() as cursor, pytest.raises(ReadOnlySqlTransaction):
        cursor.execute("CREATE TABLE api.x ()")


@pytest.mark.parametrize("database", ["postgres", "template1"])
def test_it_connects_to_no_other_database(postgres: Postgres, database: str) -> None:
    with pytest.raises(OperationalError, match="permission denied for database"):
        postgres.connect(user="api", password=ENVIRON["POSTGRES_API_PASSWORD"], dbname=database)


def test_it_needs_its_password(postgres: Postgres) -> None:
    with pytest.raises(OperationalError, match="password authentication failed"):
        postgres.connect(user="api", password="another")


def test_its_statements_end_in_time(api: connection) -> None:
    with api.cursor() as cursor:
        cursor.execute("SHOW statement_timeout")
        assert cursor.fetchone() == ("7s",)
        cursor.execute("SET statement_timeout = '10ms'")
        with pytest.raises(QueryCanceled):
            cursor.execute("SELECT pg_sleep(10)")


def test_its_clock_is_utc(api: connection) -> None:
    with api.cursor() as cursor:
        cursor.execute("SHOW timezone")
        assert cursor.fetchone() == ("UTC",)
