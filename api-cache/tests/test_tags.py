"""Entity tags of our codings, in conditions that go to the origin."""

import pytest

from tests.support import answer, ask, fresh_path

TEXT = b"some text\n" * 200
FIELDS = ('ETag: "a"', "Content-Type: text/plain", "Cache-Control: max-age=60")
UNCHANGED = b'HTTP/1.1 304 X\r\nETag: "a"\r\nCache-Control: max-age=60\r\n\r\n'


@pytest.fixture
def path(origin):
    target = fresh_path()

    def script(wire, received):
        tags = ", ".join(received.values("if-none-match")).replace("W/", "").split(", ")
        wire.send(UNCHANGED if '"a"' in tags else answer(TEXT, *FIELDS))

    origin.on(target, script)
    return target


def test_rfc9110_13_1_5_a_part_of_a_coded_form_is_never_completed_by_another(cache, origin):
    path = fresh_path()
    part = b'HTTP/1.1 206 X\r\nETag: "a"\r\nContent-Range: bytes 10-1999/2000\r\nContent-Length: 1990\r\n\r\n'

    def script(wire, received):
        wire.send(part + TEXT[10:] if received.values("if-range") == ['"a"'] else answer(TEXT, *FIELDS))

    origin.on(path, script)
    found = ask(cache.port, path, ("Range", "bytes=10-"), ("If-Range", '"a-gzip"'))
    assert (found.status, found.body) == (200, TEXT)


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        ('"a-gzip"', '"a-gzip", "a"'),
        ('"a", "b-zstd"', '"a", "b-zstd", "b"'),
        ('"a-br"', '"a-br"'),
        ("*", "*"),
        ("a-gzip", "a-gzip"),
    ],
)
def test_a_tag_that_only_looks_like_ours_still_reaches_the_origin(cache, origin, tags, expected):
    path = fresh_path()
    origin.on(path, answer(b"done"))
    ask(cache.port, path, ("If-Match", tags), method="PUT", body=b"x")
    assert origin.asked(path)[0].values("if-match") == [expected]


@pytest.mark.parametrize("demand", [("Cache-Control", "no-store"), ("Foo", "none")])
@pytest.mark.parametrize("tag", ['"a"', '"a-gzip"', '"a-zstd"', 'W/"a-gzip"'])
def test_rfc9111_4_3_4_a_304_names_the_tag_that_the_client_has(cache, path, demand, tag):
    found = ask(cache.port, path, demand, ("If-None-Match", f'"b", {tag}'))
    assert (found.status, found["etag"]) == (304, tag)


def test_another_tag_gets_the_whole(cache, path):
    found = ask(cache.port, path, ("If-None-Match", '"b-gzip"'))
    assert (found.status, found.body, found["etag"]) == (200, TEXT, '"a"')
