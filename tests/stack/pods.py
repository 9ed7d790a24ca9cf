"""Pods of the manifests, run by Docker as a kubelet would: user, mounts, variables, probes."""

import os
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.delivery.manifests import Manifest, Workload, named, variables
from tests.stack.deployment import ask, until

UNITS = {"Mi": "m", "Gi": "g"}


def docker(*arguments: str) -> str:
    done = subprocess.run(["docker", *arguments], capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, f"docker {' '.join(arguments[:2])}: {done.stderr}"
    return done.stdout.strip()


@contextmanager
def network(name: str, *containers: str) -> Iterator[None]:
    """A network for these containers, which go with it; so does what a killed run has left of both."""
    remove(name, *containers)
    docker("network", "create", name)
    try:
        yield
    finally:
        remove(name, *containers)


def remove(name: str, *containers: str) -> None:
    for command in (["rm", "--force", "--volumes", *containers], ["network", "rm", name]):
        subprocess.run(["docker", *command], capture_output=True, check=False)


def cores(limit: str) -> float:
    """Docker refuses more than the machine has."""
    wanted = int(limit[:-1]) / 1000 if limit.endswith("m") else float(limit)
    return min(wanted, os.cpu_count() or 1)


class Pod:
    """The one container of a workload; its volumes lie in a folder, and outlive it."""

    def __init__(
        self,
        workload: Workload,
        manifests: list[Manifest],
        secret: dict[str, str],
        network: str,
        folder: Path,
    ) -> None:
        self.workload = workload
        self.manifests = manifests
        self.network = network
        self.folder = folder
        self.name = f"{network}-{workload.name}"
        (self.container,) = workload.spec["containers"]
        given = variables(manifests, self.container).items()
        self.environ: dict[str, str] = {}
        for name, value in given:
            key = value.removeprefix("secret:")
            self.environ[name] = self.expanded(value) if key == value else secret[key]

    def expanded(self, value: str) -> str:
        """`$(NAME)` stands for a variable that was given before."""
        return re.sub(r"\$\((\w+)\)", lambda name: self.environ[name[1]], value)

    def start(self) -> None:
        context, limits = self.workload.spec["securityContext"], self.container["resources"]["limits"]
        memory = limits["memory"]
        docker(
            *("run", "--detach", "--name", self.name),
            *("--network", self.network, "--network-alias", self.workload.name),
            *("--user", f"{context['runAsUser']}:{context['runAsGroup']}"),
            *("--read-only", "--cap-drop", "ALL", "--security-opt", "no-new-privileges"),
            *("--memory", memory[:-2] + UNITS[memory[-2:]], "--cpus", str(cores(limits["cpu"]))),
            *(option for name, value in self.environ.items() for option in ("--env", f"{name}={value}")),
            *(option for mount in self.container.get("volumeMounts", []) for option in self.mounted(mount)),
            *(("--entrypoint", self.container["command"][0]) if "command" in self.container else ()),
            self.container["image"],
            *self.container.get("command", [])[1:],
            *self.container.get("args", []),
        )

    def delete(self) -> None:
        docker("rm", "--force", "--volumes", self.name)

    def mounted(self, mount: Manifest) -> tuple[str, str]:
        source = self.folder / self.workload.name / mount["name"]
        if not source.exists():
            self.fill(source, self.volume(mount["name"]))
        mode = "ro" if mount.get("readOnly") else "rw"
        return "--volume", f"{source}:{mount['mountPath']}:{mode}"

    def volume(self, name: str) -> Manifest:
        """The volume's definition; the StatefulSet's template of a claim is not among the pod's."""
        volumes = self.workload.spec.get("volumes", [])
        claim = {"persistentVolumeClaim": {}}
        return next((volume for volume in volumes if volume["name"] == name), claim)

    def fill(self, folder: Path, volume: Manifest) -> None:
        """Files as the kubelet lays them: links to ..data, itself a link to the folder of this version."""
        folder.mkdir(parents=True)
        if "persistentVolumeClaim" in volume:
            # A file system of its own is not quite empty, and this is root's alone.
            (folder / "lost+found").mkdir(mode=0o700)
        projected = volume.get("projected", {"sources": [volume], **volume.get("configMap", {})})
        version = folder / "..version"
        for source in projected["sources"]:
            if "configMap" in source:
                version.mkdir(exist_ok=True)
                config_map = named(self.manifests, "ConfigMap", source["configMap"]["name"])
                assert config_map
                for name, text in config_map["data"].items():
                    (version / name).write_text(text)
                    (version / name).chmod(projected.get("defaultMode", 0o644))
                    (folder / name).symlink_to(f"..data/{name}")
        if version.exists():
            (folder / "..data").symlink_to("..version")
        folder.chmod(0o777)

    def passes(self, probe: str) -> bool:
        """Ask a probe once, with its own time-out."""
        asked = self.container[probe]
        if "exec" in asked:
            command = ["docker", "exec", self.name, *asked["exec"]["command"]]
            done = subprocess.run(command, capture_output=True, check=False, timeout=asked["timeoutSeconds"])
            return done.returncode == 0
        port = self.workload.ports()[asked["httpGet"]["port"]]
        try:
            return ask(self.address, port, asked["httpGet"]["path"], "GET", {}).status == 200
        except OSError:
            return False

    def run_hook(self) -> None:
        """What the kubelet runs before it stops the pod."""
        hook = self.container.get("lifecycle", {}).get("preStop")
        if hook:
            docker("exec", self.name, *hook["exec"]["command"])

    @property
    def address(self) -> str:
        return docker(
            "inspect", "--format", "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}", self.name
        )

    @property
    def running(self) -> bool:
        return docker("inspect", "--format", "{{.State.Running}}", self.name) == "true"

    def last_words(self) -> str:
        done = subprocess.run(
            ["docker", "logs", "--tail", "30", self.name], capture_output=True, text=True, check=False
        )
        return f"{self.name}:\n{done.stdout}{done.stderr}"


def ready(pod: Pod) -> None:
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        until(lambda probe=probe: not pod.running or pod.passes(probe), 120, f"{probe} of {pod.name}")
    assert pod.running, pod.last_words()
