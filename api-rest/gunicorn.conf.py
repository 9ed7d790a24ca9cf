"""How gunicorn serves api-rest: processes for the cores, threads for those who wait."""
# pylint: disable=invalid-name

import gc
import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

import logs
from config import Config, ConfigError

try:
    settings = Config.from_environ()
except ConfigError as error:
    sys.exit(str(error))  # in the parent; a worker that ends would be started again for ever


def make_metrics_folder() -> str:
    """Where the numbers of all workers meet. The folders that killed predecessors left are removed."""
    prefix = "api-rest-metrics-"
    for left in Path(tempfile.gettempdir()).glob(f"{prefix}*"):
        pid = left.name.removeprefix(prefix).partition("-")[0]
        # In a container that starts again, we have the number that our predecessor had.
        if pid == str(os.getpid()) or not Path("/proc", pid).exists():
            shutil.rmtree(left, ignore_errors=True)
    return tempfile.mkdtemp(prefix=f"{prefix}{os.getpid()}-")


# Read by prometheus_client when it is first imported.
metrics_folder = os.environ["PROMETHEUS_MULTIPROC_DIR"] = make_metrics_folder()

bind = f"{settings.host}:{settings.port}"
workers = settings.web_concurrency
worker_class = "worker.Worker"
# As many as hold a connection, as many as wait for one, and some for what needs none, such as probes.
threads = 2 * settings.postgres_pool_size + 8
graceful_timeout = settings.graceful_timeout
keepalive = 75
limit_request_line = 8190
logger_class = "worker.Logger"
logconfig_dict = logs.SETTINGS
control_socket_disable = True
# Workers show that they live by touching a file: on a disk, that can block.
worker_tmp_dir = "/dev/shm" if Path("/dev/shm").is_dir() else None  # noqa: S108


def on_starting(_server: Any) -> None:
    gc.disable()  # what is imported stays: to look for garbage in it meanwhile takes a fifth of the start
    import app  # noqa: F401, PLC0415  # pylint: disable=C0415,W0611  # here, once: workers share what is imported

    gc.enable()
    gc.freeze()  # and what no collection writes to stays shared


def child_exit(_server: Any, worker: Any) -> None:
    from prometheus_client.multiprocess import mark_process_dead  # noqa: PLC0415  # pylint: disable=C0415

    mark_process_dead(worker.pid)  # type: ignore[no-untyped-call]


def on_exit(_server: Any) -> None:
    shutil.rmtree(metrics_folder, ignore_errors=True)
