"""The HTTP client for the origin: pooled HTTP/1.1 connections whose answers llhttp parses.

A proxy must pass on exactly what it was given, and believe nothing that is not HTTP. No library does both:
`requests` and `http.client` take 102 and 103 for final answers, keep cookies between clients, read proxies
from the environment, merge repeated fields, add fields of their own, rewrite the target and pass over
malformed fields; aiohttp runs llhttp with its lenient flags on for answers (folded fields, bare LF). Here it
is as strict as it is with clients. tests/test_cache.py, test_interim.py and test_origin.py hold these.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .answer import Answer
from .errors import OriginUnreachable

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from httpcache.messages import Request

    from .channel import Channel
    from .pool import Pool

_EXPECT_CONTENT = frozenset(("POST", "PUT", "PATCH"))
"""Methods for which an absent length would leave the origin in doubt (RFC 9110 §8.6)."""
_REPEATABLE = frozenset(("GET", "HEAD"))
_NEW_CONNECTIONS = 3
"""On so many may an origin hang up without a word before that is its answer."""


@dataclass(frozen=True, slots=True)
class Content:
    """A request's content: its length where the client said one, and its parts as they arrive."""

    length: int | None
    parts: AsyncIterator[bytes]


@dataclass(slots=True)
class Origin:
    """The origin. `timeout` is how many seconds it may be silent."""

    pool: Pool
    timeout: float

    @property
    def authority(self) -> str:
        """The only Host that the origin sees: a client's is no part of the key, so it must not matter."""
        host = f"[{self.pool.host}]" if ":" in self.pool.host else self.pool.host
        return host if self.pool.port == 80 else f"{host}:{self.pool.port}"

    async def send(self, request: Request, content: Content | None = None) -> Answer:
        """Ask, and return as soon as the head of the final answer is there. The caller closes the answer.

        Raises:
            OriginError: there is none.
        """
        is_repeatable = request.method in _REPEATABLE and content is None
        idle = self.pool.take() if is_repeatable else None
        attempts_left = _NEW_CONNECTIONS + (idle is not None) if is_repeatable else 1
        while True:
            channel, idle = idle or await self.pool.connect(), None
            answer = Answer(channel, request, self.timeout, self.pool.put)
            attempts_left -= 1
            try:
                await self._exchange(channel, answer, request, content)
            except OriginUnreachable:
                # An idle connection may close at any moment (and the others with it), and a replica that
                # stops drops those that it has not accepted yet. Nothing came back, so ask again on a new
                # one (RFC 9110 §9.2.2).
                if not attempts_left or answer.started:
                    raise
            else:
                return answer

    async def _exchange(
        self, channel: Channel, answer: Answer, request: Request, content: Content | None
    ) -> None:
        channel.begin(answer)
        with answer.closed_on_failure():
            await channel.write(_head(request, self.authority, content))
            if content is not None:
                # An answer may come before all of it is sent: a refusal, or from an origin that answers while
                # it reads.
                answer.send(_send_content(channel, answer, content))
            await answer.head()

    def close(self) -> None:
        self.pool.close()


def _head(request: Request, authority: str, content: Content | None) -> bytes:
    lines = [f"{request.method} {request.target} HTTP/1.1", f"Host: {authority}"]
    lines += [f"{name}: {value}" for name, value in request.headers]
    if content is None and request.method in _EXPECT_CONTENT:
        lines.append("Content-Length: 0")
    if content is not None:
        framing = (
            "Transfer-Encoding: chunked" if content.length is None else f"Content-Length: {content.length}"
        )
        lines.append(framing)
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


async def _send_content(channel: Channel, answer: Answer, content: Content) -> None:
    answer.owing_since = None
    async for part in content.parts:
        answer.owing_since = time.monotonic()
        await channel.write(part if content.length is not None else b"%x\r\n%b\r\n" % (len(part), part))
        answer.owing_since = None
    answer.owing_since = time.monotonic()
    if content.length is None:
        await channel.write(b"0\r\n\r\n")
