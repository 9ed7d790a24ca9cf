#!/usr/bin/env bash
# Makes an empty database what api-rest reads: schema, table, read-only role, data.
#
# The official image runs it once, from /docker-entrypoint-initdb.d (it executes it, or sources it where a mount has
# no executable bit: hence the subshell, whose options and exit do not reach the image's own script). The native stack
# runs it against its embedded server.
#
# Takes POSTGRES_USER, POSTGRES_PASSWORD, POSTGRES_DB, POSTGRES_API_USER, POSTGRES_API_PASSWORD (or
# POSTGRES_API_PASSWORD_FILE), POSTGRES_API_SCHEMA, POSTGRES_API_STATEMENT_TIMEOUT, and POSTGRES_CSV, the data to
# load in place of the sample. Everything happens in one transaction: at the first error nothing has happened.
#
#   init-script.sh --role-only      on a running server: the role alone, made if it is new, with the password of now
(
  set -euo pipefail
  folder=$(dirname "${BASH_SOURCE[0]}")

  if [[ -n ${POSTGRES_PASSWORD_FILE:-} ]]; then POSTGRES_PASSWORD=$(<"$POSTGRES_PASSWORD_FILE"); fi
  if [[ -n ${POSTGRES_API_PASSWORD_FILE:-} ]]; then POSTGRES_API_PASSWORD=$(<"$POSTGRES_API_PASSWORD_FILE"); fi
  if [[ -z ${POSTGRES_PASSWORD:-} || -z ${POSTGRES_API_PASSWORD:-} ]]; then
    echo 'POSTGRES_PASSWORD and POSTGRES_API_PASSWORD must not be empty: set them, e.g. by "make passwords".' >&2
    exit 1
  fi

  # The SQL files read these by \getenv: a password among psql's arguments would show in `ps`.
  export POSTGRES_API_USER=${POSTGRES_API_USER:-api} POSTGRES_API_PASSWORD
  export POSTGRES_API_SCHEMA=${POSTGRES_API_SCHEMA:-api}
  export POSTGRES_API_STATEMENT_TIMEOUT=${POSTGRES_API_STATEMENT_TIMEOUT:-300}

  steps=(schema load changes role)
  if [[ ${1:-} == --role-only ]]; then
    steps=(role)
    export PGHOST=${PGHOST:-127.0.0.1} PGPASSWORD=$POSTGRES_PASSWORD
  fi
  files=()
  for step in "${steps[@]}"; do files+=(--file "$folder/$step.sql"); done
  psql --no-psqlrc --quiet --set ON_ERROR_STOP=1 --set init=yes --single-transaction \
    --username "$POSTGRES_USER" --no-password --dbname "${POSTGRES_DB:-$POSTGRES_USER}" \
    "${files[@]}" \
    <"${POSTGRES_CSV:-$folder/air_quality_measurements.csv}"

  # Under the image: the marker by which `serve` would begin anew. In this order, also on the disk.
  if [[ -n ${PGDATA:-} && ${1:-} != --role-only ]]; then
    sync --file-system "$PGDATA"
    rm --force "$PGDATA.unfinished"
    sync "${PGDATA%/*}"
  fi
)
