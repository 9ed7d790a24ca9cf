"""The memory level: what this process lately read from Redis, in at most so many bytes.

It holds nothing that Redis does not, and only while the watch on Redis (watch.py) tells of every change:
then a change made anywhere is seen here at once. All of it belongs to the event loop's thread; nothing
here waits or locks.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from .stored import body_name

if TYPE_CHECKING:
    from collections.abc import Callable

    from observability.access import Note

    from .found import Found
    from .stored import Ready, Stored

_OVERHEAD_BYTES = 2048
"""What a page costs beside its bodies and prepared answers: headers, dictionaries."""
_PREPARED_BYTES = 300
"""What a prepared answer costs beside its head."""
MAX_PREPARED = 32
Selecting = tuple[tuple[bytes, bytes | None], ...]
"""The request fields by which one of a target's answers is chosen: their names, and what a request says."""
Plain = tuple[bytes, Selecting]
"""All that matters of a plain request: its target, and what selects. It outlives the page."""
PATIENCE_SECONDS = 0.1


@dataclass(slots=True)
class Prepared:
    """An answer but for what changes from second to second."""

    status: int
    head: bytes
    body: bytes
    made: float
    """When its age was 0."""
    least_age: float
    """It is never younger, even when the clock was set back."""
    lifetime: float
    note: Note = field(init=False)
    """Made when it is kept."""
    second: int = -1
    rendered: bytes = b""

    @property
    def size(self) -> int:
        """In bytes, but for the body, which is that of its page; the head is there twice."""
        return _PREPARED_BYTES + 2 * len(self.head) + len(self.note.text)

    def render(self, age: int) -> bytes:
        """The head up to the value of its last field, X-Request-ID."""
        if age != self.second:
            ttl = int(self.lifetime) - age
            tail = b"Age: %d\r\nCache-Status: api-cache; hit; ttl=%d\r\nX-Request-ID: " % (age, ttl)
            self.rendered = self.head + tail
            self.second = age
        return self.rendered


Aged = tuple[Prepared, int]
"""A prepared answer, and its age in seconds."""


@dataclass(slots=True)
class Page:
    """All that is stored of one target, with those bodies that were asked for."""

    target: str
    _stored: tuple[Stored, ...] | None
    """None: those in `found`."""
    bodies: dict[str, bytes] = field(default_factory=dict)
    """By body id and content coding; beside those in `found`."""
    found: Found | None = None
    """The target's index in Redis, if this is what it was read from."""
    prepared: dict[Selecting, Prepared] = field(default_factory=dict)
    """Ready answers to plain requests (hits.py)."""
    selecting: tuple[bytes, ...] = ()
    """The names of the request fields that select one of them."""
    prepared_bytes: int = 0
    size: int = _OVERHEAD_BYTES
    """All in all."""
    is_used: bool = False
    """Since it last was the newest one."""

    @property
    def stored(self) -> tuple[Stored, ...]:
        if self._stored is not None or self.found is None:
            return self._stored or ()
        return self.found.stored

    @property
    def ready(self) -> Ready | None:
        """The only entry, as it was found, for those who ask plainly."""
        return self.found.ready if self.found is not None and self._stored is None else None

    def with_stored(self, stored: tuple[Stored, ...]) -> Page:
        """With other entries, which may have the same bodies."""
        return Page(self.target, stored, self.bodies, self.found)

    def body(self, stored: Stored | Ready, coding: str) -> bytes | None:
        """An entry's body in this coding, if it is at hand."""
        data = self.bodies.get(body_name(stored.body_id, coding)) if self.bodies else None
        if data is None and self.found is not None and coding in stored.bodies:
            return self.found.small_body(stored.body_id, coding, stored.bodies[coding])
        return data


@dataclass(slots=True)
class Memory:
    """Pages by target hash. When they are too many, the oldest goes that was not used since it came."""

    max_bytes: int
    _pages: OrderedDict[str, Page] = field(default_factory=OrderedDict)
    _targets: dict[bytes, Page] = field(default_factory=dict)
    page_at: Callable[[bytes], Page | None] = field(init=False)
    """By target, for the shortest path: the caller checks `usable_until`."""
    _changed_at: dict[str, int] = field(default_factory=dict)
    """The number of the last change of each key; what is not in it changed at `_floor` or before."""
    _floor: int = 0
    _changes: int = 0
    usable_until: float = 0.0
    """The monotonic time to which the watch vouches that nothing here has changed in Redis."""
    followed: bool = False
    """Whether the watch is there at all; when it is only late, it is worth waiting for."""
    _vouched: asyncio.Event = field(default_factory=asyncio.Event)
    size: int = 0
    max_body_bytes: int = field(init=False)
    """Larger bodies are not held: one must not push out all others."""

    def __post_init__(self) -> None:
        self.page_at = self._targets.get
        self.max_body_bytes = self.max_bytes // 4

    def __len__(self) -> int:
        return len(self._pages)

    def vouch(self, until: float) -> None:
        """What the watch says: it is there, and vouches up to this time; -inf when it is gone."""
        self.followed = until > -math.inf
        self.usable_until = until
        self._vouched.set()

    async def is_usable(self) -> bool:
        """Whether pages may be used. When a busy process hears late from the watch, wait for it shortly."""
        if time.monotonic() >= self.usable_until and self.followed:
            self._vouched.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(PATIENCE_SECONDS):
                    await self._vouched.wait()
        return time.monotonic() < self.usable_until

    def get(self, key: str) -> Page | None:
        page = self._pages.get(key)
        if page is not None:
            page.is_used = True
        return page

    def bodies(self, key: str, found: Found) -> dict[str, bytes]:
        """The bodies held of what Redis says it has; a body never changes, so these need no watch."""
        page = self._pages.get(key)
        if page is None:
            return {}
        current = {each.body_id for each in found.stored}
        return {name: data for name, data in page.bodies.items() if name.partition(":")[0] in current}

    def begin(self) -> int:
        """To be called before reading a target from Redis; `put` then knows whether it has changed since."""
        return self._changes

    def put(self, key: str, page: Page, begun: int) -> None:
        """Keep what was read since `begin`, unless a change was told meanwhile."""
        if self._changed_at.get(key, self._floor) > begun or not self.max_bytes:
            return
        self.drop(key)
        found = page.found.size if page.found is not None else 0
        page.size = _OVERHEAD_BYTES + sum(map(len, page.bodies.values())) + found
        self._pages[key] = page
        self._targets[page.target.encode("latin-1")] = page
        self.size += page.size
        self._shrink()

    def add_body(self, page: Page, name: str, data: bytes) -> None:
        """Keep a body with its page."""
        if name not in page.bodies and len(data) <= self.max_body_bytes:
            page.bodies[name] = data
            if self._is_in_use(page):
                self._grow(page, len(data))

    def prepare(self, page: Page, selecting: Selecting, answer: Prepared) -> None:
        """Keep an answer with its page, if the page is still the one in use."""
        if not self._is_in_use(page):
            return
        if selecting in page.prepared:
            page.prepared[selecting] = answer  # of the same size
            return
        if len(page.prepared) >= MAX_PREPARED:
            page.prepared.clear()
            self._grow(page, -page.prepared_bytes)
            page.prepared_bytes = 0
        page.prepared[selecting] = answer
        size = answer.size + sum(len(value) for _, value in selecting if value is not None)
        page.prepared_bytes += size
        self._grow(page, size)

    def _is_in_use(self, page: Page) -> bool:
        return self._targets.get(page.target.encode("latin-1")) is page

    def _grow(self, page: Page, size: int) -> None:
        page.size += size
        self.size += size
        self._shrink()

    def drop(self, key: str) -> None:
        page = self._pages.pop(key, None)
        if page is not None:
            self._targets.pop(page.target.encode("latin-1"), None)
            self.size -= page.size

    def changed(self, key: str) -> None:
        """The target was changed in Redis, by whomever."""
        self._changes += 1
        self._changed_at[key] = self._changes
        if len(self._changed_at) > 100_000:
            self._changed_at.clear()
            self._floor = self._changes
        self.drop(key)

    def clear(self) -> None:
        """All may have changed."""
        self._changes += 1
        self._changed_at.clear()
        self._floor = self._changes
        self._pages.clear()
        self._targets.clear()
        self.size = 0

    def _shrink(self) -> None:
        while self.size > self.max_bytes and self._pages:
            key, page = next(iter(self._pages.items()))
            if page.is_used:  # a second chance: on the shortest path, noting the order would be too dear
                page.is_used = False
                self._pages.move_to_end(key)
            else:
                self.drop(key)
