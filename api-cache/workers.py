"""The processes of api-cache: one that listens and watches, and the workers that it forks and replaces."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import resource
import signal
import socket
import sys
import time
from typing import TYPE_CHECKING

import uvloop

from app import create_app
from config import Config, ConfigError
from observability.counters import Counters
from server.clients import Clients

if TYPE_CHECKING:
    import mmap

SECONDS_BETWEEN_STARTS = 1.0
"""Of one worker and its successor."""
MEMORY_TAKEN_BYTES = 64 * 1024 * 1024
_PIECE_BYTES = 64 * 1024
_BACKLOG = 4096
_PR_SET_PDEATHSIG = 1
_ENDING = frozenset((signal.SIGTERM, signal.SIGINT))
_AWAITED = _ENDING | {signal.SIGCHLD}


def main() -> int:
    """Serve until SIGTERM or SIGINT; the exit status."""
    try:
        config = Config.from_environ(os.environ)
    except ConfigError as error:
        _say(str(error))
        return 2
    try:
        listener = listen(config.host, config.port)
    except OSError as error:
        _say(f"Cannot listen on {config.host}:{config.port} ({error.strerror}): choose another PORT.")
        return 1
    allow_many_connections()
    return Supervisor(config, listener).run()


def allow_many_connections() -> None:
    """Raise our limit of open files, one of which each client is, from the usual 1,024 to the most."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def listen(host: str, port: int) -> socket.socket:
    """The socket that all workers accept from."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind((host, port))
    listener.listen(_BACKLOG)
    listener.setblocking(False)
    return listener


def take_memory(size: int) -> None:
    """Have the kernel give us the memory for so many bytes of answers, up to MEMORY_TAKEN_BYTES, now.

    Malloc keeps it (see `serve`). Otherwise the client of a first hit waits for each page that is filled then
    for the first time: of 60 KB, for a third as long again.
    """
    pieces = [b"." * _PIECE_BYTES for _ in range(min(size, MEMORY_TAKEN_BYTES) // _PIECE_BYTES)]
    pieces.clear()


class Supervisor:
    """Keeps the workers alive. One that dies is replaced at once, but never faster than once a second.

    Signals stay blocked and are waited for. A handler would run while a worker is forked but not yet known,
    or not at all while a wait lasts that began just after the signal.
    """

    def __init__(self, config: Config, listener: socket.socket) -> None:
        self._config = config
        self._listener = listener
        self._shared: mmap.mmap = Counters.allocate(config.cache_workers)
        self._workers: dict[int, int] = {}
        self._missing: dict[int, float] = {}
        """Those to be forked, and when they may be."""
        self._started = [0.0] * config.cache_workers
        self._ending = False

    def run(self) -> int:
        signal.pthread_sigmask(signal.SIG_BLOCK, _AWAITED)
        self._missing = dict.fromkeys(range(self._config.cache_workers), 0.0)
        while self._workers or self._missing:
            for worker in [each for each, due in self._missing.items() if due <= time.monotonic()]:
                self._fork(worker)
            if self._wait() in _ENDING:
                self._end()
            self._bury()
        return 0

    def _wait(self) -> int:
        """The next signal; 0 when it is time to fork a worker."""
        if not self._missing:
            return signal.sigwait(_AWAITED)
        found = signal.sigtimedwait(_AWAITED, max(0.0, min(self._missing.values()) - time.monotonic()))
        return found.si_signo if found is not None else 0

    def _end(self) -> None:
        self._ending = True
        self._listener.close()
        self._missing.clear()
        for pid in self._workers:
            os.kill(pid, signal.SIGTERM)

    def _bury(self) -> None:
        """Take note of the workers that have ended."""
        with contextlib.suppress(ChildProcessError):
            while pid := os.waitpid(-1, os.WNOHANG)[0]:
                worker = self._workers.pop(pid, None)
                if worker is not None and not self._ending:
                    _say(f"Worker {worker} died; another one takes its place.")
                    self._missing[worker] = self._started[worker] + SECONDS_BETWEEN_STARTS

    def _fork(self, worker: int) -> None:
        del self._missing[worker]
        self._started[worker] = time.monotonic()
        parent = os.getpid()
        pid = os.fork()
        if pid:
            self._workers[pid] = worker
            return
        status = 1
        try:
            _die_with(parent)
            # No runner: it would wait for its threads, such as one that still resolves a name.
            uvloop.new_event_loop().run_until_complete(
                serve(self._config, self._listener, self._shared, worker)
            )
            status = 0
        except BaseException as error:  # noqa: BLE001  # pylint: disable=broad-exception-caught
            # The child must not run on as a second parent.
            sys.excepthook(type(error), error, error.__traceback__)
        finally:
            os._exit(status)


def _say(message: str) -> None:
    """For what no worker's log can say."""
    sys.stderr.write(message + "\n")


def _die_with(parent: int) -> None:
    """Have the kernel end this process when its parent dies, however that happens."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _AWAITED)
    if os.getppid() != parent:
        os._exit(0)


async def serve(config: Config, listener: socket.socket, shared: mmap.mmap, worker: int) -> None:
    """One worker, until SIGTERM; then it answers what it has begun."""
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ended.set)
    take_memory(config.cache_memory_bytes)
    app = create_app(config, shared=shared, worker=worker)
    loop.set_exception_handler(app.unexpected)
    clients = Clients(app)
    await app.start()
    server = await loop.create_server(clients.connect, sock=listener, backlog=_BACKLOG)
    while not ended.is_set():
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(1.0):
                await ended.wait()
        clients.expire()
    server.close()
    await clients.drain()
    await app.stop()
