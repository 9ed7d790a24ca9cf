"""What clients ask for: random requests, of all that a cache has to tell apart."""

import itertools
import time
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import formatdate
from functools import cached_property
from random import Random

from tests.stress.history import EVERYBODY, Form
from tests.stress.records import Records
from tests.stress.targets import Target

METHODS = ("POST", "POST", "PUT", "DELETE", "PATCH", "M-SEARCH", "BREW")
CODINGS = (
    *("gzip", "zstd", "gzip, deflate, br, zstd", "gzip;q=0.5, zstd", "gzip;q=0, zstd"),
    *("identity", "gzip;q=0", "br"),
)
DIRECTIVES = (
    *("no-cache", "no-store", "no-transform", "only-if-cached", "only-if-cached, max-stale"),
    *("max-age=0", "max-age=1", "max-age=5", "max-age=1, max-stale=5", "min-fresh=1"),
    *("max-stale", "max-stale=2", "stale-if-error=0"),
)
RANGES = (
    *("bytes=0-9", "bytes=5-", "bytes=-7", "bytes=100-2000", "bytes=50-70"),
    *("bytes=0-0,2-3", "bytes=999999999-"),
)
_numbers = itertools.count(1)


@dataclass(frozen=True)
class Request:
    method: str
    target: Target
    fields: Mapping[str, str]
    content: bytes = b""

    @property
    def number(self) -> str:
        return self.fields["x-request"]

    @property
    def client(self) -> str:
        return self.fields["x-client"]

    @property
    def is_unsafe(self) -> bool:
        return self.method not in ("GET", "HEAD")

    @cached_property
    def directives(self) -> dict[str, str]:
        """Those of Cache-Control, or of Pragma where there is none (RFC 9111 §5.4)."""
        value = self.fields.get("cache-control", self.fields.get("pragma", ""))
        return dict(each.strip().partition("=")[::2] for each in value.split(",") if each)

    def __bytes__(self) -> bytes:
        lines = [f"{self.method} {self.target.path} HTTP/1.1"]
        lines += [f"{name.title()}: {value}" for name, value in self.fields.items()]
        head = "\r\n".join([*lines, "", ""]).encode()
        if "transfer-encoding" in self.fields:
            return head + b"%x\r\n%b\r\n0\r\n\r\n" % (len(self.content), self.content)
        return head + self.content


class Asker:
    """One client's wishes."""

    def __init__(self, name: str, records: Records, rng: Random) -> None:
        self._name = name
        self._records = records
        self._rng = rng
        self._targets = list(records.targets.values())

    def requests(self) -> list[Request]:
        """What is asked in one piece: one request, or several of which few or all are unsafe."""
        is_burst = self._rng.random() < 0.05
        number = self._rng.choice((2, 3, 4) if is_burst else (1,) * 8 + (2, 3, 4))
        return [self._request(1 if is_burst else 0.06) for _ in range(number)]

    def _request(self, unsafe: float) -> Request:
        """Unsafe by this probability."""
        rng = self._rng
        target = self._targets[self._popular() if rng.random() < 0.6 else rng.randrange(len(self._targets))]
        fields = {"host": rng.choice(("cache.test", "other.test:80"))}
        fields |= {"x-request": f"{next(_numbers)}", "x-client": self._name}
        if rng.random() < unsafe:
            return self._unsafe(target, fields)
        method = "HEAD" if rng.random() < 0.1 else "GET"
        wishes = (self._variant(), self._directives(), self._condition(target), self._range(target))
        for each in wishes:
            fields |= each
        return Request(method, target, fields)

    def _popular(self) -> int:
        """The place of a target of which the first ones are asked for most."""
        return min(int(self._rng.paretovariate(0.6)), len(self._targets)) - 1

    def _unsafe(self, target: Target, fields: dict[str, str]) -> Request:
        rng = self._rng
        method = rng.choice(METHODS)
        content = b"x" * rng.choice((0, 10, 5_000, 100_000))
        fields["x-want"] = rng.choice(("200", "201", "204", "303", "404", "500"))
        if method == "POST" and target.status == 200 and target.is_shared and len(target.varies) == 1:
            fields |= {"x-store": "yes", "x-want": "200"} if rng.random() < 0.6 else {}
        elif rng.random() < 0.2:
            fields["x-also"] = rng.choice(self._targets).path
        is_chunked = content and rng.random() < 0.3
        fields |= {"transfer-encoding": "chunked"} if is_chunked else {"content-length": f"{len(content)}"}
        return Request(method, target, fields, content)

    def _variant(self) -> dict[str, str]:
        """What an answer may vary by."""
        offers = (
            ("accept-encoding", 0.6, CODINGS),
            ("x-var", 0.3, ("a", "b", "a, b", "a ,b", "A")),
            ("accept-language", 0.3, ("de", "DE", "de, en;q=0.5", "en;q=0.50,de", "en")),
            ("authorization", 0.15, (f"Basic {self._name}",)),
            ("cookie", 0.15, ("c=1", "c=2")),
        )
        return {
            name: self._rng.choice(values) for name, often, values in offers if self._rng.random() < often
        }

    def _directives(self) -> dict[str, str]:
        if self._rng.random() < 0.15:
            return {"cache-control": self._rng.choice(DIRECTIVES)}
        return {"pragma": "no-cache"} if self._rng.random() < 0.03 else {}

    def _condition(self, target: Target) -> dict[str, str]:
        rng, tags = self._rng, list(self._records.tags[target.path])
        if rng.random() > 0.2:
            return {}
        if not tags or rng.random() < 0.3:
            return {"if-modified-since": formatdate(rng.choice(self._moments(target)), usegmt=True)}
        if rng.random() < 0.2:
            return {"if-match": rng.choice(tags)}
        tag = rng.choice(tags)
        weak = "W/" + tag.removeprefix("W/")
        return {"if-none-match": rng.choice((tag, tag, weak, ", ".join(tags[:2]), "*"))}

    def _moments(self, target: Target) -> tuple[float, ...]:
        """When one version was modified, when the one before, and when a clock is a minute ahead."""
        version = target.history.version
        dates = (target.modified(Form("", each, EVERYBODY)) for each in (version, version - 1))
        return (*(each for each in dates if each is not None), time.time() + 60)

    def _range(self, target: Target) -> dict[str, str]:
        rng, tags = self._rng, list(self._records.tags[target.path])
        if rng.random() > 0.12:
            return {}
        wish = {"range": rng.choice(RANGES)}
        return wish | {"if-range": rng.choice(tags)} if tags and rng.random() < 0.4 else wish
