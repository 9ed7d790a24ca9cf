"""What may become of a request to the origin, other than an answer."""

from typing import ClassVar


class OriginError(Exception):
    """The origin gave no complete answer. The message is safe to show."""

    kind: ClassVar[str] = "unreachable"
    """What metrics and Cache-Status call it."""


class OriginUnreachable(OriginError):
    """No connection, or one that broke before the answer."""


class OriginAway(OriginUnreachable):
    """No connection at all."""


class OriginTimeout(OriginError):
    """The origin was silent for too long."""

    kind = "timeout"


class OriginBroken(OriginError):
    """The answer is no valid HTTP, or ended before its end."""

    kind = "broken"


class RestLost(OriginError):
    """The rest of some content cannot be had any more from where its beginning came."""


class ContentLost(OriginError):
    """The request's own content did not come to its end, which is no fault of the origin's."""
