"""However the bytes of a connection are cut, they are the same requests."""

import itertools
from dataclasses import dataclass, field

from hypothesis import given
from hypothesis import strategies as st

from server.incoming import Incoming
from server.parsing import Requests

METHODS = ("GET", "POST", "DELETE", "M-SEARCH", "BREW")
CONTENTS = (b"", b"a", b"\r\n\r\n", b"GET / HTTP/1.1\r\n\r\n", b"x" * 90)


@dataclass
class Receiver:
    """Remembers the requests, and begins to look for an answer whenever it may."""

    is_free: bool = True
    sought: bytes | None = None
    requests: list[Incoming] = field(default_factory=list)
    is_over: bool = False

    def find_hit(self, target, _):
        self.sought = target

    def enqueue(self, incoming):
        assert self.sought in (None, incoming.target)
        self.sought = None
        self.requests.append(incoming)

    def pause_reading(self):
        pass

    def take_no_more(self):
        self.is_over = True


def framed(content: bytes, how: str) -> bytes:
    if how == "length":
        return b"Content-Length: %d\r\n\r\n%b" % (len(content), content)
    if how == "none":
        return b"\r\n"
    chunks = b"".join(b"1;x=y\r\n%c\r\n" % byte for byte in content)
    trailer = b"X: y\r\n" if how == "trailer" else b""
    return b"Transfer-Encoding: chunked\r\n\r\n%b0\r\n%b\r\n" % (chunks, trailer)


@st.composite
def messages(draw) -> bytes:
    method = draw(st.sampled_from(METHODS)).encode()
    empty = draw(st.sampled_from((b"", b"", b"\r\n")))
    last = draw(
        st.sampled_from((b"",) * 9 + (b"Connection: close\r\n", b"Connection: Upgrade\r\nUpgrade: x\r\n"))
    )
    target = draw(st.sampled_from((b"/a", b"/b")))
    rest = framed(
        draw(st.sampled_from(CONTENTS)), draw(st.sampled_from(("none", "length", "chunks", "trailer")))
    )
    return b"%b%b %b HTTP/1.1\r\nHost: h\r\n%b%b" % (empty, method, target, last, rest)


def read(pieces) -> tuple[list[tuple[str, bytes, bool]], bool]:
    receiver = Receiver()
    requests = Requests(receiver, 10**6)
    for piece in pieces:
        if receiver.is_over:
            break
        requests.feed(piece, 0.0)
        assert receiver.sought is None  # whatever is looked for comes to its end at once
    found = [(each.method, b"".join(each._parts), each.complete) for each in receiver.requests]
    return found, receiver.is_over


@given(st.lists(messages(), min_size=1, max_size=4).map(b"".join), st.data())
def test_cuts_do_not_matter(stream, data):
    in_line_ends = [at for at in range(1, len(stream)) if stream[at] in b"\r\n"]
    places = st.lists(st.integers(0, len(stream)) | st.sampled_from(in_line_ends), max_size=6)
    cuts = [0, *sorted(data.draw(places)), len(stream)]
    pieces = [stream[begin:end] for begin, end in itertools.pairwise(cuts) if begin < end]
    whole, byte_by_byte = read([stream]), read([stream[at : at + 1] for at in range(len(stream))])
    assert read(pieces) == whole == byte_by_byte
    assert all(is_complete for *_, is_complete in whole[0])
