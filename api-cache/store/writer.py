"""Writes a new entry into Redis as its content passes."""

from __future__ import annotations

import contextlib
import secrets
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

from . import layout
from .breaker import StoreUnavailable
from .stored import BLOCK_BYTES, SMALL_BYTES, Body, Stored, checksum

if TYPE_CHECKING:
    from collections.abc import Mapping

    from httpcache.messages import Entry

    from .shared import Store


@dataclass(slots=True)
class Writer:
    """Writes the bodies of a new entry by blocks, then the entry. After a failure it does nothing more."""

    store: Store
    key: str
    generation: bytes
    body_id: str = field(default_factory=lambda: secrets.token_hex(8))
    failed: bool = False
    is_outdated: bool = False
    """The target was invalidated since it was asked for, or Redis has lost some of what was written."""
    size: int = 0
    _buffers: dict[str, bytearray] = field(default_factory=dict)
    _bodies: dict[str, Body] = field(default_factory=dict)
    _appended: set[str] = field(default_factory=set)
    """The codings of which Redis may have something."""
    stores: ClassVar[bool] = True

    async def write(self, parts: Mapping[str, bytes]) -> None:
        """Add to the body of each coding."""
        for coding, data in parts.items():
            self.size += len(data)
            buffer = self._buffers.setdefault(coding, bytearray())
            buffer += data
            while len(buffer) >= BLOCK_BYTES:
                await self._append(coding, bytes(buffer[:BLOCK_BYTES]))
                del buffer[:BLOCK_BYTES]

    async def commit(self, entry: Entry, length: int, ttl: float) -> Stored | None:
        """Write what is left and make the entry known; None when Redis does not keep it."""
        left = {coding: bytes(buffer) for coding, buffer in self._buffers.items() if buffer}
        for coding, data in left.items():
            if self.size > SMALL_BYTES:
                await self._append(coding, data)
            else:
                self._note(coding, data)
        if self.failed:
            return None
        coming = (layout.IN_BLOCKS, {}) if self.size > SMALL_BYTES else (layout.WHOLE, left)
        stored = Stored(self.body_id, entry, length, self._bodies or {"identity": Body(0, ())})
        kept = False
        with contextlib.suppress(StoreUnavailable):
            kept = await self.store.put(self.key, stored, self.generation, ttl, *coming)
            self.is_outdated = not kept
        if not kept:
            await self.abandon()
        return stored if kept else None

    async def abandon(self) -> None:
        self.failed = True
        names = [layout.body(self.key, self.body_id, coding) for coding in self._appended]
        if names:
            with contextlib.suppress(StoreUnavailable):
                await self.store.discard(names)

    async def _append(self, coding: str, data: bytes) -> None:
        if self.failed:
            return
        self._note(coding, data)
        self._appended.add(coding)
        try:
            await self.store.append(layout.body(self.key, self.body_id, coding), data)
        except StoreUnavailable:
            await self.abandon()

    def _note(self, coding: str, data: bytes) -> None:
        """Count a block as part of a body."""
        body = self._bodies.get(coding, Body(0, ()))
        self._bodies[coding] = Body(body.length + len(data), (*body.checksums, checksum(data)))
