"""The questions as SQL, of SQLAlchemy expressions over the model.

They are asked of parameters as a Shape has them: what varies within one shape is a bound parameter, so that
a shape is compiled once.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from sqlalchemy import (
    BindParameter,
    ColumnElement,
    FromClause,
    Integer,
    Select,
    String,
    Text,
    any_,
    bindparam,
    case,
    column,
    func,
    inspect,
    literal,
    null,
    select,
    true,
    tuple_,
    union_all,
)
from sqlalchemy import values as sql_values
from sqlalchemy.dialects.postgresql import ARRAY, TIMESTAMP, array
from sqlalchemy.types import TypeEngine

from formats import Column, Format, Kind
from models import POLLUTANTS, STATION_CHANGES, STATIONS, Measurement

Given = Mapping[str, Any]
Bound = BindParameter[Any]
# Each by itself; or, when there are many, all in one array.
Stations = Sequence[Bound] | Bound

# Up to as many, each station gets a branch of the query. That saves reading the others' rows, but a branch
# takes milliseconds to compile, and tens of kilobytes to keep.
MERGED_STATIONS = 8
MANY = "many"

TABLE: FromClause = inspect(Measurement).local_table


@dataclass(frozen=True, slots=True)
class Place:
    """A cursor within a shape."""

    instant: Bound
    station: Bound


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """Rows in one total order, by unique keys: an instant and a station, where there are pages.

    Pages are cut by key, never by counting: so they neither skip nor repeat a row while others come, and
    each costs the same.

    Attributes:
        planning: what Postgres's planner must be told for it, as SET does.
    """

    source: FromClause
    columns: Sequence[Column]
    keys: Sequence[Column]
    conditions: Sequence[ColumnElement[bool]] = ()
    descending: bool = False
    planning: Sequence[str] = ()

    def after(self, cursor: Place) -> "Question":
        keys = tuple_(*(key.expression for key in self.keys))
        last = tuple_(cursor.instant, cursor.station)
        return replace(self, conditions=[*self.conditions, keys < last if self.descending else keys > last])

    def select(self, form: Format, limit: Bound | None) -> Select[Any]:
        return self._ordered(form.select_list(self.columns)).limit(limit)

    def end_of_page(self, limit: Bound) -> Select[Any]:
        """The key of a page's last row, and that of the row after it: of the index alone."""
        return self._ordered([key.expression for key in self.keys]).offset(limit - 1).limit(2)

    def _ordered(self, selected: Sequence[ColumnElement[Any]]) -> Select[Any]:
        order = [key.expression.desc() if self.descending else key.expression for key in self.keys]
        return select(*selected).select_from(self.source).where(*self.conditions).order_by(*order)


# Indices have the rows in their order. Of a large table, Postgres would rather sort all before the first row:
# cheaper by its reckoning, minutes of silence for the client.
BY_INDEX = ("enable_sort = off",)


def measurements(given: Given) -> Question:
    """The rows themselves, by time, then station."""
    rows = _of_stations(given["id_entity"])
    return replace(_rows(rows, given, within(given, rows.c.time_instant)), planning=BY_INDEX)


def latest(given: Given) -> Question:
    """The newest row of each station."""
    return _last(given) if given["to"] is None else _last_before(given)


def _last(given: Given) -> Question:
    """By the summary that triggers maintain: one row of the primary key a station."""
    rows = TABLE.alias("m")
    station, instant = STATIONS.c.id_entity, STATIONS.c.last_instant
    source = STATIONS.join(rows, (rows.c.id_entity == station) & (rows.c.time_instant == instant))
    wanted = [] if given["id_entity"] is None else [among(given["id_entity"], station)]
    return _rows(rows, given, [*wanted, *within(given, instant)], source)


def _last_before(given: Given) -> Question:
    """By one probe of the primary key a station, which takes Postgres three times as long."""
    station = known_stations(given["id_entity"]).subquery("s")
    own = select(TABLE).where(TABLE.c.id_entity == station.c.id_entity, *within(given, TABLE.c.time_instant))
    newest = own.order_by(TABLE.c.time_instant.desc()).limit(1).lateral("m")
    return _rows(newest, given, [], source=station.join(newest, true()))


def _rows(
    rows: FromClause,
    given: Given,
    conditions: Sequence[ColumnElement[bool]],
    source: FromClause | None = None,
) -> Question:
    keys = [
        Column("time_instant", Kind.INSTANT, rows.c.time_instant),
        Column("id_entity", Kind.TEXT, rows.c.id_entity),
    ]
    return Question(
        source=rows if source is None else source,
        columns=[*keys, *(Column(name, Kind.NUMBER, rows.c[name]) for name in chosen(given["pollutant"]))],
        keys=keys,
        conditions=conditions,
        descending=given["order"] == "desc",
    )


def stations() -> Question:
    """Each station with the ends of its series, of the summary that triggers maintain."""
    station = Column("id_entity", Kind.TEXT, STATIONS.c.id_entity)
    measured = [case((STATIONS.c[name] > 0, literal(name, Text))) for name in POLLUTANTS]
    columns = [
        station,
        Column("first_instant", Kind.ZONED, utc_text(STATIONS.c.first_instant)),
        Column("last_instant", Kind.ZONED, utc_text(STATIONS.c.last_instant)),
        Column("measurements", Kind.NUMBER, STATIONS.c.measurements),
        Column("pollutants", Kind.LIST, func.array_remove(array(measured), null())),
    ]
    return Question(source=STATIONS, columns=columns, keys=[station])


# name, formula, unit, long name
POLLUTANT_FACTS = (
    ("so2", "SO2", "µg/m³", "sulphur dioxide"),
    ("no2", "NO2", "µg/m³", "nitrogen dioxide"),
    ("co", "CO", "mg/m³", "carbon monoxide"),
    ("o3", "O3", "µg/m³", "ozone"),
    ("pm10", "PM10", "µg/m³", "particles of up to 10 µm"),
    ("pm2_5", "PM2.5", "µg/m³", "particles of up to 2.5 µm"),
)


def pollutants() -> Question:
    names = ("name", "formula", "unit", "long_name")
    source = sql_values(*(column(name, String) for name in names), name="p").data(list(POLLUTANT_FACTS))
    columns = [Column(name, Kind.TEXT, source.c[name]) for name in names]
    return Question(source=source, columns=columns, keys=columns[:1])


# ---- shapes --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Shape:
    """What of the parameters makes the SQL, without what is bound into it."""

    structure: tuple[tuple[str, Any], ...]

    @classmethod
    def of(cls, given: Given) -> "tuple[Shape, dict[str, Any]]":
        """The shape of these values, and the values to bind."""
        bound: dict[str, Any] = {}
        structure: list[tuple[str, Any]] = []
        for name, value in given.items():
            if value is None:
                structure.append((name, None))
            elif name == "cursor":
                bound |= {"cursor_instant": value.instant, "cursor_station": value.station}
                structure.append((name, True))
            elif name == "id_entity" and len(value) > MERGED_STATIONS:
                bound["stations"] = list(value)
                structure.append((name, MANY))
            elif name == "id_entity":
                bound |= {f"station_{number}": each for number, each in enumerate(value)}
                structure.append((name, len(value)))
            elif name in BOUND_TYPES:
                bound[name] = value
                structure.append((name, True))
            else:
                structure.append((name, value))
        return cls(tuple(structure)), bound

    def given(self) -> dict[str, Any]:
        """The parameters, with bound ones in place of their values."""
        return {name: _with_bound(name, value) for name, value in self.structure}


BOUND_TYPES: dict[str, TypeEngine[Any]] = {"from": TIMESTAMP(), "to": TIMESTAMP(), "limit": Integer()}


def _with_bound(name: str, value: Any) -> Any:
    if value is None:
        return None
    if name == "cursor":
        return Place(
            bindparam("cursor_instant", type_=TIMESTAMP()), bindparam("cursor_station", type_=String())
        )
    if name == "id_entity" and value is MANY:
        return bindparam("stations", type_=ARRAY(String()))
    if name == "id_entity":
        return [bindparam(f"station_{number}", type_=String()) for number in range(value)]
    return bindparam(name, type_=BOUND_TYPES[name]) if name in BOUND_TYPES else value


# ---- parts ---------------------------------------------------------------------------------------


def chosen(names: Sequence[str] | None) -> list[str]:
    return [name for name in POLLUTANTS if not names or name in names]


def within(given: Given, time: ColumnElement[datetime]) -> list[ColumnElement[bool]]:
    conditions = []
    if given["from"] is not None:
        conditions.append(time >= given["from"])
    if given["to"] is not None:
        conditions.append(time < given["to"])
    return conditions


def known_stations(wanted: Stations | None) -> Select[tuple[str]]:
    """The stations that have measurements, without a look at those."""
    station = STATION_CHANGES.c.id_entity
    known = select(station).group_by(station).having(func.sum(STATION_CHANGES.c.measurements) > 0)
    return known if wanted is None else known.where(among(wanted, station))


def among(wanted: Stations, station: ColumnElement[str]) -> ColumnElement[bool]:
    return station == any_(wanted) if isinstance(wanted, BindParameter) else station.in_(wanted)


def utc_text(instant: ColumnElement[datetime]) -> ColumnElement[str]:
    """ISO 8601 with Z, always with six decimals: pandas takes the first row's form for all rows."""
    return func.to_char(instant, 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"', type_=Text)


def _of_stations(wanted: Stations | None) -> FromClause:
    """One branch a station, which Postgres merges by time: no sort, no scan of the others' rows."""
    if wanted is None:
        return TABLE
    if isinstance(wanted, BindParameter):
        return select(TABLE).where(among(wanted, TABLE.c.id_entity)).subquery("m")
    branches = [select(TABLE).where(TABLE.c.id_entity == station) for station in wanted]
    return branches[0].subquery("m") if len(branches) == 1 else union_all(*branches).subquery("m")
