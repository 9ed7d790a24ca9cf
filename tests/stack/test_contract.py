"""What both services promise to whoever runs them. Each has code of its own for it: duplication is allowed,
divergence fails here."""

import re
from datetime import datetime, timedelta

import pytest
from prometheus_client.parser import text_string_to_metric_families
from tests.stack.deployment import Deployment, Reply, records, until

SERVICES = ["api-rest", "api-cache"]
LOG_FIELDS = {"time", "level", "service", "method", "path", "status", "bytes", "duration", "request_id"}
PROBES = ["/healthz", "/readyz", "/metrics"]

pytestmark = pytest.mark.parametrize("service", SERVICES)


@pytest.mark.parametrize("probe", PROBES)
def test_probes_answer_and_are_never_stored(stack: Deployment, service: str, probe: str) -> None:
    reply = stack.request(service, probe)
    assert reply.status == 200
    assert reply.headers["cache-control"] == "no-store"


@pytest.mark.parametrize("probe", PROBES)
def test_probes_are_the_service_s_own(stack: Deployment, service: str, probe: str) -> None:
    request_id = f"probe-{service}-{probe[1:]}"
    stack.request(service, probe, headers={"X-Request-ID": request_id})
    (other,) = set(SERVICES) - {service}
    assert not [line for line in records(stack.logs(other)) if line.get("request_id") == request_id]


def test_probes_refuse_other_methods_by_a_problem(stack: Deployment, service: str) -> None:
    reply = stack.request(service, "/healthz", "POST")
    assert_problem(reply, 405)
    assert {"GET", "HEAD"} <= set(re.split(r",\s*", reply.headers["allow"]))
    assert reply.headers["cache-control"] == "no-store"


def test_metrics_have_the_common_names_and_labels(stack: Deployment, service: str) -> None:
    stack.request(service, "/air_quality?limit=1")
    text = stack.request(service, "/metrics").body.decode()
    families = {family.name: family for family in text_string_to_metric_families(text)}
    assert families["http_requests"].type == "counter"
    assert {"method", "status"} <= set(families["http_requests"].samples[0].labels)
    assert families["http_request_duration_seconds"].type == "histogram"
    assert families["http_response_bytes"].type == "counter"
    own = service.replace("-", "_") + "_"
    strays = [name for name in families if not name.startswith((own, "http_", "python_", "process_"))]
    assert not strays


def test_metrics_count_requests(stack: Deployment, service: str) -> None:
    before = requests_counted(stack, service)
    for _ in range(5):
        stack.request(service, "/air_quality?limit=1")
    until(lambda: requests_counted(stack, service) >= before + 5, 5, "five requests more in /metrics")


def test_a_log_line_tells_the_request(stack: Deployment, service: str) -> None:
    target = "/air_quality?limit=1&id_entity=aq_salvia"
    reply = stack.request(service, target, headers={"X-Request-ID": f"log-{service}"})
    line = log_line(stack, service, f"log-{service}")
    assert set(line) >= LOG_FIELDS
    assert (line["service"], line["method"], line["path"], line["status"]) == (
        service,
        "GET",
        target,
        reply.status,
    )
    assert line["bytes"] == len(reply.body)
    assert 0 <= line["duration"] < 10
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", line["time"])
    assert abs(datetime.now().astimezone() - datetime.fromisoformat(line["time"])) < timedelta(minutes=5)


def test_one_log_line_a_request(stack: Deployment, service: str) -> None:
    """Whoever writes it: the server under the service has an access log of its own."""
    target = f"/healthz?once-{service}"
    for name, path in ((f"once-{service}", target), (f"after-once-{service}", "/healthz")):
        stack.request(service, path, headers={"X-Request-ID": name})
        log_line(stack, service, name)  # perhaps of another worker, so that both are waited for
    assert len([line for line in stack.logs(service) if target in line]) == 1


def test_request_ids_are_taken_and_sent_back(stack: Deployment, service: str) -> None:
    reply = stack.request(service, "/healthz", headers={"X-Request-ID": "mine-1"})
    assert reply.headers["x-request-id"] == "mine-1"


def test_request_ids_are_made_where_none_came(stack: Deployment, service: str) -> None:
    made = {stack.request(service, "/healthz").headers["x-request-id"] for _ in range(3)}
    assert len(made) == 3


def test_request_ids_that_would_forge_log_lines_are_replaced(stack: Deployment, service: str) -> None:
    given = 'x" , "level": "' + "A" * 500
    reply = stack.request(service, "/healthz", headers={"X-Request-ID": given})
    assert reply.headers["x-request-id"] != given


def test_trace_ids_are_logged(stack: Deployment, service: str) -> None:
    trace_id = "4bf92f3577b34da6a3ce929d0e0e4736"
    headers = {"X-Request-ID": f"trace-{service}", "traceparent": f"00-{trace_id}-00f067aa0ba902b7-01"}
    stack.request(service, "/healthz", headers=headers)
    assert log_line(stack, service, f"trace-{service}")["trace_id"] == trace_id


def test_unknown_paths_are_problems(stack: Deployment, service: str) -> None:
    assert_problem(stack.request(service, "/no/such/path"), 404)


def test_no_secret_in_the_logs(stack: Deployment, service: str, passwords: list[str]) -> None:
    stack.request(service, "/air_quality?limit=1")
    text = "\n".join(stack.logs(service))
    assert not [password for password in passwords if password in text]


def assert_problem(reply: Reply, status: int) -> None:
    """RFC 9457 §3: a problem document with the members that ours always have."""
    assert (reply.status, reply.headers["content-type"]) == (status, "application/problem+json")
    problem = reply.json()
    assert problem["status"] == status
    assert problem["title"]
    assert problem.get("type", "about:blank") == "about:blank"
    assert "Traceback" not in reply.body.decode()


def log_line(stack: Deployment, service: str, request_id: str) -> dict[str, object]:
    def written() -> dict[str, object] | None:
        return next(
            (line for line in records(stack.logs(service)) if line.get("request_id") == request_id), None
        )

    line: dict[str, object] = until(written, 10, f"{request_id} in the log of {service}")
    return line


def requests_counted(stack: Deployment, service: str) -> float:
    text = stack.request(service, "/metrics").body.decode()
    families = {family.name: family for family in text_string_to_metric_families(text)}
    if "http_requests" not in families:
        return 0
    return sum(
        sample.value for sample in families["http_requests"].samples if sample.name == "http_requests_total"
    )
