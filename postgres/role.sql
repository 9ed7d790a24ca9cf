-- The role of api-rest: it reads the schema of the measurements, and can do nothing else. Run again (by
-- backup/restore.sh), it gives a role that is there the password, the settings and the rights of today.
\if :{?init}
\else
  \quit
\endif
\getenv schema POSTGRES_API_SCHEMA
\getenv api_user POSTGRES_API_USER
\getenv api_password POSTGRES_API_PASSWORD
\getenv statement_timeout POSTGRES_API_STATEMENT_TIMEOUT
\set statement_timeout :statement_timeout s

-- No log, and no error message, may repeat the statement that holds the password.
\set VERBOSITY terse
SET LOCAL log_statement = 'none';
SET LOCAL log_min_duration_statement = -1;
SET LOCAL log_min_error_statement = 'panic';

SELECT NOT EXISTS (SELECT FROM pg_roles WHERE rolname = :'api_user') AS is_new,
       EXISTS (SELECT FROM pg_roles WHERE rolname = :'api_user' AND rolsuper) AS is_superuser \gset
\if :is_superuser
  DO $$ BEGIN RAISE EXCEPTION 'POSTGRES_API_USER names a superuser; choose another name'; END $$;
\endif
\if :is_new
  CREATE ROLE :"api_user";
\endif
ALTER ROLE :"api_user" LOGIN PASSWORD :'api_password';
ALTER ROLE :"api_user" SET default_transaction_read_only = on;
ALTER ROLE :"api_user" SET statement_timeout = :'statement_timeout';
ALTER ROLE :"api_user" SET timezone = 'UTC';

-- Everyone may connect to every database and make temporary tables there, unless told otherwise.
SELECT format('REVOKE ALL ON DATABASE %I FROM PUBLIC', datname) FROM pg_database \gexec
SELECT format('GRANT CONNECT ON DATABASE %I TO %I', current_database(), :'api_user') \gexec
REVOKE ALL ON SCHEMA public FROM PUBLIC;

-- Large objects are the one thing left that any role may write.
SELECT format('REVOKE EXECUTE ON FUNCTION %s FROM PUBLIC', oid::regprocedure)
FROM pg_proc
WHERE pronamespace = 'pg_catalog'::regnamespace
  AND proname IN ('lo_creat', 'lo_create', 'lo_from_bytea', 'lo_put', 'lo_open', 'lo_import', 'lo_unlink') \gexec

GRANT USAGE ON SCHEMA :"schema" TO :"api_user";
-- What api-rest/models.py names; nothing that somebody else keeps in the schema, nor what an earlier run granted.
REVOKE ALL ON ALL TABLES IN SCHEMA :"schema" FROM :"api_user";
GRANT SELECT ON :"schema".air_quality_measurements, :"schema".station_changes, :"schema".stations, :"schema".data_version
  TO :"api_user";
