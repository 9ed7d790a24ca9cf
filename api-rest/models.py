"""The mapped table. postgres/schema.sql owns the schema; a test compares the two."""

from datetime import datetime

from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import BigInteger, Boolean, Column, Double, String, Table
from sqlalchemy.dialects.postgresql import TIMESTAMP
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column


class Base(DeclarativeBase):
    pass


db = SQLAlchemy(model_class=Base)


class Measurement(db.Model):  # type: ignore[name-defined, misc]
    """What a station measured at an instant (UTC); null where it measured nothing.

    µg/m³, and mg/m³ for `co`.
    """

    __tablename__ = "air_quality_measurements"

    time_instant: Mapped[datetime] = mapped_column(TIMESTAMP(timezone=False), primary_key=True)
    id_entity: Mapped[str] = mapped_column(String(50), primary_key=True)
    so2: Mapped[float | None] = mapped_column(Double)
    no2: Mapped[float | None] = mapped_column(Double)
    co: Mapped[float | None] = mapped_column(Double)
    o3: Mapped[float | None] = mapped_column(Double)
    pm10: Mapped[float | None] = mapped_column(Double)
    pm2_5: Mapped[float | None] = mapped_column(Double)


POLLUTANTS = ("so2", "no2", "co", "o3", "pm10", "pm2_5")

# Kept by triggers, in postgres/changes.sql. The number of rows and values of each station, as sums of
# changes:
STATION_CHANGES = Table(
    "station_changes",
    db.metadata,
    Column("id_entity", String(50)),
    Column("measurements", BigInteger),
    *(Column(name, BigInteger) for name in POLLUTANTS),
)
# ... the view that adds them up, with the ends of each series:
STATIONS = Table(
    "stations",
    db.metadata,
    Column("id_entity", String(50)),
    Column("first_instant", TIMESTAMP(timezone=False)),
    Column("last_instant", TIMESTAMP(timezone=False)),
    Column("measurements", BigInteger),
    *(Column(name, BigInteger) for name in POLLUTANTS),
)
# ... and the version of the data, in one row.
DATA_VERSION = Table(
    "data_version",
    db.metadata,
    Column("version", BigInteger),
    Column("changed_at", TIMESTAMP(timezone=True)),
    Column("settled", Boolean),
)
