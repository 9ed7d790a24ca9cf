"""What the origin offers, and what that means to a shared cache: the tests' own reading of the RFCs."""

import gzip
import hashlib
import itertools
import re
import time
from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass, field
from email.utils import formatdate
from random import Random

from tests.faults import bodies
from tests.stress.history import EVERYBODY, Form, History

DAY = 86_400.0
STARTED = int(time.time())


@dataclass(frozen=True)
class Policy:
    """Fields of an answer, and what they mean to a shared cache. All times are in seconds."""

    lines: tuple[str, ...]
    lifetime: float | None
    """None where the fields state none."""
    _: KW_ONLY
    while_revalidate: float = 0
    if_error: float = DAY
    """The default of CACHE_STALE_IF_ERROR, where the fields say nothing."""
    is_strict: bool = False
    """Never served stale (RFC 9111 §5.2.2.2, §5.2.2.8, §5.2.2.10)."""
    is_validated: bool = False
    """Never served without asking the origin (§5.2.2.4)."""
    is_personal: bool = False
    """Not stored by a shared cache (§5.2.2.5, §5.2.2.7)."""
    is_for_authorized: bool = False
    """Shared though the request had credentials (§3.5)."""
    is_immutable: bool = False
    has_secret: bool = False
    """X-Secret is for one client alone (§5.2.2.4, §5.2.2.7)."""
    age: int = 0


IN_3_SECONDS = "{in 3 seconds}"
POLICIES = (
    Policy(("Cache-Control: max-age=60",), 60),
    Policy(("Cache-Control: max-age=2",), 2),
    Policy(("Cache-Control: max-age=1",), 1),
    Policy(
        ("Cache-Control: public, max-age=1, stale-while-revalidate=3",),
        1,
        while_revalidate=3,
        is_for_authorized=True,
    ),
    Policy(
        ("Cache-Control: max-age=1, stale-while-revalidate=60, stale-if-error=60",),
        1,
        while_revalidate=60,
        if_error=60,
    ),
    Policy(("Cache-Control: max-age=1, must-revalidate",), 1, is_strict=True, is_for_authorized=True),
    Policy(("Cache-Control: proxy-revalidate, max-age=1",), 1, is_strict=True),
    Policy(("Cache-Control: s-maxage=2, max-age=100",), 2, is_strict=True, is_for_authorized=True),
    Policy(("Cache-Control: max-age=1, stale-if-error=0",), 1, if_error=0),
    Policy(("Cache-Control: max-age=0",), 0),
    Policy(("Cache-Control: no-cache",), None, is_validated=True),
    Policy(("Cache-Control: max-age=60, no-cache",), 60, is_validated=True),
    Policy(("Cache-Control: private, max-age=60",), 60, is_personal=True),
    Policy(("Cache-Control: no-store",), None, is_personal=True),
    Policy(("CDN-Cache-Control: max-age=3", "Cache-Control: no-store"), 3),
    Policy(("CDN-Cache-Control: no-store", "Cache-Control: max-age=60"), None, is_personal=True),
    Policy(("Cache-Control: max-age=60, immutable",), 60, is_immutable=True),
    Policy(('Cache-Control: max-age=5, private="X-Secret"',), 5, has_secret=True),
    Policy(('Cache-Control: max-age=5, no-cache="X-Secret"',), 5, has_secret=True),
    Policy((f"Expires: {IN_3_SECONDS}",), 3),
    Policy(("Expires: 0",), 0),
    Policy(("Cache-Control: public",), None, is_for_authorized=True),
    Policy(("Cache-Control: max-age=10", "Age: 8"), 10, age=8),
    Policy((), None),
    Policy((), None),
)
FAILURE = Policy((), 0, if_error=0)


@dataclass(eq=False)
class Target:
    """One URL, and how the origin answers for it."""

    path: str
    policy: Policy
    varies: tuple[str | None, ...]
    """The values of Vary; each answer has one of them."""
    tags: str | None
    """"strong" or "weak": its entity tags."""
    is_dated: bool
    """Has Last-Modified."""
    media_type: str
    size: int
    framing: str
    status: int
    delay: float
    sets_cookie: bool
    is_for_whom_asks: bool
    """Has another content for each client with credentials, except where its policy has all share one."""
    heeds_conditions: bool
    heeds_ranges: bool
    failing: float
    """How likely an answer is a failure..."""
    breaking: float
    """...or breaks off."""
    has_interim: bool
    history: History = field(default_factory=History, repr=False)

    @property
    def lifetime(self) -> float:
        """Seconds (RFC 9111 §4.2.1), heuristics (§4.2.2) and CACHE_TTL included."""
        if self.policy.lifetime is not None:
            return self.policy.lifetime
        if self.is_dated:
            return DAY
        return 30 if self.status == 200 else 0

    @property
    def is_shared(self) -> bool:
        """Whether all clients get the same, be it with credentials or without."""
        return not (
            self.policy.is_personal
            or self.policy.has_secret
            or self.sets_cookie
            or self.is_for_whom_asks
            or "*" in self.varies
        )

    def whom(self, fields: Mapping[str, str]) -> str:
        """For whom the answer to a request with these fields is."""
        is_personal = (
            self.policy.is_personal
            or "*" in self.varies
            or (self.sets_cookie and self.policy.lifetime is None)
            or (self.is_for_whom_asks and "authorization" in fields and not self.policy.is_for_authorized)
        )
        return fields["x-client"] if is_personal else EVERYBODY

    def body(self, form: Form) -> bytes:
        """The content, without any coding."""
        return bodies.make(self.path, repr(form), self.size) if self.size else b""

    def content(self, form: Form) -> bytes:
        """As the origin sends it."""
        return gzip.compress(self.body(form), mtime=0) if self.is_coded(form) else self.body(form)

    def is_coded(self, form: Form) -> bool:
        return form.variant.endswith("=gzip") and self.size > 0

    def tag(self, form: Form) -> str | None:
        if self.tags is None:
            return None
        of_form = hashlib.sha256(repr((self.path, form)).encode()).hexdigest()[:12]
        return ("W/" if self.tags == "weak" else "") + f'"v{form.version}-{of_form}"'

    def modified(self, form: Form) -> float | None:
        """The second since 1970 that its Last-Modified says."""
        return STARTED - 1_000_000 + 10 * form.version if self.is_dated and form.whom == EVERYBODY else None

    def lines(self, form: Form, vary: str | None) -> list[str]:
        """The fields that 200 and 304 have."""
        soon = formatdate(time.time() + 3, usegmt=True)
        lines = [line.replace(IN_3_SECONDS, soon) for line in self.policy.lines]
        if vary is not None:
            lines.append(f"Vary: {vary}")
        if (tag := self.tag(form)) is not None:
            lines.append(f"ETag: {tag}")
        if (modified := self.modified(form)) is not None:
            lines.append(f"Last-Modified: {formatdate(modified, usegmt=True)}")
        if self.is_coded(form):
            lines.append("Content-Encoding: gzip")
        return lines


def variant(vary: str | None, fields: Mapping[str, str]) -> str:
    """Which variant a request selects (RFC 9111 §4.1), alike values being one."""
    names = [] if vary in (None, "*") else vary.lower().split(", ")
    return ";".join(f"{name}={_normal(name, fields.get(name))}" for name in names)


def _normal(name: str, value: str | None) -> str:
    if name == "accept-encoding":
        return "gzip" if accepts(value, "gzip") else "identity"
    if value is None:
        return "absent"
    members = [member.strip() for member in value.split(",")]
    if name == "accept-language":
        return ",".join(sorted(member.lower().replace("0.50", "0.5") for member in members))
    return ",".join(members)


def accepts(accept_encoding: str | None, coding: str) -> bool:
    """RFC 9110 §12.5.3, of one that names it."""
    return re.search(rf"\b{coding}\b(?!;q=0(?:,|$))", accept_encoding or "") is not None


VARIES = (
    *((None,),) * 6,
    *(("X-Var",), ("x-var",), ("Accept-Language",), ("X-Var, Accept-Language",)),
    *(("Accept-Encoding",), ("*",), ("Cookie",)),
    (None, "X-Var", "Accept-Language", "accept-language, X-Var", "Cookie"),
)


def random_targets(rng: Random, number: int) -> dict[str, Target]:
    """By their paths."""
    return {
        target.path: target
        for target in map(_random_target, itertools.repeat(rng, number), itertools.count())
    }


def _random_target(rng: Random, number: int) -> Target:
    varies = rng.choice(VARIES)
    policy = rng.choice(POLICIES)
    return Target(
        path=f"/target-{number}" + rng.choice(("", "?q=1", "?a=%2Fb&c", "/%7Ex")),
        policy=policy,
        varies=varies,
        tags=rng.choice(("strong", "strong", "weak", None)),
        # Where Vary changes, variants of other names would have the same date.
        is_dated=len(varies) == 1 and rng.random() < 0.5,
        media_type=rng.choice(("text/plain", "application/json", "application/octet-stream")),
        size=rng.choice((0, 400, 3_000, 3_000, 3_000, 20_000, 20_000, 60_000, 60_000, 600_000)),
        framing=rng.choice(("length", "length", "chunked", "close")),
        status=rng.choice((200,) * 12 + (203, 301, 404)),
        delay=rng.choice((0, 0, 0, 0, 0.005, 0.03, 0.1)),
        sets_cookie=rng.random() < 0.12,
        is_for_whom_asks=rng.random() < 0.2,
        heeds_conditions=rng.random() < 0.8,
        heeds_ranges=rng.random() < 0.4,
        failing=rng.choice((0, 0, 0, 0.05, 0.3)),
        breaking=rng.choice((0, 0, 0, 0, 0.1)),
        has_interim=rng.random() < 0.1,
    )
