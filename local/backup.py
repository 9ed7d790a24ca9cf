"""`make backup` and `make restore FILE=...`: the scripts of backup/ on the data of `make run`."""

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from local.folder import FOLDER, ROOT, InUseError, credentials, exclusive, without
from local.postgres import BIN, Postgres, base_environ
from local.processes import ProcessError
from local.stack import NAMES, NOT_FROM_OUTSIDE


def main(arguments: list[str]) -> int:
    script, *files = arguments
    data_dir = FOLDER / "postgres"
    if script == "restore" and not Path(files[0]).is_file():  # before a first start makes data
        return complain("FILE is missing, or no file: e.g. make restore FILE=backups/air-quality-….dump")
    if script == "backup" and not data_dir.exists():
        return complain("There are no data yet: `make run` makes some.")
    try:
        with serving(data_dir) as environ:
            return run(script, files, environ)
    except (ProcessError, InUseError) as error:
        return complain(str(error))


@contextlib.contextmanager
def serving(data_dir: Path) -> Iterator[dict[str, str]]:
    """How to reach the server of these data: that of the running stack, or one of our own."""
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(exclusive(FOLDER))
        except InUseError:
            yield environ_of_the_running_server(data_dir)
            return
        # What is to be restored comes in place of the sample.
        server = Postgres(data_dir, environ=NAMES | credentials(FOLDER), sample=False)
        yield stack.enter_context(server).environ


def environ_of_the_running_server(data_dir: Path) -> dict[str, str]:
    try:
        port = (data_dir / "postmaster.pid").read_text().splitlines()[3]
    except (OSError, IndexError):
        raise ProcessError("Postgres is just starting or stopping; try again in a moment.") from None
    return NAMES | credentials(FOLDER) | {"POSTGRES_HOST": "127.0.0.1", "POSTGRES_PORT": port}


def run(script: str, files: list[str], environ: Mapping[str, str]) -> int:
    ours = {"PATH": f"{BIN}:{os.environ['PATH']}", "BACKUP_FOLDER": str(ROOT / "backups")}
    given = {name: value for name, value in os.environ.items() if name.startswith("BACKUP_") and value}
    command: list[str | Path] = ["bash", ROOT / "backup" / f"{script}.sh", *files]
    settings = {**without(base_environ(), NOT_FROM_OUTSIDE), **ours, **given, **environ}
    return subprocess.run(command, env=settings, check=False).returncode


def complain(sentence: str) -> int:
    print(sentence, file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
