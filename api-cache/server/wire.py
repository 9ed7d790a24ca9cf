"""A client's end of the wire: what was sent and how much of that it has taken, and whether we read."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import socket
import struct
import termios

from origin.errors import ContentLost

WINDOW_BYTES = 256 * 1024
"""How much of a request's content, or of an answer, may wait before its source is paused."""
SEND_BUFFER_BYTES = 512 * 1024
"""Of the kernel, for each connection. Large answers pass in pieces that the processor's caches still hold
when the network takes them: of 4 MB, a fifth more a second than with Linux's own growing buffer."""
_JOINED_BYTES = 16 * 1024
"""Up to this size, copying head and body together is faster than sending them as two pieces."""


class ClientGone(ContentLost):
    """The client left, or takes nothing, or its content did not come to its end."""


class Wire:
    """The transport of one connection, from when it is made until it is lost."""

    __slots__ = (
        "_descriptor",
        "_paused_reading",
        "_resumed",
        "_transport",
        "_untaken",
        "is_free",
        "taken",
    )

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._descriptor = -1
        self._resumed = asyncio.Event()
        self._resumed.set()
        self.is_free = True
        """Whether the client takes what it gets."""
        self._paused_reading = False
        self._untaken = 0
        self.taken = 0.0
        """When the client was last seen to take something of what waits for it."""

    # ---- as the transport says

    def made(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        transport.set_write_buffer_limits(WINDOW_BYTES)
        sock = transport.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
        self._descriptor = sock.fileno()

    def lost(self) -> None:
        self._transport = None
        self.resume()

    def pause(self) -> None:
        """Too much waits for the client."""
        self.is_free = False
        self._resumed.clear()

    def resume(self) -> None:
        self.is_free = True
        self._resumed.set()

    @property
    def is_lost(self) -> bool:
        return self._transport is None

    # ---- writing

    def write(self, data: bytes) -> None:
        if self._transport is None:
            raise asyncio.CancelledError
        self._transport.write(data)

    def write_whole(self, head: bytes, body: bytes) -> None:
        """An answer that is ready; nothing happens when the client has gone."""
        if self._transport is None:
            return
        if len(body) < _JOINED_BYTES:
            self._transport.write(head + body)
        else:
            self._write_at_once(self._transport, head, body)

    def _write_at_once(self, transport: asyncio.Transport, head: bytes, body: bytes) -> None:
        """Give the socket what it takes by one writev(2), the transport the rest. Neither copies the body."""
        sent = 0
        if transport.get_write_buffer_size() == 0 and not transport.is_closing():
            try:  # noqa: SIM105 - suppress() would take three calls more, of each larger hit
                sent = os.writev(self._descriptor, (head, body))
            except OSError:  # full, or broken, as the transport will notice
                pass
        if sent < len(head):
            transport.writelines((head[sent:], body))
        elif sent < len(head) + len(body):
            transport.write(memoryview(body)[sent - len(head) :])

    async def drained(self, patience: float) -> None:
        """Wait until the client has taken nearly all; however slow it is, it must go on.

        Raises:
            ClientGone: it took nothing for as many seconds.
        """
        while not self._resumed.is_set() and self._transport is not None:
            untaken = self._transport.get_write_buffer_size()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(patience):
                    await self._resumed.wait()
            if not self._resumed.is_set() and self._transport.get_write_buffer_size() == untaken:
                raise ClientGone("The client takes nothing.")

    # ---- what the client takes

    def is_taking(self, now: float) -> bool:
        """Whether some of an answer still waits for the client; notes in `taken` when that changes."""
        waiting = self._transport.get_write_buffer_size() if self._transport is not None else 0
        if waiting != self._untaken:
            self._untaken, self.taken = waiting, now
        return waiting > 0

    @property
    def untaken_bytes(self) -> int:
        """What we or our kernel hold that the client's has not acknowledged."""
        transport = self._transport
        if transport is None:
            return 0
        if (waiting := transport.get_write_buffer_size()) or transport.is_closing():
            return waiting
        (unacknowledged,) = struct.unpack("i", fcntl.ioctl(self._descriptor, termios.TIOCOUTQ, bytes(4)))
        return int(unacknowledged)

    # ---- reading

    def pause_reading(self) -> None:
        if not self._paused_reading and self._transport is not None:
            self._paused_reading = True
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        if self._paused_reading and self._transport is not None and not self._transport.is_closing():
            self._paused_reading = False
            self._transport.resume_reading()

    # ---- its end

    def ends_by_reset(self, *, is_so: bool) -> None:
        """Whether its end, however that comes, is a reset, which nobody takes for the end of content."""
        if self._transport is not None:
            sock = self._transport.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", int(is_so), 0))

    def end(self) -> None:
        """Tell the client that nothing more comes (RFC 9112 §9.6), and go on hearing from it."""
        if self._transport is not None:
            self._transport.write_eof()

    def close(self) -> None:
        """End it as soon as all that was written has gone out."""
        if self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        """Cut it: what the client has is not whole."""
        if self._transport is not None:
            self._transport.abort()
