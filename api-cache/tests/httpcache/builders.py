"""Messages for the tables, written as one reads them: "Name: value"."""

from httpcache import fields, storing
from httpcache.messages import Entry, Exchange, Headers, Policy, Request, Response

NOW = 1_000_000_000.0  # Sun, 09 Sep 2001 01:46:40 GMT
RFC_ONLY = Policy(default_ttl=0)


def headers(*lines: str) -> Headers:
    return Headers(tuple(line.split(": ", 1)) for line in lines)


def date(offset: float = 0) -> str:
    return fields.format_date(NOW + offset)


def request(
    *lines: str, method: str = "GET", target: str = "/x?y", authority: str = "here.example"
) -> Request:
    return Request(method, target, headers(*lines), authority=authority)


def response(*lines: str, status: int = 200) -> Response:
    return Response(status, headers(*lines))


def exchange(*lines: str, status: int = 200, asked: Request | None = None, delay: float = 0) -> Exchange:
    """A response that arrived at NOW, `delay` seconds after the request went out."""
    return Exchange(asked or request(), response(*lines, status=status), NOW - delay, NOW)


def entry(*lines: str, status: int = 200, asked: Request | None = None, policy: Policy = RFC_ONLY) -> Entry:
    """What is stored of a response that arrived at NOW."""
    return storing.entry(exchange(*lines, status=status, asked=asked), policy)
