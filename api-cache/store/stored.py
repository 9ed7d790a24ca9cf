"""Stored responses as values, and their form in Redis: versioned and checked, so damage is never served."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any, NamedTuple

import orjson
from isal import isal_zlib

from coding import coded_headers, is_untouchable
from httpcache import variants
from httpcache.messages import Entry, Headers

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from httpcache.messages import Request

Document = dict[str, Any]
"""What an entry is in Redis."""

FORMAT = 2
"""To be raised whenever the meaning of what is written changes: what another format wrote counts as
absent."""
BLOCK_BYTES = 512 * 1024
"""Bodies are written, read and checked in blocks of this size; one block's transfer is one Redis
operation."""
SMALL_BYTES = 64 * 1024
"""Up to this size in all codings together, an entry's bodies are written with it, in one operation; and read
with it, as long as those of all the target's entries are not larger together."""
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

    @property
    def is_coded(self) -> bool:
        """Whether it is stored in codings of ours."""
        return "identity" not in self.bodies

    @property
    def codings(self) -> Collection[str]:
        """Those to choose from, beside "identity".

        None where the origin forbids any transformation (RFC 9111 §5.2.2.6). It may have said so only when it
        confirmed what was stored before in codings of ours.
        """
        return () if self.is_coded and is_untouchable(self.entry.headers) else self.bodies.keys()

    def headers_in(self, coding: str) -> Headers:
        """Its fields as they are true of the content in this coding, but for its length."""
        headers = coded_headers(self.entry.headers, coding, coded=self.is_coded)
        return headers.without(("content-length",))

    def length_in(self, coding: str) -> int:
        return self.bodies[coding].length if coding in self.bodies else self.length


class Ready(NamedTuple):
    """What a plain hit needs of an only entry."""

    body_id: str
    status: int
    lines: Mapping[str, str]
    """Its field lines in each content coding to choose from, but for Content-Length, Age and what is ours;
    none where it is not for whoever asks plainly."""
    length: int
    bodies: Mapping[str, Body]
    """See Stored, as of `length`."""
    response_time: float
    """See Entry, as of the others."""
    initial_age: float
    lifetime: float


def target_hash(target: str) -> str:
    """The key of a target: the same in every process, replica and restart."""
    return hashlib.sha256(target.encode("latin-1")).hexdigest()


def body_name(body_id: str, coding: str) -> str:
    """Of a body in a content coding, as the memory level has it."""
    return f"{body_id}:{coding}"


def variant_key(entry: Entry) -> str:
    """What tells an entry from the other variants of its target."""
    return hashlib.sha256(repr(entry.selecting).encode()).hexdigest()[:16]


def checksum(data: bytes) -> int:
    """CRC-32, by a library that takes a quarter of zlib's time."""
    return isal_zlib.crc32(data)


def encode(stored: Stored) -> bytes:
    entry = stored.entry
    document = {
        "id": stored.body_id,
        "length": stored.length,
        "bodies": {coding: [body.length, *body.checksums] for coding, body in stored.bodies.items()},
        "headers": list(entry.headers.without(("content-length",))),  # which depends on the coding
        "selecting": entry.selecting,
        "entry": {name: getattr(entry, name) for name in _ENTRY_FIELDS},
        "ready": {} if entry.selecting or entry.always_validate else _lines(stored),
    }
    text = orjson.dumps(document)
    return b"%d %08x " % (FORMAT, checksum(text)) + text


def _lines(stored: Stored) -> dict[str, str]:
    return {
        coding: "".join(map("%s: %s\r\n".__mod__, stored.headers_in(coding)))
        for coding in ("identity", *stored.codings)
    }


def opened(data: bytes) -> Document | None:
    """None for whatever `encode` of this format did not write."""
    version, _, rest = data.partition(b" ")
    check, _, text = rest.partition(b" ")
    if version != b"%d" % FORMAT or check != b"%08x" % checksum(text):
        return None
    try:
        document = orjson.loads(text)
    except ValueError:
        return None
    return document if isinstance(document, dict) else None


def ready_of(document: Document) -> Ready | None:
    """None for what was not written by `encode`."""
    try:
        entry = document["entry"]
        return Ready(
            body_id=document["id"],
            status=entry["status"],
            lines=document["ready"],
            length=document["length"],
            bodies=_bodies(document),
            response_time=entry["response_time"],
            initial_age=entry["initial_age"],
            lifetime=entry["lifetime"],
        )
    except (ValueError, TypeError, KeyError, IndexError, AttributeError):
        return None


def stored_of(document: Document) -> Stored | None:
    """None for what was not written by `encode`."""
    try:
        return Stored(
            body_id=document["id"],
            length=document["length"],
            bodies=_bodies(document),
            entry=Entry(
                headers=Headers(map(tuple, document["headers"])),
                selecting=tuple((name, value) for name, value in document["selecting"]),
                **document["entry"],
            ),
        )
    except (ValueError, TypeError, KeyError, IndexError, AttributeError):
        return None


def _bodies(document: Document) -> dict[str, Body]:
    return {coding: Body(length, tuple(sums)) for coding, (length, *sums) in document["bodies"].items()}


def select(stored: tuple[Stored, ...], entry: Entry) -> Stored:
    """The stored response to which an entry belongs."""
    return next(each for each in stored if each.entry is entry)


def names_of(stored: tuple[Stored, ...]) -> frozenset[str]:
    """All request fields that tell the variants of a target apart."""
    return frozenset(name for each in stored for name, _ in each.entry.selecting)


def key_of_request(request: Request, stored: tuple[Stored, ...], selecting: Collection[str] = ()) -> str:
    """What requests must share to wait for one answer: the target, and the variant as far as it is known.

    `selecting` are names of fields that tell variants apart, beside those of what is stored. Requests with
    credentials are apart: their answers may be of no use to the others (RFC 9111 §3.5).
    """
    variant = variants.key(sorted(names_of(stored).union(selecting)), request.headers)
    return f"{target_hash(request.target)}:{variant}{':a' if request.has_credentials else ''}"
