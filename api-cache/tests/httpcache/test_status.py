import http_sf
import pytest
from builders import entry, headers

from httpcache import status
from httpcache.reuse import Fwd


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        pytest.param({"hit": True}, "api-cache; hit", id="rfc9211-2.1 hit"),
        pytest.param({"hit": True, "ttl": 30}, "api-cache; hit; ttl=30", id="rfc9211-2.4 ttl"),
        pytest.param({"hit": True, "ttl": -5}, "api-cache; hit; ttl=-5", id="rfc9211-2.4 stale"),
        pytest.param(
            {"hit": True, "ttl": 3, "detail": "memory"}, "api-cache; hit; ttl=3; detail=memory", id="2.8"
        ),
        pytest.param(
            {"fwd": Fwd.STALE, "ttl": -5}, "api-cache; fwd=stale; ttl=-5", id="rfc9211-2.4 not a hit"
        ),
        pytest.param({"fwd": Fwd.MISS}, "api-cache; fwd=miss", id="rfc9211-2.2 fwd"),
        pytest.param(
            {"fwd": Fwd.MISS, "stored": True}, "api-cache; fwd=miss; stored", id="rfc9211-2.5 stored"
        ),
        pytest.param(
            {"fwd": Fwd.STALE, "fwd_status": 304},
            "api-cache; fwd=stale; fwd-status=304",
            id="rfc9211-2.3 fwd-status",
        ),
        pytest.param(
            {"fwd": Fwd.VARY_MISS, "collapsed": True},
            "api-cache; fwd=vary-miss; collapsed",
            id="rfc9211-2.6 collapsed",
        ),
        pytest.param(
            {"hit": True, "detail": 'a"\\b\xfc'},
            'api-cache; hit; detail="a\\"\\\\b?"',
            id="rfc9211-2.8 escaped",
        ),
        pytest.param(
            {"fwd": Fwd.MISS, "detail": "no-store"}, "api-cache; fwd=miss; detail=no-store", id="rfc9211-2.8"
        ),
        pytest.param(
            {"fwd": Fwd.MISS, "detail": "a b"}, 'api-cache; fwd=miss; detail="a b"', id="rfc9211-2.8 string"
        ),
    ],
)
def test_cache_status(arguments: dict, expected: str) -> None:
    found = status.cache_status(**arguments)
    assert found == expected
    assert len(http_sf.parse(found.encode(), tltype="list")) == 1


def test_rfc9211_2_caches_nearer_to_the_origin_come_first() -> None:
    both = status.with_cache_status(headers("Cache-Status: other; hit", "A: 1"), "api-cache; hit")
    assert both.values("cache-status") == ("other; hit", "api-cache; hit")


def test_rfc9110_7_6_3_via() -> None:
    assert status.via("1.1") == ("Via", "1.1 api-cache")


def test_rfc9111_5_1_age_is_sent_in_whole_seconds() -> None:
    stored = entry("Cache-Control: max-age=60", "Date: Sat, 01 Sep 2001 00:00:00 GMT", "Age: 7")
    sent = status.served_headers(stored, 8.9, "api-cache; hit")
    assert sent.values("age") == ("8",)
    assert sent.get("date") == "Sat, 01 Sep 2001 00:00:00 GMT"
