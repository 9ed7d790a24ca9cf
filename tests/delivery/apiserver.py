"""The API server of a stand-in cluster: as much of HTTP, discovery and encodings as kubectl asks for."""

import base64
import io
import json
import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

from tests.delivery.cluster import RESOURCES, VERSIONS, Cluster, name_of
from tests.delivery.patches import Object, patched


@contextmanager
def serve(cluster: Cluster, folder: Path) -> Iterator[dict[str, str]]:
    """The environment in which kubectl is the pinned one, and knows this cluster and no other."""
    handler = type("ClusterHandler", (Handler,), {"cluster": cluster})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield environ(folder, f"http://127.0.0.1:{server.server_port}")
        finally:
            server.shutdown()
            thread.join()


def environ(folder: Path, url: str) -> dict[str, str]:
    context = {"name": "test", "context": {"cluster": "test", "user": ""}}
    config = {"clusters": [{"name": "test", "cluster": {"server": url}}], "contexts": [context]}
    path = folder / "kubeconfig"
    path.write_text(json.dumps({"apiVersion": "v1", "kind": "Config", "current-context": "test", **config}))
    tools = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    # kubectl ends before there is garbage worth a collection.
    return os.environ | {"KUBECONFIG": str(path), "HOME": str(folder), "PATH": tools, "GOGC": "off"}


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # it holds back each body for 40 milliseconds
    cluster: Cluster

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Nothing: the cluster keeps a log of its own."""

    def do_GET(self) -> None:
        path = urlsplit(self.path).path
        if path in {"/api", "/apis"}:
            self.answer(discovery(path), kind="json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList")
        elif path == "/openapi/v3":
            self.answer(
                {"paths": {root(each): {"serverRelativeURL": f"{path}/{each}"} for each in RESOURCES}}
            )
        elif path.startswith("/openapi/v3/"):
            self.answer(validation(path.removeprefix("/openapi/v3/")))
        else:
            self.handle_objects("get", self.read)

    def do_POST(self) -> None:
        self.handle_objects("create", self.create)

    def do_PATCH(self) -> None:
        self.handle_objects("patch", self.patch)

    def do_DELETE(self) -> None:
        self.handle_objects("delete", self.delete)

    def handle_objects(self, verb: str, handle: Callable[[str, str, bytes], None]) -> None:
        """Hand on which kind it is about, which object (or none: all of them), and the body."""
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        about = urlsplit(self.path).path.partition("/namespaces/default/")[2]
        plural, _, name = about.partition("/")
        kind = PLURALS.get(plural, "")
        named = f"{kind.lower()}/{name}".rstrip("/")
        if not kind or (name and named not in self.cluster.objects):
            self.fail(HTTPStatus.NOT_FOUND)
        elif self.cluster.refuses(f"{verb} {named}"):
            self.fail(HTTPStatus.FORBIDDEN)
        else:
            handle(kind, named if name else "", body)

    def read(self, kind: str, name: str, _: bytes) -> None:
        query = dict(parse_qsl(urlsplit(self.path).query))
        found = select(self.cluster, kind, query)
        if name:
            self.answer(self.cluster.objects[name])
        elif "watch" in query:
            self.watch(kind, found)
        else:
            self.answer({"kind": f"{kind}List", "apiVersion": VERSIONS[kind], "metadata": {}, "items": found})

    def watch(self, kind: str, found: list[Object]) -> None:
        """What is there, and the sign that this was all. Nothing happens after that: kubectl is alone."""
        about = {"resourceVersion": "1", "annotations": {"k8s.io/initial-events-end": "true"}}
        events = [{"type": "ADDED", "object": each} for each in found]
        end = {"kind": kind, "apiVersion": VERSIONS[kind], "metadata": about}
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Type", "application/json")
        self.send_header("Connection", "close")
        self.end_headers()
        for event in [*events, {"type": "BOOKMARK", "object": end}]:
            self.wfile.write(json.dumps(event).encode() + b"\n")
        self.connection.recv(1)  # until it hangs up

    def create(self, _kind: str, _name: str, body: bytes) -> None:
        new = secret(body) if "protobuf" in self.headers["Content-Type"] else json.loads(body)
        self.cluster.changes.append(f"create {name_of(new)}")
        self.answer(self.cluster.keep(new), HTTPStatus.CREATED)

    def patch(self, _: str, name: str, body: bytes) -> None:
        new = patched(self.cluster.objects[name], self.headers["Content-Type"], json.loads(body))
        self.cluster.changes.append(f"patch {name}")
        self.answer(self.cluster.keep(new))

    def delete(self, _kind: str, name: str, _body: bytes) -> None:
        self.cluster.changes.append(f"delete {name}")
        self.cluster.delete(name)
        self.answer({"kind": "Status", "apiVersion": "v1", "status": "Success", "details": {"uid": name}})

    def fail(self, status: HTTPStatus) -> None:
        said = {"reason": status.phrase.replace(" ", ""), "message": f"{status.phrase}: {self.path}"}
        failure = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": status}
        self.answer(failure | said, status)

    def answer(self, value: Object, status: int = HTTPStatus.OK, kind: str = "json") -> None:
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", f"application/{kind}")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def select(cluster: Cluster, kind: str, query: dict[str, str]) -> list[Object]:
    labels = {tuple(term.split("=")) for term in query.get("labelSelector", "").split(",") if term}
    name = query.get("fieldSelector", "").removeprefix("metadata.name=")
    return [
        each
        for each in cluster.objects.values()
        if each["kind"] == kind
        and labels <= each["metadata"].get("labels", {}).items()
        and name in {"", each["metadata"]["name"]}
    ]


# ---- what there is


def plural_of(kind: str) -> str:
    name = kind.lower()
    if name.endswith("y"):
        return f"{name[:-1]}ies"
    return f"{name}es" if name.endswith("s") else f"{name}s"


PLURALS = {plural_of(kind): kind for kind in VERSIONS}
SHORT_NAMES = {"Service": ["svc"], "PersistentVolumeClaim": ["pvc"]}


def root(version: str) -> str:
    """Where a group begins: the oldest, without a name, lies apart."""
    return f"apis/{version}" if "/" in version else f"api/{version}"


def discovery(path: str) -> Object:
    """All groups with all their resources in one answer."""
    items = [
        {"metadata": {"name": version.rpartition("/")[0]}, "versions": [resources(version)]}
        for version in RESOURCES
        if f"/{root(version)}".startswith(f"{path}/")
    ]
    return {"kind": "APIGroupDiscoveryList", "apiVersion": "apidiscovery.k8s.io/v2", "items": items}


def resources(version: str) -> Object:
    found = [
        {
            "resource": plural_of(kind),
            "singularResource": kind.lower(),
            "shortNames": SHORT_NAMES.get(kind, []),
            "responseKind": group_version_kind(version, kind),
            "scope": "Namespaced",
            "verbs": ["create", "delete", "get", "list", "patch", "watch"],
        }
        for kind in RESOURCES[version]
    ]
    return {"version": version.rpartition("/")[2], "resources": found}


def group_version_kind(version: str, kind: str) -> Object:
    group, _, number = version.rpartition("/")
    return {"group": group, "version": number, "kind": kind}


def validation(version: str) -> Object:
    """A group's OpenAPI document: no more than that the server itself refuses unknown fields."""
    operations = {
        f"/{kind}": {
            "patch": {
                "parameters": [{"name": "fieldValidation", "in": "query"}],
                "x-kubernetes-group-version-kind": group_version_kind(version, kind),
            }
        }
        for kind in RESOURCES[version]
    }
    return {"openapi": "3.0.0", "info": {"title": "", "version": ""}, "paths": operations}


# ---- protobuf, which `kubectl create secret` alone sends


def secret(body: bytes) -> Object:
    """Out of its envelope; the numbers are those of the fields in Kubernetes's generated.proto."""
    envelope = dict(fields(body.removeprefix(b"k8s\0")))
    content = list(fields(envelope[2]))
    about = dict(fields(dict(content)[1]))
    pairs = [dict(fields(value)) for number, value in content if number == 2]
    data = {pair[1].decode(): base64.b64encode(pair.get(2, b"")).decode() for pair in pairs}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": about[1].decode()}, "data": data}


def fields(message: bytes) -> Iterator[tuple[int, bytes]]:
    """Those that have a length: texts, bytes and messages."""
    stream = io.BytesIO(message)
    while tag := stream.read(1):
        value = varint(stream)
        if tag[0] & 7 == 2:
            yield tag[0] >> 3, stream.read(value)


def varint(stream: io.BytesIO) -> int:
    value = shift = 0
    while (byte := stream.read(1)[0]) & 0x80:
        value |= (byte & 0x7F) << shift
        shift += 7
    return value | byte << shift
