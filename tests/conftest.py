"""With STRICT set, as CI sets it, a test that is skipped has failed: whatever it needs has to be there."""

import os
from collections.abc import Generator, Iterator

import pytest


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    excused = hasattr(report, "wasxfail") or item.get_closest_marker("no_stand_in")
    if os.environ.get("STRICT") and report.skipped and not excused:
        report.outcome = "failed"
        report.longrepr = f"skipped, though STRICT is set: {report.longrepr}"
    return report


@pytest.fixture(scope="session", autouse=True)
def _temporary_files(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What a killed service leaves behind, pytest clears away."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TMPDIR", str(tmp_path_factory.mktemp("services")))
        yield
