"""What every manifest has to keep. A rule yields a sentence for each breach, and nothing when all is well."""

import json
import re
from collections.abc import Callable, Iterator
from functools import cache
from itertools import chain

import kubernetes_validate
import kubernetes_validate.utils
from kubernetes.configmaps import checksum, environment, is_secret, variables_in, variables_of
from tests.delivery.manifests import (
    Manifest,
    Workload,
    compose,
    long_running,
    named,
    of_kind,
    selects,
    variables,
    workloads,
)

Rule = Callable[[list[Manifest]], Iterator[str]]

# Core and stable: what every conformant cluster has.
API_VERSIONS = {"v1", "apps/v1", "batch/v1", "autoscaling/v2", "policy/v1", "networking.k8s.io/v1"}
KUBERNETES_VERSIONS = ("1.30", "1.35")
LARGEST_ANNOTATION = 262_144
POD_WIDE = {"runAsNonRoot", "runAsUser", "runAsGroup", "seccompProfile", "procMount"}
PROBES = ["startupProbe", "readinessProbe", "livenessProbe"]
SERVICES = ["api-rest", "api-cache"]
INTERNAL_PATHS = ["/metrics", "/healthz", "/readyz"]

# Else it reads the definitions, more than a megabyte, anew for each manifest.
kubernetes_validate.utils.schema_contents = cache(kubernetes_validate.utils.schema_contents)


def schema(manifests: list[Manifest]) -> Iterator[str]:
    """Strictly: a misspelt field is a breach, too. By the oldest and the newest version that we support."""
    for manifest in manifests:
        for version in KUBERNETES_VERSIONS:
            try:
                kubernetes_validate.validate(manifest, version, strict=True)
            except (kubernetes_validate.ValidationError, kubernetes_validate.SchemaNotFoundError) as error:
                yield f"{title(manifest)}, {version}: {error}"


def stable_api_groups(manifests: list[Manifest]) -> Iterator[str]:
    for manifest in manifests:
        if manifest["apiVersion"] not in API_VERSIONS:
            yield f"{title(manifest)} needs {manifest['apiVersion']}, which not every cluster has"


def size(manifests: list[Manifest]) -> Iterator[str]:
    """`kubectl apply` keeps the whole object in an annotation."""
    for manifest in manifests:
        if len(json.dumps(manifest, separators=(",", ":")).encode()) > LARGEST_ANNOTATION - 1024:
            yield f"{title(manifest)} is too large for its last-applied annotation"


def probes(manifests: list[Manifest]) -> Iterator[str]:
    for workload in long_running(manifests):
        for container in workload.spec["containers"]:
            for probe in PROBES:
                if probe not in container:
                    yield f"{workload.name}/{container['name']} has no {probe}"


def probes_ask_the_right_question(manifests: list[Manifest]) -> Iterator[str]:
    """Liveness asks for the process alone, readiness for what it cannot work without."""
    right = {"livenessProbe": "/healthz", "startupProbe": "/healthz", "readinessProbe": "/readyz"}
    for service in SERVICES:
        for container in deployment(manifests, service).spec["containers"]:
            for probe, path in right.items():
                if container.get(probe, {}).get("httpGet", {}).get("path") != path:
                    yield f"the {probe} of {service} does not ask {path}"


def resources(manifests: list[Manifest]) -> Iterator[str]:
    for workload in workloads(manifests):
        for container in workload.containers:
            for kind in ("requests", "limits"):
                for missing in {"cpu", "memory"} - set(container.get("resources", {}).get(kind, {})):
                    yield f"{workload.name}/{container['name']} {kind} no {missing}"


def restricted(manifests: list[Manifest]) -> Iterator[str]:
    """Pod Security Standards, profile `restricted`, and read-only roots."""
    for workload in workloads(manifests):
        pod = workload.spec.get("securityContext", {})
        if not pod.get("runAsNonRoot") or not pod.get("runAsUser"):
            yield f"{workload.name} may run as root"
        if pod.get("seccompProfile", {}).get("type") != "RuntimeDefault":
            yield f"{workload.name} has no seccomp profile"
        if workload.spec.get("hostNetwork") or workload.spec.get("hostPID") or workload.spec.get("hostIPC"):
            yield f"{workload.name} shares namespaces of its node"
        for volume in workload.spec.get("volumes", []):
            if "hostPath" in volume:
                yield f"{workload.name} mounts a folder of its node"
        yield from chain.from_iterable(unrestricted(workload, each) for each in workload.containers)


def unrestricted(workload: Workload, container: Manifest) -> Iterator[str]:
    context = container.get("securityContext", {})
    name = f"{workload.name}/{container['name']}"
    if context.get("allowPrivilegeEscalation") is not False or context.get("privileged"):
        yield f"{name} may gain privileges"
    if context.get("readOnlyRootFilesystem") is not True:
        yield f"{name} may write to its root"
    if context.get("capabilities") != {"drop": ["ALL"]}:
        yield f"{name} keeps capabilities"
    if any("hostPort" in port for port in container.get("ports", [])):
        yield f"{name} takes a port of its node"
    for setting in sorted(POD_WIDE & set(context)):
        yield f"{name} sets {setting} for itself: it is the pod's to say"


def no_token(manifests: list[Manifest]) -> Iterator[str]:
    for workload in workloads(manifests):
        if workload.spec.get("automountServiceAccountToken") is not False:
            yield f"{workload.name} gets a service-account token"


def no_service_links(manifests: list[Manifest]) -> Iterator[str]:
    """Else a Service called redis puts REDIS_PORT=tcp://... into every pod."""
    for workload in workloads(manifests):
        if workload.spec.get("enableServiceLinks") is not False:
            yield f"{workload.name} gets variables of other Services"


def images(manifests: list[Manifest]) -> Iterator[str]:
    composed = {
        re.sub(r"\$\{VERSION:-(.*?)\}", r"\1", each["image"]) for each in compose()["services"].values()
    }
    for workload in workloads(manifests):
        for container in workload.containers:
            image = container["image"]
            if ":" not in image or image.endswith(":latest"):
                yield f"{workload.name}: {image} names no version"
            if image not in composed:
                yield f"{workload.name}: Compose has no {image}"
            if container.get("imagePullPolicy") != "IfNotPresent":
                yield f"{workload.name}: a locally built {image} would not serve"


def selectors(manifests: list[Manifest]) -> Iterator[str]:
    pods = [workload.labels for workload in workloads(manifests)]
    for manifest in manifests:
        for selector in selectors_of(manifest):
            if not any(selects(selector, labels) for labels in pods):
                yield f"{title(manifest)} selects no pod"
    for manifest in of_kind(manifests, "Deployment", "StatefulSet"):
        if not selects(manifest["spec"]["selector"], manifest["spec"]["template"]["metadata"]["labels"]):
            yield f"{title(manifest)} does not select its own pods"
    for workload in workloads(manifests):
        if workload.labels.get("app.kubernetes.io/part-of") != "air-quality":
            yield f"{workload.name} escapes the network policies: it lacks the label part-of"


def selectors_of(manifest: Manifest) -> Iterator[Manifest]:
    spec = manifest.get("spec", {})
    if manifest["kind"] == "Service":
        yield {"matchLabels": spec["selector"]}
    if manifest["kind"] == "PodDisruptionBudget":
        yield spec["selector"]
    if manifest["kind"] == "NetworkPolicy":
        yield spec["podSelector"]
    for constraint in spec.get("template", {}).get("spec", {}).get("topologySpreadConstraints", []):
        yield constraint["labelSelector"]


def service_ports(manifests: list[Manifest]) -> Iterator[str]:
    for service in of_kind(manifests, "Service"):
        selector = {"matchLabels": service["spec"]["selector"]}
        for port in service["spec"]["ports"]:
            for workload in workloads(manifests):
                if selects(selector, workload.labels) and port.get("targetPort") not in workload.ports():
                    yield f"{title(service)}: {workload.name} has no port named {port.get('targetPort')}"


def references(manifests: list[Manifest]) -> Iterator[str]:
    """Whatever one object names, another one is."""
    for workload in workloads(manifests):
        for kind, name in referred_to(workload):
            if not named(manifests, kind, name):
                yield f"{workload.name} refers to the {kind} {name}, which is not there"
    for scaler in of_kind(manifests, "HorizontalPodAutoscaler"):
        target = scaler["spec"]["scaleTargetRef"]
        if not named(manifests, target["kind"], target["name"]):
            yield f"{title(scaler)} scales nothing"
    for ingress in of_kind(manifests, "Ingress"):
        for path in paths_of(ingress):
            backend = path["backend"]["service"]
            service = named(manifests, "Service", backend["name"])
            if not service or backend["port"]["name"] not in [
                port["name"] for port in service["spec"]["ports"]
            ]:
                yield f"{title(ingress)}: no Service answers {path['path']}"


def referred_to(workload: Workload) -> Iterator[tuple[str, str]]:
    for container in workload.containers:
        for source in container.get("envFrom", []):
            yield "ConfigMap", source["configMapRef"]["name"]
        for entry in container.get("env", []):
            if "configMapKeyRef" in entry.get("valueFrom", {}):
                yield "ConfigMap", entry["valueFrom"]["configMapKeyRef"]["name"]
    for volume in workload.spec.get("volumes", []):
        sources = [volume, *volume.get("projected", {}).get("sources", [])]
        for source in sources:
            if "configMap" in source and not source["configMap"].get("optional"):
                yield "ConfigMap", source["configMap"]["name"]
            if "persistentVolumeClaim" in source:
                yield "PersistentVolumeClaim", source["persistentVolumeClaim"]["claimName"]


def variables_are_given(manifests: list[Manifest]) -> Iterator[str]:
    for service in SERVICES:
        (container,) = deployment(manifests, service).spec["containers"]
        for missing in sorted(variables_of(service) - set(variables(manifests, container))):
            yield f"{service} reads {missing}, which its pods do not have"
    (container,) = deployment(manifests, "backup").spec["containers"]
    for missing in sorted(variables_in("backup/backup.sh", "BACKUP") - set(variables(manifests, container))):
        yield f"backup.sh reads {missing}, which its pods do not have"


# What takes its settings and scripts when it makes its data, and never again: no restart would bring others.
READ_ONCE = {"postgres"}


def settings_reach_the_pods(manifests: list[Manifest]) -> Iterator[str]:
    """Pods read ConfigMaps as they start: other data have to make another template, and be there first."""
    for workload in long_running(manifests):
        read = [named(manifests, kind, name) for kind, name in referred_to(workload) if kind == "ConfigMap"]
        config_maps = [found for found in read if found]
        if workload.name in READ_ONCE or not config_maps:
            continue
        data = {each["metadata"]["name"]: each["data"] for each in config_maps}
        if workload.pod["metadata"].get("annotations", {}).get("checksum/settings") != checksum(data):
            yield f"{workload.name} would go on as before when {', '.join(data)} change"
        if position(manifests, workload.kind, workload.name) < max(
            position(manifests, "ConfigMap", name) for name in data
        ):
            yield f"{workload.name} is applied before {', '.join(data)}, and may start with those of before"


def position(manifests: list[Manifest], kind: str, name: str) -> int:
    """In which place kubectl applies it: file by file."""
    names = [(manifest["kind"], manifest["metadata"]["name"]) for manifest in manifests]
    return names.index((kind, name))


def variables_are_read(manifests: list[Manifest]) -> Iterator[str]:
    for service in SERVICES:
        (container,) = deployment(manifests, service).spec["containers"]
        for idle in sorted(set(variables(manifests, container)) - variables_of(service) - {"HOST", "PORT"}):
            yield f"{service} is given {idle}, which it does not read"


def secrets(manifests: list[Manifest]) -> Iterator[str]:
    """The Secret is made from environment.env."""
    for workload in workloads(manifests):
        for container in workload.containers:
            for name, value in variables(manifests, container).items():
                if value.startswith("secret:") and value.removeprefix("secret:") not in environment():
                    yield f"{workload.name} needs the secret {value}, which environment.env does not have"
                if is_secret(name) and not value.startswith("secret:"):
                    yield f"{workload.name} has {name} in the open"


def stores(manifests: list[Manifest]) -> Iterator[str]:
    """Postgres keeps its data, and is found by the address of its pod; Redis keeps nothing, within bounds."""
    postgres, service = (named(manifests, kind, "postgres") for kind in ("StatefulSet", "Service"))
    if not postgres or not postgres["spec"].get("volumeClaimTemplates"):
        yield "postgres keeps its data nowhere"
    if not service or service["spec"].get("clusterIP") != "None":
        yield "the Service of postgres is not headless"
    files = named(manifests, "ConfigMap", "redis-files")
    lines = files["data"]["redis.conf"].splitlines() if files else []
    settings = dict(line.split(" ", 1) for line in lines if line[:1].isalpha())
    if "maxmemory" not in settings:
        yield "redis takes all memory that it gets"
    if not settings.get("maxmemory-policy", "").startswith("allkeys-"):
        yield "redis refuses what is new when it is full"


def rolls_without_loss(manifests: list[Manifest]) -> Iterator[str]:
    for manifest in of_kind(manifests, "Deployment"):
        name, spec = manifest["metadata"]["name"], manifest["spec"]
        if spec.get("strategy", {}).get("rollingUpdate", {}).get("maxUnavailable") != 0:
            yield f"{name} takes pods away before their successors are ready"
        for container in spec["template"]["spec"]["containers"]:
            if "preStop" not in container.get("lifecycle", {}):
                yield f"{name} stops while nodes still send it requests"
        if spec["template"]["spec"].get("terminationGracePeriodSeconds", 30) < 45:
            yield f"{name} is killed before it has drained"


def replicated(manifests: list[Manifest]) -> Iterator[str]:
    for manifest in of_kind(manifests, "Deployment"):
        name = manifest["metadata"]["name"]
        if manifest["spec"].get("replicas", 1) < 2:
            yield f"{name} runs once"
        scaler = named(manifests, "HorizontalPodAutoscaler", name)
        if not scaler or scaler["spec"].get("minReplicas", 1) < 2:
            yield f"{name} is not scaled from two pods on"
        budget = named(manifests, "PodDisruptionBudget", name)
        if not budget:
            yield f"{name} has no disruption budget"
        elif budget["spec"].get("unhealthyPodEvictionPolicy") != "AlwaysAllow":
            yield f"{name} keeps a node from being drained while none of its pods is ready"
        if not manifest["spec"]["template"]["spec"].get("topologySpreadConstraints"):
            yield f"{name} may lie on one node"


def denied_by_default(manifests: list[Manifest]) -> Iterator[str]:
    walls = [
        policy["spec"]["podSelector"]
        for policy in of_kind(manifests, "NetworkPolicy")
        if set(policy["spec"]["policyTypes"]) == {"Ingress", "Egress"}
        and not policy["spec"].get("ingress")
        and not policy["spec"].get("egress")
    ]
    for workload in workloads(manifests):
        if not any(selects(wall, workload.labels) for wall in walls):
            yield f"{workload.name} is open to everyone"


def network_edges(manifests: list[Manifest]) -> Iterator[str]:
    """Connections that the settings ask for, and those that both ends' policies allow, are the same."""
    wanted, out, into = connections(manifests), allowed(manifests, "egress"), allowed(manifests, "ingress")
    yield from (f"{describe(edge)} is needed, but may not leave" for edge in sorted(wanted - out))
    yield from (f"{describe(edge)} is needed, but may not enter" for edge in sorted(wanted - into))
    yield from (f"{describe(edge)} is open, but nobody uses it" for edge in sorted((out | into) - wanted))


Edge = tuple[str, str, int]


def describe(edge: Edge) -> str:
    return f"{edge[0]} to {edge[1]}:{edge[2]}"


def connections(manifests: list[Manifest]) -> set[Edge]:
    """From each X_HOST and X_PORT: whose pod opens connections where."""
    found = set()
    for workload in workloads(manifests):
        for container in workload.containers:
            given = variables(manifests, container)
            for name in given:
                if name.endswith("_HOST") and (port := given.get(name.replace("_HOST", "_PORT"))):
                    found.add((workload.name, given[name], int(port)))
    return found


def allowed(manifests: list[Manifest], direction: str) -> set[Edge]:
    """The ways between pods of ours that policies open in one direction."""
    other_end = {"egress": "to", "ingress": "from"}[direction]
    found = set()
    for policy in of_kind(manifests, "NetworkPolicy"):
        for way in policy["spec"].get(direction, []):
            for here in selected(manifests, policy["spec"]["podSelector"]):
                for there in peers(manifests, way.get(other_end, [])):
                    for port in way["ports"]:
                        ends = (here, there) if direction == "egress" else (there, here)
                        found.add((*ends, port["port"]))
    return found


def peers(manifests: list[Manifest], ends: list[Manifest]) -> Iterator[str]:
    for end in ends:
        if "podSelector" in end and "namespaceSelector" not in end:
            yield from selected(manifests, end["podSelector"])


def selected(manifests: list[Manifest], selector: Manifest) -> list[str]:
    return [workload.name for workload in workloads(manifests) if selects(selector, workload.labels)]


def names_are_looked_up(manifests: list[Manifest]) -> Iterator[str]:
    """Whoever connects to a name may ask the cluster's DNS for it, by UDP and TCP; nobody else may."""
    asking = {here for here, _, _ in connections(manifests)}
    for protocol in ("UDP", "TCP"):
        able = {
            name
            for policy in of_kind(manifests, "NetworkPolicy")
            for way in policy["spec"].get("egress", [])
            if leads_to_dns(way, protocol)
            for name in selected(manifests, policy["spec"]["podSelector"])
        }
        yield from (f"{name} cannot look up a name by {protocol}" for name in sorted(asking - able))
        yield from (f"{name} may ask DNS by {protocol}, but does not" for name in sorted(able - asking))


def leads_to_dns(way: Manifest, protocol: str) -> bool:
    servers = [end for end in way.get("to", []) if "namespaceSelector" in end]
    reached = any(selects(end.get("podSelector", {}), {"k8s-app": "kube-dns"}) for end in servers)
    return reached and {"port": 53, "protocol": protocol} in way["ports"]


def scraped(manifests: list[Manifest]) -> Iterator[str]:
    """Prometheus finds the services by annotation, and the policies let it in."""
    for service in SERVICES:
        workload = deployment(manifests, service)
        annotations = workload.pod["metadata"].get("annotations", {})
        if (
            annotations.get("prometheus.io/scrape") != "true"
            or annotations.get("prometheus.io/path") != "/metrics"
        ):
            yield f"{service} is not scraped"
        if annotations.get("prometheus.io/port") not in map(str, workload.ports().values()):
            yield f"{service} is scraped at a port that it does not have"
        if not any(admits_prometheus(policy, workload) for policy in of_kind(manifests, "NetworkPolicy")):
            yield f"{service} keeps Prometheus out"


def admits_prometheus(policy: Manifest, workload: Workload) -> bool:
    if not selects(policy["spec"]["podSelector"], workload.labels):
        return False
    for way in policy["spec"].get("ingress", []):
        ends = [end["podSelector"] for end in way.get("from", []) if "namespaceSelector" in end]
        anyone = not way.get("from")
        if anyone or any(selects(end, {"app.kubernetes.io/name": "prometheus"}) for end in ends):
            return True
    return False


def only_the_cache_faces_users(manifests: list[Manifest]) -> Iterator[str]:
    for service in of_kind(manifests, "Service"):
        kind = service["spec"].get("type", "ClusterIP")
        if kind != ("NodePort" if service["metadata"]["name"] == "api-cache" else "ClusterIP"):
            yield f"{title(service)} is a {kind}"
    for ingress in of_kind(manifests, "Ingress"):
        for path in paths_of(ingress):
            if path["backend"]["service"]["name"] != "api-cache":
                yield f"{title(ingress)} leads to {path['backend']['service']['name']}"


def ingress_keeps_internals_in(manifests: list[Manifest]) -> Iterator[str]:
    for ingress in of_kind(manifests, "Ingress"):
        if "defaultBackend" in ingress["spec"]:
            yield f"{title(ingress)} passes everything on"
        for path in paths_of(ingress):
            for internal in INTERNAL_PATHS:
                if covers(path, internal):
                    yield f"{title(ingress)} passes {internal} on"


def ingress_has_tls(manifests: list[Manifest]) -> Iterator[str]:
    for ingress in of_kind(manifests, "Ingress"):
        if not all("secretName" in tls for tls in ingress["spec"].get("tls", [])) or not ingress["spec"].get(
            "tls"
        ):
            yield f"{title(ingress)} has no certificate"
        if ingress["spec"].get("ingressClassName") != "traefik":
            yield f"{title(ingress)} is not of the class traefik"
        hosts = json.dumps(ingress["spec"]).count(ingress["spec"]["rules"][0]["host"])
        if hosts != 1:
            yield f"{title(ingress)} names its host {hosts} times"


def paths_of(ingress: Manifest) -> Iterator[Manifest]:
    for rule in ingress["spec"]["rules"]:
        yield from rule["http"]["paths"]


def covers(path: Manifest, target: str) -> bool:
    """An Ingress path against a target: Prefix goes by whole segments."""
    if path["pathType"] == "Exact":
        return bool(path["path"] == target)
    prefix = path["path"].rstrip("/")
    return target == prefix or target.startswith(prefix + "/")


def deployment(manifests: list[Manifest], name: str) -> Workload:
    return next(found for found in workloads(manifests) if found.name == name)


def title(manifest: Manifest) -> str:
    return f"{manifest['kind']} {manifest['metadata']['name']}"
