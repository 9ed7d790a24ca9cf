"""What a developer needs to know of an answer that is wrong. Moments are seconds since the beginning."""

from collections.abc import Iterator

from tests.stress.exchanges import Exchange
from tests.stress.records import Records
from tests.stress.requests import Request
from tests.stress.targets import Target


class Report:
    """Tells what the records know, in lines."""

    def __init__(self, records: Records) -> None:
        self._records = records

    def of_answer(self, rule: str, wrong: str, exchange: Exchange) -> str:
        answer = self._answer(exchange)
        return self._text(rule, wrong, exchange.request, exchange.begun, exchange.port, *answer)

    def of_silence(self, error: Exception, request: Request, begun: float, port: int) -> str:
        """Of a request that has no answer, or no whole one."""
        rule = "An answer comes in time, and whole where the origin's is."
        return self._text(rule, repr(error), request, begun, port)

    def _text(self, rule: str, wrong: str, request: Request, begun: float, port: int, *answer: str) -> str:
        target = request.target
        lines = [f"{rule}\n  {'wrong':12}{wrong}", *self._request(request, begun, port), *answer]
        return "\n  ".join([*lines, *self._target(target)])

    def _request(self, request: Request, begun: float, port: int) -> Iterator[str]:
        asked = self._records.asked.get(request.number, [])
        yield f"{'request':12}{request.method} {request.target.path} {dict(request.fields)}"
        yield f"{'':12}at {self._at(begun)} to port {port}; at the origin: {self._list(map(self._at, asked))}"

    def _answer(self, exchange: Exchange) -> Iterator[str]:
        answer, sent = exchange.answer, exchange.sent
        content = f"{len(answer.body)} bytes {answer.body[:100]!r}"
        yield f"{'answer':12}{answer.status} {dict(answer.headers)}"
        yield f"{'':12}at {self._at(exchange.ended)}, {content}"
        if sent is not None:
            moments = f"asked at {self._at(sent.asked)}, answered at {self._at(sent.at)}"
            yield f"{'made of':12}{sent.status}, Vary: {sent.vary}, {sent.form}, {moments}"

    def _target(self, target: Target) -> Iterator[str]:
        history = target.history
        versions = (f"{version} since {self._at(begun)}" for begun, version in history.begun[-5:])
        floors = (f"{each.version} from {self._at(each.since)}" for each in history.known[-5:])
        troubles = (
            f"{each.kind} {self._at(each.begun)} to {self._at(each.ended)}" for each in self._records.troubles
        )
        yield f"{'target':12}{target}"
        yield f"{'versions':12}{self._list(versions)}"
        yield f"{'none older':12}{self._list(floors)}"
        yield f"{'broken':12}{self._list(list(troubles)[-3:])}"

    def _at(self, moment: float) -> str:
        return f"{max(0.0, moment - self._records.begun):.3f} s"

    @staticmethod
    def _list(lines) -> str:
        return ", ".join(lines) or "never"
