"""An origin to be killed, paused and broken: `python origin.py PORT`, in a process of its own.

/<kind>/<freshness>/<name> has a body that proves itself, another one each second, fresh for so many seconds.
/echo/... tells all that it was asked. POST answers 204. /mode/<mode> changes how all else is answered.
"""

import asyncio
import json
import sys
import time

from bodies import SIZES, make

MODES = ("well", "cut-length", "cut-chunked", "malformed", "slow", "refusing")
MALFORMED = (
    b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello!",
    b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nhello\r\n0\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nNo colon here\r\nContent-Length: 5\r\n\r\nhello",
    b"HTTP/1.1 200 OK\r\nSpace : x\r\nContent-Length: 5\r\n\r\nhello",
    b"HTTP/1.1 200 OK\r\nX: a\x00b\r\nContent-Length: 5\r\n\r\nhello",
    b"HTTP/1.1 2000 OK\r\nContent-Length: 5\r\n\r\nhello",
    b"HTTP/1.1 200 OK\r\nX: " + b"x" * 200_000 + b"\r\nContent-Length: 5\r\n\r\nhello",
    b"SSH-2.0-OpenSSH_9.2\r\n",
    b"\x00" * 50,
)


class State:
    mode = "well"
    asked = 0
    started = str(time.time_ns())


async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while line := await reader.readline():
            lines = [line]
            while (line := await reader.readline()) not in (b"\r\n", b""):
                lines.append(line)
            fields = dict(each.decode("latin-1").rstrip("\r\n").lower().split(": ", 1) for each in lines[1:])
            body = await content(reader, fields)
            method, target, _ = lines[0].decode("latin-1").split(" ", 2)
            if not await answer(writer, method, target, lines, body):
                break
            await writer.drain()
    except (OSError, ValueError, asyncio.IncompleteReadError):
        pass
    finally:
        writer.close()


async def content(reader: asyncio.StreamReader, fields: dict[str, str]) -> bytes:
    if "content-length" in fields:
        return await reader.readexactly(int(fields["content-length"]))
    body = b""
    if "transfer-encoding" in fields:
        while size := int(await reader.readline(), 16):
            body += await reader.readexactly(size)
            await reader.readline()
        await reader.readline()
    return body


async def answer(
    writer: asyncio.StreamWriter, method: str, target: str, lines: list[bytes], body: bytes
) -> bool:
    path = target.partition("?")[0]
    kind, *rest = path.strip("/").split("/")
    if kind == "mode":
        State.mode = rest[0]
        return send(writer, State.mode.encode(), "no-store")
    if kind == "asked":
        return send(writer, str(State.asked).encode(), "no-store")
    State.asked += 1
    if kind == "echo":
        told = {"lines": [line.decode("latin-1") for line in lines], "body": body.decode("latin-1")}
        return send(writer, json.dumps(told).encode(), "max-age=60")
    if method not in ("GET", "HEAD"):
        writer.write(b"HTTP/1.1 204 No Content\r\n\r\n")
        return True
    return await answer_in_mode(writer, path, kind, rest[0])


async def answer_in_mode(writer: asyncio.StreamWriter, path: str, kind: str, seconds: str) -> bool:
    if State.mode == "malformed":
        writer.write(MALFORMED[State.asked % len(MALFORMED)])
        return False
    if State.mode == "refusing":
        return send(writer, b"down for maintenance", "no-store", status=503)
    if State.mode == "slow":
        await asyncio.sleep(0.5)
    version = f"{State.started}.{time.monotonic_ns() // 10**9}"
    body = make(path, version, SIZES[kind])
    media_type = "text/plain" if kind == "text" else "application/octet-stream"
    head = f"HTTP/1.1 200 OK\r\nContent-Type: {media_type}\r\nCache-Control: max-age={seconds}\r\n"
    head += f'ETag: "{version}"\r\n'
    half = len(body) // 2
    if State.mode == "cut-length":
        writer.write(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body[:half])
        return False
    if State.mode == "cut-chunked":
        writer.write(f"{head}Transfer-Encoding: chunked\r\n\r\n{half:x}\r\n".encode() + body[:half] + b"\r\n")
        return False
    writer.write(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
    return True


def send(writer: asyncio.StreamWriter, body: bytes, cache_control: str, status: int = 200) -> bool:
    head = f"HTTP/1.1 {status} X\r\nCache-Control: {cache_control}\r\nContent-Length: {len(body)}\r\n\r\n"
    writer.write(head.encode() + body)
    return True


async def main(port: int) -> None:
    server = await asyncio.start_server(serve, "127.0.0.1", port, backlog=1024, limit=2**20)
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1])))
