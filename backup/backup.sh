#!/usr/bin/env bash
# Writes one backup of the database into $BACKUP_FOLDER, and drops those that are no longer worth their space.
#
# Needs what the official image of Postgres has (bash, coreutils, flock, pg_dump), and the connection's variables:
# see connection.sh. A backup appears under its name, air-quality-2026-11-23T22-58-03Z.dump, only when it is whole, and
# its checksum is there before it: air-quality-2026-11-23T22-58-03Z.dump.sha256, for sha256sum --check.
set -euo pipefail
here=$(dirname "${BASH_SOURCE[0]}")
# shellcheck source-path=SCRIPTDIR
. "$here/connection.sh"

folder=${BACKUP_FOLDER:-/backups}
daily=${BACKUP_DAILY:-7} weekly=${BACKUP_WEEKLY:-4} monthly=${BACKUP_MONTHLY:-12}

main() {
  check_retention
  mkdir -p "$folder"
  # For node_exporter, which reads the metrics as another user. The backups themselves are closed to it.
  [[ ! -O $folder ]] || chmod a+rx "$folder"
  exec 9>"$folder/.lock"
  flock --nonblock 9 || fail "Another backup into $folder is under way."
  umask 077
  trap clean_up EXIT
  trap 'end 1' HUP
  trap 'end 2' INT
  trap 'end 15' TERM
  local started=$SECONDS file
  file=$folder/air-quality-$(date --utc +%Y-%m-%dT%H-%M-%SZ).dump
  set -m # in a process group of its own, for `end`
  write "$file" &
  set +m
  wait "$!"
  drop_old "${file##*/}"
  tell "$file" $((SECONDS - started))
  echo "$file"
}

# Before anything is done: in a sum, a word that is no number counts for none, and every backup would be dropped.
check_retention() {
  local setting count
  for setting in "BACKUP_DAILY $daily" "BACKUP_WEEKLY $weekly" "BACKUP_MONTHLY $monthly"; do
    count=${setting#* }
    [[ $count =~ ^(0|[1-9][0-9]{0,5})$ ]] ||
      fail "${setting%% *} is '$count'; it must be a whole number, such as 7, or 0 for none."
  done
  ((daily + weekly + monthly > 0)) ||
    fail 'BACKUP_DAILY, BACKUP_WEEKLY and BACKUP_MONTHLY are all 0: that would keep no backup.'
}

write() {
  local unfinished=$folder/.unfinished
  pg_dump --no-password --format custom --file "$unfinished"
  is_whole "$unfinished" || fail 'The backup that pg_dump wrote cannot be read again; it was not kept.'
  local sum
  sum=$(checksum "$unfinished")
  echo "$sum  ${1##*/}" >"$unfinished.sha256"
  sync "$unfinished" "$unfinished.sha256"
  mv "$unfinished.sha256" "$1.sha256"
  mv "$unfinished" "$1"
  sync "$folder"
}

# By a signal to us alone, bash would leave what it has started to itself, to go on for hours and hold the lock.
end() { # NUMBER
  local group
  for group in $(jobs -p); do
    kill -- "-$group" || true
    wait "$group" || true
  done 2>/dev/null
  exit $((128 + $1))
}

# What was not finished, and the checksums of backups that are not there, or no longer.
clean_up() {
  rm -f "$folder"/.unfinished*
  local sum
  for sum in "$folder"/air-quality-*.dump.sha256; do
    [[ -e ${sum%.sha256} ]] || rm -f "$sum"
  done
}

# Keeps the newest backup of each of the last days, weeks and months that have one, and $1, which has just been
# written, even when the clock went back. Days without a backup do not count, so that a long outage of the backups
# drops none.
drop_old() {
  local -A kept=([$1]=yes)
  local -a names days weeks old=()
  mapfile -t names < <(newest_first) # once: what the marking did not see must not be dropped
  days=("${names[@]#air-quality-}")
  days=("${days[@]%T*}")
  mapfile -t weeks < <(printf '%s\n' "${days[@]}" | date --utc --file - +%G-%V)
  # date leaves out what is none; the weeks would then be those of other backups.
  ((${#weeks[@]} == ${#names[@]})) || fail "A backup in $folder bears no date; none was dropped."
  keep "$daily" "${days[@]}"
  keep "$weekly" "${weeks[@]}"
  keep "$monthly" "${days[@]%-*}"
  local name
  for name in "${names[@]}"; do
    [[ -n ${kept[$name]:-} ]] || old+=("$folder/$name")
  done
  ((${#old[@]} == 0)) || rm "${old[@]}"
}

# Marks, in `kept`, the newest of `names` of each of the last $1 periods; then follow the periods of all `names`.
keep() {
  local -A seen=()
  local count=$1 name
  shift
  for name in "${names[@]}"; do
    if [[ -z ${seen[$1]:-} ]] && ((${#seen[@]} < count)); then
      seen[$1]=yes
      kept[$name]=yes
    fi
    shift
  done
}

newest_first() {
  local digits='[0-9][0-9]'
  find "$folder" -maxdepth 1 -type f \
    -name "air-quality-$digits$digits-$digits-${digits}T$digits-$digits-${digits}Z.dump" -printf '%f\n' | sort --reverse
}

# For Prometheus, by way of node_exporter's textfile collector.
tell() {
  local unfinished=$folder/.unfinished.metrics
  {
    metric backup_last_success_timestamp_seconds 'When the last backup succeeded.' "$(date +%s)"
    metric backup_last_duration_seconds 'How long the last backup took.' "$2"
    metric backup_last_size_bytes 'Size of the last backup.' "$(stat --format %s "$1")"
    metric backup_files 'Number of backups kept.' "$(newest_first | wc --lines)"
  } >"$unfinished"
  chmod 644 "$unfinished"
  mv "$unfinished" "$folder/backup.prom"
}

metric() {
  printf '# HELP %s %s\n# TYPE %s gauge\n%s %s\n' "$1" "$2" "$1" "$1" "$3"
}

main
