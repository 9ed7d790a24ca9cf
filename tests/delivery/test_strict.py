"""CI fails where a machine without the tools skips."""

import pytest
from tests.delivery.manifests import ROOT

pytest_plugins = ["pytester"]

SKIPPED = """
import pytest
@pytest.fixture
def image(): pytest.skip("no image")
@pytest.mark.skipif(True, reason="no compiler")
def test_by_mark(): pass
def test_by_fixture(image): pass
"""


@pytest.mark.parametrize(
    ("source", "strict", "outcome"),
    [
        (SKIPPED, "", {"skipped": 2}),
        (SKIPPED, "yes", {"errors": 2}),
        (f"{SKIPPED}pytestmark = pytest.mark.no_stand_in", "yes", {"skipped": 2}),
    ],
    ids=["at home", "in CI", "what nothing stands in for"],
)
def test_what_becomes_of_a_skipped_test(
    pytester: pytest.Pytester,
    monkeypatch: pytest.MonkeyPatch,
    source: str,
    strict: str,
    outcome: dict[str, int],
) -> None:
    monkeypatch.setenv("STRICT", strict)
    pytester.makepyfile(test_skipped=source)
    done = pytester.runpytest_inprocess("-p", "tests.conftest", "-c", ROOT / "pyproject.toml", pytester.path)
    done.assert_outcomes(**outcome)
