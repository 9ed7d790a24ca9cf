-- The schema of the measurements; api-rest/models.py mirrors it. Names come from the environment (psql's \getenv).
\if :{?init}
\else
  -- init-script.sh sets `init`. The official image also runs each *.sql that it finds beside that script.
  \quit
\endif
\getenv schema POSTGRES_API_SCHEMA

CREATE SCHEMA :"schema";
SELECT set_config('search_path', quote_ident(:'schema'), false) \g /dev/null

CREATE TABLE air_quality_measurements (
    time_instant timestamp without time zone NOT NULL,
    id_entity varchar(50) COLLATE "C" NOT NULL,
    so2 double precision,
    no2 double precision,
    co double precision,
    o3 double precision,
    pm10 double precision,
    pm2_5 double precision,
    PRIMARY KEY (id_entity, time_instant),
    CONSTRAINT id_entity_is_named CHECK (id_entity <> ''),
    -- Years that ISO 8601 writes with four digits; it keeps out infinity, too.
    CONSTRAINT time_instant_is_representable
        CHECK (time_instant >= '0001-01-01' AND time_instant < '10000-01-01'),
    -- JSON has no NaN and no infinities. Postgres sorts NaN above infinity, so that one range keeps out all three.
    CONSTRAINT so2_is_finite CHECK (so2 > '-infinity' AND so2 < 'infinity'),
    CONSTRAINT no2_is_finite CHECK (no2 > '-infinity' AND no2 < 'infinity'),
    CONSTRAINT co_is_finite CHECK (co > '-infinity' AND co < 'infinity'),
    CONSTRAINT o3_is_finite CHECK (o3 > '-infinity' AND o3 < 'infinity'),
    CONSTRAINT pm10_is_finite CHECK (pm10 > '-infinity' AND pm10 < 'infinity'),
    CONSTRAINT pm2_5_is_finite CHECK (pm2_5 > '-infinity' AND pm2_5 < 'infinity')
);

-- The primary key serves one station over time. This one serves a time range over all stations, in the order in
-- which the API answers.
CREATE INDEX air_quality_measurements_by_time ON air_quality_measurements (time_instant, id_entity);

COMMENT ON TABLE air_quality_measurements IS 'Air quality by station and instant; null where not measured';
COMMENT ON COLUMN air_quality_measurements.time_instant IS 'Instant of the measurement, UTC';
COMMENT ON COLUMN air_quality_measurements.id_entity IS 'Station, e.g. aq_salvia';
COMMENT ON COLUMN air_quality_measurements.so2 IS 'Sulphur dioxide (SO2), µg/m³';
COMMENT ON COLUMN air_quality_measurements.no2 IS 'Nitrogen dioxide (NO2), µg/m³';
COMMENT ON COLUMN air_quality_measurements.co IS 'Carbon monoxide (CO), mg/m³';
COMMENT ON COLUMN air_quality_measurements.o3 IS 'Ozone (O3), µg/m³';
COMMENT ON COLUMN air_quality_measurements.pm10 IS 'Particles up to 10 µm (PM10), µg/m³';
COMMENT ON COLUMN air_quality_measurements.pm2_5 IS 'Particles up to 2.5 µm (PM2.5), µg/m³';
