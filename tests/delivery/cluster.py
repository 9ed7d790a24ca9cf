"""A stand-in for a Kubernetes cluster: objects, and the controllers that kubectl has to do with here.

No registry that the tests use has an API server, but one has kubectl. So kubectl is the real one: what it
asks, merges, waits for and goes back to is its own affair; this says what a cluster would, and apiserver.py
says it over HTTP. It remembers the revisions of workloads and runs no pod: each is ready at once, unless its
image is tagged `broken`, or its workload is stuck. What no test needs is not there: namespaces, schemas,
a second pod of a StatefulSet.
"""

import copy
from collections.abc import Callable, Iterable

from tests.delivery.patches import Object

RESOURCES = {
    "v1": ["ConfigMap", "Secret", "Service", "Pod", "PersistentVolumeClaim", "ServiceAccount"],
    "apps/v1": ["Deployment", "StatefulSet", "ReplicaSet", "ControllerRevision"],
    "autoscaling/v2": ["HorizontalPodAutoscaler"],
    "batch/v1": ["CronJob", "Job"],
    "networking.k8s.io/v1": ["Ingress", "NetworkPolicy"],
    "policy/v1": ["PodDisruptionBudget"],
    "rbac.authorization.k8s.io/v1": ["ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding"],
}
VERSIONS = {kind: version for version, kinds in RESOURCES.items() for kind in kinds}
HISTORY = {"Deployment": "ReplicaSet", "StatefulSet": "ControllerRevision"}
REVISION = "deployment.kubernetes.io/revision"


def name_of(found: Object) -> str:
    return f"{found['kind'].lower()}/{found['metadata']['name']}"


def refuse_nothing(request: str) -> bool:
    del request
    return False


class Cluster:
    """Objects by the names that kubectl gives them: `deployment/api-cache`.

    Requests read like `patch configmap/redis`, or `get pod` for all of them.
    """

    def __init__(self, objects: Iterable[Object] = ()) -> None:
        self.objects = {name_of(each): copy.deepcopy(each) for each in objects}
        self.changes: list[str] = []  # requests that were granted
        self.refuses: Callable[[str], bool] = refuse_nothing  # these are forbidden
        self._stuck: str | None = None

    def stick(self, name: str) -> None:
        """From now on the pods of this workload do not become ready, whatever it says."""
        self._stuck = name
        if name in self.objects:
            self._control(self.objects[name])

    def images(self) -> dict[str, str]:
        """Of the workloads that `.ci/deploy` waits for."""
        return {
            name: each["spec"]["template"]["spec"]["containers"][0]["image"]
            for name, each in self.objects.items()
            if each["kind"] in HISTORY
        }

    def keep(self, new: Object) -> Object:
        name, about = name_of(new), new["metadata"]
        old = self.objects.get(name, {"metadata": {"generation": 0}})
        about |= {"namespace": "default", "uid": name}
        about["generation"] = old["metadata"]["generation"] + (new.get("spec") != old.get("spec"))
        self.objects[name] = new
        self._control(new)
        return new

    def delete(self, name: str) -> None:
        gone = self.objects.pop(name)
        for each in self._owned_by(name):
            self.delete(name_of(each))
        for owner in gone["metadata"].get("ownerReferences", []):
            if owner["uid"] in self.objects:
                self._control(self.objects[owner["uid"]])

    # ---- controllers

    def _control(self, changed: Object) -> None:
        if changed["kind"] == "Service":
            self._give_node_ports(changed["spec"])
        elif changed["kind"] == "Deployment":
            self._roll_deployment(changed)
        elif changed["kind"] == "StatefulSet":
            self._roll_stateful_set(changed)

    @staticmethod
    def _give_node_ports(service: Object) -> None:
        if service.get("type") == "NodePort":
            for number, port in enumerate(service["ports"], start=30000):
                port.setdefault("nodePort", number)

    def _roll_deployment(self, workload: Object) -> None:
        """Its progress deadline is over at once: kubectl need not wait for it."""
        replicas = workload["spec"]["replicas"]
        revision = self._newest_revision(workload)
        works = self._works(workload, revision)
        workload["metadata"].setdefault("annotations", {})[REVISION] = str(revision["revision"])
        workload["status"] = {
            "observedGeneration": workload["metadata"]["generation"],
            "replicas": replicas,
            "updatedReplicas": replicas,
            "availableReplicas": replicas if works else 0,
            "conditions": [] if works else [{"type": "Progressing", "reason": "ProgressDeadlineExceeded"}],
        }

    def _roll_stateful_set(self, workload: Object) -> None:
        """It waits for its pod to become ready before it replaces it, whatever its template says by then."""
        workload["spec"].setdefault(
            "updateStrategy", {"type": "RollingUpdate", "rollingUpdate": {"partition": 0}}
        )
        self._claim_volumes(workload)
        newest = self._newest_revision(workload)["metadata"]["name"]
        name = f"{workload['metadata']['name']}-0"
        pod = self.objects.get(f"pod/{name}")
        if pod is None or self._works(workload, pod):
            pod = self._own(workload, "Pod", name)
            pod["revision"] = newest
        workload["status"] = {
            "observedGeneration": workload["metadata"]["generation"],
            "readyReplicas": int(self._works(workload, pod)),
            "updatedReplicas": int(pod["revision"] == newest),
            "currentRevision": pod["revision"],
            "updateRevision": newest,
        }

    def _claim_volumes(self, workload: Object) -> None:
        for claim in workload["spec"].get("volumeClaimTemplates", []):
            name = f"{claim['metadata']['name']}-{workload['metadata']['name']}-0"
            self.keep({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": name}})

    def _works(self, workload: Object, runs: Object) -> bool:
        images = [container["image"] for container in runs["template"]["spec"]["containers"]]
        return name_of(workload) != self._stuck and not any(image.endswith(":broken") for image in images)

    def _newest_revision(self, workload: Object) -> Object:
        """That of its template. One that was there before gets a new number, as both controllers have it."""
        kind, template = HISTORY[workload["kind"]], workload["spec"]["template"]
        history = [each for each in self._owned_by(name_of(workload)) if each["kind"] == kind]
        newest = max((each["revision"] for each in history), default=0)
        found = next((each for each in history if each["template"] == template), None)
        if found is None:
            found = self._own(workload, kind, f"{workload['metadata']['name']}-{newest + 1}")
        if found.get("revision", 0) < max(newest, 1):
            found["revision"] = newest + 1
        if kind == "ReplicaSet":
            found["metadata"]["annotations"] = {REVISION: str(found["revision"])}
            found["spec"] = {"replicas": workload["spec"]["replicas"], "template": found["template"]}
        else:
            found["data"] = {"spec": {"template": {**found["template"], "$patch": "replace"}}}
        return found

    def _own(self, owner: Object, kind: str, name: str) -> Object:
        """What a workload makes of its template."""
        template = copy.deepcopy(owner["spec"]["template"])
        reference = {"apiVersion": owner["apiVersion"], "kind": owner["kind"], "controller": True}
        reference |= {"name": owner["metadata"]["name"], "uid": name_of(owner)}
        about = {"name": name, "labels": template["metadata"]["labels"], "ownerReferences": [reference]}
        return self.keep(
            {"apiVersion": VERSIONS[kind], "kind": kind, "metadata": about, "template": template}
        )

    def _owned_by(self, uid: str) -> list[Object]:
        return [
            each
            for each in self.objects.values()
            if any(owner["uid"] == uid for owner in each["metadata"].get("ownerReferences", []))
        ]
