-- restore.sh: makes room for the schema of the backup, and sees to it that there is a role to grant it to.
\getenv schema POSTGRES_API_SCHEMA
\getenv api_user POSTGRES_API_USER

SET client_min_messages = warning;
BEGIN;
DROP SCHEMA IF EXISTS :"replaced" CASCADE;
SELECT format('ALTER SCHEMA %I RENAME TO %I', nspname, :'replaced') FROM pg_namespace WHERE nspname = :'schema' \gexec
CREATE SCHEMA :"schema";
SELECT format('CREATE ROLE %I', :'api_user') WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = :'api_user') \gexec
