#!/usr/bin/env bash
# Backs up now and then once a day, until it is told to end; after a failure, it tries again in ten minutes.
set -uo pipefail
here=$(dirname "${BASH_SOURCE[0]}")
# shellcheck disable=SC2046 # one word a job
trap 'kill $(jobs -p) 2>/dev/null; wait; exit 0' TERM INT

while :; do
  seconds=86400
  "$here/backup.sh" & # waited for, because bash hears no signal while a program runs in the foreground
  wait $! || seconds=600
  sleep "$seconds" &
  wait $!
done
