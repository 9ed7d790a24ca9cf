#!/usr/bin/env bash
# Backs up now and then once a day, until it is told to end; after a failure, it tries again in ten minutes.
set -uo pipefail
here=$(dirname "${BASH_SOURCE[0]}")
trap 'exit 0' TERM INT

while :; do
  seconds=86400
  "$here/backup.sh" || seconds=600
  sleep "$seconds" &
  wait $!
done
