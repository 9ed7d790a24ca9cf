"""Child processes that never outlive their parent, free ports, and waiting for a condition."""

import contextlib
import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import KW_ONLY, dataclass, field
from pathlib import Path
from typing import Self

# The kernel sends the death signal when the *thread* that forked ends (prctl(2), PR_SET_PDEATHSIG). Therefore
# one thread, which lives as long as the interpreter, starts all children.
_spawner = ThreadPoolExecutor(max_workers=1, thread_name_prefix="spawner")


class ProcessError(Exception):
    """A child process ended, or did not become ready; the message is meant for the user."""


@dataclass
class Process:
    """One child process in a session of its own, so that Ctrl-C reaches only us and we decide the order.

    If we die without a word (SIGKILL), the kernel sends the child `stop_signal`.

    Attributes:
        name: what the user calls it; also used in messages.
        command: the program and its arguments; no secrets, which `ps` would show.
        environ: its whole environment.
        stop_signal: what asks it to end in good order.
        stop_timeout: seconds that it gets for that.
        output: a file to which stdout and stderr are appended; None means ours.
        stdin: text for its standard input, e.g. a configuration with secrets.
        unprivileged: give up root, which some servers refuse to run as.
    """

    name: str
    command: Sequence[str | Path]
    _: KW_ONLY
    environ: Mapping[str, str] = field(repr=False)
    stop_signal: signal.Signals = signal.SIGTERM
    stop_timeout: float = 30
    output: Path | None = None
    stdin: str = field(default="", repr=False)
    unprivileged: bool = False
    _child: subprocess.Popen[bytes] | None = field(default=None, init=False)

    def start(self) -> None:
        if self.running:
            raise ProcessError(f"{self.name} runs already.")
        self._child = _spawner.submit(self._spawn).result()

    def stop(self) -> None:
        """Ask it to end, wait, and kill what is left of its session."""
        if self.running:
            self.resume()
            self.signal(self.stop_signal)
            wait_until(lambda: not self.running, timeout=self.stop_timeout)
        self.kill()

    def kill(self) -> None:
        """SIGKILL for the process and all of its session."""
        if self.running:
            self._bury()

    def _bury(self) -> None:
        # The group first: until its leader is waited for, nobody else can get this number.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self._popen.wait()

    def pause(self) -> None:
        os.killpg(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        os.killpg(self.pid, signal.SIGCONT)

    def signal(self, number: signal.Signals) -> None:
        self._popen.send_signal(number)

    @property
    def running(self) -> bool:
        """Whether it lives. What it left of its session when it died does not survive this question."""
        if self._child is None or self._child.returncode is not None:
            return False
        if os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
            return True
        self._bury()
        return False

    @property
    def ending(self) -> str:
        """How it ended, as the end of a sentence about it."""
        status = self._popen.returncode
        return (
            f"was killed by {signal.Signals(-status).name}" if status < 0 else f"ended with status {status}"
        )

    @property
    def pid(self) -> int:
        return self._popen.pid

    def start_until(self, is_ready: Callable[[], bool]) -> None:
        """Start it and wait until it is ready; if that fails, it does not stay.

        Raises:
            ProcessError: with its last words.
        """
        self.start()
        try:
            self.wait_until_ready(is_ready)
        except BaseException:
            self.stop()
            raise

    def wait_until_ready(self, is_ready: Callable[[], bool], *, timeout: float = 60) -> None:
        """Poll `is_ready`.

        Raises:
            ProcessError: the process ended instead, or the time was over.
        """
        if not wait_until(lambda: is_ready() or not self.running, timeout=timeout):
            raise ProcessError(f"{self.name} was not ready within {timeout:.0f} seconds.{self._last_words()}")
        if not self.running:
            raise ProcessError(f"{self.name} {self.ending}.{self._last_words()}")

    def _last_words(self) -> str:
        if self.output is None or not self.output.exists():
            return ""
        lines = self.output.read_text(errors="replace").splitlines()[-10:]
        return "\n".join(["", f"The end of {self.output}:", *(f"  {line}" for line in lines)])

    @property
    def _popen(self) -> subprocess.Popen[bytes]:
        if self._child is None:
            raise ProcessError(f"{self.name} was never started.")
        return self._child

    def _spawn(self) -> subprocess.Popen[bytes]:
        with contextlib.ExitStack() as stack:
            output = stack.enter_context(self.output.open("ab")) if self.output else None
            child = subprocess.Popen(  # pylint: disable=consider-using-with  # it outlives this call
                [*self._prefix(), *map(str, self.command)],
                env=dict(self.environ),
                stdin=subprocess.PIPE if self.stdin else subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT if output else None,
                start_new_session=True,
            )
            if child.stdin is not None:
                with child.stdin, contextlib.suppress(BrokenPipeError):
                    child.stdin.write(self.stdin.encode())
            return child

    def _prefix(self) -> list[str]:
        # In this order: another user's process would lose the death signal of before.
        return [*(drop_root() if self.unprivileged else []), *leash(self.stop_signal)]


class Server(ABC):
    """What the embedded servers share: a process with a port that can be stopped and started again."""

    host = "127.0.0.1"
    port: int
    process: Process

    def start(self) -> None:
        """Start the server and wait until it answers.

        Raises:
            ProcessError: with a message for the user.
        """
        self._make_way()
        self.process.start_until(self.answers)

    def launch(self) -> None:
        """Start the server without waiting until it answers.

        Raises:
            ProcessError: with a message for the user.
        """
        self._make_way()
        self.process.start()

    def _make_way(self) -> None:
        release_port(self.port)
        self.prepare()
        try:
            check_port(self.host, self.port)  # or else whoever has it might answer in its place
        except OSError as error:
            raise ProcessError(f"{self.process.name} cannot use {self.host}:{self.port}: {error}.") from None

    def prepare(self) -> None:  # noqa: B027 - most need nothing
        """Make what the server needs before its first start."""

    @abstractmethod
    def answers(self) -> bool:
        """Whether it serves by now."""

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        self.process.stop()

    def kill(self) -> None:
        self.process.kill()

    def pause(self) -> None:
        self.process.pause()

    def resume(self) -> None:
        self.process.resume()


def leash(death_signal: signal.Signals) -> list[str]:
    """The command prefix that has the kernel end the child when we die, where util-linux is installed."""
    setpriv = shutil.which("setpriv")
    return [setpriv, "--pdeathsig", death_signal.name.removeprefix("SIG")] if setpriv else []


def drop_root() -> list[str]:
    """The command prefix that turns root into `nobody`; nothing for everyone else.

    CAP_DAC_OVERRIDE is kept, so that the checkout may lie where `nobody` cannot look (below a 0700 /root),
    and no file of the user has to change its mode or owner. access(2), by which initdb looks for programs,
    heeds that capability only under the securebit `no_setuid_fixup`.
    """
    if os.geteuid() != 0:
        return []
    setpriv = shutil.which("setpriv")
    if setpriv is None:
        raise ProcessError(
            "As root, this needs setpriv (package util-linux): install it, or use another user."
        )
    capabilities = "-all,+dac_override"
    return [
        *(setpriv, "--reuid", "nobody", "--regid", str(NOBODY_GROUP), "--clear-groups"),
        *("--inh-caps", capabilities, "--ambient-caps", capabilities, "--securebits", "+no_setuid_fixup"),
    ]


NOBODY_GROUP = 65534


def package_folder(name: str) -> Path:
    """Where a package lies, found without importing it."""
    spec = importlib.util.find_spec(name)
    if spec is None or spec.origin is None:
        raise ProcessError(f"The package {name} is not installed here: run `make run` or `make test`.")
    return Path(spec.origin).parent


def free_port(host: str = "127.0.0.1") -> int:
    """A port on which nobody listens just now."""
    with socket.socket() as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])


_reserved: dict[int, socket.socket] = {}


def reserve_port(preferred: int = 0, host: str = "127.0.0.1") -> int:
    """`preferred` where it is free, else another one; nobody else gets it before `release_port`."""
    probe = socket.socket()
    try:
        # With SO_REUSEADDR past connections do not count; without it (from then on) nobody else binds.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind((host, preferred))
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0)
    except OSError:
        probe.close()
        if not preferred:
            raise
        return reserve_port(host=host)
    port = int(probe.getsockname()[1])
    _reserved[port] = probe
    return port


def release_port(port: int) -> None:
    """Let the server have it for which it was reserved."""
    if probe := _reserved.pop(port, None):
        probe.close()


def port_is_free(port: int, host: str = "127.0.0.1") -> bool:
    try:
        check_port(host, port)
    except OSError:
        return False
    return True


def check_port(host: str, port: int) -> None:
    """Raise the OSError that a server would meet there."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind((host, port))


def wait_until(condition: Callable[[], bool], *, timeout: float, interval: float = 0.02) -> bool:
    """Poll `condition` until it holds (True) or `timeout` seconds are over (False)."""
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(interval)
    return True
