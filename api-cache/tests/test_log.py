"""The log and what is remembered for it have bounds in bytes, whatever clients ask for."""

import contextlib
import os
import tracemalloc

import pytest

from observability.access import Access
from observability.counters import COUNT, Counters
from observability.log import Log

MEGABYTE = 2**20


@pytest.fixture
def counters():
    return Counters(Counters.allocate(1), 0)


@contextlib.contextmanager
def holding_less_than(megabytes):
    tracemalloc.start()
    try:
        yield
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held < megabytes * MEGABYTE


class NoLog:
    def line(self, *_):
        pass


def test_long_paths_fill_no_memory(counters):
    access = Access(counters, NoLog())
    with holding_less_than(30):
        for number in range(3000):
            path = f"/{number}?" + "x" * 16_000
            access.record(access.note("GET", path, 200, "hit"), 1, 0.0, "1")


def test_a_stdout_that_nobody_reads_fills_no_memory(counters):
    source, sink = os.pipe()
    log = Log(counters, sink)
    try:
        with holding_less_than(50):
            for _ in range(6000):
                log.line("info", '"path": "' + "x" * 16_000 + '"')
        assert counters.row("dropped_log_lines")[COUNT] > 1000
    finally:
        os.close(source)
        log.close()
        os.close(sink)


def test_lines_are_taken_again_when_those_before_are_written(counters):
    source, sink = os.pipe()
    log = Log(counters, sink)
    rest = '"path": "' + "x" * 16_000 + '"'
    with os.fdopen(source, "rb") as stream:
        for _ in range(10):
            for _ in range(600):
                log.line("info", rest)
            assert all(rest.encode() in stream.readline() for _ in range(600))
        log.close()
        os.close(sink)
    assert counters.row("dropped_log_lines")[COUNT] == 0
