"""The shortest paths: a plain GET of what is fresh, answered from bytes that are ready to send.

They never decide anything of their own. What the full path (proxy.py) sent is remembered here for requests
that differ in nothing that its rules look at, and only until the entry's lifetime ends or memory drops it.
What it would send of a target's only entry to all who ask plainly is stored with that, for the first of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import coding
from observability.access import HIT
from server.sending import BODILESS, status_line
from store.memory import Aged, Memory, Page, Plain, Prepared, Selecting
from store.stored import body_name, names_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from httpcache.messages import Entry, Headers
    from observability.access import Note
    from replies import Reply
    from store.stored import Ready

DECIDING = frozenset(
    (
        b"cache-control", b"pragma", b"range", b"if-match", b"if-none-match", b"if-modified-since",
        b"if-unmodified-since", b"if-range", b"expect", b"upgrade", b"content-length", b"transfer-encoding",
    )
)  # fmt: skip
"""Request fields that httpcache's rules look at, beside those that Vary names; and those by which more than a
head may come, which the short path could not answer."""
_PERSISTENCE = frozenset((b"close", b"keep-alive", b"Keep-Alive"))
"""Values of Connection that nominate no field."""


@dataclass(slots=True)
class Hits:
    """Looks up and remembers. `clock` is in seconds since the epoch; `note` is that of Access."""

    memory: Memory
    clock: Callable[[], float]
    note: Callable[[str, str, int, str], Note]

    def plain(self, target: bytes, fields: dict[bytes, bytes]) -> Plain | None:
        """What a GET with these fields (lower-case names, no repeated ones) comes down to, if it is plain."""
        page = self.memory.page_at(target)
        return (target, _selecting(page, fields)) if page is not None and is_plain(fields) else None

    def find(self, plain: Plain, now: float) -> Aged | None:
        """The answer to a plain request, and its age; `now` is in monotonic seconds."""
        target, selecting = plain
        page = self.memory.page_at(target)
        if page is None or self.memory.usable_until <= now:
            return None
        found = page.prepared.get(selecting)
        if found is None:
            return None
        age = self.clock() - found.made
        if not found.least_age <= age < found.lifetime:
            return None
        page.is_used = True
        return found, int(age)

    def first(self, page: Page, fields: dict[bytes, bytes]) -> Aged | None:
        """The answer to a plain GET with these fields out of what was only just read, and its age."""
        ready = page.ready if is_plain(fields) else None
        if ready is None or not ready.lines or ready.status in BODILESS:
            return None
        age = self.clock() - ready.response_time + ready.initial_age
        if not ready.initial_age <= age < ready.lifetime:
            return None
        accept = fields.get(b"accept-encoding")
        chosen = coding.negotiate(None if accept is None else accept.decode("latin-1"), ready.lines)
        body = self._body(page, ready, chosen)
        if body is None:
            return None
        page.selecting = () if "identity" in ready.bodies else (b"accept-encoding",)
        return _prepared(ready.status, ready.lines[chosen], body, ready), int(age)

    def _body(self, page: Page, ready: Ready, chosen: str) -> bytes | None:
        """The content, if it is at hand; what takes longer is left to the full path."""
        body = page.body(ready, chosen)
        is_made = body is None and chosen not in ready.bodies  # else it is stored, but damaged
        source = page.body(ready, coding.CODINGS[0]) if is_made else None
        if source is None or ready.length > min(coding.IN_THREAD_BYTES, self.memory.max_body_bytes):
            return body
        body = coding.decompress_at_once(source, ready.length)
        if body is not None:
            self.memory.add_body(page, body_name(ready.body_id, chosen), body)
        return body

    def remember(self, fields: dict[bytes, bytes], reply: Reply) -> None:
        """Keep a plain hit of the full path for the requests to come."""
        page, stored = reply.page, reply.stored
        if page is None or stored is None or reply.status in BODILESS or not is_plain(fields):
            return
        if not isinstance(reply.content, bytes):
            return
        page.selecting = page.selecting or _names_selecting(page)
        answer = _prepared(reply.status, _lines(reply.headers), reply.content, stored.entry)
        self.keep(page, fields, answer)

    def keep(self, page: Page, fields: dict[bytes, bytes], answer: Prepared) -> None:
        """Keep an answer for the requests to come that are like this one."""
        answer.note = self.note("GET", page.target, answer.status, HIT)
        self.memory.prepare(page, _selecting(page, fields), answer)


def _lines(headers: Headers) -> str:
    *lines, age, ours = headers
    assert (age[0], ours[0]) == ("Age", "Cache-Status")  # noqa: S101  # httpcache.status adds them last
    return "".join(map("%s: %s\r\n".__mod__, lines))


def _prepared(status: int, lines: str, body: bytes, entry: Entry | Ready) -> Prepared:
    return Prepared(
        status=status,
        head=b"%b%bContent-Length: %d\r\n" % (status_line(status), lines.encode("latin-1"), len(body)),
        body=body,
        made=entry.response_time - entry.initial_age,
        least_age=entry.initial_age,
        lifetime=entry.lifetime,
    )


def _names_selecting(page: Page) -> tuple[bytes, ...]:
    """The request fields by which one of the page's entries, and its coding, is chosen."""
    coded = ("accept-encoding",) if any(each.is_coded for each in page.stored) else ()
    return tuple(sorted(name.encode("latin-1") for name in names_of(page.stored).union(coded)))


def _selecting(page: Page, fields: dict[bytes, bytes]) -> Selecting:
    return tuple((name, fields.get(name)) for name in page.selecting)


def is_plain(fields: dict[bytes, bytes]) -> bool:
    """Whether no field of a GET matters but those that select; then it has no content either."""
    return DECIDING.isdisjoint(fields) and fields.get(b"connection", b"close") in _PERSISTENCE
