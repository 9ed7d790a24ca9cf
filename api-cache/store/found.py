"""What Redis has of one target, understood only as far as somebody asks: a plain hit needs little of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

from . import layout
from .stored import Body, checksum, opened, ready_of, stored_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from .stored import Document, Ready, Stored

T = TypeVar("T")


@dataclass(slots=True)
class Found:
    """A target's index, and what is noted beside it. `damaged` is called for what of it cannot be read."""

    fields: Mapping[bytes, bytes]
    generation: bytes
    """That of its last invalidation; else the era."""
    uncacheable: tuple[bool, bool]
    """See View."""
    damaged: Callable[[], None]
    _documents: tuple[Document, ...] | None = None
    _stored: tuple[Stored, ...] | None = None
    _checked: set[tuple[str, str]] = field(default_factory=set)
    """The small bodies that are whole."""

    @property
    def stored(self) -> tuple[Stored, ...]:
        """All variants."""
        if self._stored is None:
            self._stored = tuple(self._readable(map(stored_of, self._opened())))
        return self._stored

    @property
    def ready(self) -> Ready | None:
        """The only entry, if there is one, as it goes to all who ask plainly."""
        documents = self._opened()
        return ready_of(documents[0]) if len(documents) == 1 else None

    def small_body(self, body_id: str, coding: str, known: Body) -> bytes | None:
        """A body that lies in the index."""
        data = layout.small_body(self.fields, body_id, coding)
        if data is None or (body_id, coding) in self._checked:
            return data
        if known != Body(len(data), (checksum(data),)):
            self.damaged()
            return None
        self._checked.add((body_id, coding))
        return data

    def _opened(self) -> tuple[Document, ...]:
        if self._documents is None:
            self._documents = tuple(self._readable(map(opened, layout.entries(self.fields))))
        return self._documents

    def _readable(self, values: Iterable[T | None]) -> Iterator[T]:
        for value in values:
            if value is not None:
                yield value
            else:
                self.damaged()
