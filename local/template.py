"""A database that is made once, for all tests that are not about its making: they copy it.

A real first start makes it, by initdb and the init script. It lies beside the installed packages, under a
name that stands for all that went into it: whoever changes the schema gets another one.
"""

import fcntl
import hashlib
import shutil
import sys
from pathlib import Path

from local.postgres import BIN, INIT_SCRIPT, Postgres
from local.processes import release_port

# Such as a user may choose: every quoting between here and SQL, libpq, Redis and the services has to hold.
ENVIRON = {
    "POSTGRES_USER": "postgres",
    "POSTGRES_PASSWORD": "su'p\"er $HOME \\ user `id` é",
    "POSTGRES_DB": "air",
    "POSTGRES_API_USER": "api",
    "POSTGRES_API_PASSWORD": "re'a\"der ${X} \\n %s $(id)",
    "POSTGRES_API_SCHEMA": "api",
    "POSTGRES_API_STATEMENT_TIMEOUT": "7",
    "REDIS_PASSWORD": "ca'c\"he $(id) \\x # é",
}
# Passwords are hashed once, not 4096 times, which is most of what a login takes.
SETTINGS = {"fsync": "off", "dynamic_shared_memory_type": "mmap", "scram_iterations": "1"}
FOLDER = Path(sys.prefix) / "databases"


def copied_database(folder: Path) -> Postgres:
    """A server with a copy of its own; it waits for no disk, and keeps all it has in `folder`."""
    return Postgres(folder / "data", environ=ENVIRON, settings=SETTINGS, template=data_dir())


def data_dir() -> Path:
    """The data of a stopped server that was started with ENVIRON; made if nobody has made them yet."""
    made = FOLDER / _name()
    FOLDER.mkdir(exist_ok=True)
    with (FOLDER / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not made.exists():
            for old in FOLDER.glob("*/"):
                shutil.rmtree(old)
            first = Postgres(made, environ=ENVIRON, settings=SETTINGS)
            release_port(first.port)
            first.prepare()
    return made


def _name() -> str:
    """A digest of the init script and all that it reads, of the server, and of what starts them."""
    digest = hashlib.sha256(f"{ENVIRON} {BIN} {(BIN / 'postgres').stat().st_mtime_ns}".encode())
    for file in [*sorted(INIT_SCRIPT.parent.glob("*.*")), Path(__file__).with_name("postgres.py")]:
        digest.update(file.read_bytes())
    return digest.hexdigest()[:16]
