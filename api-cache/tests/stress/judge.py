"""What clients tell is checked here, remembered, and put down in words where it is wrong."""

import threading
import time
from collections import Counter

from tests.stress.checks import broken
from tests.stress.exchanges import Exchange
from tests.stress.records import Records
from tests.stress.report import Report
from tests.stress.requests import Request
from tests.stress.targets import Target, variant
from tests.support import Answer

ENOUGH = 5
"""Violations that end a run."""


class Judge:
    def __init__(self, records: Records) -> None:
        self.records = records
        self._report = Report(records)
        self.violations: list[str] = []
        self.outcomes: Counter[str] = Counter()
        self.over = threading.Event()
        """No more is to be asked."""

    def answered(self, request: Request, answer: Answer, begun: float, port: int) -> None:
        ended = time.monotonic()
        sent = self.records.sent.get(answer["X-Serial"] or "")
        is_asked = any(begun <= each <= ended for each in self.records.asked.get(request.number, ()))
        exchange = Exchange(request, answer, begun, ended, port, sent, is_asked)
        self.outcomes[answer.cache] += 1
        for check, wrong in broken(exchange, self.records):
            rule = " ".join((check.__doc__ or "").split())
            self._violated(self._report.of_answer(rule, wrong, exchange))
        self._learn(exchange)

    def unanswered(self, requests: list[Request], error: Exception, begun: float, port: int) -> None:
        """A connection ended, or hangs, before the last answer had come."""
        self.outcomes[f"broken off: {error}"] += 1
        if isinstance(error, TimeoutError) or not self._may_break(requests, begun):
            for request in requests:
                self._violated(self._report.of_silence(error, request, begun, port))

    def _may_break(self, requests: list[Request], begun: float) -> bool:
        records, now = self.records, time.monotonic()
        targets = [request.target for request in requests]
        if records.troubled({"worker", "origin"}, begun - 0.5, now, after=1):
            return True
        if any(each.breaking and records.failed_lately(each, 10) for each in targets):
            return True
        return records.troubled({"redis"}, begun, now, after=1) and any(map(_may_be_lost, targets))

    def _learn(self, exchange: Exchange) -> None:
        request, answer, records = exchange.request, exchange.answer, self.records
        target = request.target
        if request.is_unsafe:
            changed = [target, *filter(None, [records.targets.get(request.fields.get("x-also", ""))])]
            for each, version in zip(changed, (answer["X-Versions"] or "").split(), strict=False):
                each.history.acknowledge(int(version))
            return
        if answer.status in (200, 206) and (tag := answer["ETag"]):
            records.tags[target.path].append(tag)
        is_stored = bool({"hit", "stored"} & exchange.outcome.keys()) and request.method == "GET"
        if exchange.sent and is_stored and answer.status == target.status:
            key = (target.path, variant(exchange.sent.vary, request.fields))
            records.stored[key] = exchange.ended

    def _violated(self, text: str) -> None:
        self.violations.append(text)
        if len(self.violations) >= ENOUGH:
            self.over.set()


def _may_be_lost(target: Target) -> bool:
    """Whether the origin cannot give the rest of what Redis loses, as no tag tells that it has the same."""
    changed = target.history.begun[-1][0]
    return target.size > 100_000 and (target.tags != "strong" or time.monotonic() - changed < 5)
