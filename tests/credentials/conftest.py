import asyncio
import contextlib
import ssl
import struct
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import pytest
import trustme
from local.client import connect
from local.postgres import Postgres
from local.processes import free_port
from local.template import ENVIRON, copied_database
from local.valkey import Valkey


@dataclass(frozen=True)
class Authority:
    """A certificate authority of the test's own."""

    ca: trustme.CA
    file: Path

    def issue(self, *names: str) -> trustme.LeafCert:
        return self.ca.issue_cert(*names)


@pytest.fixture(scope="session")
def new_authority(tmp_path_factory: pytest.TempPathFactory) -> Callable[[], Authority]:
    def new() -> Authority:
        ca, file = trustme.CA(), tmp_path_factory.mktemp("authority") / "ca.pem"
        ca.cert_pem.write_to_path(file)
        return Authority(ca, file)

    return new


@pytest.fixture(scope="session")
def authority(new_authority: Callable[[], Authority]) -> Authority:
    return new_authority()


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Postgres]:
    with copied_database(tmp_path_factory.mktemp("postgres")) as server:
        yield server


@pytest.fixture(scope="session")
def valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Valkey]:
    with Valkey(tmp_path_factory.mktemp("valkey") / "valkey", environ=ENVIRON) as server:
        with connect(server, socket_timeout=5) as client:
            rights = ["~*", "&*", "+@all", "-@admin", "-@dangerous", "+info", "+client"]
            client.execute_command("ACL", "SETUSER", "cache", "on", ">one of two", ">the other", *rights)
        yield server


class Door:
    """TLS in front of a server that was built without it; what passes through was encrypted and verified."""

    def __init__(self, leaf: trustme.LeafCert, target: int, port: int = 0) -> None:
        self.port = port or free_port()
        self.entered = 0
        self._target = target
        self._writers: list[asyncio.StreamWriter] = []
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        leaf.configure_cert(self._context)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)

    def __enter__(self) -> Self:
        self._thread.start()
        start = asyncio.start_server(self._enter, "127.0.0.1", self.port)
        self._server = asyncio.run_coroutine_threadsafe(start, self._loop).result(10)
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(self._close(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _close(self) -> None:
        self._server.close()
        for writer in self._writers:
            writer.close()
        if others := asyncio.all_tasks() - {asyncio.current_task()}:
            await asyncio.wait(others, timeout=5)

    async def _enter(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.append(writer)
        plain = writer.transport
        try:
            await self._greet(reader, writer)
            await writer.start_tls(self._context)
        except (OSError, asyncio.IncompleteReadError):
            writer.close()
            return
        if writer.transport is None:  # the client left amid the handshake; its own __del__ fails over that
            writer._transport = plain
            writer.close()
            return
        self.entered += 1
        there_reader, there_writer = await asyncio.open_connection("127.0.0.1", self._target)
        self._writers.append(there_writer)
        await asyncio.gather(carry(reader, there_writer), carry(there_reader, writer))

    async def _greet(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """What the protocol has before the handshake: in Redis's, nothing."""


class PostgresDoor(Door):
    """As Postgres with `hostssl` alone in its pg_hba.conf: who does not ask for TLS is sent away."""

    async def _greet(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tls, gss = 80877103, 80877104  # "Message Formats" in the manual: SSLRequest, GSSENCRequest
        while (code := struct.unpack("!ii", await reader.readexactly(8))[1]) == gss:
            writer.write(b"N")
        if code != tls:
            raise ConnectionRefusedError
        writer.write(b"S")
        await writer.drain()


async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    writer.close()
