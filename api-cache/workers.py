"""The processes of api-cache: one that listens and watches, and the workers that it forks and replaces."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import signal
import socket
import sys
import time
from typing import TYPE_CHECKING

import uvloop

from app import create_app
from config import Config, ConfigError
from observability import Counters, to_stderr
from server import Connection

if TYPE_CHECKING:
    import mmap

DRAIN_SECONDS = 30.0
"""How long answers under way may take after SIGTERM."""
SECONDS_BETWEEN_LOOKS = 0.02
LINGER_SECONDS = 0.2
"""Between the last accepted connection and the end of idle ones, so that requests under way on them are
answered."""
_BACKLOG = 4096
_PR_SET_PDEATHSIG = 1


def main() -> int:
    """Serve until SIGTERM or SIGINT; the exit status."""
    try:
        config = Config.from_environ(os.environ)
    except ConfigError as error:
        to_stderr(str(error))
        return 2
    try:
        listener = listen(config.host, config.port)
    except OSError as error:
        to_stderr(f"Cannot listen on {config.host}:{config.port} ({error.strerror}): choose another PORT.")
        return 1
    return Supervisor(config, listener).run()


def listen(host: str, port: int) -> socket.socket:
    """The socket that all workers accept from."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind((host, port))
    listener.listen(_BACKLOG)
    listener.setblocking(False)
    return listener


class Supervisor:
    """Keeps the workers alive. One that dies is replaced at once, but never faster than once a second."""

    def __init__(self, config: Config, listener: socket.socket) -> None:
        self._config = config
        self._listener = listener
        self._shared: mmap.mmap = Counters.allocate(config.cache_workers)
        self._workers: dict[int, int] = {}
        self._started = [0.0] * config.cache_workers
        self._ending = False

    def run(self) -> int:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._end)
        for worker in range(self._config.cache_workers):
            self._fork(worker)
        while self._workers:
            with contextlib.suppress(InterruptedError, ChildProcessError):
                pid, _ = os.wait()
                worker = self._workers.pop(pid)
                if not self._ending:
                    to_stderr(f"Worker {worker} died; another one takes its place.")
                    time.sleep(max(0.0, self._started[worker] + 1.0 - time.monotonic()))
                if not self._ending:
                    self._fork(worker)
        return 0

    def _end(self, *_: object) -> None:
        self._ending = True
        self._listener.close()
        for pid in self._workers:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)

    def _fork(self, worker: int) -> None:
        self._started[worker] = time.monotonic()
        parent = os.getpid()
        pid = os.fork()
        if pid:
            self._workers[pid] = worker
            return
        status = 1
        try:
            _die_with(parent)
            uvloop.run(serve(self._config, self._listener, self._shared, worker))
            status = 0
        except BaseException as error:  # noqa: BLE001  # pylint: disable=broad-exception-caught
            # The child must not run on as a second parent.
            sys.excepthook(type(error), error, error.__traceback__)
        finally:
            os._exit(status)


def _die_with(parent: int) -> None:
    """Have the kernel end this process when its parent dies, however that happens."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_DFL)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:
        os._exit(0)


async def serve(config: Config, listener: socket.socket, shared: mmap.mmap, worker: int) -> None:
    """One worker, until SIGTERM; then it answers what it has begun."""
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ended.set)
    app = create_app(config, shared=shared, worker=worker)
    loop.set_exception_handler(app.unexpected)
    connections: set[Connection] = set()
    await app.start()
    server = await loop.create_server(lambda: Connection(app, connections), sock=listener, backlog=_BACKLOG)
    while not ended.is_set():
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(1.0):
                await ended.wait()
        for connection in tuple(connections):
            connection.expire(time.monotonic())
    server.close()
    await _drain(connections)
    await app.stop()


async def _drain(connections: set[Connection]) -> None:
    await asyncio.sleep(LINGER_SECONDS)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(DRAIN_SECONDS):
            # No event tells what clients have taken.
            while [each for each in tuple(connections) if not each.drain()]:  # noqa: ASYNC110
                await asyncio.sleep(SECONDS_BETWEEN_LOOKS)


if __name__ == "__main__":
    sys.exit(main())
