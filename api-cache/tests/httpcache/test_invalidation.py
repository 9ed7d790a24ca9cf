import pytest
from builders import request, response

from httpcache import invalidation


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "M-SEARCH", "FOO", "get"])
def test_rfc9111_4_4_unsafe_and_unknown_methods_invalidate_the_target(method: str) -> None:
    assert invalidation.targets(request(method=method), response()) == ("/x?y",)


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "TRACE"])
def test_rfc9110_9_2_1_safe_methods_do_not(method: str) -> None:
    assert invalidation.targets(request(method=method), response("Location: /z")) == ()


@pytest.mark.parametrize("status", [200, 201, 204, 299, 302, 303, 304, 399])
def test_rfc9111_4_4_non_error_answers_invalidate(status: int) -> None:
    assert invalidation.targets(request(method="POST"), response(status=status)) == ("/x?y",)


@pytest.mark.parametrize("status", [100, 400, 404, 412, 500, 503])
def test_rfc9111_4_4_errors_do_not(status: int) -> None:
    assert invalidation.targets(request(method="POST"), response(status=status)) == ()


@pytest.mark.parametrize("name", ["Location", "Content-Location"])
@pytest.mark.parametrize(
    ("value", "expected"),
    [
        pytest.param("/z", "/z", id="path"),
        pytest.param("/z?q#f", "/z?q", id="query and fragment"),
        pytest.param("z", "/a/z", id="relative"),
        pytest.param("../z", "/z", id="relative, up"),
        pytest.param("?q", "/a/b?q", id="query alone"),
        pytest.param(" /z ", "/z", id="white space"),
        pytest.param("http://here.example/z", "/z", id="URI"),
        pytest.param("http://HERE.example:80/z", "/z", id="same origin, spelt otherwise"),
        pytest.param("http://here.example", "/", id="empty path"),
        pytest.param("//here.example/z", "/z", id="network path"),
        pytest.param("/a%2Fb", "/a%2Fb", id="escapes stay"),
        pytest.param("http://there.example/z", None, id="another host"),
        pytest.param("https://here.example/z", "/z", id="TLS that ends before us"),
        pytest.param("https://here.example:443/z", "/z", id="default port of https"),
        pytest.param("https://here.example:80/z", None, id="another port of https"),
        pytest.param("ftp://here.example/z", None, id="another scheme"),
        pytest.param("http://here.example:81/z", None, id="another port"),
        pytest.param("//there.example/z", None, id="network path elsewhere"),
        pytest.param("http://[/z", None, id="unfinished IPv6 address"),
        pytest.param("http://here.example:x/z", None, id="port that is no number"),
        pytest.param("mailto:a@here.example", None, id="no http"),
    ],
)
def test_rfc9111_4_4_same_origin_references_go_too(name: str, value: str, expected: str | None) -> None:
    asked = request(method="POST", target="/a/b")
    found = invalidation.targets(asked, response(f"{name}: {value}"))
    assert found == (("/a/b",) if expected is None else ("/a/b", expected))


@pytest.mark.parametrize(
    ("location", "expected"),
    [
        pytest.param("http://origin:5000/z", ("/x?y", "/z"), id="as the origin knows itself"),
        pytest.param("http://here.example/z", ("/x?y", "/z"), id="as the client knows it"),
        pytest.param("/z", ("/x?y", "/z"), id="relative, but once"),
        pytest.param("http://origin/z", ("/x?y",), id="another port"),
    ],
)
def test_rfc9111_4_4_the_origin_may_go_by_another_name_behind_us(
    location: str, expected: tuple[str, ...]
) -> None:
    found = invalidation.targets(request(method="POST"), response(f"Location: {location}"), "origin:5000")
    assert found == expected


def test_rfc9111_4_4_each_target_is_named_once() -> None:
    answer = response("Location: /z", "Content-Location: /x?y")
    assert invalidation.targets(request(method="PUT"), answer) == ("/x?y", "/z")
