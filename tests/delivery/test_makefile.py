"""What make takes for granted of the folders."""

import subprocess
from pathlib import Path

from tests.delivery.manifests import ROOT


def test_a_second_run_knows_the_same_suites(tmp_path: Path) -> None:
    """Python leaves a folder beside them in the first one."""
    for folder in ("stack", "__pycache__"):
        (tmp_path / "tests" / folder).mkdir(parents=True)
    (tmp_path / "tests" / "stack" / "test_stories.py").touch()
    command = ["make", "--file", ROOT / "Makefile", "--eval", "suites: ; @echo $(SUITES)", "suites"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["stack"]
