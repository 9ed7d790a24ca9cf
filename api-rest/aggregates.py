"""Statistics by period, and running means, with the share of expected values that stands behind each."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import (
    CTE,
    BindParameter,
    ColumnElement,
    Double,
    FrameClause,
    FrameClauseType,
    FromClause,
    Integer,
    Numeric,
    Select,
    Text,
    case,
    cast,
    extract,
    func,
    literal,
    select,
    tuple_,
    union_all,
)

from formats import Column, Kind
from parameters import FIRST_INSTANT, LAST_INSTANT
from queries import TABLE, Bound, Given, Place, Question, among, chosen, known_stations, within

PERIODS = ("hour", "day", "week", "month", "year")
PERCENTILES = {"median": 0.5, "p95": 0.95, "p98": 0.98}
# These have the unit of the values; the count stands beside them, whether it is asked for or not.
CONCENTRATIONS = ("mean", "min", "max", *PERCENTILES)
STATISTICS = (*CONCENTRATIONS, "count")

# -99, -999 and -9999 are codes for "no value" that feeds are known to send. No concentration is that low,
# though instruments do report values slightly below zero, which count.
MISSING_VALUE_CODE = -99.0

# Instants jitter by milliseconds; nearer ones than this are of one moment.
JITTER = timedelta(milliseconds=500)
CADENCE_SAMPLE = 1000

# The last digits of a sum depend on the order in which it is added up. One strong ETag must not stand for two
# of them, so no processes may share the work, nor begin where another reader of the table is just now.
# This is left: Postgres may choose another plan when ANALYZE has told it more. Only exact sums would be safe.
ONE_AFTER_THE_OTHER = ("max_parallel_workers_per_gather = 0", "synchronize_seqscans = off")


def aggregate(given: Given, last: Place | None) -> Question:
    """One row a period and station, by period, then station."""
    zone, period, names = given["tz"], given["period"], chosen(given["pollutant"])
    groups = _groups(given, names).where(*_from_page_on(given, last)).subquery("g")
    cadences = _cadences(given)
    start = _beginning(groups.c.start, period, zone)
    expected = _seconds_of_period(start, period, zone) / cadences.c.seconds
    columns = [
        Column("id_entity", Kind.TEXT, groups.c.id_entity),
        Column("period_start", Kind.ZONED, _zoned_text(start, zone)),
        Column("expected", Kind.NUMBER, _whole(expected)),
    ]
    for name in names:
        count = groups.c[f"{name}_count"]
        for statistic in _concentrations(given["statistic"]):
            value = _covered(groups.c[f"{name}_{statistic}"], count, expected, given["coverage"])
            columns.append(Column(f"{name}_{statistic}", Kind.NUMBER, value))
        columns.append(Column(f"{name}_count", Kind.NUMBER, count))
    return Question(
        source=groups.join(cadences, cadences.c.id_entity == groups.c.id_entity),
        columns=columns,
        keys=[Column("period_start", Kind.INSTANT, start), columns[0]],
        descending=given["order"] == "desc",
        planning=ONE_AFTER_THE_OTHER,
    )


def _groups(given: Given, names: Sequence[str]) -> Select[Any]:
    station = TABLE.c.id_entity
    start = _start_of_period(TABLE.c.time_instant, given["period"], given["tz"])
    statistics = [
        _statistic(statistic, TABLE.c[name]).label(f"{name}_{statistic}")
        for name in names
        for statistic in [*_concentrations(given["statistic"]), "count"]
    ]
    groups = select(station, start.label("start"), *statistics).where(*within(given, TABLE.c.time_instant))
    if given["id_entity"] is not None:
        groups = groups.where(among(given["id_entity"], station))
    # By name: repeated, the expression would have parameters of its own, and not be the same to Postgres.
    return groups.group_by(station, "start")


def _concentrations(wanted: Sequence[str]) -> list[str]:
    return [name for name in CONCENTRATIONS if name in wanted]


def _statistic(name: str, value: ColumnElement[float]) -> ColumnElement[Any]:
    measured = value > MISSING_VALUE_CODE
    if name in PERCENTILES:
        return func.percentile_cont(PERCENTILES[name]).within_group(value).filter(measured)
    function = getattr(func, {"mean": "avg"}.get(name, name))
    statistic: ColumnElement[Any] = function(value).filter(measured)
    return statistic


def _from_page_on(given: Given, last: Place | None) -> list[ColumnElement[bool]]:
    """Leaves out the rows of periods that earlier pages have told."""
    if last is None:
        return []
    if given["order"] == "asc":
        return [TABLE.c.time_instant >= last.instant]
    return [TABLE.c.time_instant < _end_of_period(last.instant, given["period"], given["tz"])]


# ---- periods -------------------------------------------------------------------------------------


def _start_of_period(instant: ColumnElement[datetime], period: str, zone: str) -> ColumnElement[datetime]:
    """The start, in UTC, of the period of `zone` that holds an instant in UTC."""
    if zone == "UTC":
        return func.date_trunc(period, instant)
    return func.timezone("UTC", func.date_trunc(period, func.timezone("UTC", instant), zone))


def _end_of_period(start: ColumnElement[datetime], period: str, zone: str) -> ColumnElement[datetime]:
    """Counted by the clocks of `zone`: a day may have 23, 24 or 25 hours."""
    length = func.make_interval(*(int(period == each) for each in ("year", "month", "week", "day", "hour")))
    end = func.timezone("UTC", func.date_add(func.timezone("UTC", start), length, zone))
    # A day that has no midnight begins later; the one after it does not.
    return end if period == "hour" else _beginning(_start_of_period(end, period, zone), period, zone)


def _beginning(start: ColumnElement[datetime], period: str, zone: str) -> ColumnElement[datetime]:
    """The start as ISO 8601 can write it in UTC; of a day with two midnights, the first.

    Postgres takes the second one. Done once a period, since it is too dear to be done for each row.
    """
    if zone == "UTC":
        return start
    start = func.greatest(start, literal(FIRST_INSTANT))
    if period == "hour":
        return start
    before = start - literal(timedelta(hours=1))
    return case((_local(before, zone) == _local(start, zone), before), else_=start)


def _local(instant: ColumnElement[datetime], zone: str) -> ColumnElement[datetime]:
    return func.timezone(zone, func.timezone("UTC", instant))


def _seconds_of_period(start: ColumnElement[datetime], period: str, zone: str) -> ColumnElement[float]:
    fixed = {"hour": 3600.0} | ({"day": 86400.0, "week": 604800.0} if zone == "UTC" else {})
    if period in fixed:
        return literal(fixed[period], Double)
    return cast(extract("epoch", _end_of_period(start, period, zone) - start), Double)


def _zoned_text(start: ColumnElement[datetime], zone: str) -> ColumnElement[str]:
    form = 'YYYY-MM-DD"T"HH24:MI:SS'
    if zone == "UTC":
        return func.to_char(start, form + '"Z"', type_=Text)
    local = _local(start, zone)
    offset = func.to_char(func.greatest(local - start, start - local), "HH24:MI")
    return func.concat(func.to_char(local, form), case((local < start, "-"), else_="+"), offset, type_=Text)


# ---- coverage ------------------------------------------------------------------------------------


def _covered(
    value: ColumnElement[Any], count: ColumnElement[int], expected: ColumnElement[Any], coverage: float
) -> ColumnElement[Any]:
    """Null where fewer than the share `coverage` of the expected values stand behind the value."""
    # What rounding adds to the product must not cost a period that is just complete enough.
    return case((count >= coverage * expected - 1e-6, value)) if coverage else value


def _whole(expected: ColumnElement[Any]) -> ColumnElement[Any]:
    """At least one; null while the cadence is unknown (GREATEST would pass the null over)."""
    return case((expected < 1, 1), else_=cast(func.round(expected), Integer))


def _cadences(given: Given) -> CTE:
    station = known_stations(given["id_entity"]).subquery("s")
    seconds = _cadence(station.c.id_entity, given["to"], station)
    cadences = select(station.c.id_entity, seconds.label("seconds")).cte("cadences")
    return cadences.prefix_with("MATERIALIZED", dialect="postgresql")  # once a station, not once a period


def _cadence(
    station: ColumnElement[str], before: Bound | None, outer: FromClause | None = None
) -> ColumnElement[Any]:
    """Seconds between a station's measurements: the median gap between its last ones, rounded.

    To whole seconds, and from five minutes on to whole minutes: so jitter leaves no trace. Null for a
    station that has measured only once.
    """
    time = TABLE.c.time_instant
    of_station = select(time).where(TABLE.c.id_entity == station)
    if before is not None:
        of_station = of_station.where(time < before)
    newest = of_station.order_by(time.desc()).limit(CADENCE_SAMPLE)
    recent = newest.correlate(outer).subquery("recent")
    gap = recent.c.time_instant - func.lag(recent.c.time_instant).over(order_by=recent.c.time_instant)
    gaps = select(gap.label("gap")).subquery("gaps")
    median = func.percentile_disc(0.5).within_group(cast(extract("epoch", gaps.c.gap), Double))
    sampled = select(median.label("seconds")).where(gaps.c.gap > JITTER).subquery("sampled")
    seconds = sampled.c.seconds
    rounded = case(
        (seconds >= 300, func.round(seconds / 60) * 60), else_=func.greatest(func.round(seconds), 1)
    )
    return select(case((seconds.is_not(None), rounded))).scalar_subquery()


# ---- running means -------------------------------------------------------------------------------


def rolling(given: Given, last: Place | None) -> Question:
    """For each measurement, the means of the window that ends with it; by time, then station.

    One branch a station, which Postgres merges by time, unless there are many.
    """
    names, wanted = chosen(given["pollutant"]), given["id_entity"]
    if isinstance(wanted, BindParameter):
        rows = _running_of_many(given, last, wanted, names).subquery("r")
    else:
        branches = [_running(given, last, station, names) for station in wanted]
        rows = (branches[0] if len(branches) == 1 else union_all(*branches)).subquery("r")
    keys = [
        Column("time_instant", Kind.INSTANT, rows.c.time_instant),
        Column("id_entity", Kind.TEXT, rows.c.id_entity),
    ]
    columns = [*keys, Column("expected", Kind.NUMBER, _whole(rows.c.expected))]
    for name in names:
        count = rows.c[f"{name}_count"]
        mean = _covered(rows.c[f"{name}_mean"], count, rows.c.expected, given["coverage"])
        columns.append(Column(f"{name}_mean", Kind.NUMBER, mean))
        columns.append(Column(f"{name}_count", Kind.NUMBER, count))
    conditions = [] if given["from"] is None else [rows.c.time_instant >= given["from"]]
    return Question(
        source=rows, columns=columns, keys=keys, conditions=conditions, descending=given["order"] == "desc"
    )


def _running(given: Given, last: Place | None, station: Bound, names: Sequence[str]) -> Select[Any]:
    means = _means(given, _cadence(station, given["to"]), names)
    return means.where(TABLE.c.id_entity == station, *_reach(given, last))


def _running_of_many(given: Given, last: Place | None, wanted: Bound, names: Sequence[str]) -> Select[Any]:
    cadences = _cadences(given)
    means = _means(given, cadences.c.seconds, names, partition_by=TABLE.c.id_entity)
    means = means.join_from(TABLE, cadences, cadences.c.id_entity == TABLE.c.id_entity)
    return means.where(among(wanted, TABLE.c.id_entity), *_reach(given, last), *_up_to_page_end(given, last))


def _up_to_page_end(given: Given, last: Place | None) -> list[ColumnElement[bool]]:
    """Leaves out the rows of later pages, which a sort would read; the index alone finds where they begin."""
    if given["limit"] is None:
        return []
    keys = [TABLE.c.time_instant, TABLE.c.id_entity]
    descending = given["order"] == "desc"
    of_page = [among(given["id_entity"], TABLE.c.id_entity), *within(given, TABLE.c.time_instant)]
    if last is not None:
        place = tuple_(last.instant, last.station)
        of_page.append(tuple_(*keys) < place if descending else tuple_(*keys) > place)
    following = (
        select(TABLE.c.time_instant)
        .where(*of_page)
        .order_by(*(key.desc() if descending else key for key in keys))
        .offset(given["limit"])
        .limit(1)
        .correlate(None)
        .scalar_subquery()
    )
    if descending:
        return [TABLE.c.time_instant > func.coalesce(following, FIRST_INSTANT) - literal(given["window"])]
    return [TABLE.c.time_instant <= func.coalesce(following, LAST_INSTANT)]


def _means(
    given: Given, cadence: ColumnElement[float], names: Sequence[str], **partition: ColumnElement[str]
) -> Select[Any]:
    window: timedelta = given["window"]
    expected = literal(window.total_seconds()) / cadence
    columns: list[ColumnElement[Any]] = [
        TABLE.c.time_instant,
        TABLE.c.id_entity,
        expected.label("expected"),
    ]
    frame = _frame(window, descending=given["order"] == "desc") | partition
    for name in names:
        measured = case((TABLE.c[name] > MISSING_VALUE_CODE, TABLE.c[name]))
        # Of float8, Postgres would add the whole window up again for each row; numeric can take away what
        # leaves. By way of text, since a direct cast keeps 15 digits alone.
        mean = cast(func.avg(cast(cast(measured, Text), Numeric)).over(**frame), Double)
        columns += [mean.label(f"{name}_mean"), func.count(measured).over(**frame).label(f"{name}_count")]
    return select(*columns)


def _frame(window: timedelta, *, descending: bool) -> dict[str, Any]:
    """T - window < t' ≤ t, for instants that jitter; in the order of the answer, so nothing is sorted."""
    time, reach = TABLE.c.time_instant, literal(window - JITTER)
    if descending:
        frame = FrameClause(None, reach, FrameClauseType.CURRENT, FrameClauseType.FOLLOWING)
        return {"order_by": time.desc(), "range_": frame}
    return {
        "order_by": time,
        "range_": FrameClause(reach, None, FrameClauseType.PRECEDING, FrameClauseType.CURRENT),
    }


def _reach(given: Given, last: Place | None) -> list[ColumnElement[bool]]:
    """The rows that the windows of this page reach."""
    since, until, window = given["from"], given["to"], given["window"]
    conditions = []
    if last is not None:
        if given["order"] == "asc":
            since = last.instant if since is None else func.greatest(since, last.instant)
        else:
            conditions.append(TABLE.c.time_instant <= last.instant)
    if since is not None:
        conditions.append(TABLE.c.time_instant > since - literal(window))
    if until is not None:
        conditions.append(TABLE.c.time_instant < until)
    return conditions
