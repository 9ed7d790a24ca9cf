"""What the server serves."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

    from httpcache.messages import Request
    from observability.access import Note
    from origin.client import Content
    from replies import Reply
    from store.levels import View
    from store.memory import Aged, Plain

Fields = dict[bytes, bytes]
"""The fields of a request in which no name is repeated, by lower-case name."""


@dataclass(frozen=True, slots=True)
class Patience:
    """How many seconds a client may take."""

    head: float
    """For a request's head, from its first byte."""
    idle: float
    """Between two requests."""
    stall: float
    """Until the next part of its content comes, or until it takes the next part of its answer."""


class Application(Protocol):
    """The cache, as the server sees it."""

    max_request_bytes: int
    patience: Patience

    def plain(self, target: bytes, fields: Fields) -> Plain | None:
        """What a GET comes down to that a ready answer may serve."""

    def hit(self, plain: Plain, now: float) -> Aged | None:
        """That answer, and its age; `now` is in monotonic seconds."""

    async def look(self, target: bytes, fields: Fields) -> tuple[Aged | None, View | None]:
        """A ready answer to a GET that `hit` did not know; and what was seen of the target."""

    def begin_look(
        self, target: bytes, fields: Fields, seen: Callable[[Aged | None, View | None], None]
    ) -> bool:
        """The same for who has no task, and is called back; without a view where more is to be done.

        False, and nothing happens, where that is known before; it is for all that is no plain request.
        """

    async def respond(
        self, request: Request, fields: Fields | None, content: Content | None, view: View | None
    ) -> Reply:
        """Any answer. `fields` are those that `hit` would see, None where it would not be asked.

        `view` is what `look` saw.
        """

    def refuse(self, status: int, detail: str) -> Reply:
        """The answer to what is no valid request."""

    def request_id(self) -> str:
        """A new request's identifier."""

    def note(self, method: str, path: str, status: int, cache: str) -> Note:
        """What is alike in what is noted of many requests."""

    def record(
        self, note: Note, size: int, seconds: float, request_id: str, traceparent: str | None = None
    ) -> None:
        """Log and count a finished request."""

    def connections(self, number: int) -> None:
        """The number of open connections."""
