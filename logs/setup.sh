#!/usr/bin/env bash
# Prepares Elasticsearch and Kibana for the log lines; safe to run again.
#
#   setup.sh elasticsearch   the index template, who may write (fluent-bit), and the password of Kibana's own user
#   setup.sh kibana          the data view and the saved searches
#
# Takes ELASTICSEARCH_URL, KIBANA_URL, and the passwords ELASTIC_PASSWORD, KIBANA_PASSWORD, FLUENT_BIT_PASSWORD.
set -euo pipefail
folder=$(dirname "${BASH_SOURCE[0]}")

if [[ -z ${ELASTIC_PASSWORD:-} || -z ${KIBANA_PASSWORD:-} || -z ${FLUENT_BIT_PASSWORD:-} ]]; then
  echo 'Logging needs ELASTIC_PASSWORD, KIBANA_PASSWORD and FLUENT_BIT_PASSWORD: set them, e.g. by "make passwords".' >&2
  exit 1
fi

# In quotes, as JSON and curl's configuration have them alike.
quoted() {
  local text=${1//\\/\\\\}
  printf '"%s"' "${text//\"/\\\"}"
}

# The password goes by a file descriptor: an argument would show in `ps`.
ask() { # ask METHOD URL [CURL-ARGUMENT...]
  local method=$1 url=$2
  shift 2
  curl --config <(printf 'user = %s\n' "$(quoted "elastic:$ELASTIC_PASSWORD")") \
    --silent --show-error --fail-with-body --retry 10 --retry-connrefused --output /dev/null \
    --request "$method" "$url" "$@"
}

put() { ask "$1" "$ELASTICSEARCH_URL/$2" --header 'Content-Type: application/json' --data-binary @-; }

case ${1:-} in
  elasticsearch)
    put PUT _index_template/air-quality-logs <"$folder/index-template.json"
    put PUT _security/role/fluent-bit <<'JSON'
{"indices": [{"names": ["logs-air_quality-*"], "privileges": ["auto_configure", "create_doc"]}]}
JSON
    put PUT _security/user/fluent-bit <<<"{\"roles\": [\"fluent-bit\"], \"password\": $(quoted "$FLUENT_BIT_PASSWORD")}"
    put POST _security/user/kibana_system/_password <<<"{\"password\": $(quoted "$KIBANA_PASSWORD")}"
    ;;
  kibana)
    ask POST "$KIBANA_URL/api/saved_objects/_import?overwrite=true" \
      --header 'kbn-xsrf: true' --form "file=@$folder/saved-objects.ndjson"
    ;;
  *)
    echo "usage: $0 elasticsearch|kibana" >&2
    exit 2
    ;;
esac
