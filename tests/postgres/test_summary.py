"""What is known of the stations without reading the table is what the table holds."""

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from psycopg2.extensions import connection

COUNTED = """
    SELECT id_entity, min(time_instant), max(time_instant), count(*), count(no2)
    FROM air_quality_measurements GROUP BY 1 ORDER BY 1"""
SUMMARY = "SELECT id_entity, first_instant, last_instant, measurements, no2 FROM stations ORDER BY 1"
HOUR = "'2020-01-01'::timestamp + {} * interval '1 hour'"

station = st.sampled_from(["a", "b"])
hours = st.tuples(st.integers(0, 5), st.integers(0, 5)).map(sorted)


def _between(span: list[int]) -> str:
    return f"time_instant BETWEEN {HOUR.format(span[0])} AND {HOUR.format(span[1])}"


inserts = st.builds(
    "INSERT INTO air_quality_measurements (time_instant, id_entity, no2) SELECT {} , '{}', {} "
    "FROM generate_series({}, {}) AS i ON CONFLICT DO NOTHING".format,
    st.just(HOUR.format("i")),
    station,
    st.sampled_from(["1", "NULL"]),
    st.integers(0, 3),
    st.integers(2, 5),
)
deletes = st.builds(
    lambda span, name: (
        f"DELETE FROM air_quality_measurements WHERE {_between(span)} AND id_entity = '{name}'"
    ),
    hours,
    station,
)
updates = st.builds(
    lambda span, name: (
        "UPDATE air_quality_measurements SET no2 = 2, id_entity = 'b' || clock_timestamp(), "
        f"time_instant = time_instant + interval '1 minute' WHERE {_between(span)} AND id_entity = '{name}'"
    ),
    hours,
    station,
)
FOLD = (
    "SELECT setval('data_changes_folding', 63);"
    " INSERT INTO air_quality_measurements SELECT clock_timestamp(), 'folder'"
)
changes = st.lists(st.one_of(inserts, deletes, updates, st.just(FOLD)), max_size=8)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(changes=changes)
def test_the_summary_is_that_of_the_rows(superuser: connection, changes: list[str]) -> None:
    superuser.rollback()
    with superuser.cursor() as cursor:
        cursor.execute("SET search_path = api; TRUNCATE air_quality_measurements")
        for change in changes:
            cursor.execute(change)
        cursor.execute(COUNTED)
        counted = cursor.fetchall()
        cursor.execute(SUMMARY)
        assert cursor.fetchall() == counted
    superuser.rollback()
