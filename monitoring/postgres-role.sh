#!/usr/bin/env bash
# Makes, or brings up to date, what postgres_exporter logs in as: the role `monitoring`, which sees statistics and
# settings of the server, and no row of any table. Safe to run again; a changed password takes effect.
#
# Takes POSTGRES_MONITORING_PASSWORD, and libpq's variables (PGHOST, PGUSER, ...) for a connection of the superuser. It
# is the first of the monitoring to run, so it asks for REDIS_MONITORING_PASSWORD, too, and names both at once.
set -euo pipefail

if [[ -z ${POSTGRES_MONITORING_PASSWORD:-} || -z ${REDIS_MONITORING_PASSWORD:-} ]]; then
  echo 'Monitoring needs POSTGRES_MONITORING_PASSWORD and REDIS_MONITORING_PASSWORD: set them, e.g. by "make passwords".' >&2
  exit 1
fi

psql --no-psqlrc --quiet --no-password --set ON_ERROR_STOP=1 --set VERBOSITY=terse --single-transaction <<'SQL'
\getenv password POSTGRES_MONITORING_PASSWORD

-- No log, and no error message, may repeat the statement that holds the password.
SET LOCAL log_statement = 'none';
SET LOCAL log_min_duration_statement = -1;
SET LOCAL log_min_error_statement = 'panic';

SELECT 'CREATE ROLE monitoring' WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'monitoring') \gexec
ALTER ROLE monitoring LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS INHERIT
  CONNECTION LIMIT 5 PASSWORD :'password';
ALTER ROLE monitoring SET default_transaction_read_only = on;
ALTER ROLE monitoring SET statement_timeout = '10s';
SET LOCAL client_min_messages = warning;  -- not that it was granted before
GRANT pg_monitor TO monitoring;
SELECT format('GRANT CONNECT ON DATABASE %I TO monitoring', current_database()) \gexec
SQL
