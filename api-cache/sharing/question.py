"""A request that what is stored does not answer, on its way to the origin."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from httpcache import reuse
from httpcache.reuse import Fwd
from store.stored import key_of_request

if TYPE_CHECKING:
    from httpcache.messages import Entry, Request
    from store.levels import View


MAX_LOOKS = 4


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked, and what was seen of the store before."""

    request: Request
    view: View
    fwd: Fwd
    entry: Entry | None = None
    """What may serve, once it is validated or should the origin fail."""
    looks: int = MAX_LOOKS
    """How often the store may have been asked in all, should others have answered meanwhile."""
    selecting: tuple[str, ...] = ()
    """The request fields that select among variants of which none is stored yet, by what one was like."""

    @property
    def name(self) -> str:
        """What is the same for all whom one answer may serve."""
        return key_of_request(self.request, self.view.page.stored, self.selecting)

    @property
    def is_shared(self) -> bool:
        """Whether one answer may serve all who ask now: not those who want it newly made, or a part of it.

        Nor those whose condition is for the origin to evaluate: what is shared is asked for without any.
        """
        request = self.request
        is_for_all = self.fwd in (Fwd.MISS, Fwd.VARY_MISS, Fwd.STALE)
        if request.method != "GET" or self.view.is_uncacheable(request) or not is_for_all:
            return False
        if reuse.has_origin_condition(request):
            return False
        if "range" in request.headers and not (self.entry is not None and self.entry.has_validator):
            return False
        return "no-store" not in reuse.request_directives(request)
