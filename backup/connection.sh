# Sourced by backup.sh and restore.sh: how to reach Postgres as its superuser, and what a good backup is.
# shellcheck shell=bash

fail() {
  echo "$1" >&2
  exit 1
}

# NAME takes the content of the file that NAME_FILE names, where it names one.
take_secret() { # NAME
  local file=$1_FILE
  [[ -n ${!file:-} ]] || return 0
  [[ -r ${!file} ]] || fail "$file is '${!file}', which cannot be read."
  printf -v "$1" %s "$(<"${!file}")"
}

take_secret POSTGRES_PASSWORD
[[ -n ${POSTGRES_PASSWORD:-} ]] || fail 'POSTGRES_PASSWORD must not be empty: set it, or POSTGRES_PASSWORD_FILE.'

# By environment, because arguments show in `ps`.
export PGHOST=${POSTGRES_HOST:-postgres} PGPORT=${POSTGRES_PORT:-5432} PGDATABASE=${POSTGRES_DB:-postgres}
export PGUSER=${POSTGRES_USER:-postgres} PGPASSWORD=$POSTGRES_PASSWORD PGCONNECT_TIMEOUT=10
export PGSSLMODE=${POSTGRES_SSLMODE:-prefer} PGSSLROOTCERT=${POSTGRES_SSLROOTCERT:-}
[[ -n $PGSSLROOTCERT ]] || unset PGSSLROOTCERT

export POSTGRES_API_SCHEMA=${POSTGRES_API_SCHEMA:-api}

# Whether a file is a whole backup of the measurements. The table of contents stands at the beginning of the file,
# so that only reading it all (and unpacking it) finds one that was cut short or damaged.
is_whole() {
  local contents
  contents=$(pg_restore --list "$1") || return 1
  [[ $contents == *" TABLE DATA $POSTGRES_API_SCHEMA air_quality_measurements "* ]] || return 1
  pg_restore --file /dev/null "$1"
}

checksum() { # FILE
  local sum
  sum=$(sha256sum <"$1") && echo "${sum%% *}"
}
