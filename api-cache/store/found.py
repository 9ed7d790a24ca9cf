"""What Redis has of one target, understood only as far as somebody asks: a plain hit needs little of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from . import layout
from .stored import Body, checksum, opened, ready_of, stored_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from .stored import Ready, Stored


_TIMES = 3
"""How large an entry is, at most, by all that is made of it."""


@dataclass(slots=True)
class Found:
    """A target's index, and what is noted beside it. `damaged` is called for what of it cannot be read."""

    fields: Mapping[bytes, bytes]
    generation: bytes
    """That of its last invalidation; else the era."""
    uncacheable: tuple[bool, bool]
    """See View."""
    damaged: Callable[[], None]
    _ready: Ready | None = None
    _stored: tuple[Stored, ...] | None = None
    _are_whole: dict[tuple[str, str], bool] = field(default_factory=dict)
    """Of the small bodies that were looked at."""

    @property
    def size(self) -> int:
        """In bytes, with what is made of it."""
        more = (_TIMES - 1) * sum(map(len, layout.entries(self.fields)))
        return sum(map(len, self.fields.values())) + more

    @property
    def stored(self) -> tuple[Stored, ...]:
        """All variants."""
        if self._stored is None:
            documents = map(opened, layout.entries(self.fields))
            stored = [stored_of(document) if document is not None else None for document in documents]
            self._stored = tuple(each for each in stored if each is not None)
            for _ in range(len(stored) - len(self._stored)):
                self.damaged()
        return self._stored

    @property
    def ready(self) -> Ready | None:
        """The only entry, if there is one, as it goes to all who ask plainly."""
        if self._ready is None:
            entries = layout.entries(self.fields)
            document = opened(entries[0]) if len(entries) == 1 else None
            self._ready = ready_of(document) if document is not None else None
        return self._ready

    def small_body(self, body_id: str, coding: str, known: Body) -> bytes | None:
        """A body that lies in the index, or is empty."""
        if not known.length:
            return b""
        data = layout.small_body(self.fields, body_id, coding)
        if data is None:
            return None
        is_whole = self._are_whole.get((body_id, coding))
        if is_whole is None:
            is_whole = self._are_whole[body_id, coding] = known == Body(len(data), (checksum(data),))
            if not is_whole:
                self.damaged()
        return data if is_whole else None
