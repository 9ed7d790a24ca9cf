import pytest
from builders import entry, headers

from httpcache.messages import Headers

LINES = headers("A: 1", "b: 2", "a: 3")


@pytest.mark.parametrize("name", ["a", "A"])
def test_rfc9110_5_1_names_are_case_insensitive(name: str) -> None:
    assert name in LINES
    assert LINES.values(name) == ("1", "3")


def test_rfc9110_5_2_lines_combine_by_commas() -> None:
    assert LINES.get("a") == "1, 3"
    assert LINES.get("b") == "2"
    assert LINES.get("c") is None
    assert LINES.values("c") == ()


def test_rfc9110_5_3_lines_keep_their_order_and_spelling() -> None:
    assert list(LINES) == [("A", "1"), ("b", "2"), ("a", "3")]
    assert len(LINES) == 3
    assert LINES.names() == {"a", "b"}


def test_copies_leave_the_original_alone() -> None:
    assert list(LINES.without(["A"])) == [("b", "2")]
    assert LINES.without(["c"]) is LINES
    assert list(LINES.replaced("B", "4")) == [("A", "1"), ("a", "3"), ("B", "4")]
    assert list(LINES.extended([("c", "5")]))[-1] == ("c", "5")
    assert len(LINES) == 3


def test_headers_are_values() -> None:
    assert headers("A: 1", "b: 2", "a: 3") == LINES
    assert hash(LINES) == hash(headers("A: 1", "b: 2", "a: 3"))
    assert headers("A: 1") != headers("a: 1")
    assert Headers() != "A: 1"
    assert 1 not in LINES
    assert repr(headers("A: 1")) == "Headers([('A', '1')])"


def test_an_entry_knows_its_response_and_whether_it_can_be_validated() -> None:
    assert entry("A: 1", status=404).response.status == 404
    assert not entry().has_validator
    assert entry('ETag: "a"').has_validator
    assert entry("Last-Modified: Sun, 06 Nov 1994 08:49:37 GMT").has_validator
