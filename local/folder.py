"""The folder that holds everything the native stack leaves on this machine: data, logs, passwords."""

import contextlib
import fcntl
import os
import secrets
from collections.abc import Iterator, Mapping
from pathlib import Path

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / ".local"
PASSWORDS = ("POSTGRES_PASSWORD", "POSTGRES_API_PASSWORD", "REDIS_PASSWORD")


class InUseError(Exception):
    """Somebody else holds the folder; the message is meant for the user."""


@contextlib.contextmanager
def exclusive(folder: Path) -> Iterator[None]:
    """Hold `folder`, made where it is missing, until the end of the block or of the process.

    Raises:
        InUseError: another process holds it.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    with (folder / "lock").open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            raise InUseError(f"The stack of this checkout runs already, as process {lock.read()}.") from None
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        yield


def credentials(folder: Path) -> dict[str, str]:
    """The passwords of this folder's stack, made up when first asked for, readable by the owner alone."""
    for name in PASSWORDS:
        path = secret_file(folder, name)
        if not path.exists():
            write_secret(path, new_password())
    return {name: secret_file(folder, name).read_text() for name in PASSWORDS}


def secret_file(folder: Path, name: str) -> Path:
    return folder / "secrets" / name


def new_password() -> str:
    """192 random bits, in characters that no shell, URL or configuration file takes amiss."""
    return secrets.token_urlsafe(24)


def write_secret(path: Path, text: str) -> None:
    """Write the file whole or not at all, never readable by others."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    unfinished = path.with_name(path.name + ".unfinished")
    unfinished.unlink(missing_ok=True)
    with open(unfinished, "x", opener=_private, encoding="utf-8") as file:
        file.write(text)
    unfinished.replace(path)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def fill_passwords(text: str) -> tuple[str, list[str]]:
    """`text` of an environment file with its empty passwords filled in, and their names."""
    lines = text.splitlines()
    empty = [line.removesuffix("=") for line in lines if line.endswith("_PASSWORD=") and line[0] != "#"]
    filled = [line + new_password() if line.removesuffix("=") in empty else line for line in lines]
    return "\n".join(filled) + "\n", empty


def without(environ: Mapping[str, str], names: set[str]) -> dict[str, str]:
    """`environ` without `names` and the files that may stand in for them (`NAME_FILE`)."""
    return {name: value for name, value in environ.items() if name.removesuffix("_FILE") not in names}
