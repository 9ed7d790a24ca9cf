-- restore.sh: puts the schema of the backup into service.
SET search_path = :"schema";

-- The data's version must never again be one that named other data: not one of those after the backup, and not one
-- of an earlier restore. Milliseconds since 1970 run ahead of any number of statements.
INSERT INTO data_changes VALUES (extract(epoch FROM clock_timestamp()) * 1000, clock_timestamp());
-- What was restored; nothing else in the database has changed.
ANALYZE air_quality_measurements, data_changes, station_changes;
COMMIT;
