#!/usr/bin/env bash
# Where no image registry can be reached, builds stand-ins for the images of the Compose profiles from Debian's
# packages, under the names and tags that docker-compose.yml uses. They take the official images' flags, variables
# and users, but are Debian's versions. Only .ci/run calls this; it needs the image offline/base (Debian with apt).
#
# Prints what there is no stand-in for: no registry that can be reached has Grafana, Fluent Bit, Elasticsearch, Kibana.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

image_of() { sed -n "s|^ *image: \($1[^ ]*\)|\1|p" docker-compose.yml | head -n 1; }

# stand_in NAME PACKAGES <rest-of-the-Dockerfile
stand_in() {
  local name image
  name=$1 image=$(image_of "$1")
  [[ -n $image ]] || { echo "docker-compose.yml has no image $name" >&2; return 1; }
  docker image inspect "$image" >/dev/null 2>&1 && return
  echo "building a stand-in for $image" >&2
  {
    echo "FROM offline/base"
    echo "RUN apt-get -qq update && apt-get -qq install -y --no-install-recommends $2 >/dev/null && rm -rf /var/lib/apt/lists/*"
    cat
  } | docker build --quiet --tag "$image" - >/dev/null
}

stand_in prom/prometheus prometheus <<'DOCKERFILE'
RUN mkdir -p /prometheus && chown 65534:65534 /prometheus
USER nobody
VOLUME /prometheus
WORKDIR /prometheus
EXPOSE 9090
ENTRYPOINT ["/usr/bin/prometheus"]
CMD ["--config.file=/etc/prometheus/prometheus.yml", "--storage.tsdb.path=/prometheus"]
DOCKERFILE

stand_in quay.io/prometheuscommunity/postgres-exporter 'prometheus-postgres-exporter wget' <<'DOCKERFILE'
USER nobody
EXPOSE 9187
ENTRYPOINT ["/usr/bin/prometheus-postgres-exporter"]
DOCKERFILE

stand_in oliver006/redis_exporter 'prometheus-redis-exporter wget' <<'DOCKERFILE'
USER 59000:59000
EXPOSE 9121
ENTRYPOINT ["/usr/bin/prometheus-redis-exporter"]
DOCKERFILE

stand_in quay.io/prometheus/node-exporter 'prometheus-node-exporter wget' <<'DOCKERFILE'
USER nobody
EXPOSE 9100
ENTRYPOINT ["/usr/bin/prometheus-node-exporter"]
DOCKERFILE

stand_in caddy 'caddy netcat-openbsd libcap2-bin' <<'DOCKERFILE'
RUN setcap cap_net_bind_service=+ep /usr/bin/caddy
WORKDIR /srv
EXPOSE 80 443
CMD ["caddy", "run", "--config", "/etc/caddy/Caddyfile", "--adapter", "caddyfile"]
DOCKERFILE

missing=()
for name in grafana/grafana fluent/fluent-bit docker.elastic.co/elasticsearch/elasticsearch docker.elastic.co/kibana/kibana; do
  image=$(image_of "$name")
  if [[ -n $image ]] && ! docker image inspect "$image" >/dev/null 2>&1; then missing+=("$image"); fi
done
if ((${#missing[@]})); then echo "Not run here, because no registry can be reached and no package replaces them: ${missing[*]}"; fi
