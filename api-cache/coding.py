"""Content codings of our own: text is compressed once, when stored, and served as the client accepts it.

Each coded form has an entity tag of its own (RFC 9110 §8.8.3), made from the origin's by a suffix and
mapped back by taking it off. Libraries and levels must keep up with the origin. Measured on 40 MB of
/air_quality over 1,000,000 rows, which api-rest sends at 113 MB/s, in MB/s (and by which factor they
shrink): zstd at level 1 425 (3.5), at 3 179 (3.0); gzip by ISA-L at 2 373 (2.9), by zlib at 1 113 (2.8), at
6 30 (3.1); br at 1 300 (3.4), at 2 112 (3.0), at 4 61 (3.0). zstd and gzip together, as stored, make 194.
With br as a third 118 would be left, no more than the origin's own; and whoever accepts br accepts gzip.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import re
from typing import TYPE_CHECKING, Protocol, TypeVar

import zstandard
from backports import zstd
from isal import isal_zlib

from httpcache import fields

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Iterable, Mapping

    from httpcache.messages import Headers, Response

CODINGS = ("zstd", "gzip")
"""Ours, the preferred one first."""
IN_THREAD_BYTES = 64 * 1024
"""From this size on, coding takes so long that others should be served meanwhile."""
CODED_BYTES = IN_THREAD_BYTES
"""Of what is compressed at a time."""
PIECE_BYTES = 1024 * 1024
"""Of what is decompressed while it is sent."""
ZSTD_LEVEL = 1
GZIP_LEVEL = 2
_ISAL_LARGEST_WINDOW_GZIP = 31
_AT_ONCE = zstandard.ZstdDecompressor()
"""For what is whole and small, on the event loop's thread. It keeps its context, and so takes less than half
of what the standard library's does, which needs a new one each time."""
MIN_BYTES = 256
"""Shorter content does not gain from it."""
_TEXT = re.compile(
    r"text/.*|.*\+(json|xml|text)|application/(json|javascript|xml|xhtml\+xml|problem\+json|geo\+json|x-ndjson"
    r"|x-javascript|ecmascript|wasm|rtf|yaml)|image/(svg\+xml|bmp)|font/(otf|ttf)",
    re.IGNORECASE,
)
_NOT_WITH = ("content-encoding", "content-range", "content-digest", "repr-digest", "digest", "content-md5")
"""Fields that would be untrue of a coded form."""
_OUR_SUFFIX = re.compile(rf"-(?:{'|'.join(CODINGS)})\"")
_QUALITY = re.compile(r"q=(0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?)", re.IGNORECASE)


def compressible(response: Response) -> bool:
    """Whether the content is worth a coding, and no one forbids it."""
    headers = response.headers
    if response.status != 200 or headers.has_any(_NOT_WITH):
        return False
    if is_untouchable(headers):
        return False
    length = headers.get("content-length")
    if length is not None and length.isdigit() and int(length) < MIN_BYTES:
        return False
    media_type = (headers.get("content-type") or "").split(";")[0].strip()
    return _TEXT.fullmatch(media_type) is not None


def is_untouchable(headers: Headers) -> bool:
    """Whether the origin forbids any transformation of the content (RFC 9111 §5.2.2.6)."""
    return _forbids_transformation(headers.values("cache-control") + headers.values("cdn-cache-control"))


@functools.lru_cache(maxsize=128)  # origins have few ways to say it
def _forbids_transformation(control: tuple[str, ...]) -> bool:
    return "no-transform" in fields.directives(control)


def negotiate(accept: str | None, available: Iterable[str]) -> str:
    """The coding in which to answer a request with this Accept-Encoding (RFC 9110 §12.5.3)."""
    return "identity" if accept is None else _negotiated(accept, frozenset(available))


@functools.lru_cache(maxsize=128)  # clients have few ways to say it
def _negotiated(accept: str, available: frozenset[str]) -> str:
    if available.isdisjoint(CODINGS):
        return "identity"
    weights = _weights(accept)
    best, weight = "identity", weights.get("identity", weights.get("*", 0.001) if "*" in weights else 0.001)
    for coding in reversed(CODINGS):
        offered = weights.get(coding, weights.get("*", 0.0))
        if coding in available and offered > 0 and offered >= weight:
            best, weight = coding, offered
    return best


def _weights(accept: str) -> Mapping[str, float]:
    found: dict[str, float] = {}
    for member in fields.members((accept,)):
        coding, _, parameter = member.partition(";")
        quality = _QUALITY.fullmatch(parameter.strip()) if parameter.strip() else None
        name = coding.strip().lower().removeprefix("x-")
        found[name] = float(quality[1]) if quality else 0.0 if parameter.strip() else 1.0
    return found


def own_tag(tag: str, coding: str) -> str:
    """The entity tag of the content in one of our codings."""
    return tag if coding == "identity" else f'{tag[:-1]}-{coding}"'


def origin_tags(value: str) -> str:
    """A condition's entity tags; beside each that may be one of ours, the origin's that we made it of."""
    if not _OUR_SUFFIX.search(value):
        return value
    tags = [each for tag in fields.entity_tags(value) for each in (tag, _OUR_SUFFIX.sub('"', tag))]
    return ", ".join(dict.fromkeys(tags)) or value


def known_tag(tag: str, condition: str) -> str:
    """The origin's tag as the client knows it, who asked with this If-None-Match (RFC 9111 §4.3.4)."""
    known = fields.entity_tags(condition)
    ours = [own_tag(tag, coding) for coding in ("identity", *CODINGS)]
    return next((each for own in ours for each in known if fields.weak_match(own, each)), tag)


def coded_headers(headers: Headers, coding: str, *, coded: bool) -> Headers:
    """The fields of a response as they are sent in this coding; `coded`: it is stored in codings of ours."""
    if not coded:
        return headers
    names = [name.lower() for name in fields.members(headers.values("vary"))]
    if "accept-encoding" not in names and "*" not in names:
        headers = headers.extended((("Vary", "Accept-Encoding"),))
    if coding == "identity":
        return headers
    tag = headers.get("etag")
    if tag is not None:
        headers = (
            headers.replaced("ETag", own_tag(tag, coding))
            if fields.entity_tag(tag)
            else headers.without(("etag",))
        )
    return headers.replaced("Content-Encoding", coding)


T = TypeVar("T")


async def run(code: Callable[[bytes], T], data: bytes) -> T:
    """What `code` makes of the data, without holding up the event loop."""
    if len(data) < IN_THREAD_BYTES:
        return code(data)
    return await asyncio.get_running_loop().run_in_executor(None, code, data)


class _Stream(Protocol):
    def compress(self, data: bytes, /) -> bytes: ...
    def finish(self, data: bytes, /) -> bytes:
        """With the last of the data."""


class _Zstd:
    def __init__(self) -> None:
        self._stream = zstd.ZstdCompressor(ZSTD_LEVEL)
        self.compress = self._stream.compress

    def finish(self, data: bytes) -> bytes:
        """In one step: should this be all of it, the frame says its length, and takes a fifth less time."""
        return self._stream.compress(data, zstd.ZstdCompressor.FLUSH_FRAME)


class _Gzip:
    def __init__(self) -> None:
        self._stream = isal_zlib.compressobj(GZIP_LEVEL, isal_zlib.DEFLATED, _ISAL_LARGEST_WINDOW_GZIP)
        self.compress = self._stream.compress

    def finish(self, data: bytes) -> bytes:
        return self._stream.compress(data) + self._stream.flush()


class Compressor:
    """Codes a body in all our codings at once, piece by piece.

    However it arrives, it is coded in pieces of the same sizes. What comes out of ISA-L depends on them: two
    fetches of one body would get one strong entity tag for different bytes (RFC 9110 §8.8.1), and what begins
    with a piece of less than about 512 bytes, as streamed JSON may, would be three times as long.
    """

    def __init__(self) -> None:
        self._streams: dict[str, _Stream] = {"zstd": _Zstd(), "gzip": _Gzip()}
        self._waiting = bytearray()

    def feed(self, data: bytes) -> dict[str, bytes]:
        self._waiting += data
        size = len(self._waiting) // CODED_BYTES * CODED_BYTES
        pieces = [bytes(self._waiting[at : at + CODED_BYTES]) for at in range(0, size, CODED_BYTES)]
        del self._waiting[:size]
        return {coding: b"".join(map(stream.compress, pieces)) for coding, stream in self._streams.items()}

    def finish(self) -> dict[str, bytes]:
        rest = bytes(self._waiting)
        return {coding: stream.finish(rest) for coding, stream in self._streams.items()}


class Plain:
    """Keeps a body as it is."""

    def feed(self, data: bytes) -> dict[str, bytes]:
        return {"identity": data}

    def finish(self) -> dict[str, bytes]:
        return {}


async def decompressed(blocks: AsyncGenerator[bytes]) -> AsyncGenerator[bytes]:
    """What zstd made these blocks of, in pieces of PIECE_BYTES: a few bytes may stand for any number."""
    decompressor, loop = zstd.ZstdDecompressor(), asyncio.get_running_loop()
    async with contextlib.aclosing(blocks):
        async for block in blocks:
            data, is_exhausted = block, False
            while not is_exhausted:
                piece = await loop.run_in_executor(None, decompressor.decompress, data, PIECE_BYTES)
                data, is_exhausted = b"", decompressor.needs_input or decompressor.eof
                if piece:
                    yield piece


def decompress_at_once(
    data: bytes, length: int, decompressor: zstandard.ZstdDecompressor = _AT_ONCE
) -> bytes | None:
    """What zstd made the data of; None when that is not just so many bytes."""
    try:
        if zstandard.frame_content_size(data) not in (length, -1):
            return None  # what a frame says of itself goes before any limit
        found = decompressor.decompress(data, length)
    except zstandard.ZstdError:
        return None
    return found if len(found) == length else None


async def decompress(data: bytes, length: int) -> bytes | None:
    """The same, without holding up the event loop."""
    if length < IN_THREAD_BYTES:
        return decompress_at_once(data, length)
    own = zstandard.ZstdDecompressor()
    return await asyncio.get_running_loop().run_in_executor(None, decompress_at_once, data, length, own)
