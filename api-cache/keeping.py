"""What becomes of the store by an exchange with the origin: a new entry, or one that is as good as new."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import coding
from httpcache import fields, storing, validation, variants
from httpcache.storing import Refusal
from sharing.fetch import Storing, Unstored
from sharing.flights import Validated
from store.stored import select

if TYPE_CHECKING:
    from httpcache.messages import Entry, Exchange, Policy, Request
    from observability.counters import Counters
    from store.levels import Levels, View
    from store.stored import Stored


TOO_LARGE = "too-large"
"""A reason beside httpcache's refusals, named as they are."""


@dataclass(frozen=True, slots=True)
class Keeper:
    """Keeps what the policy allows, and at most `max_object_bytes` of it for each answer."""

    levels: Levels
    policy: Policy
    counters: Counters
    max_object_bytes: int

    def storing(self, view: View, exchange: Exchange) -> Storing | str:
        """How the answer is stored, or why not. Without Redis it is as good as stored while it passes."""
        refusal = self._refusal(exchange) or self._excess(exchange)
        if refusal is not None:
            self.counters.add(f"not_stored {refusal}")
            return refusal
        entry = storing.entry(exchange, self.policy)
        is_coded = view.storable and coding.compressible(exchange.response)
        return Storing(
            writer=self.levels.writer(view) if view.storable else Unstored(),
            entry=entry,
            ttl=storing.retention(entry, self.policy),
            codec=coding.Compressor() if is_coded else coding.Plain(),
            max_bytes=self.max_object_bytes,
            too_large=lambda: self._too_large(view, exchange.request),
        )

    def _excess(self, exchange: Exchange) -> str | None:
        """TOO_LARGE, where the answer's length says so at once."""
        response = exchange.response
        length = fields.whole_number(response.headers.get("content-length")) or 0
        is_too_large = length > self.max_object_bytes and not coding.compressible(response)
        return TOO_LARGE if is_too_large else None

    async def _too_large(self, view: View, request: Request) -> None:
        self.counters.add(f"not_stored {TOO_LARGE}")
        await self.levels.mark_uncacheable(view, request)

    async def supersede(self, view: View, exchange: Exchange) -> None:
        """What an answer that is not stored makes of what is stored in its place."""
        entry = variants.select(view.entries, exchange.request.headers)
        if entry is not None and validation.supersedes(exchange):
            await self.levels.without(view, select(view.page.stored, entry))

    async def freshen(self, view: View, entry: Entry, exchange: Exchange) -> Validated:
        """A 304 updates all that it is about; other processes see it as soon as Redis does."""
        pairs = [(each, self._freshened(each, entry, exchange)) for each in view.page.stored]
        page = view.page.with_stored(tuple(after for _, after in pairs))
        self.levels.changed(view)
        refusals = [
            await self._put_back(view, after, exchange) if after is not before else None
            for before, after in pairs
        ]
        number = next(number for number, (before, _) in enumerate(pairs) if before.entry is entry)
        return Validated(view._replace(page=page), page.stored[number], refusals[number])

    def _freshened(self, stored: Stored, confirmed: Entry, exchange: Exchange) -> Stored:
        if stored.entry is not confirmed and not _has_same_tag(stored.entry, confirmed):
            return stored
        return stored._replace(entry=validation.freshen(stored.entry, exchange, self.policy))

    async def freshen_by_head(self, view: View, exchange: Exchange) -> bool:
        """Freshen what is stored by an answer to HEAD; False when that shows it to be outdated (§4.3.5)."""
        entry = variants.select(view.entries, exchange.request.headers)
        if entry is None:
            return True
        stored = select(view.page.stored, entry)
        fresh = validation.freshen_by_head(entry, exchange, self.policy, stored.length)
        if fresh is not None and fresh is not entry:
            self.levels.changed(view)
            await self._put_back(view, stored._replace(entry=fresh), exchange)
        return fresh is not None

    async def _put_back(self, view: View, stored: Stored, exchange: Exchange) -> Refusal | None:
        """Its new fields may forbid to keep it: then that is why."""
        request = exchange.request._replace(method="GET")
        refusal = self._refusal(replace(exchange, request=request, response=stored.entry.response))
        if refusal is None:
            await self.levels.replace(view, stored, storing.retention(stored.entry, self.policy))
        elif refusal is not Refusal.AUTHORIZATION:  # what it says to one user says nothing of the entry
            await self.levels.drop([view.key])
        return refusal

    def may_store(self, exchange: Exchange) -> bool:
        return self._refusal(exchange) is None

    def _refusal(self, exchange: Exchange) -> Refusal | None:
        return storing.refusal(exchange.request, exchange.response, self.policy, exchange.response_time)


def _has_same_tag(one: Entry, other: Entry) -> bool:
    return fields.strong_match(one.etag, other.etag)
