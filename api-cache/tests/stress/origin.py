"""How the origin answers: each answer tells by X-Serial which it is, and is written down."""

import re
import time
import zlib
from collections.abc import Mapping
from email.utils import formatdate
from random import Random

from tests.stress.history import EVERYBODY, Form
from tests.stress.records import Records, Sent
from tests.stress.targets import FAILURE, Policy, Target, variant
from tests.support import Received, Wire

_RANGE = re.compile(r"bytes=(\d+)-(\d*)")


def joined(headers: list[tuple[str, str]]) -> dict[str, str]:
    """By lower-case names; the values of several lines are one list (RFC 9110 §5.3)."""
    fields: dict[str, str] = {}
    for name, value in headers:
        known = fields.get(name.lower())
        fields[name.lower()] = value if known is None else f"{known}, {value}"
    return fields


def echo(number: str, method: str, content: bytes) -> str:
    """What tells a client that its request arrived as it was."""
    return f"{number} {method} {zlib.crc32(content)}"


class Answers:
    """The script of all targets."""

    def __init__(self, records: Records, rng: Random) -> None:
        self._records = records
        self._rng = rng

    def __call__(self, wire: Wire, received: Received) -> bool:
        asked = time.monotonic()
        target = self._records.targets[received.target]
        fields = joined(received.headers)
        self._records.asked[fields["x-request"]].append(asked)
        if received.method not in ("GET", "HEAD"):
            return self._change(wire, received, target, fields)
        if target.has_interim:
            wire.send(b"HTTP/1.1 103 X\r\nLink: </style>\r\n\r\n")
        vary = self._rng.choice(target.varies)
        form = Form(variant(vary, fields), target.history.version, target.whom(fields))
        time.sleep(target.delay * 2 * self._rng.random())
        if self._rng.random() < 0.03:
            target.history.change()  # of itself
        if self._rng.random() < target.failing:
            return self._fail(wire, received, target, asked)
        status = _status(received.method, target, form, fields)
        sent = self._write_down(target, target.policy, form, vary, asked, status)
        if received.method == "HEAD":  # which invalidates what has another tag by now (RFC 9111 §4.3.5)
            self._records.changed[target.path] = time.monotonic() + 0.2
        return self._offer(wire, received.method, sent, fields)

    # ---- unsafe requests

    def _change(self, wire: Wire, received: Received, target: Target, fields: Mapping[str, str]) -> bool:
        """Change the target sooner or later before the answer, unless that is to be an error."""
        asked = time.monotonic()
        status = int(fields["x-want"])
        also = [self._records.targets[path] for path in (fields.get("x-also"),) if path]
        changed = [target, *also] if status < 400 else []
        for each in (target, *also):
            self._records.changed[each.path] = asked + 0.2
        pause = self._rng.choice((0, 0, 0.01, 0.1))
        before = self._rng.choice((0, pause))
        time.sleep(before)
        versions = [each.history.change() for each in changed]
        time.sleep(pause - before)
        lines = [f"X-Echo: {echo(fields['x-request'], received.method, received.body)}"]
        lines += [f"X-Versions: {' '.join(map(str, versions))}"]
        for each in also:
            name = self._rng.choice(("Location", "Content-Location"))
            lines.append(f"{name}: {self._rng.choice(('', 'http://' + fields['host']))}{each.path}")
        if "x-store" in fields:
            self._send_to_store(wire, target, versions[0], asked, fields, lines)
        else:
            wire.send(_message(status, lines, b"" if status == 204 else b"done"))
        for each, version in zip(changed, versions, strict=True):
            self._records.changed[each.path] = time.monotonic() + 0.2
            each.history.see_to_its_end(version)
        return True

    def _send_to_store(self, wire, target, version, asked, fields, lines) -> None:
        """Answer a POST by what may serve GETs from then on (RFC 9110 §9.3.3)."""
        (vary,) = target.varies
        form = Form(variant(vary, fields), version, EVERYBODY)
        sent = self._write_down(target, target.policy, form, vary, asked, 200)
        lines += [*self._head(sent, fields), f"Content-Location: {target.path}"]
        wire.send(self._framed(200, lines, sent.content, self._rng.choice(("length", "chunked"))))

    # ---- GET and HEAD

    def _fail(self, wire: Wire, received: Received, target: Target, asked: float) -> bool:
        self._records.failed[target.path] = time.monotonic()
        status = self._rng.choice((404, 500, 502, 503))
        sent = self._write_down(target, FAILURE, Form("", 0, EVERYBODY), None, asked, status)
        lines = [f"X-Serial: {sent.serial}", f"Date: {formatdate(usegmt=True)}"]
        wire.send(_message(status, lines, sent.content, received.method))
        return True

    def _offer(self, wire: Wire, method: str, sent: Sent, fields: Mapping[str, str]) -> bool:
        """False where the connection is the answer's end, or breaks off."""
        target, content, lines = sent.target, sent.content, self._head(sent, fields)
        match sent.status:
            case 304 | 412:
                wire.send(_message(sent.status, lines, b""))
                return True
            case 206:
                first, last = _range(fields, target, sent.form) or (0, 0)
                lines.append(f"Content-Range: bytes {first}-{last}/{len(content)}")
                wire.send(_message(206, lines, content[first : last + 1]))
                return True
        data = self._framed(sent.status, lines, content, target.framing, method)
        if method == "GET" and content and self._rng.random() < target.breaking:
            self._records.failed[target.path] = time.monotonic()
            wire.send(data[: -1 - len(content) // 2])
            if target.framing == "close":
                wire.reset()  # or else it would be an end in good order
            return False
        wire.send(data)
        return target.framing != "close"

    def _head(self, sent: Sent, fields: Mapping[str, str]) -> list[str]:
        target = sent.target
        lines = [f"X-Serial: {sent.serial}", f"Date: {formatdate(usegmt=True)}"]
        lines += [f"Content-Type: {target.media_type}", *target.lines(sent.form, sent.vary)]
        if target.sets_cookie:
            lines.append(f"Set-Cookie: session={sent.form.whom}")
        if target.policy.has_secret:
            lines.append(f"X-Secret: {fields['x-client']}")
        if self._rng.random() < 0.1:
            lines += ["Connection: X-Hop", "X-Hop: 1", "Keep-Alive: timeout=5"]
        return lines

    def _write_down(
        self, target: Target, policy: Policy, form: Form, vary: str | None, asked: float, status: int
    ) -> Sent:
        serial = next(self._records.serials)
        sent = Sent(serial, target, policy, form, vary, asked, time.monotonic(), status)
        self._records.sent[str(serial)] = sent
        return sent

    def _framed(
        self, status: int, lines: list[str], content: bytes, framing: str, method: str = "GET"
    ) -> bytes:
        match framing:
            case "length":
                return _message(status, lines, content, method)
            case "chunked":
                return _bytes(status, [*lines, "Transfer-Encoding: chunked"], self._chunked(content), method)
        return _bytes(status, [*lines, "Connection: close"], content, method)

    def _chunked(self, content: bytes) -> bytes:
        found, at = [], 0
        while at < len(content):
            chunk = content[at : at + self._rng.choice((1, 50, 1_000, 16_000, 100_000))]
            found.append(b"%x\r\n%b\r\n" % (len(chunk), chunk))
            at += len(chunk)
        return b"".join(found) + b"0\r\n\r\n"


def _status(method: str, target: Target, form: Form, fields: Mapping[str, str]) -> int:
    if target.status != 200:
        return target.status
    if target.heeds_conditions and (status := _condition(target, form, fields)):
        return status
    if target.heeds_ranges and method == "GET" and _range(fields, target, form):
        return 206
    return 200


def _condition(target: Target, form: Form, fields: Mapping[str, str]) -> int | None:
    """The status by the request's conditions, in the order of RFC 9110 §13.2.2."""
    tag, modified = target.tag(form), target.modified(form)
    wanted, known = fields.get("if-match"), fields.get("if-none-match")
    if wanted and tag and tag not in wanted:
        return 412
    if known is not None:
        is_known = known == "*" or (tag and tag.removeprefix("W/") in known)
        return 304 if is_known else None
    return 304 if modified and fields.get("if-modified-since") == formatdate(modified, usegmt=True) else None


def _range(fields: Mapping[str, str], target: Target, form: Form) -> tuple[int, int] | None:
    """The first and the last byte that a request wants, if it wants a part and may have it."""
    match = _RANGE.fullmatch(fields.get("range", ""))
    condition, tag = fields.get("if-range"), target.tag(form)
    if match is None or (condition is not None and (condition != tag or condition.startswith("W/"))):
        return None
    size = len(target.content(form))
    first, last = int(match[1]), min(int(match[2] or size), size - 1)
    return (first, last) if first <= last else None


def _message(status: int, lines: list[str], content: bytes, method: str = "GET") -> bytes:
    has_length = status not in (204, 304)
    return _bytes(
        status, [*lines, f"Content-Length: {len(content)}"] if has_length else lines, content, method
    )


def _bytes(status: int, lines: list[str], body: bytes, method: str) -> bytes:
    head = "\r\n".join([f"HTTP/1.1 {status} X", *lines, "", ""]).encode()
    return head if method == "HEAD" or status in (204, 304) else head + body
