#!/usr/bin/env bash
# Replaces the measurements, their schema and the API role's rights by those of a backup:  restore.sh FILE
#
# One transaction, in which the old schema steps aside: the API answers from it until all of the new one is there,
# and goes on doing so when something fails. A file that is not a whole backup, or not the one whose checksum lies beside
# it, is refused before the server is asked anything. Takes the connection's variables (connection.sh) and those of the
# init script (POSTGRES_API_USER and so on): the role gets the password of today, not of the backup. Whatever else the
# database holds stays as it is, but for what depends on the old schema, such as a view in another one: that goes with it.
set -euo pipefail
here=$(dirname "${BASH_SOURCE[0]}")
# shellcheck source-path=SCRIPTDIR
. "$here/connection.sh"

file=${1:-}
[[ -n $file ]] || fail 'Which backup? FILE is missing, e.g. make restore FILE=backups/air-quality-….dump'
[[ -f $file && -r $file ]] || fail "$file cannot be read."
take_secret POSTGRES_API_PASSWORD
[[ -n ${POSTGRES_API_PASSWORD:-} ]] || fail 'POSTGRES_API_PASSWORD must not be empty: the API role gets it.'
export POSTGRES_API_USER=${POSTGRES_API_USER:-api} POSTGRES_API_PASSWORD
export POSTGRES_API_STATEMENT_TIMEOUT=${POSTGRES_API_STATEMENT_TIMEOUT:-300}

# Of every bit only its checksum tells; pg_restore finds no fault with some in the table of contents.
if [[ -e $file.sha256 ]]; then
  sum=$(checksum "$file")
  [[ $(<"$file.sha256") == "$sum "* ]] ||
    fail "$file is not what ${file##*/}.sha256 beside it says: restore another one. Nothing was changed."
else
  echo "No ${file##*/}.sha256 lies beside $file: it is checked as far as pg_restore can." >&2
fi
is_whole "$file" || fail "$file is no whole backup of the measurements. Nothing was changed."

run_sql() {
  psql --no-psqlrc --quiet --no-password --set ON_ERROR_STOP=1 --set init=yes \
    --set replaced="${POSTGRES_API_SCHEMA}_replaced" --output /dev/null
}

explain() { # psql's status; 2 means that it could not connect, or that the connection broke: maybe as it committed
  if (($1 == 2)); then fail 'The connection to Postgres failed: restore again.'; fi
  fail 'The backup was not restored. Nothing was changed.'
}

# after.sql commits; when pg_restore stops half-way, psql never gets to see it.
{
  cat "$here/before.sql" &&
    pg_restore --schema "$POSTGRES_API_SCHEMA" --no-owner --file - "$file" &&
    cat "$here/../postgres/role.sql" "$here/after.sql"
} | run_sql || explain $?
echo "Restored $file."

# By itself: it waits for those who still read the old data, and whatever becomes of it, the new ones are in service.
run_sql <<'SQL' || echo "The old schema ${POSTGRES_API_SCHEMA}_replaced stays until the next restore." >&2
SET client_min_messages = warning;
DROP SCHEMA IF EXISTS :"replaced" CASCADE;
SQL
