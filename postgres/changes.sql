-- What the API knows without reading the table: the version of the data, and what each station has measured.
--
-- Every statement that changes the table adds rows to two logs, in its own transaction; their sums are what counts.
-- So a snapshot sees exactly the changes that it sees the data of, whatever the order of commits, and writers never
-- wait for each other, as they would for a counter. Now and then a writer folds the rows of a log into few.
\if :{?init}
\else
  \quit
\endif

CREATE TABLE data_changes (
    statements bigint NOT NULL,
    changed_at timestamptz NOT NULL
);
CREATE TABLE station_changes (
    id_entity varchar(50) COLLATE "C" NOT NULL,
    -- The ends of what was added; null where rows went, since those of what is left may be others.
    first_instant timestamp without time zone,
    last_instant timestamp without time zone,
    measurements bigint NOT NULL,
    -- Of values alone: neither of nulls, nor of codes for missing values (api-rest/aggregates.py), -99 and below.
    so2 bigint NOT NULL,
    no2 bigint NOT NULL,
    co bigint NOT NULL,
    o3 bigint NOT NULL,
    pm10 bigint NOT NULL,
    pm2_5 bigint NOT NULL
);
CREATE SEQUENCE data_changes_folding;
COMMENT ON TABLE data_changes IS 'Changes of air_quality_measurements; the sum of statements is the data''s version';
COMMENT ON TABLE station_changes IS 'Changes of the number of rows, and of values by pollutant; their sums are the numbers';

-- Sums change when rows come and go elsewhere; a row without effect is not worth one.
CREATE FUNCTION note_change() RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO data_changes VALUES (1, clock_timestamp());
    PERFORM fold_changes();
END $$;

-- Reading sums a few hundred rows at most. Whoever finds another one folding, or could not see its work (REPEATABLE
-- READ), leaves it to the next.
CREATE FUNCTION fold_changes() RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF nextval('data_changes_folding') % 64 <> 0
        OR current_setting('transaction_isolation') <> 'read committed'
        OR NOT pg_try_advisory_xact_lock('data_changes'::regclass::oid::bigint)
    THEN
        RETURN;
    END IF;
    WITH folded AS (DELETE FROM data_changes RETURNING *)
    INSERT INTO data_changes SELECT sum(statements), max(changed_at) FROM folded;
    -- One statement, one snapshot: the view adds up exactly what is deleted here.
    WITH folded AS (DELETE FROM station_changes)
    INSERT INTO station_changes SELECT * FROM stations;
END $$;

CREATE FUNCTION note_insert() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
    INSERT INTO station_changes
    SELECT id_entity, min(time_instant), max(time_instant),
           count(*), count(so2 > -99 OR NULL), count(no2 > -99 OR NULL), count(co > -99 OR NULL),
           count(o3 > -99 OR NULL), count(pm10 > -99 OR NULL), count(pm2_5 > -99 OR NULL)
    FROM inserted GROUP BY id_entity;
    IF FOUND THEN
        PERFORM note_change();
    END IF;
    RETURN NULL;
END $$;

CREATE FUNCTION note_delete() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
    INSERT INTO station_changes
    SELECT id_entity, NULL, NULL,
           -count(*), -count(so2 > -99 OR NULL), -count(no2 > -99 OR NULL), -count(co > -99 OR NULL),
           -count(o3 > -99 OR NULL), -count(pm10 > -99 OR NULL), -count(pm2_5 > -99 OR NULL)
    FROM deleted GROUP BY id_entity;
    IF FOUND THEN
        PERFORM note_change();
    END IF;
    RETURN NULL;
END $$;

CREATE FUNCTION note_update() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
    INSERT INTO station_changes
    SELECT id_entity, NULL::timestamp, NULL::timestamp,
           -count(*), -count(so2 > -99 OR NULL), -count(no2 > -99 OR NULL), -count(co > -99 OR NULL),
           -count(o3 > -99 OR NULL), -count(pm10 > -99 OR NULL), -count(pm2_5 > -99 OR NULL)
    FROM deleted GROUP BY id_entity
    UNION ALL
    SELECT id_entity, min(time_instant), max(time_instant),
           count(*), count(so2 > -99 OR NULL), count(no2 > -99 OR NULL), count(co > -99 OR NULL),
           count(o3 > -99 OR NULL), count(pm10 > -99 OR NULL), count(pm2_5 > -99 OR NULL)
    FROM inserted GROUP BY id_entity;
    IF FOUND THEN
        PERFORM note_change();
    END IF;
    RETURN NULL;
END $$;

-- TRUNCATE holds the table to itself: whoever wrote before has ended. It takes what they wrote, even where its own
-- snapshot is older and does not see that (REPEATABLE READ); what they noted has to go likewise.
CREATE FUNCTION note_truncate() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
    IF current_setting('transaction_isolation') = 'read committed' THEN
        DELETE FROM station_changes;
    ELSE
        TRUNCATE station_changes;
    END IF;
    PERFORM note_change();
    RETURN NULL;
END $$;

-- Whoever may write the table needs no rights on the logs; nobody else gets at the functions.
SELECT format('ALTER FUNCTION %s SET search_path = %I, pg_temp', oid::regprocedure, current_schema),
       format('REVOKE ALL ON FUNCTION %s FROM PUBLIC', oid::regprocedure)
FROM pg_proc WHERE pronamespace = quote_ident(current_schema)::regnamespace \gexec

CREATE TRIGGER note_insert AFTER INSERT ON air_quality_measurements
    REFERENCING NEW TABLE AS inserted EXECUTE FUNCTION note_insert();
CREATE TRIGGER note_update AFTER UPDATE ON air_quality_measurements
    REFERENCING OLD TABLE AS deleted NEW TABLE AS inserted EXECUTE FUNCTION note_update();
CREATE TRIGGER note_delete AFTER DELETE ON air_quality_measurements
    REFERENCING OLD TABLE AS deleted EXECUTE FUNCTION note_delete();
CREATE TRIGGER note_truncate AFTER TRUNCATE ON air_quality_measurements EXECUTE FUNCTION note_truncate();

-- What was loaded before the triggers were there.
INSERT INTO data_changes VALUES (1, clock_timestamp());
INSERT INTO station_changes
SELECT id_entity, min(time_instant), max(time_instant),
       count(*), count(so2 > -99 OR NULL), count(no2 > -99 OR NULL), count(co > -99 OR NULL),
       count(o3 > -99 OR NULL), count(pm10 > -99 OR NULL), count(pm2_5 > -99 OR NULL)
FROM air_quality_measurements GROUP BY id_entity;

-- `settled`: no change that anyone has yet to commit can bear the second of changed_at, or an earlier one. That second
-- must be over; then nobody may hold a transaction id: neither one below the snapshot's end (xmin), nor one at or past it,
-- which a snapshot knows nothing of (age counts from the next id to be given out). Whoever gets one from then on changes
-- the table later still. CASE keeps that order, without which a writer could slip in between.
CREATE VIEW data_version AS
SELECT sum(statements)::bigint AS version,
       max(changed_at) AS changed_at,
       CASE WHEN date_trunc('second', max(changed_at)) < date_trunc('second', clock_timestamp())
            THEN pg_snapshot_xmin(pg_current_snapshot()) = pg_snapshot_xmax(pg_current_snapshot())
                AND age(pg_snapshot_xmax(pg_current_snapshot())::xid) = 0
            ELSE false
       END AS settled
FROM data_changes;
COMMENT ON VIEW data_version IS 'One row: the version of air_quality_measurements as the reader''s snapshot sees it';

-- The ends of a series are those of what was added; where rows went, two probes of the primary key find them anew.
CREATE VIEW stations AS
SELECT id_entity,
       CASE WHEN bool_and(first_instant IS NOT NULL) THEN min(first_instant)
            ELSE (SELECT min(time_instant) FROM air_quality_measurements AS m WHERE m.id_entity = s.id_entity)
       END AS first_instant,
       CASE WHEN bool_and(last_instant IS NOT NULL) THEN max(last_instant)
            ELSE (SELECT max(time_instant) FROM air_quality_measurements AS m WHERE m.id_entity = s.id_entity)
       END AS last_instant,
       sum(measurements)::bigint AS measurements, sum(so2)::bigint AS so2, sum(no2)::bigint AS no2,
       sum(co)::bigint AS co, sum(o3)::bigint AS o3, sum(pm10)::bigint AS pm10, sum(pm2_5)::bigint AS pm2_5
FROM station_changes AS s
GROUP BY id_entity HAVING sum(measurements) > 0;
COMMENT ON VIEW stations IS 'Each station: its first and last instant, its number of rows, and of values by pollutant';
