"""Stored responses as values, and their form in Redis: versioned and checked, so damage is never served."""

from __future__ import annotations

import hashlib
import zlib
from typing import TYPE_CHECKING, NamedTuple

import orjson

from httpcache import variants
from httpcache.messages import Entry, Headers

if TYPE_CHECKING:
    from collections.abc import Mapping

    from httpcache.messages import Request

FORMAT = 1
"""To be raised whenever the meaning of what is written changes: what another format wrote counts as
absent."""
BLOCK_BYTES = 512 * 1024
"""Bodies are written, read and checked in blocks of this size; one block's transfer is one Redis
operation."""
SMALL_BYTES = 64 * 1024
"""Up to this size in all codings together, an entry's bodies are written and read with it, in one
operation."""
_ENTRY_FIELDS = tuple(name for name in Entry._fields if name not in ("headers", "selecting"))


class Body(NamedTuple):
    """A stored body in one content coding: its length and the checksum of each of its blocks."""

    length: int
    checksums: tuple[int, ...]


class Stored(NamedTuple):
    """An entry with its bodies, whose key is part of it: it never meets another entry's body."""

    body_id: str
    entry: Entry
    length: int
    """Of the content as the origin sent it, before any coding of ours."""
    bodies: Mapping[str, Body]
    """By content coding; "identity" is the content as the origin sent it."""

    @property
    def field(self) -> str:
        """Its name among the variants of its target."""
        return f"{variant_key(self.entry)}:{self.body_id}"

    def body_name(self, coding: str) -> str:
        """Of its body in a content coding, as the memory level has it."""
        return f"{self.body_id}:{coding}"

    @property
    def is_coded(self) -> bool:
        """Whether it is stored in codings of ours."""
        return "identity" not in self.bodies


def target_hash(target: str) -> str:
    """The key of a target: the same in every process, replica and restart."""
    return hashlib.sha256(target.encode("latin-1")).hexdigest()


def variant_key(entry: Entry) -> str:
    """What tells an entry from the other variants of its target."""
    return hashlib.sha256(repr(entry.selecting).encode()).hexdigest()[:16]


def checksum(data: bytes) -> int:
    return zlib.crc32(data)


def encode(stored: Stored) -> bytes:
    entry = stored.entry
    document = {
        "id": stored.body_id,
        "length": stored.length,
        "bodies": {coding: [body.length, *body.checksums] for coding, body in stored.bodies.items()},
        "headers": list(entry.headers.without(("content-length",))),  # which depends on the coding
        "selecting": entry.selecting,
        "entry": {name: getattr(entry, name) for name in _ENTRY_FIELDS},
    }
    text = orjson.dumps(document)
    return b"%d %08x " % (FORMAT, checksum(text)) + text


def decode(data: bytes) -> Stored | None:
    """None for whatever `encode` of this format did not write."""
    version, _, rest = data.partition(b" ")
    check, _, text = rest.partition(b" ")
    if version != b"%d" % FORMAT or check != b"%08x" % checksum(text):
        return None
    try:
        document = orjson.loads(text)
        return Stored(
            body_id=document["id"],
            length=document["length"],
            bodies={coding: Body(body[0], tuple(body[1:])) for coding, body in document["bodies"].items()},
            entry=Entry(
                headers=Headers(map(tuple, document["headers"])),
                selecting=tuple((name, value) for name, value in document["selecting"]),
                **document["entry"],
            ),
        )
    except (ValueError, TypeError, KeyError, IndexError):
        return None


def select(stored: tuple[Stored, ...], entry: Entry) -> Stored:
    """The stored response to which an entry belongs."""
    return next(each for each in stored if each.entry is entry)


def names_of(stored: tuple[Stored, ...]) -> frozenset[str]:
    """All request fields that tell the variants of a target apart."""
    return frozenset(name for each in stored for name, _ in each.entry.selecting)


def key_of_request(request: Request, stored: tuple[Stored, ...]) -> str:
    """What requests must share to wait for one answer: the target, and the variant as far as it is known.

    Those with credentials are apart: their answers may be of no use to the others (RFC 9111 §3.5).
    """
    variant = variants.key(sorted(names_of(stored)), request.headers)
    return f"{target_hash(request.target)}:{variant}{':a' if request.has_credentials else ''}"
