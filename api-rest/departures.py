"""Notices clients that hang up while their answer is being made."""

import select
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment


class Departures:
    """Notices clients that hang up, by one thread for the whole process, started at its first use."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._actions: dict[int, Callable[[], None]] = {}
        self._poll: select.epoll | None = None

    @contextmanager
    def noticed(self, client: socket.socket | None, action: Callable[[], None]) -> Iterator[None]:
        """Run `action` once if `client` hangs up before the end of the block; not after it.

        It runs in the thread of all departures, so it must neither wait nor raise.
        """
        if client is None:
            yield
            return
        watched = client.fileno()
        self._watch(watched, action)
        try:
            yield
        finally:
            self._unwatch(watched)

    def _watch(self, client: int, action: Callable[[], None]) -> None:
        with self._lock:
            self._actions[client] = action
            if self._poll is None:
                self._poll = select.epoll()
                threading.Thread(target=self._run, args=(self._poll,), name="departures", daemon=True).start()
            self._poll.register(client, select.EPOLLRDHUP | select.EPOLLONESHOT)

    def _unwatch(self, client: int) -> None:
        with self._lock:
            self._actions.pop(client, None)
            assert self._poll is not None  # noqa: S101 - _watch made it
            self._poll.unregister(client)

    def _run(self, poll: select.epoll) -> None:
        while True:
            for client, _ in poll.poll():
                with self._lock:
                    action = self._actions.pop(client, None)
                    if action is not None:
                        action()


DEPARTURES = Departures()


def client_of(environ: "WSGIEnvironment") -> socket.socket | None:
    """The connection that a request came by; None without a server that tells, as in tests."""
    client: socket.socket | None = environ.get("gunicorn.socket")
    return client
