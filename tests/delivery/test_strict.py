"""CI fails where a machine without the tools skips."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.delivery.manifests import ROOT

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
        (SKIPPED, "", "2 skipped"),
        (SKIPPED, "yes", "2 errors"),
        (f"{SKIPPED}pytestmark = pytest.mark.no_stand_in", "yes", "2 skipped"),
    ],
    ids=["at home", "in CI", "what nothing stands in for"],
)
def test_what_becomes_of_a_skipped_test(tmp_path: Path, source: str, strict: str, outcome: str) -> None:
    (tmp_path / "test_skipped.py").write_text(source)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "tests.conftest", "-c", ROOT / "pyproject.toml", tmp_path],
        cwd=ROOT,
        env=os.environ | {"STRICT": strict},
        capture_output=True,
        text=True,
        check=False,
    )
    assert outcome in done.stdout.splitlines()[-1]
