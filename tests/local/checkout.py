"""A checkout of its own for `make run`, and the terminal of the user who types it."""

import contextlib
import os
import pty
import select
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Self

from local.processes import free_port, wait_until

ROOT = Path(__file__).parents[2]
FILES = ("Makefile", "requirements-pip.txt", "environment.env")
PARTS = (*FILES, "local", "postgres", "backup", "api-rest", "api-cache")
SECONDS_TO_START = 40
SECONDS_TO_STOP = 20
SECONDS_BETWEEN_LOOKS = 0.02


class Checkout:
    """A copy of the repository that belongs to `user`; the installed packages are shared.

    What is compiled already comes along, so that not every start compiles it anew.
    """

    def __init__(self, folder: Path, user: str) -> None:
        self.folder = folder
        self.user = user
        self.local = folder / ".local"
        self.temporary = folder.with_name(folder.name + "-temporary")
        self.temporary.mkdir()
        ignore = shutil.ignore_patterns("tests", ".*_cache", ".hypothesis")
        for part in PARTS:
            source = ROOT / part
            copy = (lambda a, b: shutil.copytree(a, b, ignore=ignore)) if source.is_dir() else shutil.copy2
            copy(source, folder / part)
        (folder / ".venv").symlink_to(sys.prefix)
        if user == "nobody":
            for path in [self.temporary, folder, *folder.rglob("*")]:
                os.chown(path, 65534, 65534, follow_symlinks=False)

    def command(self, *command: str) -> list[str]:
        return [*as_user(self.user), *command]

    def make(self, target: str, **environ: str) -> subprocess.CompletedProcess[str]:
        """Run a make target to its end."""
        return subprocess.run(
            self.command("make", "--no-print-directory", target),
            cwd=self.folder,
            env=self.environ(**environ),
            text=True,
            capture_output=True,
            check=False,
            timeout=SECONDS_TO_START,
        )

    def environ(self, **environ: str) -> dict[str, str]:
        # A `make` above us must not pass its flags and variables on.
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
        return {**inherited, "HOME": str(self.folder), "TMPDIR": str(self.temporary), **environ}

    def run(self, *prefix: str, **environ: str) -> "Run":
        return Run(self, prefix, environ)


def as_user(user: str) -> list[str]:
    """The command prefix that turns root into an ordinary user, who can merely read what root can.

    (The interpreter may lie below a closed /root.)
    """
    if user != "nobody":
        return []
    status = Path("/proc/self/status").read_text()
    bounding = int(next(line for line in status.splitlines() if line.startswith("CapBnd")).split()[1], 16)
    capability = "-all,+dac_read_search" if bounding & 1 << 2 else "-all,+dac_override"
    securebits = ["--securebits", "+no_setuid_fixup"]  # or else access(2) does not heed the capability
    identity = ["--reuid", "nobody", "--regid", "65534", "--clear-groups"]
    return ["setpriv", *identity, "--inh-caps", capability, "--ambient-caps", capability, *securebits]


class Run:
    """`make run` in a terminal of its own, whose Ctrl-C goes to whom the kernel thinks right."""

    def __init__(self, checkout: Checkout, prefix: Sequence[str], environ: dict[str, str]) -> None:
        self.port = int(environ.get("PORT") or free_port())
        self.url = f"http://localhost:{self.port}"
        self.output = ""
        self._folder = checkout.folder
        self._terminal, theirs = pty.openpty()
        self._closing = threading.Event()
        make = checkout.command(*prefix, "make", "--no-print-directory", "run")
        self.make = subprocess.Popen(
            ["setsid", "--ctty", "--wait", *make],
            cwd=checkout.folder,
            env=checkout.environ(**{"PORT": str(self.port), **environ}),
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
        )
        os.close(theirs)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        with contextlib.suppress(OSError):  # EIO: the last process has closed the terminal
            while not self._closing.is_set():
                if select.select([self._terminal], [], [], SECONDS_BETWEEN_LOOKS)[0]:
                    text = os.read(self._terminal, 65536).decode(errors="replace")
                    self.output += text.replace("\r\n", "\n")

    def __enter__(self) -> Self:
        return self.until("Ctrl-C stops all of it")

    def __exit__(self, *_: object) -> None:
        for pid in self.processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.make.wait()
        self.close_terminal()

    def until(self, text: str, timeout: float = SECONDS_TO_START) -> Self:
        """Wait for `text` in the terminal."""
        assert wait_until(lambda: text in self.output or self.make.poll() is not None, timeout=timeout), (
            self.output
        )
        assert text in self.output, self.output
        return self

    def ctrl_c(self) -> None:
        os.write(self._terminal, b"\x03")

    def close_terminal(self) -> None:
        """As when its window is closed, or the connection to the machine is lost."""
        if not self._closing.is_set():
            self._closing.set()
            self._reader.join(5)
            os.close(self._terminal)

    def status(self) -> int:
        """The exit status of `make run`, which has to end by itself."""
        return self.make.wait(SECONDS_TO_STOP)

    def processes(self) -> dict[int, Path]:
        """Where all living processes work that work somewhere in the checkout, by process id."""
        found = {}
        for entry in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if (folder := (entry / "cwd").readlink()).is_relative_to(self._folder):
                    found[int(entry.name)] = folder
        return found

    def pid(self, folder: str) -> int:
        """The supervisor's own child that works in this folder of the checkout; 0 for none.

        Not what such a child forked: gunicorn's workers outlive their killed master for a moment.
        """
        lists = Path(f"/proc/{self.supervisor}/task").glob("*/children")  # each thread has a list of its own
        children = {int(pid) for children in lists for pid in children.read_text().split()}
        living = self.processes()
        return next((pid for pid in children if living.get(pid) == self._folder / folder), 0)

    @property
    def supervisor(self) -> int:
        """The process that make started."""
        [child] = Path(f"/proc/{self.make.pid}/task/{self.make.pid}/children").read_text().split()
        return int(child)

    def leaves_nothing(self) -> bool:
        return wait_until(lambda: not self.processes(), timeout=SECONDS_TO_STOP)
