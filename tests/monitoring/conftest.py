"""Both services, live, once for all tests of this folder."""

from collections.abc import Iterator

import pytest
from tests.monitoring.stack import Stack


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with Stack(tmp_path_factory.mktemp("stack")).running() as running:
        yield running
