"""What happened: what the origin was asked and sent, what clients know of it, and what was broken."""

import itertools
import math
import time
from collections import defaultdict, deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from tests.stress.history import Form, Known
from tests.stress.targets import FAILURE, Policy, Target


@dataclass(frozen=True)
class Sent:
    """An answer of the origin, in which X-Serial tells it from all others."""

    serial: int
    target: Target
    policy: Policy
    form: Form
    vary: str | None
    asked: float
    at: float
    status: int

    @property
    def is_failure(self) -> bool:
        return self.policy is FAILURE

    @property
    def lifetime(self) -> float:
        return 0 if self.is_failure else self.target.lifetime

    @property
    def content(self) -> bytes:
        return b"failure" if self.is_failure else self.target.content(self.form)

    @property
    def tag(self) -> str | None:
        return None if self.is_failure else self.target.tag(self.form)

    @property
    def modified(self) -> float | None:
        return None if self.is_failure else self.target.modified(self.form)


@dataclass
class Trouble:
    """A time in which something was broken."""

    kind: str
    begun: float
    ended: float = math.inf


class Records:
    """All that the checks judge by. Moments are those of time.monotonic(), the clock of everyone here."""

    def __init__(self, targets: dict[str, Target]) -> None:
        self.begun = time.monotonic()
        self.targets = targets
        self.serials = itertools.count(1)
        self.sent: dict[str, Sent] = {}
        """By X-Serial."""
        self.asked: defaultdict[str, list[float]] = defaultdict(list)
        """When the origin got a request, by X-Request."""
        self.failed: dict[str, float] = {}
        """When the origin failed last, by target."""
        self.tags: defaultdict[str, deque[str]] = defaultdict(lambda: deque(maxlen=6))
        """Entity tags that clients have seen, by target."""
        self.contents: dict[tuple[str, str], bytes] = {}
        """What clients got last, by target and strong tag."""
        self.stored: dict[tuple[str, str], float] = {}
        """When a variant of a target was last seen to be stored."""
        self.changed: dict[str, float] = {}
        """When a target was last invalidated, at the latest."""
        self.troubles: list[Trouble] = []

    @contextmanager
    def trouble(self, kind: str) -> Iterator[None]:
        trouble = Trouble(kind, time.monotonic())
        self.troubles.append(trouble)
        try:
            yield
        finally:
            trouble.ended = time.monotonic()

    def troubled(self, kinds: Iterable[str], begun: float, ended: float, *, after: float = 0.0) -> bool:
        """Whether something of these kinds was broken between two moments, or `after` seconds before."""
        return any(
            each.kind in kinds and begun < each.ended + after and ended > each.begun for each in self.troubles
        )

    def has_had(self, kind: str) -> bool:
        return any(each.kind == kind for each in self.troubles)

    def failed_lately(self, target: Target, seconds: float) -> bool:
        return time.monotonic() - self.failed.get(target.path, -math.inf) < seconds

    def keep_content(self, key: tuple[str, str], content: bytes) -> bytes:
        """The first content that was seen under this tag, of the latest few hundred."""
        kept = self.contents.setdefault(key, content)
        if len(self.contents) > 300:
            self.contents.pop(next(iter(self.contents)), None)
        return kept

    def oldest_version(self, target: Target, begun: float) -> int:
        """Than which a request that began then may get no older one."""
        if self.troubled({"redis"}, begun - 2.2, begun):
            return 0
        known = (each for each in target.history.known if each.since < begun and not self._is_doubtful(each))
        return max((each.version for each in known), default=0)

    def _is_doubtful(self, known: Known) -> bool:
        """Whether Redis, or all of api-cache, may not have heard of a change for something being broken."""
        kinds = {"redis"} if known.by_client else {"redis", "worker", "origin"}
        return self.troubled(kinds, known.since - 1.5, known.since, after=1.6)
