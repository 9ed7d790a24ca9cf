"""What may become of a request to the origin, other than an answer."""


class OriginError(Exception):
    """The origin gave no complete answer. The message is safe to show."""


class OriginUnreachable(OriginError):
    """No connection, or one that broke before the answer."""


class OriginAway(OriginUnreachable):
    """No connection at all."""


class OriginTimeout(OriginError):
    """The origin was silent for too long."""


class OriginBroken(OriginError):
    """The answer is no valid HTTP, or ended before its end."""
