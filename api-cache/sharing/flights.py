"""One question to the origin for all who ask the same: a future within a process, a lock across them."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from httpcache import variants
from origin.errors import OriginError
from store.breaker import StoreUnavailable
from store.shared import LOCK_SECONDS, Store

from .fetch import Fetch

if TYPE_CHECKING:
    from collections.abc import Iterator

    from httpcache.messages import Request
    from httpcache.storing import Refusal
    from observability.counters import Counters
    from store.levels import View
    from store.stored import Stored


@dataclass(frozen=True, slots=True)
class Validated:
    """The origin said that a stored response is still good: here it is, freshened, and what it is part of."""

    view: View
    stored: Stored
    refusal: Refusal | None = None
    """Why what it was freshened with forbids to keep it, and so to share it."""

    def is_for(self, request: Request) -> bool:
        """Whether it may be this request's answer, though another one asked."""
        return self.refusal is None and variants.matches(self.stored.entry, request.headers)

    def is_another(self, request: Request) -> bool:
        """Whether it is stored, but as another variant than this request's."""
        return self.refusal is None and not variants.matches(self.stored.entry, request.headers)


@dataclass(frozen=True, slots=True)
class LookAgain:
    """Another process has answered meanwhile; look into the store."""


Outcome = Fetch | Validated | LookAgain


@dataclass(eq=False, slots=True)
class Flight:
    """One question under way."""

    name: str
    ready: asyncio.Future[Outcome]
    successor: int = 0
    """How often the question had been asked before, and was not answered in time."""
    token: bytes | None = None
    heartbeat: asyncio.Task[None] | None = None


Lead = Callable[[Flight], Awaitable[Outcome]]
"""Asks the question."""
MAX_SUCCESSORS = 2
"""How often a question is asked anew while its answer is awaited; then it is the origin that takes long."""


@dataclass(slots=True)
class Flights:
    """All questions of this process, by the name of what they ask for. Durations are in seconds."""

    store: Store
    counters: Counters
    patience: float
    _flights: dict[str, Flight] = field(default_factory=dict)
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)
    _waiting: int = 0

    def __contains__(self, name: str) -> bool:
        return name in self._flights

    async def join(self, name: str, lead: Lead) -> tuple[Outcome, bool]:
        """What comes of the question, and whether it was this caller's own.

        Whoever asks first has it asked, by a task that outlives them. The others wait; when their patience
        ends, it is asked anew, again once for all of them.

        Raises:
            OriginError: the origin failed, for all who waited.
        """
        flight = self._flights.get(name)
        if flight is None:
            return await asyncio.shield(self.start(name, lead).ready), True
        with self._counted():
            return await self._first_of([flight], lead), False

    async def _first_of(self, flights: list[Flight], lead: Lead) -> Outcome:
        """What comes first of these, or of the successors that they get while they take too long."""
        pending = {flight.ready for flight in flights}
        while True:
            patience = self.patience if flights[-1].successor < MAX_SUCCESSORS else None
            done, pending = await asyncio.wait(pending, timeout=patience, return_when=asyncio.FIRST_COMPLETED)
            for ready in done:
                if ready.exception() is None or not pending:
                    return ready.result()
            if not done:
                flights.append(self._successor(flights, lead))
                pending = {*pending, flights[-1].ready}

    def _successor(self, flights: list[Flight], lead: Lead) -> Flight:
        """The one that another waiter has started already, or else a new one."""
        last = flights[-1]
        current = self._flights.get(last.name)
        if current is None or current in flights:
            return self.start(last.name, lead, successor=last.successor + 1)
        return current

    async def until_stored(self, fetch: Fetch) -> LookAgain | None:
        """Wait, no longer than our patience, for the end of what came too far to be joined."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self.patience):
                await fetch.ended()
                return LookAgain()
        return None

    def start(self, name: str, lead: Lead, *, successor: int = 0) -> Flight:
        flight = self._flights[name] = Flight(name, asyncio.get_running_loop().create_future(), successor)
        self._keep(self._run(flight, lead))
        return flight

    def forget(self, key: str) -> None:
        """The target was invalidated: nobody new joins those who asked before."""
        for name in [name for name in self._flights if name.startswith(key)]:
            del self._flights[name]

    def end(self, flight: Flight) -> None:
        """Its answer is stored, or can't be shared: from now on others ask for themselves."""
        if self._flights.get(flight.name) is flight:
            del self._flights[flight.name]
        if flight.heartbeat is not None:
            flight.heartbeat.cancel()
        if flight.token is not None:
            self._keep(self._unlock(flight.name, flight.token))
            flight.token = None

    async def lock(self, flight: Flight, settled: Callable[[], Awaitable[bool | None]]) -> bool:
        """Become the one process that asks; False when `settled` says that another has answered meanwhile.

        It says None when what another has stored meanwhile has to be validated by each: then all ask at once.
        The wait for another process is bounded by our patience, and by its lock, which ends with it.
        Without Redis, or without patience left, as a successor, we ask all the same.
        """
        if flight.successor or not self.patience:
            return True
        with contextlib.suppress(StoreUnavailable, TimeoutError):
            async with asyncio.timeout(self.patience):
                pause = 0.005
                while not await self._take(flight):
                    await asyncio.sleep(pause)
                    pause = min(0.04, pause * 2)
                    is_settled = await settled()
                    if is_settled is not False:
                        return is_settled is None
        return True

    async def _take(self, flight: Flight) -> bool:
        flight.token = await self.store.lock(flight.name)
        if flight.token is not None:
            flight.heartbeat = asyncio.create_task(self._beat(flight.name, flight.token))
        return flight.token is not None

    async def _beat(self, name: str, token: bytes) -> None:
        while True:
            await asyncio.sleep(LOCK_SECONDS / 4)
            with contextlib.suppress(StoreUnavailable):
                await self.store.renew(name, token)

    async def _unlock(self, name: str, token: bytes) -> None:
        with contextlib.suppress(StoreUnavailable):
            await self.store.unlock(name, token)

    async def _run(self, flight: Flight, lead: Lead) -> None:
        outcome: Outcome | None = None
        try:
            outcome = await lead(flight)
            flight.ready.set_result(outcome)
        except OriginError as error:
            flight.ready.set_exception(error)
            flight.ready.exception()  # it may be that nobody waits any more
        finally:
            if not flight.ready.done():
                flight.ready.set_exception(OriginError("The request was not finished."))
                flight.ready.exception()
            if not (isinstance(outcome, Fetch) and outcome.is_shareable):
                self.end(flight)

    def _keep(self, work: Awaitable[None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    @contextlib.contextmanager
    def _counted(self) -> Iterator[None]:
        self._waiting += 1
        self.counters.set("waiters", self._waiting)
        try:
            yield
        finally:
            self._waiting -= 1
            self.counters.set("waiters", self._waiting)
