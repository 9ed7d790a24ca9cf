"""One request and its answer."""

from dataclasses import dataclass
from functools import cached_property

from tests.stress.records import Sent
from tests.stress.requests import Request
from tests.support import Answer


@dataclass(frozen=True)
class Exchange:
    """What a client asked and got. `begun` and `ended` are moments of time.monotonic()."""

    request: Request
    answer: Answer
    begun: float
    ended: float
    port: int
    sent: Sent | None
    """The answer of the origin that it was made of; None where api-cache answered by itself."""
    is_asked: bool
    """Whether this request reached the origin before it was answered."""

    @cached_property
    def outcome(self) -> dict[str, str]:
        """The parameters of api-cache's member of Cache-Status (RFC 9211), which is the last."""
        member = (self.answer["Cache-Status"] or "").rpartition(", ")[2]
        return dict(each.partition("=")[::2] for each in member.split("; ")[1:])

    @property
    def is_hit(self) -> bool:
        return "hit" in self.outcome

    @property
    def is_for_error(self) -> bool:
        """Whether it is stored, and serves since the origin failed (RFC 5861 §4)."""
        return self.outcome.get("detail") == "stale-if-error"

    @property
    def is_own_fetch(self) -> bool:
        """Whether the origin was asked for this client, as Cache-Status has it."""
        has_asked = "fwd" in self.outcome and "collapsed" not in self.outcome
        return has_asked and not self.is_hit and not self.is_for_error

    @property
    def least_age(self) -> float:
        """Seconds (RFC 9111 §4.2.3) that the answer had at the least when it was asked for."""
        if self.sent is None:
            return 0
        return max(0.0, self.begun - self.sent.at) + self.sent.policy.age
