"""Rows of a test's own station, put in and taken out again."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from psycopg2.extensions import cursor as Cursor  # noqa: N812
from psycopg2.extras import execute_values

INSERT = "INSERT INTO air_quality_measurements (time_instant, id_entity, no2) VALUES %s"


@contextmanager
def rows(sql: Cursor, values: Sequence[tuple[Any, ...]]) -> Iterator[None]:
    """(time_instant, id_entity, no2) each."""
    execute_values(sql, INSERT, values)
    try:
        yield
    finally:
        sql.execute(
            "DELETE FROM air_quality_measurements WHERE id_entity = ANY(%s)",
            ([value[1] for value in values],),
        )
