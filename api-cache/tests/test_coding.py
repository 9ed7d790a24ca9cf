import asyncio
import gzip
import itertools
import resource

import pytest
from backports import zstd

import coding
from httpcache.messages import Headers, Response

BOTH = {"zstd": None, "gzip": None}


@pytest.mark.parametrize(
    ("accept", "chosen"),
    [
        (None, "identity"),
        ("", "identity"),
        ("identity", "identity"),
        ("gzip", "gzip"),
        ("x-gzip", "gzip"),
        ("GZIP", "gzip"),
        ("zstd", "zstd"),
        ("gzip, zstd", "zstd"),
        ("gzip, deflate, br", "gzip"),
        ("gzip, deflate, br, zstd", "zstd"),
        ("gzip;q=1.0, zstd;q=0.9", "gzip"),
        ("gzip;q=0", "identity"),
        ("gzip;q=0, *", "zstd"),
        ("*", "zstd"),
        ("*;q=0", "identity"),
        ("identity;q=1, gzip;q=0.5", "identity"),
        ("identity;q=0, gzip;q=0.1", "gzip"),
        ("gzip;q=nonsense", "identity"),
        ("br", "identity"),
    ],
)
def test_negotiation(accept, chosen):
    assert coding.negotiate(accept, BOTH) == chosen
    assert coding.negotiate(accept, {"identity": None}) == "identity"


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ([("Content-Type", "application/json")], True),
        ([("Content-Type", "text/csv; charset=utf-8"), ("Content-Length", "1000")], True),
        ([("Content-Type", "application/problem+json")], True),
        ([("Content-Type", "application/json"), ("Content-Length", "20")], False),
        ([("Content-Type", "image/png")], False),
        ([], False),
        ([("Content-Type", "text/html"), ("Content-Encoding", "br")], False),
        ([("Content-Type", "text/html"), ("Cache-Control", "public, No-Transform")], False),
        ([("Content-Type", "text/html"), ("CDN-Cache-Control", "max-age=60, no-transform")], False),
        ([("Content-Type", "text/html"), ("Content-Digest", "sha-256=:x:")], False),
    ],
)
def test_what_is_worth_a_coding(lines, expected):
    assert coding.compressible(Response(200, Headers(lines))) is expected
    assert not coding.compressible(Response(404, Headers(lines)))


@pytest.mark.parametrize("tag", ['"a"', 'W/"a"', '""', '"a-gzip"'])
@pytest.mark.parametrize("name", coding.CODINGS)
def test_a_tag_of_ours_maps_back(tag, name):
    assert coding.own_tag(tag, "identity") == tag
    ours = coding.own_tag(tag, name)
    assert coding.origin_tags(ours) == f"{ours}, {tag}"
    assert coding.known_tag(tag, ours) == ours


def coded(parts):
    compressor = coding.Compressor()
    made = dict.fromkeys(coding.CODINGS, b"")
    for fed in (*map(compressor.feed, parts), compressor.finish()):
        for name, data in fed.items():
            made[name] += data
    return made


@pytest.mark.parametrize("size", [3_000, 20_000, 200_000])
@pytest.mark.parametrize("pieces", [(1,), (100,), (1448,), (1, 100_000)])
def test_one_body_has_one_coded_form_however_it_arrives(size, pieces):
    body = b"".join(b'{"station":%d},' % (number**3 % 997) for number in range(size // 15))
    parts, at = [], 0
    for length in itertools.cycle(pieces):
        parts.append(body[at : at + length])
        at += length
        if at >= len(body):
            break
    assert coded(parts) == coded([body])


def test_both_codings_come_back_as_they_were():
    parts = [b"some text " * 1000, b"", b"x", b"more of it " * 20_000]
    made = coded(parts)
    assert gzip.decompress(made["gzip"]) == b"".join(parts)
    assert zstd.decompress(made["zstd"]) == b"".join(parts)


@pytest.mark.parametrize("size", [0, 1, 2048, coding.CODED_BYTES, coding.CODED_BYTES + 1, 200_000])
def test_what_is_whole_is_decompressed_to_just_so_many_bytes(size):
    body = (b"some text, " * 20_000)[:size]
    data = coded([body])["zstd"]

    def both(data, length):
        return coding.decompress_at_once(data, length), asyncio.run(coding.decompress(data, length))

    assert both(data, size) == (body, body)
    for wrong, length in (
        (data, size + 1),
        (data, abs(size - 1)),
        (data[: len(data) // 2], size),
        (b"garbage", size),
    ):
        assert both(wrong, length) == (None, None)


def test_what_a_few_bytes_say_of_their_length_is_not_believed():
    forged = zstd.ZstdCompressor(1).compress(bytes(200 * 2**20), zstd.ZstdCompressor.FLUSH_FRAME)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert coding.decompress_at_once(forged, 100) is None
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # kilobytes
